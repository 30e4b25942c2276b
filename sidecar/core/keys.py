"""The best usable key for a request at one target: the one with the most headroom, or when the next one frees.

Not round robin: the key whose tightest window has the most left serves next, so that equal keys share evenly and a
small account is not drained before a large one (acceptance A6). Up to sixteen keys are compared; of more, the best of
eight in rotation, so that the cost does not grow with their number (design section 6).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from sidecar.core.backlog import Backlog
from sidecar.core.candidate import Candidate, header_text
from sidecar.core.conversation import Pins, Turn
from sidecar.core.health import FOREVER_NS
from sidecar.core.limits import ChargeRule, Cost
from sidecar.core.outcomes import Outcome
from sidecar.core.quota import BLOCKED_NS, Charge
from sidecar.core.rotation import Rotation
from sidecar.core.snapshot import Target
from sidecar.core.tokens import Calibration, Kind, SizedRequest, cost

__all__ = ["Candidate", "Keys", "Outlook", "Shared", "Size", "header_text", "is_timed"]

_COMPARED: Final = 16
# A conversation stays with its key while that has at least this part of the best one's headroom: a prompt cache is
# worth more than balance, until the key is nearly spent
_LOYAL: Final = 4
_PROSE: Final = Kind.PROSE  # what is learned of a target as a whole is kept there
_DECLARED, _PROMPT_ALONE = ChargeRule("declared"), ChargeRule("none")


class Outlook(NamedTuple):
    """Why no key of a target can be used now, and when one can."""

    free_at_ns: int | None  # None: none of them before something changes that is no matter of time
    never_fits: bool  # the request is larger than every usable key's budget
    cause: Outcome | None  # what bars the key that frees first, where it is not its quota
    bench_ends_ns: int | None = None  # when the first of those ends that are not called for now


class Size:
    """How large a request is, before any provider's rule is applied to it."""

    __slots__ = ("audio_seconds", "choices", "declared_output", "input_bytes", "kind")

    def __init__(
        self, input_bytes: int, declared_output: int | None, choices: int, audio_seconds: int, kind: Kind = Kind.PROSE
    ) -> None:
        self.input_bytes: Final = input_bytes  # of text that will be charged as prompt
        self.declared_output: Final = declared_output  # max_tokens in one of its spellings
        self.choices: Final = choices  # n
        self.audio_seconds: Final = audio_seconds
        self.kind: Final = kind


class Shared(NamedTuple):
    """What the keys of all targets have in common: where conversations are, and what waits already."""

    pins: Pins
    backlog: Backlog


