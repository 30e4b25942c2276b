"""What the rate-limit headers of one answer say, each provider's family read by its own table (providers.md 1.3).

Decides which header names which window, and what a value means there. Unknown headers are passed over, a malformed
value costs only itself. Refuses to know the status of the answer: the same family comes with a 200 and with a 429.
It runs on every answer, so a header costs one lookup in a table built once for each dialect.

Left out on purpose: `project-tokens`, `input-images`, cost and penalty headers (no axis of ours), and all of Together,
whose remaining exceeds its limit and whose unit is a second (recorded): it would block what Together admits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from sidecar.core.durations import MILLISECOND, parse_reset
from sidecar.core.hot_answer import Known, Pattern
from sidecar.core.http import Header
from sidecar.core.ietf_ratelimit import read_fields
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Reading, Source

_MONTH: Final = 31 * DAY  # a sliding window of the longest month admits no more than any calendar month does

_LIMIT, _REMAINING, _RESET, _PERIOD = range(4)
_PARTS: Final = 4
_MOST_DIGITS: Final = 15  # a count with more is not one
_HEADER: Final = Source.HEADER  # looked up once: an enum member costs a search of its class


_Span = tuple[int | None, int | None]  # the length of a window and the time until it is whole again, where known
_Texts = tuple[bytes | None, bytes | None]  # the reset and the renewal period as sent
# finds out what the names of a family do not tell: (span, limit, remaining, texts) -> span
_Guess = Callable[[_Span, int | None, int | None, _Texts], _Span]


class _Window(NamedTuple):
    axis: Axis
    window_ns: int | None


class _Family(NamedTuple):
    """One provider's headers. `places`: name -> the window's index * 4 + which part of it; below 0, an IETF field."""

    windows: tuple[_Window, ...]
    places: dict[bytes, int]
    guess: _Guess | None


def read(dialect: str, headers: list[Header], now_ns: int) -> tuple[Reading, ...]:
    """Every window these headers describe, in the order of the dialect's table; () when they describe none."""
    family = _FAMILIES.get(dialect, _GENERIC)
    places = family.places
    found = [(places[name], value) for name, value in headers if name in places]
    if not found:
        return ()
    return tuple(_readings(family, found, now_ns))


class Gauge(NamedTuple):
    """Which groups of a recognised head hold what one window is about; 0: none does."""

    axis: Axis
    window_ns: int | None
    limit_at: int
    remaining_at: int
    reset_at: int


class Plan(NamedTuple):
    """How the heads of one pattern are read in one dialect. `gauges`: where the names alone tell everything; else
    `found`: the places of the family, and the groups that hold what goes there."""

    gauges: tuple[Gauge, ...]
    found: tuple[tuple[int, int], ...]


def plan_of(dialect: str, pattern: Pattern) -> Plan:
    """How to read what `pattern` recognises."""
    plan = pattern.plans.get(dialect)
    if not isinstance(plan, Plan):
        plan = pattern.plans[dialect] = _planned(_FAMILIES.get(dialect, _GENERIC), pattern.at)
    return plan


def read_known(dialect: str, known: Known, now_ns: int) -> tuple[Reading, ...]:
    """The same as `read` of a head that was recognised."""
    found = [(place, known.match[group].rstrip()) for place, group in plan_of(dialect, known.pattern).found]
    return tuple(_readings(_FAMILIES.get(dialect, _GENERIC), found, now_ns)) if found else ()


def _planned(family: _Family, at: dict[bytes, int]) -> Plan:
    found = tuple((family.places[name], group) for name, group in at.items() if name in family.places)
    groups = dict(found)
    if family.guess is not None or any(place < 0 for place in groups):
        return Plan((), found)
    gauges = []
    for index, (axis, window_ns) in enumerate(family.windows):
        limit, remaining, reset = (groups.get(index * _PARTS + part, 0) for part in (_LIMIT, _REMAINING, _RESET))
        if not limit or not remaining or window_ns is None:
            if limit or remaining:
                return Plan((), found)
            continue
        gauges.append(Gauge(axis, window_ns, limit, remaining, reset))
    return Plan(tuple(gauges), found)


