"""The budgets of one quota as a set: which one a reading is about, which ones a configuration wants.

Decides that a window nobody configured gets a budget of its own when a provider names its limit, and what becomes of
each when the configuration changes. Refuses to know admission and requests in flight (quota.py).
"""

from __future__ import annotations

from typing import Final

from sidecar.core.budget import FOREVER_NS, Budget, LimitSpec, QuotaSpec
from sidecar.core.limits import Cost, Reading

_MAX_WINDOWS: Final = 16  # headers are input: no provider has more

Budgets = tuple[Budget, ...]


def configured(spec: QuotaSpec) -> Budgets:
    """New ones, as a configuration wants them."""
    return tuple(Budget(limit, spec.replicas) for limit in spec.specs)


def find(budgets: Budgets, reading: Reading) -> Budget | None:
    """The one a reading is about; without a window, the only one of its axis."""
    found = None
    for budget in budgets:
        if budget.axis is reading.axis:
            if budget.window.window_ns == reading.window_ns:
                return budget
            if reading.window_ns is None:
                if found is not None:
                    return None
                found = budget
    return found


def opened(budgets: Budgets, reading: Reading, spec: QuotaSpec) -> Budget | None:
    """A new one for a limit nobody configured; None where too little was said."""
    axis, window_ns, limit = reading[:3]
    if limit is None or not window_ns or len(budgets) >= _MAX_WINDOWS:
        return None
    algorithm = spec.algorithms.get((axis, window_ns), spec.unknown)
    limit_spec = LimitSpec(axis, window_ns, limit, reading.source, algorithm, spec.calendar, spec.transit_ns)
    return Budget(limit_spec, spec.replicas, is_heard=True)


def reconfigured(budgets: Budgets, spec: QuotaSpec, now: int) -> Budgets:
    """The same after a reload: what was used stays used, a raised limit admits at once."""
    wanted = {(limit.axis, limit.window_ns): limit for limit in spec.specs}
    kept: list[Budget] = []
    for budget in budgets:
        if not spec.learn:
            budget.forget()
        limit = wanted.pop((budget.axis, budget.window.window_ns), None)
        if budget.configure(limit, spec.replicas, now):
            kept.append(budget)
    return (*kept, *(Budget(limit, spec.replicas) for limit in wanted.values()))


def merged(budgets: Budgets, others: Budgets, now: int) -> Budgets:
    """One set for two that turn out to be one account's: of each window the more that was used, the lower limit.

    The others stay bound to the same windows, so that what they reserved is settled where it counts.
    """
    ours = {(budget.axis, budget.window.window_ns): budget for budget in budgets}
    added = []
    for other in others:
        budget = ours.get((other.axis, other.window.window_ns))
        if budget is None:
            added.append(other)
        else:
            budget.absorb(other, now)
    return (*budgets, *added)


class Look:
    """The last look at all windows: what was left, and for how long, how many requests and tokens that holds: until a
    thousandth is spent or a hundredth has passed."""

    __slots__ = ("fresh_ns", "requests", "room", "tokens")

    def __init__(self) -> None:
        self.room = 0  # what is left of the tightest, in thousandths
        self.fresh_ns = 0  # until when that holds, give or take ten
        self.requests = 0  # that may be spent before it does no more
        self.tokens = 0

    def holds(self, now: int) -> bool:
        """Whether it still tells what is left."""
        return now < self.fresh_ns and self.requests > 0 and self.tokens > 0

    def admits(self, cost: Cost, now: int) -> bool:
        """Whether it tells that a request of that cost fits all windows."""
        return self.room > 1 and self.holds(now) and _tokens(cost) < self.tokens

    def spend(self, cost: Cost) -> None:
        """A request of that cost was admitted."""
        self.requests -= 1
        self.tokens -= _tokens(cost)

    def less(self, column: int, amount: int) -> None:
        """So much less is left of an axis (its column) than was thought."""
        if column:
            self.tokens -= amount
        else:
            self.requests -= amount

    def more(self, amount: int, limit: int) -> None:
        """So much more is left of a limit than was thought: seen at the next look where that is soon, but where there
        was hardly anything, or it is a thousandth, at once."""
        if self.room <= 1 or amount > limit >> 10:
            self.fresh_ns = 0

    def renewed(self, budgets: Budgets, now: int) -> int:
        """What is left of the tightest, in thousandths; looked at anew where the last look holds no more."""
        if not self.holds(now):
            self._renew(budgets, now)
        return self.room

    def _renew(self, budgets: Budgets, now: int) -> None:
        least, fresh_ns = 1000, FOREVER_NS
        requests = tokens = FOREVER_NS
        for budget in budgets:
            window = budget.window
            limit = window.limit or 1
            grain = limit // 1000
            left = window.remaining(now) * 1000
            if left < least * limit:
                least = left // limit
            until = now + window.window_ns // 100 if window.is_ours else now
            if until < fresh_ns:
                fresh_ns = until
            if budget.column != 0:
                if grain < tokens:
                    tokens = grain
            elif grain < requests:
                requests = grain
        self.room, self.fresh_ns, self.requests, self.tokens = least, fresh_ns, requests, tokens

    def __repr__(self) -> str:
        return f"<Look {self.room} of 1000 until {self.fresh_ns}>"


def _tokens(cost: Cost) -> int:
    return cost.input_tokens + cost.output_tokens + cost.audio_seconds
