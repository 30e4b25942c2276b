"""The error answers of the simulated providers, word for word where a recording or a report gives the words.

providers.md: groq 2.4 to 2.7, cerebras 3, deepinfra 4, openai 8, wrappers 1.1 row 10. Where it is silent (the
401 of DeepInfra, 403s, a cap on requests at once outside DeepInfra), the shape is that provider's and the words are
ours. Each function gives a whole answer; nothing here knows of windows beyond the verdict it is handed.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sidecar.core.errors import seconds_up
from sidecar.core.limits import SECOND
from sidecar.sim.axes import AXES, Axis, Denied
from sidecar.sim.dialects import Dialect, Headers, go_duration, printed_wait, quota_headers

_encode = msgspec.json.Encoder().encode
_GROQ_UPGRADE = "Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"
_OPENAI_LIMITS = "Visit https://platform.openai.com/account/rate-limits to learn more."


class Answer(NamedTuple):
    """A whole answer. `wait_ns`: the wait it announces, from now, as a careful client reads it."""

    status: int
    headers: Headers
    body: bytes
    wait_ns: int | None = None
    kind: str = ""  # under which name it is counted


class Error(NamedTuple):
    """The parts of an error, before a dialect wraps them."""

    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None


def json_answer(status: int, value: object, headers: Headers | None = None, kind: str = "") -> Answer:
    """Any JSON value as an answer."""
    return Answer(status, [("content-type", "application/json"), *(headers or [])], _encode(value), kind=kind)


def wrapped(dialect: Dialect, error: Error) -> dict[str, object]:
    """An error in the wrapper of its provider."""
    if dialect.name == "cerebras":
        return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    inner: dict[str, object] = {"message": error.message, "type": error.type}
    if dialect.name != "groq" or error.param:
        inner["param"] = error.param
    if dialect.name != "groq" or error.code:
        inner["code"] = error.code
    return {"error": inner}


def failure(dialect: Dialect, status: int, error: Error, kind: str = "") -> Answer:
    """An error as an answer without any header about limits."""
    return json_answer(status, wrapped(dialect, error), kind=kind or error.code or str(status))


def denied(dialect: Dialect, verdict: Denied, account: str, model: str) -> Answer:
    """The refusal of a request that is over a limit, with the wait and the headers of that provider."""
    status, error, told_ns, extra = _DENIALS[dialect.name](verdict, account, model)
    headers = quota_headers(dialect, verdict.states) + extra
    kind = f"{verdict.axis}_never" if verdict.never else verdict.axis
    return json_answer(status, wrapped(dialect, error), headers, kind)._replace(wait_ns=told_ns)


_Denial = tuple[int, Error, int | None, Headers]


def _groq(verdict: Denied, account: str, model: str) -> _Denial:
    subject = f"for model `{model}` in organization `{organization('org_', account)}` service tier `on_demand` on"
    axis = AXES.get(verdict.axis)
    if axis is None:
        text = f"Rate limit reached {subject} concurrent requests: {_numbers(verdict)}."
        return 429, Error(text, "requests", "rate_limit_exceeded"), None, []
    name = f"{axis.thing} per {axis.period} ({axis.code})"
    if verdict.never:
        text = f"Request too large {subject} {name}: Limit {verdict.limit}, Requested {verdict.requested}"
        if axis.name == "otpm":
            text += (
                ". The request's expected output tokens exceed the enforced limit; reduce max_tokens (or the "
                "request's expected output) and try again."
            )
            return 429, Error(text, axis.type, "rate_limit_exceeded"), None, []
        text += f", please reduce your message size and try again. {_GROQ_UPGRADE}"
        return 413, Error(text, axis.type, "rate_limit_exceeded"), None, []
    wait = _printed(verdict, axis)
    text = f"Rate limit reached {subject} {name}: {_numbers(verdict)}. "
    text += f"Please try again in {go_duration(wait)}. {_GROQ_UPGRADE}"
    seconds = seconds_up(wait)
    return 429, Error(text, axis.type, "rate_limit_exceeded"), seconds * SECOND, [("retry-after", str(seconds))]


def _openai(verdict: Denied, account: str, model: str) -> _Denial:
    org = organization("org-", account)
    subject = f"for {model} in project proj_sim organization {org} on"
    axis = AXES.get(verdict.axis)
    if axis is None:
        text = f"Rate limit reached {subject} concurrent requests: {_numbers(verdict)}. {_OPENAI_LIMITS}"
        return 429, Error(text, "requests", "rate_limit_exceeded"), None, []
    period = {"minute": "min"}.get(axis.period, axis.period)
    name = f"{axis.thing} per {period} ({axis.code})"
    if verdict.never:
        text = (
            f"Request too large for {model} in organization {org} on {name}: Limit {verdict.limit}, "
            f"Requested {verdict.requested}. The input or "
            f"output tokens must be reduced in order to run successfully. {_OPENAI_LIMITS}"
        )
        return 429, Error(text, axis.type, "rate_limit_exceeded"), None, []
    wait = _printed(verdict, axis)
    text = f"Rate limit reached {subject} {name}: {_numbers(verdict)}. "
    text += f"Please try again in {go_duration(wait)}. {_OPENAI_LIMITS}"
    milliseconds = -(-wait // 1_000_000)
    headers = [("retry-after", str(seconds_up(wait))), ("retry-after-ms", str(milliseconds))]
    return 429, Error(text, axis.type, "rate_limit_exceeded"), milliseconds * 1_000_000, headers


def _cerebras(verdict: Denied, account: str, model: str) -> _Denial:
    axis = AXES.get(verdict.axis)
    if axis is None:
        return 429, busy_error("cerebras"), None, []
    if axis.counts == "requests":
        text = f"Requests per {axis.period} limit exceeded - too many requests sent."
        error = Error(text, "too_many_requests_error", "request_quota_exceeded", "quota")
    else:
        text = f"Tokens per {axis.period} limit exceeded - too many tokens processed."
        error = Error(text, "too_many_tokens_error", "token_quota_exceeded", "quota")
    if verdict.never:
        return 429, error, None, []
    seconds = seconds_up(verdict.wait_ns or 0)
    return 429, error, seconds * SECOND, [("retry-after", str(seconds))]


def _deepinfra(verdict: Denied, account: str, model: str) -> _Denial:
    return 429, Error("Rate limited"), None, []


_DENIALS = {"groq": _groq, "openai": _openai, "cerebras": _cerebras, "deepinfra": _deepinfra}


def organization(prefix: str, account: str) -> str:
    """The organisation's id as that provider writes it: `org-a` is `org_a` at Groq."""
    return prefix + account.removeprefix("org-").removeprefix("org_")


