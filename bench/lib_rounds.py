"""Interleaved rounds and what may be concluded from them: medians, and ratios taken round by round.

Contenders take turns (A B C, C B A, ...), so that a machine that slows down slows all of them. A ratio is worked out
within each round; its spread is the middle half of the rounds over their median. Where that is wide even after as many
rounds again, nothing is reported: the machine was busy with something else. Who wants a report all the same says so
(`--despite-noise`), and gets one in which every figure is marked (`Noise`).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

Round = dict[str, float]  # contender -> figure
SPREAD = 0.10


class Disagreement(Exception):
    """The rounds differ too much for a figure."""


class Noise:
    """What becomes of rounds that disagree: nothing can be reported, or, where that is tolerated, each dispute is kept
    in `told`, for the report to say."""

    def __init__(self, is_tolerated: bool = False) -> None:
        self._is_tolerated = is_tolerated
        self.told: list[str] = []

    def note(self, where: str, disputes: Sequence[str]) -> None:
        """These were found there. Disagreement: there are some, and they are not tolerated."""
        if disputes and not self._is_tolerated:
            raise Disagreement("; ".join(disputes))
        self.told += [f"{where}: {each}" if where else each for each in disputes]


class Ratio(NamedTuple):
    """Median of the rounds' ratios, and how wide their middle half is, as a part of it."""

    median: float
    spread: float

    def __str__(self) -> str:
        return f"{self.median:,.2f} (± {self.spread / 2:.0%})"


def median(rounds: Sequence[Round], name: str) -> float:
    """The median figure of one contender."""
    return statistics.median(each[name] for each in rounds)


def ratio(rounds: Sequence[Round], name: str, other: str) -> Ratio:
    """`name` over `other`, round by round; rounds in which `other` cost nothing measurable say nothing."""
    return of([each[name] / each[other] for each in rounds if each[other] > 0])


def of(figures: Sequence[float]) -> Ratio:
    """Median and spread of figures of several rounds. Disagreement: there are too few."""
    if len(figures) < 2:
        raise Disagreement("too few rounds gave a figure")
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return Ratio(middle, (high - low) / abs(middle) if middle else 0.0)


class Plan(NamedTuple):
    """How many rounds at least; pairs whose ratio is judged, how far rounds may disagree on it, and what is then done;
    `where` is said of a dispute."""

    rounds: int
    judged: tuple[tuple[str, str], ...]
    spread: float = SPREAD
    noise: Noise | None = None
    where: str = ""


def take(plan: Plan, names: Sequence[str], measure: Callable[[str], float]) -> list[Round]:
    """Rounds until the judged ratios agree, at most twice as many as planned. Disagreement: they never do, and the
    plan does not tolerate that."""
    rounds: list[Round] = []
    for number in range(2 * plan.rounds):
        turn = names if number % 2 == 0 else list(reversed(names))
        rounds.append({name: measure(name) for name in turn})
        told = ", ".join(f"{name} {rounds[-1][name]:.1f}" for name in names)
        print(f"  round {number + 1}: {told}", file=sys.stderr, flush=True)
        if number + 1 >= plan.rounds and not disputed(plan, rounds):
            return rounds
    (plan.noise or Noise()).note(plan.where, disputed(plan, rounds))
    return rounds


def disputed(plan: Plan, rounds: Sequence[Round]) -> list[str]:
    """The judged ratios on which the rounds do not agree, in words."""
    found = []
    for name, other in plan.judged:
        judged = ratio(rounds, name, other)
        if judged.spread > plan.spread:
            found.append(
                f"{name} / {other} is {judged.median:.2f}, but the middle half of {len(rounds)} rounds"
                f" lies {judged.spread:.0%} apart (at most {plan.spread:.0%})"
            )
    return found
