"""Error bodies against the literals of providers.md."""

from __future__ import annotations

import json

import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.axes import Denied
from sidecar.sim.calls import Body
from sidecar.sim.dialects import DIALECTS
from sidecar.sim.refusals import busy, denied, insufficient_quota
from sidecar.sim.statuses import of_status, unauthorized, unknown_model, unknown_path, unwanted

UPGRADE = "Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"
SUBJECT = "for model `openai/gpt-oss-20b` in organization `org_x` service tier `on_demand` on "
REACHED = "Rate limit reached " + SUBJECT
TOO_LARGE = "Request too large " + SUBJECT


def answer(dialect, verdict, model="openai/gpt-oss-20b", account="org-x"):
    return denied(DIALECTS[dialect], verdict, account, model)


@pytest.mark.parametrize(
    ("verdict", "status", "message", "kind", "retry_after"),
    [
        (
            Denied("tpm", 8000, 5536, 5599, 23_512_500_000, False),
            429,
            REACHED
            + "tokens per minute (TPM): Limit 8000, Used 5536, Requested 5599. Please try again in 23.5125s. "
            + UPGRADE,
            "tokens",
            "24",
        ),
        (
            Denied("tpm", 12000, 2542, 9855, 1_985_000_000, False),
            429,
            REACHED
            + "tokens "
            + "per minute (TPM): Limit 12000, Used 2542, Requested 9855. Please try again in 1.984999999s. "
            + UPGRADE,
            "tokens",
            "2",
        ),
        (
            Denied("rpd", 1000, 1000, 1, 86_400_000_000, False),
            429,
            REACHED
            + "requests "
            + "per day (RPD): Limit 1000, Used 1000, Requested 1. Please try again in 1m26.4s. "
            + UPGRADE,
            "requests",
            "87",
        ),
        (
            Denied("otpm", 1000, 997, 192, 11_340_000_000, False),
            429,
            REACHED
            + "output "
            + "tokens per minute (OTPM): Limit 1000, Used 997, Requested 192. Please try again in 11.34s. "
            + UPGRADE,
            "tokens",
            "12",
        ),
        (
            Denied("ash", 7200, 7170, 230, 100_000_000_000, False),
            429,
            REACHED
            + "seconds "
            + "of audio per hour (ASPH): Limit 7200, Used 7170, Requested 230. Please try again in 1m40s. "
            + UPGRADE,
            "seconds",
            "100",
        ),
        (
            Denied("tpm", 8000, 0, 11176, 0, True),
            413,
            TOO_LARGE
            + "tokens "
            + "per minute (TPM): Limit 8000, Requested 11176, please reduce your message size and try again. "
            + UPGRADE,
            "tokens",
            None,
        ),
        (
            Denied("otpm", 1000, 0, 1080, 0, True),
            429,
            TOO_LARGE
            + "output "
            + "tokens per minute (OTPM): Limit 1000, Requested 1080. The request's expected output tokens exceed the "
            "enforced limit; reduce max_tokens (or the request's expected output) and try again.",
            "tokens",
            None,
        ),
    ],
)
def test_A4_groq_refusals_in_its_own_words(verdict, status, message, kind, retry_after):
    given = answer("groq", verdict)
    assert given.status == status
    assert json.loads(given.body) == {"error": {"message": message, "type": kind, "code": "rate_limit_exceeded"}}
    assert dict(given.headers).get("retry-after") == retry_after
    assert given.wait_ns == (None if retry_after is None else int(retry_after) * SECOND)


