"""The budgets of one quota as a set: which one a reading is about, which ones a configuration wants.

Decides that a window nobody configured gets a budget of its own when a provider names its limit, and what becomes of
each when the configuration changes. Refuses to know admission and requests in flight (quota.py).
"""

from __future__ import annotations

from sidecar.core.budget import FOREVER_NS, Budget, LimitSpec, QuotaSpec
from sidecar.core.limits import Cost, Reading

_MAX_WINDOWS = 16  # headers are input: no provider has more

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


def by_column(cost: Cost) -> tuple[int, int, int, int, int]:
    """What a request takes from a window of each axis."""
    taken, declared, audio = cost
    # who reads anything also writes something: a spent output window must stop it even where output is not reserved
    return 1, taken + declared, taken, declared or (1 if taken else 0), audio


def look(budgets: Budgets, now: int) -> tuple[int, int, int, int]:
    """What is left of the tightest, in thousandths; until when that holds, give or take ten; and how many requests and
    tokens may be spent before it does no more."""
    least, fresh_ns = 1000, FOREVER_NS
    requests = tokens = FOREVER_NS
    for budget in budgets:
        window = budget.window
        limit = window.limit or 1
        grain = limit // 1000
        least = min(least, window.remaining(now) * 1000 // limit)
        fresh_ns = min(fresh_ns, now + window.window_ns // 100 if window.is_ours else now)
        if budget.column == 0:
            requests = min(requests, grain)
        else:
            tokens = min(tokens, grain)
    return least, fresh_ns, requests, tokens
