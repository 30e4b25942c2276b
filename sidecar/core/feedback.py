"""What one answer of a provider says about this request and about the time to come.

Puts together what its parts say: the headers (ratelimit_headers.py), the body (error_body.py), the limits it names
(error_texts.py) and the table of what errors mean (error_classes.py). Decides the order in which announced times are
believed: header, structured body, text, then a default by window (acceptance A10), never 0 and never capped (A12).
Refuses to know what is done about it (attempts.py) and whom it benches (keys.py).
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core import window_ends
from sidecar.core.durations import duration_in_text, parse_reset, parse_retry_after
from sidecar.core.error_body import ErrorBody, hidden_error, parse
from sidecar.core.error_classes import STATUS_OF_NAME, Case, Row, Trait, Until, classify_case
from sidecar.core.error_texts import NamedLimit, concurrency_limit, named_limits
from sidecar.core.http import Header, find
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Reading, Source
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.ratelimit_headers import read
from sidecar.core.rejected_fields import judge

__all__ = ["ProviderAnswer", "classify", "hidden_error"]


class ProviderAnswer(NamedTuple):
    """A provider's answer as it came, its body decoded (gzip), and our own estimate of the prompt it was for.

    `sent`: the JSON body that it answers, where fields may be left out of that.
    """

    dialect: str
    status: int
    headers: list[Header]
    body: bytes
    estimated_tokens: int = 0  # 0 = not known
    day_resets_ns: int | None = None  # when the provider's calendar day ends (absolute), where it has one
    sent: bytes = b""


class _Said(NamedTuple):
    """An error taken apart. `wait_ns`: the time it announces, from now, > 0; None where it announces none."""

    answer: ProviderAnswer
    body: ErrorBody
    readings: tuple[Reading, ...]  # of its headers, and of headers quoted in its body
    limits: tuple[NamedLimit, ...]
    wait_ns: int | None

    @property
    def window_ns(self) -> int | None:
        """The longest window that is named as spent: the one that governs."""
        return max((limit.window_ns for limit in self.limits if limit.window_ns is not None), default=None)


def classify(answer: ProviderAnswer, now_ns: int) -> Feedback:
    """What `answer` says. A 2xx or 3xx is OK whatever `retry-after` it carries, unless its body is an error."""
    is_hidden = answer.status < 400
    if is_hidden and not hidden_error(answer.body):
        return Feedback(Outcome.OK, Scope.REQUEST, None, read(answer.dialect, answer.headers, now_ns))
    said = _take_apart(answer, is_hidden, now_ns)
    body = said.body
    status = _hidden_status(body) if is_hidden else answer.status
    row = classify_case(Case(answer.dialect, status, body.names, body.text, _traits(said)))
    judgement = judge(status, body, answer.body, answer.sent) if row.outcome is Outcome.BAD_REQUEST else None
    if judgement is not None:
        return Feedback(judgement.outcome, row.scope, None, message=body.message, remedies=judgement.remedies)
    bench_ns = _bench(row, said, now_ns)
    return Feedback(
        row.outcome,
        row.scope,
        None if bench_ns is None else now_ns + bench_ns,
        _readings(row.outcome, said, bench_ns),
        body.organization,
        body.message,
        requested=_requested(said),
    )


def _requested(said: _Said) -> int | None:
    """What it says the request would have taken of a window that counts the prompt and perhaps declared output."""
    named = (limit.requested for limit in said.limits if limit.axis is Axis.TOKENS and limit.limit is not None)
    return next((requested for requested in named if requested is not None), None)


def _take_apart(answer: ProviderAnswer, is_hidden: bool, now_ns: int) -> _Said:
    body = parse(answer.body, find(answer.headers, b"content-type"))
    readings = read(answer.dialect, answer.headers + list(body.headers), now_ns)
    said = _Said(answer, body, readings, named_limits(body), None)
    # a retry-after on a 200 is no refusal (providers.md 1.1 row 1), so an error hidden in one does not get it either
    headers = [] if is_hidden else answer.headers
    return said._replace(wait_ns=_announced(said, headers, now_ns))


def _hidden_status(body: ErrorBody) -> int:
    """The status an error inside a 200 stands for: its own, or its name's, else a server error (acceptance B5)."""
    if body.status is not None:
        return body.status
    return next((STATUS_OF_NAME[name] for name in sorted(body.names) if name in STATUS_OF_NAME), 500)


def _announced(said: _Said, headers: list[Header], now_ns: int) -> int | None:
    """The wait the provider announces, by the order of A10. A zero announces nothing (1.1 row 14)."""
    body = said.body
    return (
        parse_retry_after(headers, now_ns)
        or _bare_reset([*headers, *body.headers], now_ns)
        or _end_of_calendar_day(said, now_ns)
        or parse_reset(body.wait, now_ns)
        or duration_in_text(body.text, now_ns)
    ) or None


def _bare_reset(headers: list[Header], now_ns: int) -> int | None:
    """`x-ratelimit-reset` without an axis is a suggested wait (Together, OpenRouter)."""
    value = find(headers, b"x-ratelimit-reset")
    return None if value is None else parse_reset(value, now_ns)


def _end_of_calendar_day(said: _Said, now_ns: int) -> int | None:
    """Google sends a `retryDelay` of seconds even for a spent day; its quota id is to be believed (section 11)."""
    is_spent_day = said.body.violations and said.window_ns == DAY
    return window_ends.wait("gemini", DAY, said.answer.day_resets_ns, now_ns) if is_spent_day else None


