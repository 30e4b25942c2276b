"""What a quota hears in the heads of answers that were recognised: most of what one says, another has said before.

The limits are compared as they were sent; only what is left is read each time. Anything new goes the long way, through
the readings that every head can be turned into. Refuses to know what the quota makes of it (quota.py, budget.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core import budgets as sets
from sidecar.core.budget import Budget, Charge
from sidecar.core.hot_answer import Known
from sidecar.core.limits import Reading, Source
from sidecar.core.ratelimit_headers import Gauge, plan_of, read_known

if TYPE_CHECKING:
    from sidecar.core.quota import Quota

_HEADER = Source.HEADER  # an enum's member costs a look-up through its metaclass
_MOST_DIGITS = 15  # a count with more is not one


class Hearing:
    """The ear of one quota."""

    __slots__ = ("_budgets", "_gauges", "_heard", "_quota")

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        # of the head recognised last: its gauges, the budgets there were, and whose each gauge is
        self._gauges: tuple[Gauge, ...] = ()
        self._budgets: sets.Budgets = ()
        self._heard: tuple[tuple[Gauge, Budget | None], ...] = ()

    def hear(self, dialect: str, known: Known, now: int, charge: Charge) -> None:
        """Take in what the head of an answer says. `charge`: its request's, counted at admission."""
        quota = self._quota
        if not quota.spec.learn:
            return
        gauges = plan_of(dialect, known.pattern).gauges
        if gauges is not self._gauges or quota.budgets is not self._budgets:
            self._bind(gauges)
        match = known.match
        for gauge, budget in self._heard:
            limit, remaining = match[gauge.limit_at], match[gauge.remaining_at]
            is_count = remaining.isdigit() and len(remaining) <= _MOST_DIGITS
            if budget is None or not is_count or not budget.hears_again(limit, now):
                return self._hear_anew(dialect, known, now, charge)
            texts = (remaining, match[gauge.reset_at] if gauge.reset_at else None)
            less = budget.hear_remaining(texts, int(limit), now, charge)
            if less:
                quota.less(budget.column, less)
        if not gauges:
            quota.learn(read_known(dialect, known, now), now, charge)

    def _bind(self, gauges: tuple[Gauge, ...]) -> None:
        quota = self._quota
        self._gauges, self._budgets = gauges, quota.budgets
        self._heard = tuple((gauge, _budget_of(quota, gauge)) for gauge in gauges)

    def _hear_anew(self, dialect: str, known: Known, now: int, charge: Charge) -> None:
        quota = self._quota
        quota.learn(read_known(dialect, known, now), now, charge)
        for gauge in plan_of(dialect, known.pattern).gauges:
            budget = _budget_of(quota, gauge)
            if budget is not None:
                budget.note_text(known.match[gauge.limit_at])


def _budget_of(quota: Quota, gauge: Gauge) -> Budget | None:
    return sets.find(quota.budgets, Reading(gauge.axis, gauge.window_ns, None, None, None, _HEADER))
