"""How much later does an answer come, at a rate that the callers set?

Open loop: requests leave at a constant rate, and a latency counts from when the request was due. Each contender has one
core, the provider and the caller the others. What a contender adds is its percentile less that of the direct way in the
same round. With --url: the same load on an endpoint of yours, at --rate.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

from lib_foreign import Foreign, foreign_door, foreign_options
from lib_gateways import TITLES, Door, chosen, running, versions
from lib_histogram import Histogram
from lib_machine import split_cores
from lib_openloop import Offer, Taken, offer, small
from lib_report import Report, Setting, Target, conclude, heading, parser, run, say, setting, table
from lib_rounds import Disagreement, Noise, Ratio, of
from lib_svg import Plot, lines
from lib_upstream import static
from lib_wrk import body_of

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_CONNECTIONS = 64
_JUDGED_RATE = 1000
# Tails of single rounds are made by a few requests: the rounds may differ more than in bench/overhead.py
_SPREAD = {50.0: 0.3, 99.0: 1.0}
_US = 1000


class Rate(NamedTuple):
    """A rate, and how long each burst of it is."""

    per_second: int
    seconds: float


class Measured(NamedTuple):
    """All rounds at one rate."""

    rounds: list[dict[str, Taken]]

    def whole(self, name: str) -> Histogram:
        """The latencies of all rounds together."""
        merged = Histogram()
        for each in self.rounds:
            merged.merge(each[name].times_ns)
        return merged

    def added(self, name: str, percentile: float) -> list[float]:
        """What it adds to the direct way, in each round (µs)."""
        return [
            (each[name].times_ns.at(percentile) - each["direct"].times_ns.at(percentile)) / _US for each in self.rounds
        ]

    def ratio(self, name: str, other: str, percentile: float) -> Ratio:
        """Of what both add, round by round, where the other adds anything."""
        pairs = zip(self.added(name, percentile), self.added(other, percentile), strict=True)
        return of([one / two for one, two in pairs if two > 0])

    def failed(self, name: str) -> int:
        """Requests without a good answer."""
        return sum(each[name].failed for each in self.rounds)

    def late(self, name: str) -> float:
        """The part of the requests that found no connection free when they were due."""
        taken = [each[name] for each in self.rounds]
        return sum(each.late for each in taken) / max(1, sum(each.times_ns.count + each.failed for each in taken))


def _measure(doors: Mapping[str, Door], rate: Rate, rounds: int) -> Measured:
    say(f"{rate.per_second} requests/s")
    made = Offer(rate.per_second, rate.seconds, _CONNECTIONS, small())
    for door in doors.values():
        offer(door, made._replace(seconds=1))
    taken: list[dict[str, Taken]] = []
    for number in range(rounds):
        turn = list(doors) if number % 2 == 0 else list(reversed(list(doors)))
        taken.append({name: offer(doors[name], made) for name in turn})
        told = (
            f"{name} {taken[-1][name].times_ns.at(50) / _US:.0f}/{taken[-1][name].times_ns.at(99) / _US:.0f}"
            for name in doors
        )
        say(f"  round {number + 1}, p50/p99 in µs: {', '.join(told)}")
    return Measured(taken)  # fmt: skip


def _row(name: str, measured: Measured) -> list[str]:
    whole = measured.whole(name)
    cells = [TITLES[name], *(f"{whole.at(percentile) / _US:,.0f}" for percentile in _PERCENTILES)]
    if name == "direct":
        cells += [""] * 4
    else:
        cells += [f"{of(measured.added(name, percentile)).median:,.0f}" for percentile in (50, 99)]
        cells += ["" if name == "nginx" else _told(measured, name, percentile) for percentile in (50, 99)]
    return [*cells, f"{measured.late(name):.0%}", str(measured.failed(name))]


def _told(measured: Measured, name: str, percentile: float) -> str:
    try:
        return str(measured.ratio(name, "nginx", percentile))
    except Disagreement:
        return "-"


_HEAD = (
    "contender", "p50, µs", "p90", "p99", "p99.9", "added p50", "added p99", "x nginx's p50", "x nginx's p99",
    "found none free", "failed",
)  # fmt: skip


def _targets(found: Mapping[Rate, Measured], noise: Noise) -> list[Target]:
    measured = next(each for rate, each in found.items() if rate.per_second == _JUDGED_RATE)
    targets = []
    for percentile, most in ((50.0, 2.0), (99.0, 3.0)):
        what = f"added p{percentile:g} at {_JUDGED_RATE:,}/s over nginx's"
        try:
            judged = measured.ratio("sidecar", "nginx", percentile)
        except Disagreement:
            noise.note(what, ["in less than two rounds nginx added anything measurable, so there is no ratio"])
            continue
        if judged.spread > _SPREAD[percentile]:
            apart = f"the middle half of the rounds lies {judged.spread:.0%} apart (at most {_SPREAD[percentile]:.0%})"
            noise.note(what, [f"it is {judged.median:.2f}, but {apart}"])
        targets.append(Target(what, judged.median, most, spread=judged.spread))
    return targets


def _report(found: Mapping[Rate, Measured], began: Setting, noise: Noise) -> Report:
    text = [
        heading("Added latency", versions(chosen([], has_heavy=False)), began),
        f"Open loop, {_CONNECTIONS} connections kept alive, 250-byte bodies, plain upstream. Percentiles of all rounds"
        " together; what is added, and its ratios, round by round, then the median; in brackets half of what the middle"
        " half of the rounds' ratios spans. A round in which nginx adds nothing measurable has no ratio. Requests that"
        " find none of the connections free wait: where those are many, the rate is more than can be served, and the"
        " latencies are those of a queue that grows.\n",
    ]
    for rate, measured in found.items():
        rows = [_row(name, measured) for name in measured.rounds[0]]
        count = len(measured.rounds)
        text += [
            f"## {rate.per_second:,} requests/s\n",
            table(_HEAD, rows),
            f"\n{count} rounds of {rate.seconds:g} s.\n",
        ]
    return Report("latency", "\n".join(text), _targets(found, noise), _plots(found), noise.told, began)


def _plots(found: Mapping[Rate, Measured]) -> dict[str, str]:
    measured = next(each for rate, each in found.items() if rate.per_second == _JUDGED_RATE)
    series = {}
    for name in measured.rounds[0]:
        whole = measured.whole(name)
        series[TITLES[name]] = [(float(at), whole.at(each) / _US) for at, each in enumerate(_PERCENTILES)]
    ticks = {float(at): f"p{each:g}" for at, each in enumerate(_PERCENTILES)}
    return {"latency.svg": lines(Plot(f"Latency at {_JUDGED_RATE:,} requests/s, open loop", "µs"), series, ticks)}


def _foreign(options: Foreign) -> int:
    made = Offer(options.rate, options.seconds, options.connections, body_of(250, options.model))
    taken = offer(foreign_door(options), made)
    row = [f"{options.rate:g}", *(f"{taken.times_ns.at(each) / 1e6:,.2f}" for each in _PERCENTILES)]
    print(table(("requests/s", "p50, ms", "p90", "p99", "p99.9", "answered", "failed", "found no connection free"),
                [[*row, str(taken.times_ns.count), str(taken.failed), str(taken.late)]]))  # fmt: skip
    return 0


def main() -> int:
    """Measure; 1 when a target is missed."""
    options = foreign_options(parser(__doc__))
    if options.url:
        return _foreign(options)
    began, cores, noise = setting(), split_cores(), Noise(options.despite_noise)
    if options.quick:
        rates, rounds = [Rate(1000, 2)], 5
    else:
        rates, rounds = [Rate(200, 4), Rate(1000, 3), Rate(5000, 2)], 9 if options.full else 5
    with (
        static(cores.others) as upstreams,
        running(chosen([], has_heavy=False), upstreams["http"], cores.proxy) as doors,
    ):
        found = {rate: _measure(doors, rate, rounds) for rate in rates}
    return conclude(_report(found, began, noise), options)


if __name__ == "__main__":
    sys.exit(run(main))