def _traits(said: _Said) -> frozenset[Trait]:
    is_zero = 0 in [reading.limit for reading in said.readings] or 0 in [named.limit for named in said.limits]
    found = {
        Trait.NEVER_FITS: _never_fits(said),
        Trait.NO_ALLOWANCE: is_zero,
        Trait.RELAYED: bool(said.body.upstream),
    }
    return frozenset(trait for trait, is_so in found.items() if is_so)


def _never_fits(said: _Said) -> bool:
    text = said.body.text
    if "86400 seconds" in text and (said.answer.dialect == "azure" or "Azure" in text):
        return True  # what Azure says of a request larger than its deployment's minute (section 9)
    return any(_exceeds(limit, said.answer.estimated_tokens) for limit in said.limits if limit.limit)


def _exceeds(named: NamedLimit, estimated_tokens: int) -> bool:
    """Whether one request is more than the limit: by the provider's count, else by ours with 30 % off (design 4)."""
    limit = named.limit or 0
    if named.requested is not None:
        return named.requested > limit
    return named.axis in (Axis.TOKENS, Axis.INPUT_TOKENS) and 7 * estimated_tokens > 10 * limit


def _bench(row: Row, said: _Said, now_ns: int) -> int | None:
    """How long the row's scope is benched, in ns from now."""
    if row.until is Until.NEVER:
        return None
    if row.until is Until.AT_LEAST:
        return max(row.bench_ns or 0, said.wait_ns or 0)
    return said.wait_ns or (_unannounced(said, now_ns) if row.until is Until.WINDOW else row.bench_ns)


# How long to wait without an announced time, by the window that is spent. A bucket of a minute frees something within
# seconds and a fixed minute within a minute: ten seconds cost at most five refused probes, or a little idleness. By
# the later steps a rolling hour has given back a thirtieth of its limit, a rolling day a hundred-and-forty-fourth.
_STEPS = ((MINUTE, 10 * SECOND), (HOUR, 2 * MINUTE), (DAY, 10 * MINUTE))
_LONGEST_STEP = 6 * HOUR  # a spent month


def _unannounced(said: _Said, now_ns: int) -> int:
    """A wait where none was announced: from the figures, from a spent window's reset, else by the window's length."""
    missing = max((_missing(limit) for limit in said.limits), default=0)
    if missing:
        return missing
    answer, spent = said.answer, _spent(said)
    window_ns = said.window_ns or max((reading.window_ns or 0 for reading in spent), default=0)
    resets = [reading.reset_ns for reading in spent if reading.reset_ns and reading.window_ns in (window_ns, None)]
    if resets and answer.dialect in window_ends.FIXED_DIALECTS:
        return max(resets)
    end_ns = window_ends.wait(answer.dialect, window_ns, answer.day_resets_ns, now_ns)
    if end_ns is not None:
        return end_ns
    step = next((step for longest, step in _STEPS if window_ns <= longest), _LONGEST_STEP)
    return min([step, *resets])


def _spent(said: _Said) -> list[Reading]:
    """The headers' readings of the windows the text names, else of those with nothing left."""
    named = {(limit.axis, limit.window_ns) for limit in said.limits}
    readings = [reading for reading in said.readings if (reading.axis, reading.window_ns) in named]
    return readings or [reading for reading in said.readings if reading.remaining == 0]


def _missing(named: NamedLimit) -> int:
    """How long a bucket takes to refill what is missing: (used + requested - limit) / rate (providers.md 1.1 row 3)."""
    if not (named.limit and named.window_ns and named.used is not None and named.requested is not None):
        return 0
    return max(0, -(-(named.used + named.requested - named.limit) * named.window_ns // named.limit))


def _readings(outcome: Outcome, said: _Said, bench_ns: int | None) -> tuple[Reading, ...]:
    """The headers' readings and what the text adds. Where both tell how much of a window is left, the text is believed.

    What another provider behind this one says of its limits is not about this account.
    """
    told: list[Reading] = []
    if outcome is Outcome.CONCURRENCY:
        told.append(Reading(Axis.CONCURRENCY, None, concurrency_limit(said.body.text), 0, None, Source.BODY))
    elif outcome in (Outcome.RATE_LIMITED, Outcome.TOO_LARGE) and not said.body.upstream:
        readings = (_reading(limit, limit.axis, said, bench_ns) for limit in said.limits if limit.axis is not None)
        told += [each for each in readings if each.limit is not None or (each.window_ns and each.remaining is not None)]
    spent = [reading for reading in told if reading.remaining is not None]
    covered = {(reading.axis, window) for reading in spent for window in (reading.window_ns, None)}
    return (*(reading for reading in said.readings if (reading.axis, reading.window_ns) not in covered), *told)


def _reading(named: NamedLimit, axis: Axis, said: _Said, bench_ns: int | None) -> Reading:
    """A named limit as a reading. `bench_ns` None: it was the request that was too large, and nothing is spent."""
    limit, window_ns = named.limit, named.window_ns
    if limit is None:
        same = (r for r in said.readings if r.axis is axis and r.window_ns in (window_ns, None))
        limit = next((reading.limit for reading in same), None)
    if bench_ns is None:
        return Reading(axis, window_ns, limit, None, None, Source.BODY)
    if limit and window_ns and named.used is not None:
        # only buckets tell what is used: whole again when all of it has run off
        used = min(named.used, limit)
        return Reading(axis, window_ns, limit, limit - used, used * window_ns // limit, Source.BODY)
    return Reading(axis, window_ns, limit, 0, bench_ns, Source.BODY)
