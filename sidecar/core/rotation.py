"""The choice among very many keys, at a cost that does not grow with their number (design section 6, Many keys).

Of eight in rotation the better half serve the next requests in turn, best first: each again while what was seen of its
quota holds, so that others are seldom looked at, nor fetched from memory. Who cannot serve now stands in a heap until
it can, and is not looked at before: so it costs nothing that most are spent. Who stands there is looked at again after
a second at the latest, for a limit may rise and a request may be given back; and when nobody else is left, at once.
Refuses to know why a candidate cannot serve (candidate.py, quota.py).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

from sidecar.core.candidate import Candidate
from sidecar.core.limits import SECOND, Cost
from sidecar.core.quota import Charge

_DRAWN: Final = 8
_TURNS: Final = 64  # that those who were drawn serve together at most, so that equal keys share evenly
_AGAIN_NS = SECOND
_SOON_NS: Final = SECOND // 50  # where others wait for the same quota: lines move on
_WOKEN: Final = 32  # at one admission, so that a thousand that free at one instant hold up nobody
_LOYAL: Final = 250  # thousandths: a conversation stays with its key until that is nearly spent


class Rotation:
    """The candidates of one target: each is ready, drawn or parked."""

    __slots__ = ("_drawn", "_parked", "_ready", "_serial", "_turns")

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._ready = deque(candidates)
        self._drawn: list[Candidate] = []  # the next last
        self._turns = 0  # that they have left
        self._parked: list[tuple[int, int, Candidate]] = []  # until when, by time
        self._serial = 0

    def admit(
        self, cost: Cost, now_ns: int, passed_over: Collection[Candidate], pinned: Candidate | None
    ) -> tuple[Candidate, Charge] | None:
        """Spend `cost` at one of the best that may be called now; None = none of all may."""
        if pinned is not None and pinned.may_be_called(now_ns, passed_over) and _is_roomy(pinned, now_ns):
            charge = pinned.quota.try_admit(cost, now_ns)
            if charge is not None:
                return pinned, charge
        if self._parked and self._parked[0][0] <= now_ns:
            self._wake(now_ns)
        set_aside: list[Candidate] = []
        admitted = None
        while admitted is None and (self._drawn or self._draw(now_ns)):
            candidate = self._drawn.pop()
            charge = None
            if candidate.may_be_called(now_ns, passed_over):
                charge = candidate.quota.try_admit(cost, now_ns)
            if charge is not None:
                self._return(candidate, now_ns)
                admitted = candidate, charge
            elif not self._park(candidate, cost, now_ns, passed_over):
                set_aside.append(candidate)
        self._ready.extend(set_aside)
        return admitted or self._last(cost, now_ns, passed_over)

    def _return(self, candidate: Candidate, now_ns: int) -> None:
        """It serves again before others are drawn, or after all."""
        self._turns -= 1
        if self._turns > 0 and candidate.quota.look.holds(now_ns) and not candidate.quota.permits.is_capped:
            self._drawn.insert(0, candidate)
        else:
            self._ready.append(candidate)

    def _draw(self, now_ns: int) -> bool:
        """Take the next eight, keep the better half of them; False: there is none."""
        ready = self._ready
        found = [ready.popleft() for _ in range(min(_DRAWN, len(ready)))]
        if len(found) > 1:
            found.sort(key=lambda candidate: candidate.quota.headroom(now_ns))
        half = len(found) // 2
        ready.extend(found[:half])
        self._drawn, self._turns = found[half:], _TURNS
        return bool(found)

    def _park(self, candidate: Candidate, cost: Cost, now_ns: int, passed_over: Collection[Candidate]) -> bool:
        """Put it away until it may serve; False where it is this request alone that it cannot serve."""
        barred_ns = candidate.standing().until_ns
        if barred_ns <= now_ns:
            free_ns = candidate.quota.free_at(cost, now_ns)
            if free_ns is None or (passed_over and candidate in passed_over):
                return False
            barred_ns = min(max(free_ns, now_ns + _SOON_NS), now_ns + _AGAIN_NS)
        self._serial += 1
        heapq.heappush(self._parked, (barred_ns, self._serial, candidate))
        return True

    def _wake(self, now_ns: int) -> None:
        woken = 0
        while self._parked and self._parked[0][0] <= now_ns and (woken < _WOKEN or not self._ready):
            self._ready.append(heapq.heappop(self._parked)[2])
            woken += 1

    def _last(self, cost: Cost, now_ns: int, passed_over: Collection[Candidate]) -> tuple[Candidate, Charge] | None:
        """Nobody is left but those that are parked, of whom something may have changed."""
        for _, _, candidate in self._parked:
            if candidate.may_be_called(now_ns, passed_over):
                charge = candidate.quota.try_admit(cost, now_ns)
                if charge is not None:
                    return candidate, charge
        return None

    def __repr__(self) -> str:
        return f"<Rotation {len(self._ready)} ready, {len(self._drawn)} drawn, {len(self._parked)} parked>"


def _is_roomy(candidate: Candidate, now_ns: int) -> bool:
    return candidate.quota.headroom(now_ns) >= _LOYAL