def _readings(family: _Family, found: list[tuple[int, bytes]], now_ns: int) -> list[Reading]:
    cells: list[bytes | None] = [None] * (len(family.windows) * _PARTS + len(_IETF_FIELDS))
    for place, value in found:
        cells[place] = value
    readings = []
    guess = family.guess
    at = 0
    for axis, window_ns in family.windows:
        limit, remaining = _count(cells[at]), _count(cells[at + 1])
        if limit is not None or remaining is not None:
            text = cells[at + 2]
            reset_ns = None if text is None else parse_reset(text, now_ns)
            if guess is not None:
                window_ns, reset_ns = guess((window_ns, reset_ns), limit, remaining, (text, cells[at + 3]))
            readings.append(Reading(axis, window_ns, limit, remaining, reset_ns, _HEADER))
        at += _PARTS
    if cells[-1] is not None or cells[-2] is not None:
        readings += read_fields(cells[-1] or b"", cells[-2] or b"")
    return readings


def _count(value: bytes | None) -> int | None:
    """A count of requests or tokens. A negative one may mean overdrawn or unlimited, so it says nothing."""
    return int(value) if value is not None and value.isdigit() and len(value) <= _MOST_DIGITS else None


def _refill(span: _Span, limit: int | None, remaining: int | None, texts: _Texts) -> _Span:
    """The window of a token bucket: a full refill takes reset * limit / used (providers.md 1.1 row 2).

    `remaining` is rounded down, so the estimate is the window or, with little used, as little as half of it; the
    quarter above it allows for a reset rounded to milliseconds. The candidates are a factor of 24 and more apart.
    """
    window_ns, reset_ns = span
    if window_ns is not None or limit is None or remaining is None or not reset_ns or remaining >= limit:
        return span
    estimate = reset_ns * limit // (limit - remaining)
    for candidate in (MINUTE, HOUR, DAY):
        if candidate <= 2 * estimate and 4 * estimate <= 5 * candidate:
            return candidate, reset_ns
    return span


def _azure(span: _Span, limit: int | None, remaining: int | None, texts: _Texts) -> _Span:
    """The window from `renewalperiod`; a bare reset is in ms or in s, whichever is nearer to what the used part needs
    (providers.md 1.1 row 15)."""
    number, period = _count(texts[0]), _count(texts[1])
    window_ns = period * SECOND if period else MINUTE
    if number is None:
        return window_ns, span[1]
    if limit and remaining is not None:
        expected = max(0, limit - remaining) * window_ns // limit
        return window_ns, min(number * SECOND, number * MILLISECOND, key=lambda reset: abs(reset - expected))
    # without a cross-check the longer reading, unless it exceeds the window itself
    return window_ns, number * (SECOND if number * SECOND <= window_ns else MILLISECOND)


_IETF_FIELDS: Final = {b"ratelimit": -1, b"ratelimit-policy": -2}


def _family(*rows: tuple[bytes, Axis, int | None], guess: _Guess | None = None) -> _Family:
    """A family from rows of (name with `*` for limit, remaining or reset; axis; window)."""
    places: dict[bytes, int] = {}
    for index, (pattern, _, _) in enumerate(rows):
        for part, word in enumerate((b"limit", b"remaining", b"reset", b"renewalperiod")):
            places[pattern.replace(b"*", word)] = index * _PARTS + part
    return _Family(tuple(_Window(axis, window_ns) for _, axis, window_ns in rows), places, guess)


_PLAIN_TOKENS: Final = (b"x-ratelimit-*-tokens", Axis.TOKENS, MINUTE)
_OPENAI: Final = _family((b"x-ratelimit-*-requests", Axis.REQUESTS, None), _PLAIN_TOKENS, guess=_refill)
_GENERIC: Final = _OPENAI._replace(places=_OPENAI.places | _IETF_FIELDS)

