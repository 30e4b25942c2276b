"""How much waits already, and when whoever comes next will have its turn (acceptance A15, A16).

Tickets that stand at the same quotas count together, so that asking costs the same however long the lines are. The
promise is the most favourable course: estimates are 30 % too high, declared output is not used where a provider gives
it back, requests in flight give all their tokens back, and whoever may be served elsewhere is. It is therefore never
later than the truth by more than its own step, unless those ahead leave unserved or a limit is raised: nobody is sent
away who would have been served in time. Refuses to know the order within the lines (line.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import le
from typing import TYPE_CHECKING

from sidecar.core.concurrency import UNBOUNDED
from sidecar.core.limits import DAY, SECOND, Cost

if TYPE_CHECKING:
    from sidecar.core.quota import Quota

_STEP_NS = SECOND // 20  # how exact a promise is; callers are told whole seconds
_FARTHEST_NS = 32 * DAY
_MOST_PLACES = 64  # with more quotas at hand the sum over them would cost more than the answer is worth

Least = tuple[int, int, int, int, int]  # by Axis: the least that a request takes
_NOTHING: Least = (0, 0, 0, 0, 0)


def least(quota: Quota, cost: Cost) -> Least:
    """The least that a request of that cost will have taken from each kind of window."""
    read, audio = 7 * cost.input_tokens // 10, 7 * cost.audio_seconds // 10
    written = 0 if quota.spec.rule.refunds else cost.output_tokens
    return 1, read + written, read, written, audio


class Backlog:
    """What all waiting tickets of a process will take, by where they stand."""

    __slots__ = ("_ahead", "waiting")

    def __init__(self) -> None:
        self.waiting = 0  # tickets
        self._ahead: dict[frozenset[Quota], list[int]] = {}  # the sums, and last how many tickets

    def add(self, quotas: frozenset[Quota], amounts: Sequence[Least]) -> Least:
        """One more ticket, which takes one of `amounts`. What it was counted for is to be taken off again."""
        lowest = tuple(map(min, zip(*amounts, strict=True)))
        counted: Least = (lowest[0], lowest[1], lowest[2], lowest[3], lowest[4]) if lowest else _NOTHING
        self.waiting += 1
        sums = self._ahead.setdefault(quotas, [0] * 6)
        for at, amount in enumerate((*counted, 1)):
            sums[at] += amount
        return counted

    def drop(self, quotas: frozenset[Quota], counted: Least) -> None:
        """A ticket less, as it was counted."""
        self.waiting -= 1
        sums = self._ahead[quotas]
        for at, amount in enumerate((*counted, 1)):
            sums[at] -= amount
        if not sums[5]:
            del self._ahead[quotas]

    def turn(self, places: Iterable[tuple[Quota, Cost]], now: int) -> int:
        """When a request that may go to any of these places has its turn at the earliest; `now` where that is not
        worth working out or not known."""
        costs = dict(places)
        needed = self._needed(costs)
        if not self.waiting or not costs or len(costs) > _MOST_PLACES or _is_enough(costs, needed, now, now):
            return now
        early, late = now, now + SECOND
        while not _is_enough(costs, needed, late, now):
            if late - now > _FARTHEST_NS:
                return late
            early, late = late, now + 2 * (late - now)
        while late - early > _STEP_NS:
            middle = (early + late) // 2
            early, late = (early, middle) if _is_enough(costs, needed, middle, now) else (middle, late)
        return early

    def is_vain(self, places: Iterable[tuple[Quota, Cost]], until: int, now: int) -> bool:
        """Whether its turn cannot come by `until`, whatever happens."""
        if not self.waiting:
            return False
        costs = dict(places)
        return 0 < len(costs) <= _MOST_PLACES and not _is_enough(costs, self._needed(costs), until, now)

    def _needed(self, costs: dict[Quota, Cost]) -> set[Least]:
        """What has to be admitted before, at each of the places: all who stand there and can be served nowhere but at
        these places, and the request itself."""
        needed: set[Least] = set()
        groups = [(quotas, ahead) for quotas, ahead in self._ahead.items() if quotas <= costs.keys()]
        for quota, cost in costs.items():
            one, two, three, four, five = least(quota, cost)
            for quotas, ahead in groups:
                if quota in quotas:
                    one, two, three = one + ahead[0], two + ahead[1], three + ahead[2]
                    four, five = four + ahead[3], five + ahead[4]
            needed.add((one, two, three, four, five))
        return needed

    def __repr__(self) -> str:
        return f"<Backlog {self.waiting} waiting at {len(self._ahead)} sets of quotas>"


def _is_enough(costs: dict[Quota, Cost], needed: set[Least], until: int, now: int) -> bool:
    """Whether all that is needed at one of the places may be admitted by then."""
    most = [_admitted(costs, column, until, now) for column in range(5)]
    return any(all(map(le, amounts, most)) for amounts in needed)


def _admitted(costs: dict[Quota, Cost], column: int, until: int, now: int) -> int:
    total = 0
    for quota in costs:
        if quota.cooldown_until > until:
            continue
        given_back = 1 <= column <= 3 and quota.spec.rule.refunds
        amounts = [
            budget.window.admits_by(until, now) + (budget.reserved if given_back else 0)
            for budget in quota.budgets
            if budget.column == column
        ]
        total += min(amounts) if amounts else UNBOUNDED  # nothing limits that here
    return total
