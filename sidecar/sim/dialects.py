"""What sets the simulated providers apart before a word of a body is written: paths, metering, header families.

A table, one row a dialect, from providers.md: groq section 2, cerebras 3, deepinfra 4, openai 8; the grammar of
resets from section 1.2. Pure text; error bodies are in refusals.py, answers in replies.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.core.limits import MINUTE, SECOND, ChargeRule
from sidecar.sim.axes import AXES, WindowState
from sidecar.sim.config import LimitRule
from sidecar.sim.meter import Style

Headers = list[tuple[str, str]]

_COMMON = {"chat", "models"}
_OPENAI_SURFACE = _COMMON | {"completions", "embeddings", "responses", "transcriptions", "translations", "speech"}
_OPENAI_SURFACE |= {"files", "batches", "moderations"}


class Dialect(NamedTuple):
    """One provider's way.

    `base`: the path all endpoints are under. `surfaces`: the endpoints it has. `families`: header suffix -> the axes
    whose window it tells, the first that is limited. `unsupported`: body members that it answers with a 400, and the
    same for members of a message. `default_limits` stand under the configured ones.
    """

    name: str
    base: str
    surfaces: frozenset[str]
    charge: ChargeRule
    style: Style
    families: tuple[tuple[str, tuple[str, ...]], ...] = ()
    default_limits: tuple[LimitRule, ...] = ()
    unsupported: tuple[str, ...] = ()
    unsupported_in_messages: tuple[str, ...] = ()


_CEREBRAS_FAMILIES = tuple(
    (f"{axis.counts}-{axis.period}", (axis.name,)) for axis in AXES.values() if axis.counts in ("requests", "tokens")
)

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            name="groq",
            base="/openai/v1",
            surfaces=frozenset(_OPENAI_SURFACE - {"completions", "moderations"}),
            charge=ChargeRule(output="declared"),
            style=Style("token_bucket", settles=True),
            families=(("requests", ("rpd",)), ("tokens", ("tpm",))),
            unsupported=("store", "metadata", "logprobs", "top_logprobs", "logit_bias"),
            unsupported_in_messages=("reasoning_content", "metadata", "name"),
        ),
        Dialect(
            name="cerebras",
            base="/v1",
            surfaces=frozenset(_COMMON | {"completions"}),
            charge=ChargeRule(output="assumed", assumed_output=16384),
            style=Style("fixed", settles=True, tells_before=True),
            families=_CEREBRAS_FAMILIES,
            unsupported=("store", "metadata"),
            unsupported_in_messages=("reasoning_content",),
        ),
        Dialect(
            name="openai",
            base="/v1",
            surfaces=frozenset(_OPENAI_SURFACE),
            charge=ChargeRule(),
            style=Style("token_bucket", settles=False),
            families=(("requests", ("rpm", "rpd")), ("tokens", ("tpm",))),
        ),
        Dialect(
            name="deepinfra",
            base="/v1/openai",
            surfaces=frozenset(_COMMON | {"completions", "embeddings", "transcriptions"}),
            charge=ChargeRule(),
            style=Style("sliding", settles=True),
            default_limits=(LimitRule(concurrency=200),),
        ),
    )
}


def go_duration(duration_ns: int) -> str:
    """A duration as Go prints it (`1h29m16.8s`, `36m0s`, `278.999999ms`, `0s`). Below 1 ms: `1ms`, for Go's `µs` is
    not ASCII and has not been seen in a header."""
    if duration_ns <= 0:
        return "0s"
    if duration_ns < SECOND:
        return f"{_decimal(max(duration_ns, 1_000_000), 6)}ms"
    minutes, rest = divmod(duration_ns, MINUTE)
    hours, minutes = divmod(minutes, 60)
    prefix = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{prefix}{_decimal(rest, 9)}s"


def printed_wait(wait_ns: int, limit: int, window_ns: int) -> int:
    """A wait as a provider computes it, in floating point from the tokens missing: 397 of 12000 a minute are
    1.984999999 s, where arithmetic says 1.985 (providers.md section 2.4)."""
    missing = round(wait_ns * limit / window_ns, 6)
    return int(missing / limit * (window_ns / SECOND) * SECOND)


def reset(dialect: Dialect, state: WindowState) -> str:
    """The time until a window is whole again, in the grammar of that dialect."""
    if dialect.name == "cerebras":
        return repr(state.reset_ns / SECOND)
    return go_duration(printed_wait(state.reset_ns, state.limit, AXES[state.axis].window_ns))


def quota_headers(dialect: Dialect, states: Sequence[WindowState]) -> Headers:
    """The `x-ratelimit-*` family of an answer: limits, then what remains, then resets."""
    by_axis: dict[str, WindowState] = {}
    for state in states:
        tightest = by_axis.get(state.axis)
        if tightest is None or state.remaining < tightest.remaining:
            by_axis[state.axis] = state
    told = []
    for suffix, axes in dialect.families:
        shown = next((by_axis[axis] for axis in axes if axis in by_axis), None)
        if shown is not None:
            told.append((suffix, shown))
    return [
        *((f"x-ratelimit-limit-{suffix}", str(state.limit)) for suffix, state in told),
        *((f"x-ratelimit-remaining-{suffix}", str(max(0, state.remaining))) for suffix, state in told),
        *((f"x-ratelimit-reset-{suffix}", reset(dialect, state)) for suffix, state in told),
    ]


def own_headers(dialect: Dialect, request_id: str) -> Headers:
    """What a provider adds to every answer."""
    headers = [("x-request-id", request_id)]
    if dialect.name == "groq":
        headers.append(("x-groq-region", "us-west-1"))
    elif dialect.name == "openai":
        headers += [("openai-processing-ms", "5"), ("openai-version", "2020-10-01")]
    return headers


def _decimal(value: int, digits: int) -> str:
    """`value` / 10**digits without trailing zeros."""
    whole, fraction = divmod(value, 10**digits)
    return f"{whole}.{fraction:0{digits}d}".rstrip("0").rstrip(".")
