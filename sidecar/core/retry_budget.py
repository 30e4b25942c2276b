"""How many retries at the same target the whole process may make: a share of its traffic, so that retries never
become the load (acceptance A17). Fallbacks to another target do not count (design section 6).

A minute of six slots of ten seconds; ten retries a minute are always allowed, or a quiet process could never retry.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.limits import SECOND

_SLOT_NS: Final = 10 * SECOND
_SLOTS: Final = 6
_ALWAYS: Final = 10


class RetryBudget:
    """Counts requests and retries of the last minute. `share`: retries per request allowed, such as 0.1."""

    __slots__ = ("_requests", "_retries", "_slot", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self._slot = 0
        self._requests = [0] * _SLOTS
        self._retries = [0] * _SLOTS

    def note_request(self, now_ns: int) -> None:
        """One request of a caller has come."""
        slot = now_ns // _SLOT_NS
        if slot != self._slot:
            self._turn(slot)
        self._requests[slot % _SLOTS] += 1

    def take(self, now_ns: int) -> bool:
        """Spend one retry; False when the budget of the last minute is used up."""
        slot = now_ns // _SLOT_NS
        if slot != self._slot:
            self._turn(slot)
        if sum(self._retries) >= self._allowed():
            return False
        self._retries[slot % _SLOTS] += 1
        return True

    def spent(self, now_ns: int) -> tuple[int, int]:
        """Retries of the last minute, and how many there may be."""
        slot = now_ns // _SLOT_NS
        if slot != self._slot:
            self._turn(slot)
        return sum(self._retries), self._allowed()

    def _allowed(self) -> int:
        return max(_ALWAYS, int(self.share * sum(self._requests)))

    def _turn(self, slot: int) -> None:
        for stale in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
            self._requests[stale % _SLOTS] = 0
            self._retries[stale % _SLOTS] = 0
        self._slot = slot

    def __repr__(self) -> str:
        return f"<RetryBudget {sum(self._retries)} retries, {sum(self._requests)} requests in the last minute>"
