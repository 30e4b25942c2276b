"""The best usable key for a request at one target: the one with the most headroom, or when the next one frees.

Not round robin: the key whose tightest window has the most left serves next, so that equal keys share evenly and a
small account is not drained before a large one (acceptance A6). Up to sixteen keys are compared; of more, the best of
eight in rotation, so that the cost does not grow with their number (design section 6).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sidecar.core.breaker import Breaker
from sidecar.core.health import FOREVER_NS, Bar, Standing
from sidecar.core.http import Header
from sidecar.core.limits import Cost
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.quota import BLOCKED_NS, Charge, Quota
from sidecar.core.snapshot import Key, Target
from sidecar.core.tokens import Calibration, Kind, cost

_COMPARED = 16
_SAMPLED = 8


class Candidate:
    """One key at one target: the quota it draws on, the standings it depends on, and the target's breaker."""

    __slots__ = ("at_model", "at_provider", "breaker", "key", "labels", "of_key", "quota", "target")

    def __init__(  # its parts, and what it is in one tuple
        self, target: Target, key: Key, quota: Quota, standings: tuple[Standing, Standing, Standing], breaker: Breaker
    ) -> None:
        self.target = target
        self.key = key
        self.quota = quota
        self.at_provider, self.of_key, self.at_model = standings
        self.breaker = breaker
        self.labels: list[Header] = [
            (b"x-sidecar-provider", header_text(target.provider.name)),
            (b"x-sidecar-model", header_text(target.model)),
            (b"x-sidecar-key", header_text(key.name)),
        ]

    def standing(self) -> Bar:
        """What bars it longest: the target's breaker, or the standing of the target, the key, or the key here."""
        bars: tuple[Bar, ...] = (self.at_provider, self.of_key, self.at_model, self.breaker)
        return max(bars, key=_until)

    def apply(self, feedback: Feedback, now_ns: int) -> None:
        """Take over what an answer says about the time to come, as far as it reaches."""
        until_ns = feedback.until_ns
        if until_ns is None and feedback.outcome is Outcome.KEY_INVALID:
            until_ns = FOREVER_NS  # until the secret changes
        if until_ns is None or until_ns <= now_ns:
            return
        if feedback.scope is Scope.QUOTA:
            self.quota.cool(until_ns)
        elif feedback.scope is Scope.TARGET:
            self.at_provider.bench(until_ns, feedback.outcome, feedback.message)
        elif feedback.scope is Scope.KEY:
            self.of_key.bench(until_ns, feedback.outcome, feedback.message)
        elif feedback.scope is Scope.KEY_MODEL:
            self.at_model.bench(until_ns, feedback.outcome, feedback.message)

    def __repr__(self) -> str:
        return f"<Candidate {self.target} {self.key.name} {self.standing()!r} {self.quota!r}>"


def header_text(text: str) -> bytes:
    """A name as a header's value: a caller's own model may hold anything (RFC 9110, 5.5)."""
    return "".join(c if "!" <= c <= "~" or c == " " else "?" for c in text[:256]).encode("ascii")


def _until(standing: Bar) -> int:
    return standing.until_ns


class Outlook(NamedTuple):
    """Why no key of a target can be used now, and when one can."""

    free_at_ns: int | None  # None: none of them before something changes that is no matter of time
    never_fits: bool  # the request is larger than every usable key's budget
    cause: Outcome | None  # what bars the key that frees first, where it is not its quota
    bench_ends_ns: int | None = None  # when the first of those ends that are not called for now


class Size(NamedTuple):
    """How large a request is, before any provider's rule is applied to it."""

    input_bytes: int  # of text that will be charged as prompt
    declared_output: int | None  # max_tokens in one of its spellings
    choices: int  # n
    audio_seconds: int
    kind: Kind = Kind.PROSE


