"""The honest last word: how a request that nobody will serve is refused, and when it may come again.

A failed one names its first error and the whole trail; one that nobody could even be asked for says why not. Where
waiting mends it, the status says so with the true time (acceptance A4, A16, B11).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.core.errors import Reason, Refusal, Step
from sidecar.core.fallback import RULES
from sidecar.core.keys import Candidate, Keys, Outlook, Size, is_timed
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome

# told where no provider named a time: long enough not to hammer, short enough to find a freed place
_UNKNOWN_WAIT_NS = 2 * SECOND
_TIMED = frozenset({Reason.RATE_LIMITED, Reason.UNAVAILABLE})


class Failure(NamedTuple):
    """One failed attempt."""

    hop: Keys
    candidate: Candidate
    outcome: Outcome
    message: str


class Exhausted(NamedTuple):
    """A request at its end. `outlooks`: what to expect of the hops that are still open."""

    hops: Sequence[Keys]
    size: Size
    failures: Sequence[Failure]
    outlooks: Sequence[Outlook]
    trail: tuple[Step, ...]


def last_word(exhausted: Exhausted, now_ns: int) -> Refusal:
    """The refusal of a request for which nothing is left to try."""
    soonest = soonest_of(exhausted.outlooks)
    wait_ns = max(0, soonest - now_ns) if soonest is not None and is_timed(soonest) else None
    if exhausted.failures:
        return _after_failures(exhausted, wait_ns)
    return _unasked(exhausted, soonest, wait_ns)


def soonest_of(outlooks: Sequence[Outlook]) -> int | None:
    """The first instant at which any of them admits, None when none will."""
    return min((outlook.free_at_ns for outlook in outlooks if outlook.free_at_ns is not None), default=None)


def _after_failures(exhausted: Exhausted, wait_ns: int | None) -> Refusal:
    failures, trail = exhausted.failures, exhausted.trail
    reason = _told(failures, wait_ns)
    if reason is Reason.NEVER_FITS:
        return _never_fits(exhausted)
    first = failures[0]
    words = first.message or first.outcome.value.replace("_", " ")
    count = "The only attempt failed" if len(trail) == 1 else f"All {len(trail)} attempts failed; the first"
    retry_after_ns = (wait_ns or _UNKNOWN_WAIT_NS) if reason in _TIMED else None
    return Refusal(reason, f"{count}, at {trail[0].target}: {words}", retry_after_ns, trail=trail)


def _told(failures: Sequence[Failure], wait_ns: int | None) -> Reason:
    """What waiting mends goes first, then what a repetition may mend, then what came first."""
    reasons = [RULES[failure.outcome].reason for failure in failures]
    if wait_ns is not None and Reason.RATE_LIMITED in reasons:
        return Reason.RATE_LIMITED
    return next((reason for reason in reasons if Refusal(reason, "").may_mend), reasons[0])


def _unasked(exhausted: Exhausted, soonest: int | None, wait_ns: int | None) -> Refusal:
    outlooks = exhausted.outlooks
    names = _names(exhausted)
    if outlooks and all(outlook.never_fits for outlook in outlooks):
        return _never_fits(exhausted)
    causes = {outlook.cause for outlook in outlooks}
    if wait_ns is not None and Outcome.BUSY in causes:
        return Refusal(Reason.UNAVAILABLE, f"{names}: at capacity.", wait_ns)
    if wait_ns is not None and Outcome.MODEL_UNAVAILABLE not in causes:
        return Refusal(Reason.RATE_LIMITED, f"{names}: every key is out of quota for now.", wait_ns)
    if Outcome.MODEL_UNAVAILABLE in causes:
        return Refusal(Reason.MODEL_UNAVAILABLE, f"{names}: reported as not available by the provider.")
    if soonest is not None:
        return Refusal(Reason.RATE_LIMITED, f"{names}: too many requests are in flight.", _UNKNOWN_WAIT_NS)
    return Refusal(Reason.NO_USABLE_KEY, f"{names}: no key is present and accepted by the provider.")


def _never_fits(exhausted: Exhausted) -> Refusal:
    largest = max((hop.largest_budget() for hop in exhausted.hops), default=0)
    costs = [hop.cost(exhausted.size) for hop in exhausted.hops]
    needs = min((cost.input_tokens + cost.output_tokens for cost in costs), default=0)
    budget = f"the largest budget is {largest} tokens" if largest else "that is more than any of them takes"
    message = (
        f"{_names(exhausted)}: this request is too large; it needs about {needs} tokens, and {budget}. "
        "Shorten the prompt or lower max_tokens."
    )
    return Refusal(Reason.NEVER_FITS, message, trail=exhausted.trail)


def _names(exhausted: Exhausted) -> str:
    return ", ".join(str(hop.target) for hop in exhausted.hops)
