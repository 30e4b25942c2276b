"""What of one quota outlives the process: what is spent, what was heard of limits, and how long it cools.

Decides what is worth keeping and how it is taken up again, under a configuration and by a clock that may both have
changed since. Requests in flight end with the process: what they reserved stays spent, and the probe of a cooling quota
is sent anew. Refuses to know where the state is kept.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta

from sidecar.core.budget import FOREVER_NS, HEARD_FOR_NS, Budget
from sidecar.core.limits import SECOND, Axis, Reading, Source
from sidecar.core.quota import Gate, Quota
from sidecar.core.windows import make

# Two processes may each be a second off the wall clock (clock.py). An instant that much in the future does no harm;
# to move a sliding day by it would
_TOLERANCE_NS = 2 * SECOND
_AMPLE = 2**62  # a limit under which every use of another window fits

Natural = Annotated[int, Meta(ge=0)]


class Moment(NamedTuple):
    """When a state is taken up, and when it was saved: that is later where the clock has gone back since."""

    now_ns: int
    saved_ns: int

    @property
    def went_back_ns(self) -> int:
        """How far the clock has gone back."""
        back = self.saved_ns - self.now_ns
        return back if back > _TOLERANCE_NS else 0

    def moved(self, instant_ns: int) -> int:
        """An instant of the clock then, by the clock now. Those that never come are left alone."""
        return instant_ns if instant_ns >= FOREVER_NS else max(0, instant_ns - self.went_back_ns)


class BudgetState(NamedTuple):
    """One budget. `window`: as of Window.state, empty when whole; `limit`: what was configured; `heard`: by whom, the
    limit, and when it is dropped."""

    axis: Natural
    window_ns: Natural
    algorithm: str
    window: tuple[Natural, ...]
    limit: Natural | None
    heard: tuple[tuple[str, Natural, Natural], ...]


class QuotaState(NamedTuple):
    """One quota. `model`: one that draws on it; `concurrency`: what was configured; `heard_cap`: what was heard of
    that, and when it is dropped."""

    model: str
    cooldown_until: Natural  # 0: nothing stands before the windows
    concurrency: Natural | None
    heard_cap: tuple[Natural, Natural] | None
    budgets: tuple[BudgetState, ...]


def capture(quota: Quota, model: str, now: int) -> QuotaState | None:
    """What is worth keeping now; None: nothing, it is as good as new."""
    budgets = tuple(state for budget in quota.budgets if (state := _budget(budget, now)) is not None)
    until_ns = 0 if quota.gate is Gate.OPEN else quota.cooldown_until
    cap = quota.permits.heard
    if cap is not None and cap[1] <= now:
        cap = None
    if not budgets and not until_ns and cap is None:
        return None
    return QuotaState(model, until_ns, quota.spec.concurrency, cap, budgets)


def _budget(budget: Budget, now: int) -> BudgetState | None:
    window = budget.window
    window.fits(0, now)  # what is over falls away
    spent = window.state() if window.resets_at(now) > now else ()
    heard = budget.heard
    said = tuple([(by.value, limit, until) for by, (limit, until) in heard.items() if until > now]) if heard else ()
    if not spent and not said:
        return None
    limit = budget.spec.limit if budget.spec is not None else None
    return BudgetState(budget.column, window.window_ns, budget.shape[0], spent, limit, said)


def restore(quota: Quota, state: QuotaState, moment: Moment) -> None:
    """Continue with a quota as it was kept; it is new so far. ValueError: a part of the state makes no sense."""
    if state.cooldown_until:
        quota.cool(moment.moved(state.cooldown_until))
    if state.heard_cap is not None and state.concurrency == quota.spec.concurrency:
        _hear(quota, Axis.CONCURRENCY, None, (Source.HEADER, *state.heard_cap), moment)
    for each in state.budgets:
        _restore_budget(quota, each, moment)


def _restore_budget(quota: Quota, state: BudgetState, moment: Moment) -> None:
    axis = Axis(state.axis)
    configured = _configured(quota, state)
    for name, limit, until_ns in state.heard:
        source = Source(name)
        if source is not Source.BODY or configured == state.limit:  # edited since: see Budget.configure
            _hear(quota, axis, state.window_ns, (source, limit, until_ns), moment)
    budget = _find(quota, state)
    if budget is not None and state.window:
        _take_up(budget, state, moment)


def _hear(quota: Quota, axis: Axis, window_ns: int | None, heard: tuple[Source, int, int], moment: Moment) -> None:
    """Have the quota hear it again, at the time it was said."""
    source, limit, until_ns = heard
    until_ns = moment.moved(until_ns)
    if until_ns > moment.now_ns:
        quota.learn((Reading(axis, window_ns, limit, None, None, source),), until_ns - HEARD_FOR_NS)


def _configured(quota: Quota, state: BudgetState) -> int | None:
    budget = _find(quota, state)
    return budget.spec.limit if budget is not None and budget.spec is not None else None


def _find(quota: Quota, state: BudgetState) -> Budget | None:
    for budget in quota.budgets:
        if budget.column == state.axis and budget.window.window_ns == state.window_ns:
            return budget
    return None


def _take_up(budget: Budget, state: BudgetState, moment: Moment) -> None:
    algorithm, calendar = budget.shape
    if algorithm == state.algorithm and not moment.went_back_ns:
        budget.window.restore(state.window, moment.now_ns)
        return
    # counted in another way or by another clock: what was still taken then is taken as if it were spent now
    then_ns = moment.now_ns + moment.went_back_ns
    before = make(state.algorithm, _AMPLE, state.window_ns, calendar)
    before.restore(state.window, then_ns)
    before.fits(0, then_ns)
    used = _AMPLE - before.remaining(then_ns)
    if used:
        budget.window.spend(used, moment.now_ns)