class Keys:
    """The candidates of one target, in the order of the configuration."""

    __slots__ = (
        "_charge",
        "_pins",
        "_rotation",
        "_salt",
        "_target_tokens",
        "_turn",
        "calibrations",
        "candidates",
        "named",
        "shared",
        "target",
    )

    def __init__(
        self,
        target: Target,
        candidates: tuple[Candidate, ...],
        calibrations: Mapping[Kind, Calibration],
        shared: Shared | None = None,
    ) -> None:
        self.target = target
        self.candidates = candidates
        self.calibrations = calibrations
        self.shared = shared or Shared(Pins(), Backlog())
        self._charge = target.provider.entry.charge
        self._target_tokens = calibrations[_PROSE]
        self._pins = self.shared.pins
        self._turn = 0
        self._salt = hash(str(target))  # a conversation may be with several targets
        self.named = {candidate.key.ident: candidate for candidate in candidates}  # by the idents of their keys
        self._rotation = Rotation(candidates) if len(candidates) > _COMPARED else None

    def cost(self, size: Size) -> Cost:
        """What a request of that size is expected to be charged at this target."""
        rule, counted = self._charge, self._target_tokens.counts_declared
        if counted is not None and counted is not (rule.output != "none"):
            rule = _DECLARED if counted else _PROMPT_ALONE  # as its refusals showed
        input_tokens = self.calibrations[size.kind].estimate(size.input_bytes)
        tokens = cost(input_tokens, size.declared_output, size.choices, rule)
        if size.audio_seconds:
            tokens.audio_seconds = size.audio_seconds
        return tokens

    def report(self, size: Size, input_tokens: int) -> None:
        """The provider counted so many input tokens in a request of that size."""
        self.calibrations[size.kind].report(size.input_bytes, input_tokens)

    def hear_requested(self, size: Size, requested: int) -> None:
        """The provider named what it took a request of that size for."""
        if size.input_bytes:
            declared = (size.declared_output or 0) * max(1, size.choices)
            target = self._target_tokens
            counted = target.counts_declared
            sized = SizedRequest(size.input_bytes, declared, requested)
            target.counts_declared = self.calibrations[size.kind].hear_requested(sized, counted)

    def largest_budget(self) -> int:
        """The largest number of tokens that one request may have with any key, 0 where none is limited."""
        return max((candidate.quota.largest_budget() or 0 for candidate in self.candidates), default=0)

    def admit(
        self, cost: Cost, now_ns: int, passed_over: Collection[Candidate], turn: Turn | None = None
    ) -> tuple[Candidate, Charge] | None:
        """Spend `cost` at the candidate with the most headroom that may be called now, or at the one that served the
        conversation `turn` belongs to; None = none may."""
        candidates = self.candidates
        if len(candidates) == 1:
            admitted = self._sole(candidates[0], cost, now_ns, passed_over)
        else:
            pinned = None if turn is None else self._pinned(turn, now_ns)
            if self._rotation is None:
                admitted = self._compare(cost, now_ns, passed_over, pinned)
            else:
                admitted = self._rotation.admit(cost, now_ns, passed_over, pinned)
            if turn is not None and admitted is not None:
                self.pin(turn, admitted[0], now_ns)
        if admitted is not None:
            admitted[0].breaker.enter(admitted[1], now_ns)
        return admitted

    def _sole(
        self, candidate: Candidate, cost: Cost, now_ns: int, passed_over: Collection[Candidate]
    ) -> tuple[Candidate, Charge] | None:
        if not candidate.may_be_called(now_ns, passed_over):
            return None
        charge = candidate.quota.try_admit(cost, now_ns)
        return None if charge is None else (candidate, charge)

    def pin(self, turn: Turn, candidate: Candidate, now_ns: int) -> None:
        """That candidate serves a turn of a conversation: its provider has the prompt cached now."""
        self._pins.note(turn[0] ^ self._salt, candidate.ident, now_ns)

    def _pinned(self, turn: Turn, now_ns: int) -> Candidate | None:
        """Who served the turn before; a first turn goes where there is the most room."""
        ident = self._pins.key_of(turn[0] ^ self._salt, now_ns) if turn[1] else None
        return None if ident is None else self.named.get(ident)

    def _compare(
        self, cost: Cost, now_ns: int, passed_over: Collection[Candidate], pinned: Candidate | None
    ) -> tuple[Candidate, Charge] | None:
        candidates = self.candidates
        count = len(candidates)
        start = self._turn = (self._turn + 1) % count if count else 0
        most, loyal = -1, -1
        best: Candidate | None = None
        for at in range(start - count, start):
            candidate = candidates[at]
            if candidate.may_be_called(now_ns, passed_over):
                headroom = candidate.quota.headroom(now_ns)
                if headroom > most:
                    most, best = headroom, candidate
                if candidate is pinned:
                    loyal = headroom
        if pinned is not None and loyal >= 0 and most <= loyal * _LOYAL:
            best = pinned
        if best is None:
            return None
        charge = best.quota.try_admit(cost, now_ns)
        return (best, charge) if charge is not None else self._next_best(cost, now_ns, passed_over, best)

    def _next_best(
        self, cost: Cost, now_ns: int, passed_over: Collection[Candidate], refused: Candidate
    ) -> tuple[Candidate, Charge] | None:
        """The best one did not admit; whoever of the others does, most headroom first."""
        others = [each for each in self.candidates if each is not refused and each.may_be_called(now_ns, passed_over)]
        for candidate in sorted(others, key=lambda each: each.quota.headroom(now_ns), reverse=True):
            charge = candidate.quota.try_admit(cost, now_ns)
            if charge is not None:
                return candidate, charge
        return None

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


def is_timed(free_at_ns: int | None) -> bool:
    """Whether a time of release is known; False for what an event will release, or nothing."""
    return free_at_ns is not None and free_at_ns < BLOCKED_NS