_ANTHROPIC: Final = _family(
    (b"anthropic-ratelimit-requests-*", Axis.REQUESTS, MINUTE),
    (b"anthropic-ratelimit-tokens-*", Axis.TOKENS, MINUTE),
    (b"anthropic-ratelimit-input-tokens-*", Axis.INPUT_TOKENS, MINUTE),
    (b"anthropic-ratelimit-output-tokens-*", Axis.OUTPUT_TOKENS, MINUTE),
)
# what Anthropic's OpenAI surface calls them
_ANTHROPIC_COMPATIBLE: Final = {
    b"x-ratelimit-requests": 0 * _PARTS + _LIMIT,
    b"x-ratelimit-remaining-requests": 0 * _PARTS + _REMAINING,
    b"x-ratelimit-reset-requests": 0 * _PARTS + _RESET,
    b"x-ratelimit-tokens": 1 * _PARTS + _LIMIT,
    b"x-ratelimit-remaining-tokens": 1 * _PARTS + _REMAINING,
    b"x-ratelimit-reset-tokens": 1 * _PARTS + _RESET,
}

_FAMILIES: Final = {
    "openai": _OPENAI,
    "groq": _family((b"x-ratelimit-*-requests", Axis.REQUESTS, DAY), _PLAIN_TOKENS),
    "cerebras": _family(
        (b"x-ratelimit-*-requests-minute", Axis.REQUESTS, MINUTE),
        (b"x-ratelimit-*-requests-hour", Axis.REQUESTS, HOUR),
        (b"x-ratelimit-*-requests-day", Axis.REQUESTS, DAY),
        (b"x-ratelimit-*-tokens-minute", Axis.TOKENS, MINUTE),
        (b"x-ratelimit-*-tokens-hour", Axis.TOKENS, HOUR),
        (b"x-ratelimit-*-tokens-day", Axis.TOKENS, DAY),
    ),
    "azure": _family((b"x-ratelimit-*-requests", Axis.REQUESTS, MINUTE), _PLAIN_TOKENS, guess=_azure),
    "anthropic": _ANTHROPIC._replace(places=_ANTHROPIC.places | _ANTHROPIC_COMPATIBLE),
    "mistral": _family(
        (b"x-ratelimit-*-req-10-second", Axis.REQUESTS, 10 * SECOND),
        (b"x-ratelimit-*-req-minute", Axis.REQUESTS, MINUTE),
        (b"x-ratelimit-*-tokens-minute", Axis.TOKENS, MINUTE),
        (b"x-ratelimit-*-tokens-month", Axis.TOKENS, _MONTH),
        (b"x-ratelimit-*-audio-seconds-minute", Axis.AUDIO_SECONDS, MINUTE),
        (b"ratelimitbysize-*", Axis.TOKENS, MINUTE),  # 2024
    ),
    # its counters jump between calls; per minute by its own error text, and never stricter than that
    "xai": _family((b"x-ratelimit-*-requests", Axis.REQUESTS, MINUTE), _PLAIN_TOKENS),
    "together": _family(),
    # 20 a minute or 50 a day under the same name: only the error text tells which
    "openrouter": _family((b"x-ratelimit-*", Axis.REQUESTS, None)),
    # its documents disagree whether the token figures are for a second or a minute
    "fireworks": _family(
        (b"x-ratelimit-*-requests", Axis.REQUESTS, MINUTE),
        (b"x-ratelimit-*-tokens-prompt", Axis.INPUT_TOKENS, None),
        (b"x-ratelimit-*-tokens-generated", Axis.OUTPUT_TOKENS, None),
    ),
    "sambanova": _family(
        (b"x-ratelimit-*-requests", Axis.REQUESTS, MINUTE),
        (b"x-ratelimit-*-requests-day", Axis.REQUESTS, DAY),
    ),
}
