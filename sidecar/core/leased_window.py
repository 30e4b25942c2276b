"""One window of a quota that many sidecars share: what this one may still spend of it without asking anybody.

Admission tests and spends a lease, here and at once; lease.py asks for more in the background. Without the ledger the
window is a static share of the limit instead. The contract is `window.Window`. Refuses to know the ledger, other
windows, and who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.core.limits import HOUR, SECOND
from sidecar.core.sliding import SlidingWindow
from sidecar.core.window import Window
from sidecar.core.windows import Calendar, make

PREFIX: Final = "leased_"  # before the name of an algorithm
_ASK_AGAIN_NS: Final = SECOND // 20  # when the ledger has not said when more can be had: as long as an answer may take
_MARGIN: Final = (9, 10)  # of a limit is divided when nobody counts for all
_REFUNDS: Final = 16  # apart in one call; more are given back as if all were as old as the oldest


class Term:
    """What the windows of one quota have in common: until when they may be spent, and whom to tell when they run low.
    `ask` is called when more is wanted, and has to be cheap."""

    __slots__ = ("ask", "expires_ns", "granted_ns", "is_asked")

    def __init__(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        self.is_asked = False
        self.expires_ns = 0  # what is held may be spent before that (Unix ns)
        self.granted_ns = 0  # when the call was sent that granted or confirmed it

    def want(self) -> None:
        """More is wanted; told once until the next call."""
        if not self.is_asked:
            self.is_asked = True
            self.ask()


class LeasedWindow(Window):
    """A window over a lease. Until it is bound to a term it is a plain window of its own."""

    is_ours = False  # a lease comes and goes in the background
    __slots__ = (
        "_plain",
        "_shape",
        "_term",
        "back",
        "full_limit",
        "held",
        "is_static",
        "left",
        "low",
        "next_ns",
        "refunds",
        "spends",
        "static_used",
        "told",
        "used",
        "whole_ns",
    )  # fmt: skip

    def __init__(
        self, algorithm: str, limit: int, window_ns: int, calendar: Calendar | None = None, transit_ns: int = 0
    ) -> None:
        super().__init__(limit, window_ns)  # `limit`: the most that one request may take now
        self.full_limit = limit  # the provider's, over all sidecars
        self._shape = (algorithm, calendar, transit_ns)
        self._plain: Window | None = make(algorithm, limit, window_ns, calendar, transit_ns)
        self._term = Term(_nobody)
        self.is_static = False
        self.held = 0  # of the lease; negative where more was used than was leased
        self.low = 0  # below that more is asked for
        self.used = 0  # not yet told to the ledger
        self.spends = 0  # in how many times
        self.back = 0  # given back, not yet told
        self.refunds: list[tuple[int, int]] = []  # of former leases: how much, and when it was spent
        self.left = limit  # at the ledger, when it last answered
        self.whole_ns = 0  # when the ledger will be whole
        self.next_ns = 0  # when the ledger can grant what waits
        self.told: int | None = None  # what the provider says is left, where that is less
        self.static_used = 0  # on the static share, since the ledger was last heard

    @property
    def algorithm(self) -> str:
        """How the ledger counts it."""
        return self._shape[0]

    @property
    def is_bound(self) -> bool:
        """Whether it belongs to a lease."""
        return self._term.ask is not _nobody

    def bind(self, term: Term, now: int) -> None:
        """Belong to a lease; what was spent so far is told to the ledger."""
        if self._plain is not None:
            self.used = self.limit - self._plain.remaining(now)
        self._term = term
        self._plain = None

    def divide(self, replicas: int, now: int) -> None:
        """Without the ledger: a share of the limit. Short windows start spent; of long ones, whose end is far, what
        was left when the ledger last answered is divided."""
        algorithm, calendar, transit_ns = self._shape
        share = self.full_limit * _MARGIN[0] // (_MARGIN[1] * replicas)
        if share:
            plain = make(algorithm, share, self.window_ns, calendar, transit_ns)
        else:
            # less than one: one in so many windows
            stretch = -(-replicas * _MARGIN[1] // (_MARGIN[0] * max(1, self.full_limit)))
            plain = SlidingWindow(share := 1, self.window_ns * stretch, transit_ns)
        left = 0
        if self.window_ns > HOUR:
            left = min(share, self.left * _MARGIN[0] // (_MARGIN[1] * replicas))
        plain.spend(share - left, now)
        self._plain, self.limit, self.is_static, self.static_used = plain, share, True, 0

    def unite(self) -> None:
        """The ledger is back; nothing is held yet."""
        self._plain, self.limit, self.is_static = None, self.full_limit, False
        self.held = min(0, self.held)

    def fits(self, amount: int, now: int) -> bool:
        if self._plain is not None:
            return self._plain.fits(amount, now)
        if (amount <= self.held and now < self._term.expires_ns) or amount == 0:
            return True
        self._term.want()
        return False

    def free_at(self, amount: int, now: int) -> int | None:
        if self._plain is not None:
            return self._plain.free_at(amount, now)
        if amount > self.limit:
            return None
        return now if self.fits(amount, now) else max(self.next_ns, now + _ASK_AGAIN_NS)

    def spend(self, amount: int, now: int) -> None:
        if self._plain is not None:
            self._plain.spend(amount, now)
            self.static_used += amount
            return
        self.used += amount
        self.spends += 1
        self.held = held = self.held - amount
        if held < self.low:
            self._term.want()

    def refund(self, amount: int, now: int, spent_ns: int | None = None) -> None:
        if self._plain is not None:
            self._plain.refund(amount, now, spent_ns)
            self.static_used -= amount
        elif spent_ns is None or spent_ns >= self._term.granted_ns:
            self.held += amount
            self.used -= amount
        else:
            self._owe(amount, spent_ns)

    def remaining(self, now: int) -> int:
        if self._plain is not None:
            return self._plain.remaining(now)
        left = self.full_limit if now >= self.whole_ns > 0 else self.left
        return max(0, min(self.limit, self.held + left))

    def admits_by(self, until: int, now: int) -> int:
        if self._plain is not None:
            return self._plain.admits_by(until, now)
        windows = 1 + max(0, until - now) // self.window_ns
        if self.algorithm != "token_bucket":
            return self.limit * windows if until >= self.whole_ns or windows > 1 or self.left else self._coming(until)
        grown = self.limit * max(0, until - now + SECOND) // self.window_ns
        return max(0, self.held) + self.left + grown + 1

    def resets_at(self, now: int) -> int:
        return self._plain.resets_at(now) if self._plain is not None else max(now, self.whole_ns)

    def observe(self, remaining: int, now: int, whole_ns: int | None = None) -> None:
        if self._plain is not None:
            self._plain.observe(remaining, now, whole_ns)
        elif remaining < self.remaining(now):
            # more has been used than the ledger knows of. It is never raised by a provider's count, which does not
            # include what others have leased
            self.told = remaining if self.told is None else min(self.told, remaining)
            self.give_back(self.held - remaining)
            self.left = max(0, min(self.left, remaining - max(0, self.held)))
            self._term.want()

    def brought_up(self, remaining: int, told_of_ns: int, since: int, now: int) -> int | None:
        if self._plain is not None:
            return self._plain.brought_up(remaining, told_of_ns, since, now)
        return remaining  # what came back since at the provider, and what others spent, is not known here

    def set_limit(self, limit: int, now: int) -> None:
        self.full_limit = limit
        if self.is_static and self._plain is not None:
            return  # the share stays as it is until the ledger is back
        self.limit = limit
        if self._plain is not None:
            self._plain.set_limit(limit, now)

    def state(self) -> tuple[int, ...]:
        return ()  # the ledger keeps it

    def restore(self, state: tuple[int, ...], now: int) -> None:
        raise ValueError("the state of a shared window is in the ledger")

    def give_back(self, amount: int) -> None:
        """Part of what is held is not wanted any more."""
        if amount > 0:
            self.held -= amount
            self.back += amount

    def terms(self, life_ns: int, now: int) -> tuple[str, int, int, int, int]:
        """For the ledger: algorithm, limit, and in microseconds length, transit with the life of a lease, and the next
        boundary of a calendar that is not UTC's (0: UTC's)."""
        algorithm, calendar, transit_ns = self._shape
        is_own = calendar is not None and calendar.window_ns == self.window_ns and bool(calendar.boundaries)
        boundary_ns = calendar.next_after(now) if calendar is not None and is_own else 0
        return algorithm, self.full_limit, self.window_ns // 1000, (transit_ns + life_ns) // 1000, boundary_ns // 1000

    def worst(self, since_ns: int, now: int) -> int:
        """The most that the static shares of all sidecars may have spent since then and within one window."""
        if self.window_ns > HOUR:
            return 0  # told as it was spent
        whole, lasted_ns = -(-_MARGIN[0] * self.full_limit // _MARGIN[1]), now - since_ns
        if self.algorithm == "token_bucket":
            return min(whole, -(-whole * lasted_ns // self.window_ns))
        if self.algorithm == "fixed":
            return whole if now // self.window_ns != since_ns // self.window_ns else 0
        return whole if lasted_ns >= self.window_ns else 0

    def _owe(self, amount: int, spent_ns: int) -> None:
        if len(self.refunds) >= _REFUNDS:
            before, at_ns = self.refunds.pop()
            amount, spent_ns = amount + before, min(spent_ns, at_ns)
        self.refunds.append((amount, spent_ns))

    def _coming(self, until: int) -> int:
        return max(0, self.held) + (self.limit if until >= self.next_ns else 0)

    def __repr__(self) -> str:
        if self._plain is not None:
            return f"<LeasedWindow {'static share' if self.is_static else 'alone'} {self._plain!r}>"
        return f"<LeasedWindow {self.limit}/{self.window_ns / SECOND:g}s holds {self.held}, {self.left} left>"


def _nobody() -> None:
    """For windows that belong to no lease yet."""


def make_window(
    algorithm: str, limit: int, window_ns: int, calendar: Calendar | None = None, transit_ns: int = 0
) -> Window:
    """As `windows.make`, and leased ones by the name of their algorithm with PREFIX before it."""
    if algorithm.startswith(PREFIX):
        return LeasedWindow(algorithm.removeprefix(PREFIX), limit, window_ns, calendar, transit_ns)
    return make(algorithm, limit, window_ns, calendar, transit_ns)
