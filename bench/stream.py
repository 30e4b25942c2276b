"""What does a relayed chunk of a stream cost, and how much later does it come?

50 streams of 230-byte events, each 10 ms after the one before, so that no two of a stream are read at once (the result
says how many reads there were for each). Processor time of the process that relays, divided by the events. Time to
the first token: streams one after the other on an idle machine. Then 500 streams at once, an event each 100 ms. nginx
relays without buffering. With --url: a load test of an endpoint of yours that streams.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

from lib_foreign import Foreign, foreign_door, foreign_options
from lib_gateways import TITLES, Door, chosen, running, versions
from lib_histogram import Histogram
from lib_machine import split_cores
from lib_readers import Seen, Wish, in_parallel, in_turn
from lib_report import Report, Setting, Target, conclude, heading, parser, run, say, setting, table
from lib_rounds import Noise, Plan, Round, median, of, ratio, take
from lib_streamer import streaming
from lib_svg import Plot, bars
from lib_upstream import MODEL

_GAP_MS, _STREAMS = 10, 50
_MANY, _MANY_GAP_MS = 500, 100
_JUDGED = (("sidecar", "nginx"), ("sidecar", "envoy"))
_US = 1000
# wider than elsewhere: the cores are mostly idle, and what waking one up costs depends on what else the machine does
_SPREAD = 0.20


class Pace(NamedTuple):
    """How much: rounds, events of each stream, streams in turn for the time to the first token."""

    rounds: int
    events: int
    turns: int
    noise: Noise


class Bench:
    """Measures one kind of stream at every contender; keeps all that was seen."""

    def __init__(self, doors: Mapping[str, Door], wish: Wish, count: int) -> None:
        self._doors, self._wish, self._count = doors, wish, count
        self.seen: dict[str, list[Seen]] = {name: [] for name in doors}

    def once(self, name: str) -> float:
        """One burst; microseconds of processor time for each event. RuntimeError: not all of them came."""
        door = self._doors[name]
        seen = in_parallel(door, self._wish, self._count)
        if seen.events != self._count * self._wish.events:
            raise RuntimeError(f"{name}: {seen.events} events of {self._count * self._wish.events} came")
        self.seen[name].append(seen)
        return seen.cpu_us

    def delay(self, name: str, percentile: float) -> float:
        """From the provider's write to the caller's read, in microseconds, over all rounds."""
        whole = Histogram()
        for each in self.seen[name]:
            whole.merge(each.delay_ns)
        return whole.at(percentile) / _US

    def reads(self, name: str) -> float:
        """Reads for each event: below one, some came together."""
        return sum(each.reads for each in self.seen[name]) / sum(each.events for each in self.seen[name])


def _first_tokens(doors: Mapping[str, Door], pace: Pace) -> list[dict[str, Histogram]]:
    rounds = []
    for _ in range(pace.rounds):
        rounds.append({name: in_turn(door, Wish(2, 1, MODEL), pace.turns).first_ns for name, door in doors.items()})
    return rounds


def _added(rounds: list[dict[str, Histogram]], name: str, percentile: float) -> float:
    """Median over the rounds of what is added to the direct way, in microseconds."""
    return of([(each[name].at(percentile) - each["direct"].at(percentile)) / _US for each in rounds]).median


def _relay_table(bench: Bench, rounds: list[Round]) -> str:
    rows = []
    for name in rounds[0]:
        ratios = ["" if name in ("direct", o) else str(ratio(rounds, name, o)) for o in ("nginx", "envoy")]
        cpu = "-" if name == "direct" else f"{median(rounds, name):.1f}"
        delays = [f"{bench.delay(name, percentile):,.0f}" for percentile in (50, 99)]
        rows.append([TITLES[name], cpu, *ratios, f"{bench.reads(name):.2f}", *delays])
    head = ("contender", "CPU µs per event", "x nginx", "x Envoy", "reads per event", "delay p50, µs", "delay p99, µs")
    return table(head, rows)


def _targets(rounds: list[Round]) -> list[Target]:
    wanted = (("nginx", "nginx's", 1.4), ("envoy", "Envoy's", 0.8))
    found = [(ratio(rounds, "sidecar", other), whose, most) for other, whose, most in wanted]
    return [
        Target(f"CPU per relayed event over {whose}", it.median, most, spread=it.spread) for it, whose, most in found
    ]


def _measure(doors: Mapping[str, Door], pace: Pace, began: Setting) -> Report:
    few = Bench(doors, Wish(pace.events, _GAP_MS, MODEL), _STREAMS)
    many = Bench(doors, Wish(max(10, pace.events // 8), _MANY_GAP_MS, MODEL), _MANY)
    for name in doors:
        few.once(name)
        few.seen[name].clear()
    say(f"{_STREAMS} streams")
    relayed = take(Plan(pace.rounds, _JUDGED, _SPREAD, pace.noise, f"{_STREAMS} streams"), list(doors), few.once)
    say(f"{_MANY} streams")
    crowded = take(Plan(2, ()), list(doors), many.once)
    say("first tokens")
    firsts = _first_tokens(doors, pace)
    rows = [[TITLES[n], *(f"{_added(firsts, n, p):,.0f}" for p in (50, 90, 99))] for n in doors if n != "direct"]
    text = "\n".join(
        [
            heading("Streams", versions(chosen([], has_heavy=False)), began),
            f"## {_STREAMS} streams, an event of 230 bytes each {_GAP_MS} ms\n",
            _relay_table(few, relayed),
            f"\n{len(relayed)} interleaved rounds of {pace.events} events a stream; medians, ratios round by round, in"
            " brackets half of what their middle half spans. A"
            " delay is the time from the provider's write to the caller's read.\n",
            f"## {_MANY} streams, an event each {_MANY_GAP_MS} ms\n",
            _relay_table(many, crowded),
            "\n## Added time to the first token, µs\n",
            table(("contender", "p50", "p90", "p99"), rows),
            f"\nStreams one after the other on one connection, {pace.turns} in each of {pace.rounds} rounds: the"
            " percentile of the round less that of the direct way, then the median.\n",
        ]
    )
    shown = {TITLES[n]: {TITLES[n]: median(relayed, n)} for n in doors if n != "direct"}
    plots = {"stream.svg": bars(Plot(f"CPU per relayed event, {_STREAMS} streams", "µs"), shown)}
    return Report("stream", text, _targets(relayed), plots, pace.noise.told, began)


def _foreign(options: Foreign) -> int:
    seen = in_parallel(foreign_door(options), Wish(options.tokens, _GAP_MS, options.model), options.connections)
    rows = [
        [what, *(f"{times.at(percentile) / 1e6:,.2f}" for percentile in (50, 90, 99))]
        for what, times in (("to the first event", seen.first_ns), ("between two reads", seen.gap_ns))
    ]
    print(f"{options.connections} streams at once, {seen.events} events in {seen.reads} reads\n")
    print(table(("ms", "p50", "p90", "p99"), rows))
    return 0


def main() -> int:
    """Measure; 1 when a target is missed."""
    options = foreign_options(parser(__doc__))
    if options.url:
        return _foreign(options)
    began, cores = setting(), split_cores()
    events, turns = (400, 200) if options.full else (100, 40) if options.quick else (200, 100)
    pace = Pace(5, events, turns, Noise(options.despite_noise))
    with streaming(cores.others) as upstream, running(chosen([], has_heavy=False), upstream, cores.proxy) as doors:
        report = _measure(doors, pace, began)
    return conclude(report, options)


if __name__ == "__main__":
    sys.exit(run(main))