def test_openai_refusals_in_its_own_words():
    given = answer("openai", Denied("tpm", 50000, 47949, 3006, 1_146_000_000, False), "gpt-4o-mini")
    assert json.loads(given.body) == {
        "error": {
            "message": "Rate limit reached for gpt-4o-mini in project proj_sim organization org-x on tokens per min "
            "(TPM): Limit 50000, Used 47949, Requested 3006. Please try again in 1.146s. Visit "
            "https://platform.openai.com/account/rate-limits to learn more.",
            "type": "tokens",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    headers = dict(given.headers)
    assert (given.status, headers["retry-after"], headers["retry-after-ms"]) == (429, "2", "1146")
    assert given.wait_ns == 1_146_000_000


def test_A4_openai_request_too_large_is_a_429_without_a_time():
    given = answer("openai", Denied("tpm", 30000, 0, 34307, 0, True), "gpt-4o")
    text = json.loads(given.body)["error"]["message"]
    assert text.startswith(
        "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 34307. The "
        "input or output tokens must be reduced in order to run successfully. "
    )
    assert (given.status, given.wait_ns) == (429, None)
    assert not any(name.startswith("retry-after") for name, _ in given.headers)


def flat(message, kind, code):
    return {"message": message, "type": kind, "param": "quota", "code": code}


@pytest.mark.parametrize(
    ("axis", "body"),
    [
        (
            "rpm",
            flat(
                "Requests per minute limit exceeded - too many requests sent.",
                "too_many_requests_error",
                "request_quota_exceeded",
            ),
        ),
        (
            "tpm",
            flat(
                "Tokens per minute limit exceeded - too many tokens processed.",
                "too_many_tokens_error",
                "token_quota_exceeded",
            ),
        ),
        (
            "tpd",
            flat(
                "Tokens per day limit exceeded - too many tokens processed.",
                "too_many_tokens_error",
                "token_quota_exceeded",
            ),
        ),
    ],
)
def test_cerebras_refusals_are_flat(axis, body):
    given = answer("cerebras", Denied(axis, 30, 30, 1, 53_100_000_000, False))
    assert (given.status, json.loads(given.body), dict(given.headers)["retry-after"]) == (429, body, "54")


def test_deepinfra_says_rate_limited_and_nothing_else():
    given = answer("deepinfra", Denied("concurrency", 200, 200, 1, None, False))
    assert (given.status, json.loads(given.body)["error"]["message"], given.wait_ns) == (429, "Rate limited", None)
    assert given.headers == [("content-type", "application/json")]


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        (
            "deepinfra",
            429,
            {
                "error": {
                    "message": "Model busy, retry later",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "engine_overloaded",
                }
            },
        ),
        (
            "cerebras",
            429,
            {
                "message": "We're experiencing high traffic right now! Please try again soon.",
                "type": "too_many_requests_error",
                "param": "queue",
                "code": "queue_exceeded",
            },
        ),
    ],
)
def test_busy(dialect, status, body):
    given = busy(DIALECTS[dialect])
    assert (given.status, json.loads(given.body)) == (status, body)


def test_no_money():
    given = insufficient_quota(DIALECTS["openai"])
    error = json.loads(given.body)["error"]
    assert (given.status, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    given = insufficient_quota(DIALECTS["cerebras"])
    assert (given.status, json.loads(given.body)) == (
        402,
        flat(
            "Payment required to access this resource. Visit your billing tab.",
            "payment_required_error",
            "payment_required",
        ),
    )


def test_groq_unknown_model_as_recorded():
    given = unknown_model(DIALECTS["groq"], "non-existent")
    message = "The model `non-existent` does not exist or you do not have access to it."
    assert given.status == 404
    assert json.loads(given.body) == {
        "error": {"code": "model_not_found", "message": message, "type": "invalid_request_error"}
    }


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [401, 402, 403, 404, 413, 418, 498, 500, 502, 503])
def test_any_status_has_a_body_of_that_dialect(dialect, status):
    given = of_status(DIALECTS[dialect], status, "m")
    body = json.loads(given.body)
    assert given.status == status
    wrapper = {"cerebras": {"message", "type", "param", "code"}, "deepinfra": set(body) & {"error", "detail"}}
    assert set(body) == wrapper.get(dialect, {"error"})


def test_no_plain_error_carries_limits():
    for dialect in DIALECTS.values():
        for given in (unauthorized(dialect, "k"), unknown_model(dialect, "x"), unknown_path(dialect, "GET", "/x")):
            assert given.headers == [("content-type", "application/json")]


def test_an_openai_401_does_not_repeat_the_key():
    assert b"sk-secretsecretsecret" not in unauthorized(DIALECTS["openai"], "sk-secretsecretsecret").body


MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("dialect", "body", "text"),
    [
        ("groq", Body(messages=MESSAGES, store=True), "property 'store' is unsupported"),
        ("groq", Body(messages=MESSAGES, n=2), "'n' : number must be at most 1"),
        ("groq", Body(messages=[*MESSAGES, {"reasoning_content": "y"}]), "property 'reasoning_content' is unsupported"),
        ("cerebras", Body(messages=[{"reasoning_content": "y"}]), "messages.0.reasoning_content: property"),
        ("openai", Body(messages=MESSAGES, store=True, n=2), None),
        ("openai", Body(), "'messages' : minimum number of items is 1"),
        ("groq", Body(messages=MESSAGES, store=False), None),
    ],
)
def test_members_a_provider_does_not_take(dialect, body, text):
    given = unwanted(DIALECTS[dialect], body)
    if text is None:
        assert given is None
    else:
        assert given is not None
        assert given.status == 400
        assert text in given.body.decode()
