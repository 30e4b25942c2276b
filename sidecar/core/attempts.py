"""What is done next for one request: send, wait, back off, or give up. One small machine over one table (fallback.py).

It walks the chain: a target that admits now always beats waiting, each key at each target is used at most once unless
the table says retry, and one deadline covers waiting, backoff and attempts (acceptance B12, B16). Of one request, the
first fault of a target alone counts against it (H3). It refuses to know what an answer looked like (feedback.py) and
never sleeps: it returns the step to take. Backoff: exponential with full jitter, the draw being an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from sidecar.core.breaker import FAULTS, Breaker
from sidecar.core.conversation import Turn
from sidecar.core.errors import Refusal, Step
from sidecar.core.fallback import RULES, Next, Rule
from sidecar.core.keys import Candidate, Keys, Outlook, Size, is_timed
from sidecar.core.last_word import Exhausted, Failure, last_word, soonest_of
from sidecar.core.limits import Cost
from sidecar.core.outcomes import Feedback, Outcome
from sidecar.core.quota import Charge, Quota
from sidecar.core.retry_budget import RetryBudget

_OK: Final = Outcome.OK  # an enum's member costs a look-up through its metaclass


class Send:
    """Send to this candidate now; its quota is spent."""

    __slots__ = ("candidate", "charge")

    def __init__(self, candidate: Candidate, charge: Charge) -> None:
        self.candidate: Final = candidate
        self.charge: Final = charge


class Wait(NamedTuple):
    """Enlist at every place and take the first that admits, until `until_ns` or until one of `breakers` lets calls
    pass; then ask again."""

    places: list[tuple[Candidate, Cost]]
    until_ns: int
    breakers: tuple[Breaker, ...] = ()


class Backoff(NamedTuple):
    """Do nothing until `until_ns`, or until one of `breakers` lets calls pass; then ask again."""

    until_ns: int
    breakers: tuple[Breaker, ...] = ()


class Policy:
    """The operator's bounds for one request. `is_single`: exactly one call, whatever comes of it (B15).
    `hedge_ns`: how long a target may be silent before another is asked beside it."""

    __slots__ = (
        "ambiguous_ends",
        "attempts",
        "base_ns",
        "cap_ns",
        "deadline_ns",
        "hedge_ns",
        "is_single",
        "wait_until_ns",
    )

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self,
        attempts: int,
        base_ns: int,
        cap_ns: int,
        ambiguous_ends: bool,
        is_single: bool,
        wait_until_ns: int,
        deadline_ns: int,
        hedge_ns: int | None = None,
    ) -> None:
        self.attempts: Final = attempts
        self.base_ns: Final = base_ns
        self.cap_ns: Final = cap_ns
        self.ambiguous_ends: Final = ambiguous_ends
        self.is_single: Final = is_single
        self.wait_until_ns: Final = wait_until_ns
        self.deadline_ns: Final = deadline_ns
        self.hedge_ns: Final = hedge_ns


class Attempts:
    """The machine of one request. Ask `next`, do as told, report with `failed`, until done."""

    __slots__ = (
        "_backlog", "_budget", "_closed", "_failures", "_has_blamed", "_hops", "_passed_over", "_policy", "_retries",
        "_size", "_slow", "_turn", "sent", "trail"
    )  # fmt: skip

    def __init__(
        self, hops: list[Keys], size: Size, policy: Policy, budget: RetryBudget, turn: Turn | None = None
    ) -> None:
        """`turn`: of which conversation it is, where that makes a difference."""
        self._hops = hops
        self._turn = turn
        self._backlog = hops[0].shared.backlog
        self._size = size
        self._policy = policy
        self._budget = budget
        # plain tuples, which cost nothing while they are empty
        self._passed_over: tuple[Candidate, ...] = ()
        self._closed: tuple[Keys, ...] = ()
        self._failures: tuple[Failure, ...] = ()
        self._retries = 0
        self._has_blamed = False
        self._slow: Candidate | None = None  # beside whom another was asked
        self.sent = 0
        self.trail: tuple[Step, ...] = ()

    def next(self, now_ns: int, draw: float) -> Send | Wait | Backoff | Refusal:
        """The next step at `now_ns`; `draw` in [0, 1) spreads backoffs."""
        policy = self._policy
        if self.sent < policy.attempts and now_ns < policy.deadline_ns:
            for hop in self._hops:
                if self._closed and hop in self._closed:
                    continue
                admitted = hop.admit(hop.cost(self._size), now_ns, self._passed_over, self._turn)
                if admitted is not None:
                    self.sent += 1
                    return Send(admitted[0], admitted[1])
            return self._hold(now_ns, draw)
        return self._give_up(now_ns, self._outlooks(now_ns))

    def hop_of(self, candidate: Candidate) -> Keys:
        """The hop of the chain that a candidate belongs to."""
        for hop in self._hops:
            if hop.target is candidate.target:
                return hop
        raise LookupError(str(candidate.target))

    def turn_ns(self, now_ns: int) -> int:
        """How long until those have been served who wait already, and this one could be."""
        if not self._backlog.waiting:
            return 0
        return self._backlog.turn(_quotas(self._places(now_ns)), now_ns) - now_ns

    def granted(self, candidate: Candidate, now_ns: int) -> None:
        """A place admitted the request while it waited: that is one attempt."""
        self.sent += 1
        if self._turn is not None:
            self.hop_of(candidate).pin(self._turn, candidate, now_ns)

    def failed(self, candidate: Candidate, feedback: Feedback, status: int | None) -> Next:
        """Record a failed attempt; RELAY means: the answer at hand is the caller's."""
        outcome = feedback.outcome
        rule = RULES[outcome]
        self.trail += (Step(str(candidate.target), candidate.key.name, outcome.value, status),)
        if rule.then is Next.RELAY:
            return Next.RELAY
        if rule.then is Next.AGAIN:
            # neither a failure of the target nor a retry by the budget; where no call is left, its words say it best
            return Next.RELAY if self._policy.is_single or self.sent >= self._policy.attempts else Next.AGAIN
        hop = self.hop_of(candidate)
        again = any(failure.hop is hop and failure.outcome is outcome for failure in self._failures)
        self._failures += (Failure(hop, candidate, outcome, feedback.message),)
        if outcome is Outcome.AMBIGUOUS and self._policy.ambiguous_ends:
            self._closed = tuple(self._hops)
        elif rule.then is Next.TARGET or (again and outcome is Outcome.SERVER_ERROR):
            # the same server error with a second key is the target's or the request's, not the keys' (H3)
            self._closed += (hop,)
        elif outcome not in (Outcome.RATE_LIMITED, Outcome.CONCURRENCY):
            self._passed_over += (candidate,)  # a spent window needs no mark: its quota holds the time
        if status is None:
            return rule.then
        return Next.RELAY if self._policy.is_single or self._stands_alone(rule, outcome, status) else rule.then

    def hedge(self, beside: Candidate, now_ns: int) -> Send | None:
        """Another target to be asked beside one that is slow, if any admits now; its quota is spent."""
        if self.sent >= self._policy.attempts or now_ns >= self._policy.deadline_ns:
            return None
        for hop, cost in self._open_hops():
            admitted = None if hop.target is beside.target else hop.admit(cost, now_ns, self._passed_over)
            if admitted is not None:
                self.sent += 1
                self._slow = beside
                return Send(admitted[0], admitted[1])
        return None

    def hedged(self, candidate: Candidate) -> None:
        """Record an attempt that was given up because another one had an answer first."""
        self.trail += (Step(str(candidate.target), candidate.key.name, Outcome.HEDGED.value),)

    def ended(self, send: Send, outcome: Outcome, now_ns: int, draw: float) -> None:
        """An attempt is over, however it went: what it says of its target. `draw` in [0, 1) spreads open times."""
        breaker = send.candidate.breaker
        if outcome is _OK and breaker.is_quiet:
            return
        if outcome is Outcome.HEDGED and send.candidate is self._slow:
            return breaker.overtaken(send.charge, now_ns, draw)
        if outcome in FAULTS:
            is_first, self._has_blamed = not self._has_blamed, True
            # what a second target fails at as well may be the request's fault; a probe answers for its target alone
            if not is_first and not breaker.is_probe(send.charge):
                return
        breaker.ended(send.charge, outcome, now_ns, draw)

    def _stands_alone(self, rule: Rule, outcome: Outcome, status: int) -> bool:
        """Whether the first answer is also the last and says it best: a prompt too long for the model, say, in the
        words that callers know how to react to."""
        tells = rule.relays_alone or (outcome is Outcome.TOO_LARGE and status == 400)
        return tells and len(self._failures) == 1 and all(hop in self._closed for hop in self._hops)

    def _hold(self, now_ns: int, draw: float) -> Wait | Backoff | Refusal:
        outlooks = self._outlooks(now_ns)
        until_ns = min(self._policy.wait_until_ns, self._policy.deadline_ns)
        soonest = soonest_of(outlooks)
        if soonest is not None and (now_ns >= until_ns or (soonest > until_ns and is_timed(soonest))):
            soonest = None  # patience ends before it
        retry_ns = self._retry_at(now_ns, draw)
        if retry_ns is not None and (soonest is None or retry_ns < soonest) and self._budget.take(now_ns):
            self._reopen()
            return Backoff(retry_ns)
        step = None if soonest is None else self._wait(now_ns, draw, outlooks, until_ns)
        if isinstance(step, Wait) and step.until_ns == until_ns and self._is_vain(step, now_ns):
            step = None
        return step or self._give_up(now_ns, outlooks)

    def _is_vain(self, wait: Wait, now_ns: int) -> bool:
        """Whether those who stand there already take all there is until its patience ends: then it is told at once,
        instead of standing in line in vain (A15)."""
        return self._backlog.is_vain(_quotas(wait.places), wait.until_ns, now_ns)

    def _wait(self, now_ns: int, draw: float, outlooks: list[Outlook], until_ns: int) -> Wait | Backoff | None:
        places = self._places(now_ns)
        ends = [outlook.bench_ends_ns for outlook in outlooks if outlook.bench_ends_ns is not None]
        if ends and min(ends) <= until_ns:
            # a bench ends at one instant for all who wait for it: they are spread over one backoff step
            asks_ns = min(ends) + int(draw * self._policy.base_ns)
            breakers = self._barring(now_ns)
            return Wait(places, min(asks_ns, until_ns), breakers) if places else Backoff(asks_ns, breakers)
        return Wait(places, until_ns) if places else None

    def _retry_at(self, now_ns: int, draw: float) -> int | None:
        """When the same target may be tried again after a failure of its own, or None."""
        last = self._failures[-1] if self._failures else None
        policy = self._policy
        if last is None or policy.is_single or not any(RULES[f.outcome].may_retry for f in self._failures):
            return None
        if last.outcome is Outcome.AMBIGUOUS and policy.ambiguous_ends:
            return None
        ceiling = min(policy.cap_ns, policy.base_ns << min(self._retries, 32))
        benched_ns = min(f.candidate.standing().until_ns for f in self._failures if RULES[f.outcome].may_retry)
        at_ns = max(now_ns + int(draw * ceiling), benched_ns)
        patience_ns = max(policy.wait_until_ns, now_ns + policy.cap_ns)
        return at_ns if at_ns < min(policy.deadline_ns, patience_ns) else None

    def _reopen(self) -> None:
        self._retries += 1
        for failure in self._failures:
            if RULES[failure.outcome].may_retry:
                self._closed = tuple([hop for hop in self._closed if hop is not failure.hop])
                self._passed_over = tuple([kept for kept in self._passed_over if kept is not failure.candidate])

    def _open_hops(self) -> list[tuple[Keys, Cost]]:
        return [(hop, hop.cost(self._size)) for hop in self._hops if hop not in self._closed]

    def _outlooks(self, now_ns: int) -> list[Outlook]:
        return [hop.outlook(cost, now_ns, self._passed_over) for hop, cost in self._open_hops()]

    def _barring(self, now_ns: int) -> tuple[Breaker, ...]:
        """The breakers that bar what could be asked otherwise: they may close before their time."""
        breakers = (hop.candidates[0].breaker for hop in self._hops if hop not in self._closed and hop.candidates)
        return tuple(breaker for breaker in breakers if breaker.until_ns > now_ns)

    def _places(self, now_ns: int) -> list[tuple[Candidate, Cost]]:
        return [
            (candidate, cost)
            for hop, cost in self._open_hops()
            for candidate in hop.places(cost, now_ns, self._passed_over)
        ]

    def _give_up(self, now_ns: int, outlooks: list[Outlook]) -> Refusal:
        turn_ns = now_ns + self.turn_ns(now_ns)
        exhausted = Exhausted(self._hops, self._size, self._failures, outlooks, self.trail, turn_ns)
        return last_word(exhausted, now_ns)


def _quotas(places: list[tuple[Candidate, Cost]]) -> Iterator[tuple[Quota, Cost]]:
    return ((candidate.quota, cost) for candidate, cost in places)
