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
_WORDS = {
    Reason.RATE_LIMITED: "every key is out of quota for now",
    Reason.UNAVAILABLE: "at capacity or failing, and not to be called for now",
    Reason.NO_USABLE_KEY: "no key is present and accepted by the provider",
    Reason.MODEL_UNAVAILABLE: "reported as not available by the provider",
}


class Failure(NamedTuple):
    """One failed attempt."""

    hop: Keys
    candidate: Candidate
    outcome: Outcome
    message: str


class Exhausted(NamedTuple):
    """A request at its end. `outlooks`: what to expect of the hops that are still open; `turn_ns`: when those have been
    served who wait there already (0: nobody does)."""

    hops: Sequence[Keys]
    size: Size
    failures: Sequence[Failure]
    outlooks: Sequence[Outlook]
    trail: tuple[Step, ...]
    turn_ns: int = 0


class _Promise(NamedTuple):
    """The first release that is known: for what it has to be waited, and how long from now."""

    reason: Reason
    wait_ns: int


def last_word(exhausted: Exhausted, now_ns: int) -> Refusal:
    """The refusal of a request for which nothing is left to try."""
    promise = _promise(exhausted.outlooks, exhausted.turn_ns, now_ns)
    return _after_failures(exhausted, promise, now_ns) if exhausted.failures else _unasked(exhausted, promise)


def soonest_of(outlooks: Sequence[Outlook]) -> int | None:
    """The first instant at which any of them admits, None when none will."""
    return min((outlook.free_at_ns for outlook in outlooks if outlook.free_at_ns is not None), default=None)


def _promise(outlooks: Sequence[Outlook], turn_ns: int, now_ns: int) -> _Promise | None:
    """What is told of the time to come. A model that is not there is waited for only where there is nothing else."""
    timed = [
        (cause is Outcome.MODEL_UNAVAILABLE, free_ns, _barred(cause))
        for free_ns, _, cause, _ in outlooks
        if free_ns is not None and is_timed(free_ns)
    ]
    if not timed:
        return None
    _, free_ns, reason = min(timed, key=lambda each: each[:2])
    if reason is Reason.RATE_LIMITED:
        free_ns = max(free_ns, turn_ns)  # nobody overtakes those who wait (A16)
    return _Promise(reason, max(0, free_ns - now_ns))


def _barred(cause: Outcome | None) -> Reason:
    """How a caller is told what bars a key: its quota, or `cause`."""
    if cause is None:
        return Reason.RATE_LIMITED
    reason = RULES[cause].reason
    return reason if reason in _WORDS else Reason.UNAVAILABLE


def _after_failures(exhausted: Exhausted, promise: _Promise | None, now_ns: int) -> Refusal:
    failures, trail = exhausted.failures, exhausted.trail
    reason = _told(failures, promise)
    if reason is Reason.NEVER_FITS:
        return _never_fits(exhausted)
    first = failures[0]
    words = first.message or first.outcome.value.replace("_", " ")
    count = "The only attempt failed" if len(trail) == 1 else f"All {len(trail)} attempts failed; the first"
    retry_after_ns = _wait_ns(failures, promise, now_ns) if reason in _TIMED else None
    return Refusal(reason, f"{count}, at {trail[0].target}: {words}", retry_after_ns, trail=trail)


def _wait_ns(failures: Sequence[Failure], promise: _Promise | None, now_ns: int) -> int:
    """How long until something may serve: what is open, or a target that said when it will be."""
    waits = [promise.wait_ns] if promise is not None and promise.reason in _TIMED else []
    busy = [failure.candidate for failure in failures if RULES[failure.outcome].reason is Reason.UNAVAILABLE]
    waits += [candidate.standing().until_ns - now_ns for candidate in busy]
    return min((wait for wait in waits if wait > 0), default=_UNKNOWN_WAIT_NS)


def _told(failures: Sequence[Failure], promise: _Promise | None) -> Reason:
    """What waiting mends goes first, then what a repetition may mend, then what came first."""
    reasons = [RULES[failure.outcome].reason for failure in failures]
    if promise is not None and Reason.RATE_LIMITED in reasons:
        return Reason.RATE_LIMITED
    mendable = next((reason for reason in reasons if Refusal(reason, "").may_mend), None)
    if mendable is None and promise is not None and promise.reason in _TIMED:
        return promise.reason  # who was asked will not serve it, but others that are open will
    return mendable or reasons[0]


def _unasked(exhausted: Exhausted, promise: _Promise | None) -> Refusal:
    outlooks = exhausted.outlooks
    if outlooks and all(outlook.never_fits for outlook in outlooks):
        return _never_fits(exhausted)
    names = _names(exhausted)
    if promise is not None:
        # a model that was found missing may be there again some day: no time to tell a caller
        retry_after_ns = None if promise.reason is Reason.MODEL_UNAVAILABLE else promise.wait_ns
        return Refusal(promise.reason, f"{names}: {_WORDS[promise.reason]}.", retry_after_ns)
    if soonest_of(outlooks) is not None:
        return Refusal(Reason.RATE_LIMITED, f"{names}: too many requests are in flight.", _UNKNOWN_WAIT_NS)
    return Refusal(Reason.NO_USABLE_KEY, f"{names}: {_WORDS[Reason.NO_USABLE_KEY]}.")


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
