"""Three ways a provider counts against a limit, as integers of nanoseconds behind one contract (window.py).

What we spend the provider counts a little later, when it has arrived there. `transit_ns` is how much later at most:
within it a window of ours never refills sooner than the provider's, at the price of one transit for each busy spell.

`TokenBucket` is the generic cell rate algorithm (ITU-T I.371, annex A) in one integer. Where a provider's algorithm is
unknown, `SlidingWindow` is the safe choice: what it admits the other two of the same limit admit as well (as long as no
calendar window is longer than `window_ns`).
"""

from __future__ import annotations

from bisect import bisect_right
from math import gcd
from typing import Final, NamedTuple

from sidecar.core.limits import SECOND
from sidecar.core.sliding import SlidingWindow
from sidecar.core.window import Window

__all__ = ["ALGORITHMS", "Calendar", "FixedWindow", "SlidingWindow", "TokenBucket", "Window", "make"]


class Calendar(NamedTuple):
    """Where windows aligned to the clock begin: UTC by arithmetic, other zones by boundaries handed in."""

    window_ns: int
    boundaries: tuple[int, ...] = ()  # coming starts of windows in a zone of its own, ascending Unix ns; none: UTC

    def next_after(self, now: int) -> int:
        """The first boundary after `now`. Past the last one known, windows follow it at their nominal length."""
        if not self.boundaries:
            return (now // self.window_ns + 1) * self.window_ns
        index = bisect_right(self.boundaries, now)
        if index < len(self.boundaries):
            return self.boundaries[index]
        last = self.boundaries[-1]
        return last + ((now - last) // self.window_ns + 1) * self.window_ns


class TokenBucket(Window):
    """Refills continuously, `limit` units per window, and holds at most `limit` (Groq, OpenAI).

    Two integers: the level, what is missing for it to be whole, and the instant as of which that is so. The level is
    counted in parts of a unit: `_price` make one, `_rate` come back in each ns, in lowest terms. So nothing is ever
    rounded, testing needs no division, and for nearly every real limit the numbers are small. Until the instant nothing
    refills: the first request that leaves a whole bucket is on its way.
    """

    __slots__ = ("_capacity", "_level", "_price", "_rate", "_since_ns", "transit_ns")

    def __init__(self, limit: int, window_ns: int, transit_ns: int = 0) -> None:
        super().__init__(limit, window_ns)
        self.transit_ns = transit_ns
        self._level = 0
        self._since_ns = 0
        self._scale(limit)

    def _scale(self, limit: int) -> None:
        common = gcd(limit, self.window_ns)
        self._rate = limit // common
        self._price = self.window_ns // common
        self._capacity = limit * self._price

    def _level_at(self, now: int) -> int:
        gone = now - self._since_ns
        return self._level - gone * self._rate if gone > 0 else self._level

    def fits(self, amount: int, now: int) -> bool:
        if amount > self.limit:
            return False
        after = self._level + amount * self._price
        if after <= self._capacity or amount == 0:
            return True
        gone = now - self._since_ns
        return gone > 0 and after - gone * self._rate <= self._capacity

    def free_at(self, amount: int, now: int) -> int | None:
        if amount > self.limit:
            return None
        if self.fits(amount, now):
            return now
        return self._since_ns - (self._capacity - self._level - amount * self._price) // self._rate

    def spend(self, amount: int, now: int) -> None:
        gone = now - self._since_ns
        if gone >= 0:
            level = self._level - gone * self._rate
            if level <= 0:
                level, now = 0, now + self.transit_ns
            self._since_ns = now
            self._level = level + amount * self._price
        else:
            self._level += amount * self._price

    def refund(self, amount: int, now: int, spent_ns: int | None = None) -> None:
        back = amount * self._price
        if spent_ns is not None:
            # it has been refilling since: of what was spent a window ago or earlier nothing is left to give back
            left = max(back, self._capacity) - (now - spent_ns) * self._rate
            if left < back:
                back = left if left > 0 else 0
        self._level -= back

    def remaining(self, now: int) -> int:
        level = self._level_at(now)
        if level <= 0:
            return self.limit
        return (self._capacity - level) // self._price if level < self._capacity else 0

    def admits_by(self, until: int, now: int) -> int:
        level = self._level - (now - self._since_ns) * self._rate
        return max(0, (until - now) * self._rate + self._capacity - max(0, level)) // self._price

    def resets_at(self, now: int) -> int:
        return max(now, self._since_ns - -self._level // self._rate) if self.limit else now

    def observe(self, remaining: int, now: int, whole_ns: int | None = None) -> None:
        if remaining == self.remaining(now):
            return  # keeps our fraction of a unit
        self._since_ns = now
        self._level = (self.limit - remaining) * self._price if remaining < self.limit else 0
        if whole_ns is not None:
            # says the same more finely, unless it belongs to another count
            told = (whole_ns - now) * self._rate
            if self._level - self._price < told < self._level + self._price:
                self._level = told

    def brought_up(self, remaining: int, told_of_ns: int, since: int, now: int) -> int | None:
        present = remaining + (now - told_of_ns) * self._rate // self._price
        return (present if present < self.limit else self.limit) - since

    def set_limit(self, limit: int, now: int) -> None:
        level, price = max(0, self._level_at(now)), self._price
        self.limit = limit
        self._scale(limit)
        self._since_ns = now
        self._level = -(-level * self._price // price)

    def state(self) -> tuple[int, ...]:
        # the instant at which it is whole, in 1/limit ns: the same in all versions
        return (self._since_ns * self.limit + self._level * (self.window_ns // self._price), self.limit, self._since_ns)

    def restore(self, state: tuple[int, ...], now: int) -> None:
        arrival, old_limit, refills_ns = state
        self._since_ns = refills_ns if old_limit == self.limit else max(now, refills_ns)
        level = max(0, arrival - self._since_ns * old_limit)
        self._level = -(-level * self._price // self.window_ns)

    def __repr__(self) -> str:
        return f"<TokenBucket {self.limit}/{self.window_ns / SECOND:g}s whole at {self.resets_at(0)}>"


class FixedWindow(Window):
    """At most `limit` from one boundary of the calendar to the next (Cerebras)."""

    __slots__ = ("_ends_ns", "_late", "_since_ns", "_used", "calendar", "transit_ns")

    def __init__(self, limit: int, window_ns: int, calendar: Calendar | None = None, transit_ns: int = 0) -> None:
        super().__init__(limit, window_ns)
        self.transit_ns = transit_ns
        self._late = 0  # spent so shortly before the end that the provider may count it in the next window
        self.calendar = calendar or Calendar(window_ns)
        self._used = 0
        self._since_ns = 0  # when this window was first looked at: no spend of it is older
        self._ends_ns = 0

    def fits(self, amount: int, now: int) -> bool:
        if now >= self._ends_ns:
            self._turn(now)
        return self._used + amount <= self.limit or amount == 0

    def free_at(self, amount: int, now: int) -> int | None:
        if amount > self.limit:
            return None
        return now if self.fits(amount, now) else self._ends_ns

    def spend(self, amount: int, now: int) -> None:
        if now >= self._ends_ns:
            self._turn(now)
        self._used += amount
        if now >= self._ends_ns - self.transit_ns:
            self._late += amount

    def refund(self, amount: int, now: int, spent_ns: int | None = None) -> None:
        if now >= self._ends_ns:
            self._turn(now)
        if spent_ns is None or spent_ns >= self._since_ns:
            self._used = max(0, self._used - amount)

    def remaining(self, now: int) -> int:
        return max(0, self.limit - self._used) if now < self._ends_ns else self.limit

    def admits_by(self, until: int, now: int) -> int:
        ends_ns = self._ends_ns if now < self._ends_ns else self.calendar.next_after(now)
        turns = 0 if until < ends_ns else 1 + (until - ends_ns) // self.window_ns
        return self.remaining(now) + turns * self.limit

    def resets_at(self, now: int) -> int:
        return self._ends_ns if self._used and now < self._ends_ns else now

    def observe(self, remaining: int, now: int, whole_ns: int | None = None) -> None:
        if now >= self._ends_ns:
            self._turn(now)
        self._used = max(0, self.limit - remaining)

    def brought_up(self, remaining: int, told_of_ns: int, since: int, now: int) -> int | None:
        if now >= self._ends_ns:
            self._turn(now)
        return remaining - since if told_of_ns >= self._ends_ns - self.window_ns else None

    def set_limit(self, limit: int, now: int) -> None:
        self.limit = limit

    def state(self) -> tuple[int, ...]:
        return (self._since_ns, self._ends_ns, self._used, self._late)

    def restore(self, state: tuple[int, ...], now: int) -> None:
        self._since_ns, self._ends_ns, self._used, self._late = state

    def _turn(self, now: int) -> None:
        self._used = self._late if now < self._ends_ns + self.window_ns else 0
        self._late = 0
        self._since_ns = now
        self._ends_ns = self.calendar.next_after(now)

    def __repr__(self) -> str:
        return f"<FixedWindow {self.limit}/{self.window_ns / SECOND:g}s used {self._used} until {self._ends_ns}>"


ALGORITHMS: Final = ("token_bucket", "sliding", "fixed")


def make(algorithm: str, limit: int, window_ns: int, calendar: Calendar | None = None, transit_ns: int = 0) -> Window:
    """A whole window of that algorithm (one of ALGORITHMS). Fixed ones follow `calendar` if it is of their length, and
    UTC otherwise: a provider's zone moves its days, not its minutes."""
    if algorithm == "token_bucket":
        return TokenBucket(limit, window_ns, transit_ns)
    if algorithm == "sliding":
        return SlidingWindow(limit, window_ns, transit_ns)
    if algorithm == "fixed":
        fitting = calendar if calendar is not None and calendar.window_ns == window_ns else None
        return FixedWindow(limit, window_ns, fitting, transit_ns)
    raise ValueError(f"unknown algorithm {algorithm!r}, known: {', '.join(ALGORITHMS)}")