def busy_error(name: str) -> Error:
    """The words of a provider that has no capacity left."""
    return {
        "groq": Error("Flex tier capacity exceeded, please try again later.", "capacity", "capacity_exceeded"),
        "cerebras": Error(
            "We're experiencing high traffic right now! Please try again soon.",
            "too_many_requests_error",
            "queue_exceeded",
            "queue",
        ),
        "openai": Error("That model is currently overloaded with other requests.", "server_error"),
        "deepinfra": Error("Model busy, retry later", "invalid_request_error", "engine_overloaded"),
    }[name]


def busy(dialect: Dialect) -> Answer:
    """No capacity: nobody's quota, a matter of the moment."""
    status = {"groq": 498, "cerebras": 429, "openai": 503, "deepinfra": 429}[dialect.name]
    return failure(dialect, status, busy_error(dialect.name), "busy")


def insufficient_quota(dialect: Dialect) -> Answer:
    """The account has no money left: 402, at OpenAI a 429 that no waiting mends."""
    if dialect.name == "openai":
        text = "You exceeded your current quota, please check your plan and billing details."
        return failure(dialect, 429, Error(text, "insufficient_quota", "insufficient_quota"))
    if dialect.name == "cerebras":
        text = "Payment required to access this resource. Visit your billing tab."
        return failure(dialect, 402, Error(text, "payment_required_error", "payment_required", "quota"))
    return failure(dialect, 402, Error("Payment required.", "payment_required_error", "payment_required"))


def _printed(verdict: Denied, axis: Axis) -> int:
    return printed_wait(verdict.wait_ns or 0, verdict.limit, axis.window_ns)


def _numbers(verdict: Denied) -> str:
    return f"Limit {verdict.limit}, Used {verdict.used}, Requested {verdict.requested}"