class Keys:
    """The candidates of one target, in the order of the configuration."""

    __slots__ = ("_turn", "calibrations", "candidates", "target")

    def __init__(
        self, target: Target, candidates: tuple[Candidate, ...], calibrations: Mapping[Kind, Calibration]
    ) -> None:
        self.target = target
        self.candidates = candidates
        self.calibrations = calibrations
        self._turn = 0

    def cost(self, size: Size) -> Cost:
        """What a request of that size is expected to be charged at this target."""
        rule = self.target.provider.entry.charge
        input_tokens = self.calibrations[size.kind].estimate(size.input_bytes)
        tokens = cost(input_tokens, size.declared_output, size.choices, rule)
        return tokens if not size.audio_seconds else tokens._replace(audio_seconds=size.audio_seconds)

    def report(self, size: Size, input_tokens: int) -> None:
        """The provider counted so many input tokens in a request of that size."""
        self.calibrations[size.kind].report(size.input_bytes, input_tokens)

    def largest_budget(self) -> int:
        """The largest number of tokens that one request may have with any key, 0 where none is limited."""
        return max((candidate.quota.largest_budget() or 0 for candidate in self.candidates), default=0)

    def admit(self, cost: Cost, now_ns: int, passed_over: Collection[Candidate]) -> tuple[Candidate, Charge] | None:
        """Spend `cost` at the candidate with the most headroom that may be called now; None = none may."""
        best: Candidate | None = None
        best_headroom = -1
        seen = 0
        candidates = self.candidates
        count = len(candidates)
        turn = self._turn = (self._turn + 1) % count if count else 0
        for at in range(count):
            candidate = candidates[turn + at - count]
            if not _may_call(candidate, cost, now_ns, passed_over):
                continue
            headroom = candidate.quota.headroom(now_ns) if count > 1 else 0
            if headroom > best_headroom:
                best, best_headroom = candidate, headroom
            seen += 1
            if count > _COMPARED and seen == _SAMPLED:
                break
        if best is None:
            return None
        charge = best.quota.try_admit(cost, now_ns)
        if charge is None:
            return None
        best.breaker.enter(charge, now_ns)
        return best, charge

    def outlook(self, cost: Cost, now_ns: int, passed_over: Collection[Candidate]) -> Outlook:
        """What to expect of this target when `admit` found nothing. Off the hot path: looks at every key."""
        usable = [each for each in self.candidates if each.key.is_present and each.standing().until_ns < FOREVER_NS]
        fitting = [(each, free_ns) for each in usable if (free_ns := each.quota.free_at(cost, now_ns)) is not None]
        soonest: int | None = None
        cause: Outcome | None = None
        bench_ends_ns: int | None = None
        for candidate, quota_ns in fitting:
            if candidate in passed_over:
                continue
            standing = candidate.standing()
            free_ns = max(quota_ns, standing.until_ns)
            if soonest is None or free_ns < soonest:
                soonest = free_ns
                cause = standing.cause if now_ns < standing.until_ns == free_ns else None
            if standing.until_ns > now_ns:
                bench_ends_ns = min(standing.until_ns, bench_ends_ns or standing.until_ns)
        return Outlook(soonest, bool(usable) and not fitting, cause, bench_ends_ns)

    def places(self, cost: Cost, now_ns: int, passed_over: Collection[Candidate]) -> list[Candidate]:
        """The candidates worth waiting for: in good standing, only their quota is spent."""
        return [
            candidate
            for candidate in self.candidates
            if candidate not in passed_over
            and candidate.key.is_present
            and candidate.standing().until_ns <= now_ns
            and candidate.quota.free_at(cost, now_ns) is not None
        ]


def _may_call(candidate: Candidate, cost: Cost, now_ns: int, passed_over: Collection[Candidate]) -> bool:
    if (
        candidate.of_key.until_ns > now_ns
        or candidate.at_provider.until_ns > now_ns
        or candidate.at_model.until_ns > now_ns
        or candidate.breaker.until_ns > now_ns
        or not candidate.key.is_present
        or candidate.quota.has_waiters  # newcomers never overtake those who wait
        or (passed_over and candidate in passed_over)
    ):
        return False
    free_ns = candidate.quota.free_at(cost, now_ns)
    return free_ns is not None and free_ns <= now_ns


def is_timed(free_at_ns: int | None) -> bool:
    """Whether a time of release is known; False for what an event will release, or nothing."""
    return free_at_ns is not None and free_at_ns < BLOCKED_NS
