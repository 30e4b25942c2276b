"""What a quota hears in the heads of answers that were recognised: most of what one says, another has said before.

The limits are compared as they were sent; only what is left is read each time. Anything new goes the long way, through
the readings that every head can be turned into. Refuses to know what the quota makes of it (quota.py, budget.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core import budgets as sets
from sidecar.core.budget import Budget, Charge
from sidecar.core.hot_answer import Known, Pattern
from sidecar.core.limits import Reading, Source
from sidecar.core.ratelimit_headers import Gauge, plan_of, read_known

if TYPE_CHECKING:
    from sidecar.core.quota import Quota

_HEADER: Final = Source.HEADER  # an enum's member costs a look-up through its metaclass
_MOST_DIGITS: Final = 15  # a count with more is not one


class _Ear:
    """Which groups of a recognised head speak of one budget; `reset_at` 0: none says when it is whole."""

    __slots__ = ("budget", "limit_at", "remaining_at", "reset_at")

    def __init__(self, gauge: Gauge, budget: Budget | None) -> None:
        self.budget = budget
        self.limit_at = gauge.limit_at
        self.remaining_at = gauge.remaining_at
        self.reset_at = gauge.reset_at


class Hearing:
    """The ears of one quota."""

    __slots__ = ("_budgets", "_dialect", "_ears", "_pattern", "_quota")

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        # of the head recognised last: what it is like, the budgets there were, and who listens
        self._pattern: Pattern | None = None
        self._dialect = ""
        self._budgets: sets.Budgets = ()
        self._ears: list[_Ear] = []

    def hear(self, dialect: str, known: Known, now: int, charge: Charge) -> None:
        """Take in what the head of an answer says. `charge`: its request's, counted at admission."""
        quota = self._quota
        if not quota.learns:
            return
        if known.pattern is not self._pattern or quota.budgets is not self._budgets or dialect != self._dialect:
            self._bind(dialect, known.pattern)
        match = known.match
        for ear in self._ears:
            budget = ear.budget
            limit, remaining = match[ear.limit_at], match[ear.remaining_at]
            is_count = remaining.isdigit() and len(remaining) <= _MOST_DIGITS
            if budget is None or not is_count or not budget.hears_again(limit, now):
                return self._hear_anew(dialect, known, now, charge)
            reset = match[ear.reset_at] if ear.reset_at else None
            less = budget.hear_remaining(int(remaining), reset, now, charge)
            if less > 0:
                quota.look.less(budget.column, less)
            elif less:
                quota.look.more(-less, budget.full_limit)
        if not self._ears:
            quota.learn(read_known(dialect, known, now), now, charge)

    def _bind(self, dialect: str, pattern: Pattern) -> None:
        quota = self._quota
        self._dialect, self._pattern, self._budgets = dialect, pattern, quota.budgets
        self._ears = [_Ear(gauge, _budget_of(quota, gauge)) for gauge in plan_of(dialect, pattern).gauges]

    def _hear_anew(self, dialect: str, known: Known, now: int, charge: Charge) -> None:
        quota = self._quota
        quota.learn(read_known(dialect, known, now), now, charge)
        for gauge in plan_of(dialect, known.pattern).gauges:
            budget = _budget_of(quota, gauge)
            if budget is not None:
                budget.note_text(known.match[gauge.limit_at])


def _budget_of(quota: Quota, gauge: Gauge) -> Budget | None:
    return sets.find(quota.budgets, Reading(gauge.axis, gauge.window_ns, None, None, None, _HEADER))
