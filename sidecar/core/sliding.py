"""The sliding window: never more than the limit in any stretch of the window's length, in at most 64 slots.

The algorithm for providers whose own is unknown. What is spent within 1/63 of the window shares a slot and comes back
with the newest of it: late by that much at most, never early. The contract is `window.Window`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from sidecar.core.limits import SECOND
from sidecar.core.window import Window

SLOTS: Final = 64  # a spend held 1.6 % too long costs that much of the limit at worst, and needs no list of all spends


class SlidingWindow(Window):
    """At most `limit` in any stretch of `window_ns`.

    What is spent within 1/63 of the window shares a slot and comes back with the newest of it: the strict side.
    """

    __slots__ = ("_grain", "_newest", "_opened", "_spent", "_used", "transit_ns")

    def __init__(self, limit: int, window_ns: int, transit_ns: int = 0) -> None:
        super().__init__(limit, window_ns)
        self.transit_ns = transit_ns
        self._grain = -(-window_ns // (SLOTS - 1))
        self._newest: list[int] = []  # the newest instant of each slot, ascending
        self._spent: list[int] = []  # what was spent in that slot
        self._opened = 0  # the oldest instant of the last slot
        self._used = 0

    def fits(self, amount: int, now: int) -> bool:
        newest = self._newest
        if newest and newest[0] + self.window_ns <= now:
            self._expire(now)
        return self._used + amount <= self.limit or amount == 0

    def free_at(self, amount: int, now: int) -> int | None:
        if amount > self.limit:
            return None
        if self.fits(amount, now):
            return now
        excess = self._used + amount - self.limit
        index = 0
        while (excess := excess - self._spent[index]) > 0:
            index += 1
        return self._newest[index] + self.window_ns

    def spend(self, amount: int, now: int) -> None:
        newest = self._newest
        if newest and newest[0] + self.window_ns <= now:
            self._expire(now)
        self._used += amount
        at = now + self.transit_ns
        if not newest or at - self._opened >= self._grain:
            newest.append(at)
            self._spent.append(amount)
            self._opened = at
            return
        if at >= newest[-1]:
            newest[-1] = at
            self._spent[-1] += amount
        else:
            self._spent[bisect_left(newest, at)] += amount

    def refund(self, amount: int, now: int, spent_ns: int | None = None) -> None:
        self._expire(now)
        if spent_ns is None:
            slot = len(self._newest) - 1
        elif spent_ns + self.transit_ns + self.window_ns <= now:
            return
        else:
            # slots do not overlap: the first that ends at or after it
            slot = bisect_left(self._newest, spent_ns + self.transit_ns)
        if 0 <= slot < len(self._newest):
            self._give_back(slot, amount)

    def remaining(self, now: int) -> int:
        self._expire(now)
        return max(0, self.limit - self._used)

    def admits_by(self, until: int, now: int) -> int:
        # between a unit and the one that is a limit later lies a whole window
        windows, rest = divmod(max(0, until - now), self.window_ns)
        gone = bisect_right(self._newest, now + rest - self.window_ns)
        return windows * self.limit + max(0, self.limit - sum(self._spent[gone:]))

    def resets_at(self, now: int) -> int:
        self._expire(now)
        return self._newest[-1] + self.window_ns if self._used else now

    def observe(self, remaining: int, now: int, whole_ns: int | None = None) -> None:
        self._expire(now)
        surplus = self._used - max(0, self.limit - remaining)
        if surplus < 0:
            # spent by others: comes back when the provider says so, and for want of that one window from now
            at = now if whole_ns is None else min(now, whole_ns - self.window_ns)
            self.spend(-surplus, max(at, now - self.window_ns + 1))
        for slot in range(len(self._spent)):
            if surplus <= 0:
                break
            # the oldest spends are the likeliest to have come back; what stays is the newest, the strict side
            surplus -= self._give_back(slot, surplus)

    def brought_up(self, remaining: int, told_of_ns: int, since: int, now: int) -> int | None:
        # what came back meanwhile at the provider is not known: as if it were as much as was spent
        return remaining

    def set_limit(self, limit: int, now: int) -> None:
        self.limit = limit

    def state(self) -> tuple[int, ...]:
        return (self._opened, *self._newest, *self._spent)

    def restore(self, state: tuple[int, ...], now: int) -> None:
        half = len(state) // 2
        newest, spent = list(state[1 : half + 1]), list(state[half + 1 :])
        if len(newest) != len(spent) or newest != sorted(newest):
            raise ValueError("not the state of a sliding window")
        self._opened = state[0]
        self._newest, self._spent = newest, spent
        self._used = sum(self._spent)

    def _expire(self, now: int) -> None:
        gone = bisect_right(self._newest, now - self.window_ns)
        if gone:
            self._used -= sum(self._spent[:gone])
            del self._newest[:gone], self._spent[:gone]

    def _give_back(self, slot: int, amount: int) -> int:
        back = min(amount, self._spent[slot])
        self._spent[slot] -= back
        self._used -= back
        return back

    def __repr__(self) -> str:
        return (
            f"<SlidingWindow {self.limit}/{self.window_ns / SECOND:g}s used {self._used} in {len(self._newest)} slots>"
        )
