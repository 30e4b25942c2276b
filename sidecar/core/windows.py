"""Three ways a provider counts against a limit, as integers of nanoseconds behind one contract.

Decides: does an amount fit now, when will it, what is left. Refuses to know what is counted, for whom, and what time it
is. Tests and spends are separate steps, so that many windows can be tested before any is spent.

What we spend the provider counts a little later, when it has arrived there. `transit_ns` is how much later at most:
within it a window of ours never refills sooner than the provider's, at the price of one transit for each busy spell.

`TokenBucket` is the generic cell rate algorithm (ITU-T I.371, annex A) in one integer. Where a provider's algorithm is
unknown, `SlidingWindow` is the safe choice: what it admits the other two of the same limit admit as well (as long as no
calendar window is longer than `window_ns`).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, Protocol

from sidecar.core.limits import SECOND
from sidecar.core.sliding import SlidingWindow

__all__ = ["ALGORITHMS", "Calendar", "FixedWindow", "SlidingWindow", "TokenBucket", "Window", "make"]


class Window(Protocol):
    """What every algorithm offers. Amounts are whole units of the axis; times are Unix ns. A new window is whole."""

    limit: int  # read it freely, change it with set_limit
    window_ns: int
    is_ours: bool  # it changes by the calls made to it, and otherwise only grows: what was seen lately may be relied on

    def fits(self, amount: int, now: int) -> bool:
        """Whether `amount` may be spent now. Nothing always fits; more than the limit never does."""

    def free_at(self, amount: int, now: int) -> int | None:
        """`now` when it fits now, else the first instant at which it would; None when it never will."""

    def spend(self, amount: int, now: int) -> None:
        """Take `amount` without asking: may overdraw, since a provider may report more than was thought."""

    def refund(self, amount: int, now: int, spent_ns: int | None = None) -> None:
        """Give back part of what was spent at `spent_ns` (default: just now); what has come back already stays."""

    def remaining(self, now: int) -> int:
        """The largest amount that fits now, 0 when overdrawn."""

    def admits_by(self, until: int, now: int) -> int:
        """The most that may be admitted from now to `until` if nothing is given back; never less than really may."""

    def resets_at(self, now: int) -> int:
        """When the window will be whole again; `now` when it is."""

    def observe(self, remaining: int, now: int, whole_ns: int | None = None) -> None:
        """Take over the provider's own count; `whole_ns`: when it says the window will be whole, where that helps."""

    def brought_up(self, remaining: int, told_of_ns: int, since: int, now: int) -> int | None:
        """What a count the provider made at `told_of_ns` comes to now, `since` having been spent after it.

        None: nothing, it was made of a window that is over.
        """

    def set_limit(self, limit: int, now: int) -> None:
        """Change the limit. What was used stays used, so a raised limit admits at once."""

    def state(self) -> tuple[int, ...]:
        """Plain integers to keep, none negative while anything is spent; `restore` takes them, under whatever limit."""

    def restore(self, state: tuple[int, ...], now: int) -> None:
        """Continue from a kept state. ValueError: it is not one of this algorithm."""


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


class TokenBucket:
    """Refills continuously, `limit` units per window, and holds at most `limit` (Groq, OpenAI).

    The one integer is the theoretical arrival time, the instant at which the bucket is whole, counted in 1/limit ns:
    then a unit costs exactly `window_ns`, nothing is ever rounded, and testing needs no division. Until `_refills_ns`
    nothing refills: the first request that leaves a whole bucket is on its way.
    """

    is_ours = True
    __slots__ = ("_arrival", "_capacity", "_refills_ns", "limit", "transit_ns", "window_ns")

    def __init__(self, limit: int, window_ns: int, transit_ns: int = 0) -> None:
        self.limit = limit
        self.window_ns = window_ns
        self.transit_ns = transit_ns
        self._capacity = limit * window_ns
        self._arrival = 0
        self._refills_ns = 0

    def fits(self, amount: int, now: int) -> bool:
        if amount > self.limit:
            return False
        present = now if now > self._refills_ns else self._refills_ns
        return self._arrival + amount * self.window_ns <= present * self.limit + self._capacity or amount == 0

    def free_at(self, amount: int, now: int) -> int | None:
        if amount > self.limit:
            return None
        if self.fits(amount, now):
            return now
        return -((self._capacity - self._arrival - amount * self.window_ns) // self.limit)

    def spend(self, amount: int, now: int) -> None:
        arrival = self._arrival
        if arrival <= now * self.limit:
            self._refills_ns = now + self.transit_ns
            arrival = self._refills_ns * self.limit
        self._arrival = arrival + amount * self.window_ns

    def refund(self, amount: int, now: int, spent_ns: int | None = None) -> None:
        back = amount * self.window_ns
        if spent_ns is not None:
            # it has been refilling since: of what was spent a window ago or earlier nothing is left to give back
            left = max(back, self._capacity) - (now - spent_ns) * self.limit
            if left < back:
                back = left if left > 0 else 0
        self._arrival -= back

    def remaining(self, now: int) -> int:
        level = self._arrival - (now if now > self._refills_ns else self._refills_ns) * self.limit
        if level <= 0:
            return self.limit
        return (self._capacity - level) // self.window_ns if level < self._capacity else 0

    def admits_by(self, until: int, now: int) -> int:
        return max(0, until * self.limit + self._capacity - max(self._arrival, now * self.limit)) // self.window_ns

    def resets_at(self, now: int) -> int:
        return max(now, -(-self._arrival // self.limit)) if self.limit else now

    def observe(self, remaining: int, now: int, whole_ns: int | None = None) -> None:
        if remaining == self.remaining(now):
            return  # keeps our fraction of a unit
        self._refills_ns = 0
        self._arrival = now * self.limit + max(0, self.limit - remaining) * self.window_ns
        if whole_ns is not None:
            # says the same more finely, unless it belongs to another count
            told = whole_ns * self.limit
            if self._arrival - self.window_ns < told < self._arrival + self.window_ns:
                self._arrival = told

    def brought_up(self, remaining: int, told_of_ns: int, since: int, now: int) -> int | None:
        return min(self.limit, remaining + (now - told_of_ns) * self.limit // self.window_ns) - since

    def set_limit(self, limit: int, now: int) -> None:
        level = max(0, self._arrival - max(now, self._refills_ns) * self.limit)
        self._refills_ns = 0
        self.limit = limit
        self._capacity = limit * self.window_ns
        self._arrival = now * limit + level

    def state(self) -> tuple[int, ...]:
        return (self._arrival, self.limit, self._refills_ns)

    def restore(self, state: tuple[int, ...], now: int) -> None:
        arrival, old_limit, self._refills_ns = state
        present = max(now, self._refills_ns)
        self._arrival = present * self.limit + max(0, arrival - present * old_limit)

    def __repr__(self) -> str:
        return f"<TokenBucket {self.limit}/{self.window_ns / SECOND:g}s whole at {self.resets_at(0)}>"


class FixedWindow:
    """At most `limit` from one boundary of the calendar to the next (Cerebras)."""

    is_ours = True
    __slots__ = ("_ends_ns", "_late", "_since_ns", "_used", "calendar", "limit", "transit_ns", "window_ns")

    def __init__(self, limit: int, window_ns: int, calendar: Calendar | None = None, transit_ns: int = 0) -> None:
        self.limit = limit
        self.window_ns = window_ns
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


ALGORITHMS = ("token_bucket", "sliding", "fixed")


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
