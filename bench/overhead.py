"""What does a request cost in processor time, and how many a second does one core serve?

Every contender has one core, the provider and the callers (wrk) the others; processor time is that of the contender's
process with all its threads and children, divided by the requests it answered. Bodies of 250 bytes to 1 MiB, plain and
TLS towards the provider, in interleaved rounds; ratios are taken round by round. With --url: a load test of an endpoint
of yours, with --pid (on this machine) its processor time for each request.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lib_foreign import Foreign, foreign_door, foreign_options
from lib_gateways import TITLES, Door, Gateway, chosen, running, versions
from lib_machine import Cores, split_cores
from lib_report import Options, Report, Setting, Target, conclude, heading, parser, run, say, setting, table
from lib_rounds import Noise, Plan, Ratio, Round, ratio, take
from lib_rounds import median as median_of
from lib_svg import Plot, bars
from lib_upstream import Upstream, static
from lib_wrk import Burst, Load, body_of, burst

SIZES = {"250 B": 250, "8 KiB": 8 * 1024, "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}
_HEAVY_WARM_S = 5  # LiteLLM loads much of itself with its first request
_JUDGED = (("sidecar", "envoy"), ("sidecar", "nginx"))


class Cell(NamedTuple):
    """One combination that is measured."""

    scheme: str
    size: str

    def __str__(self) -> str:
        return f"{self.size}, {'TLS' if self.scheme == 'https' else 'plain'}"


class Measured(NamedTuple):
    """Rounds of one cell: microseconds for each request, and requests a second."""

    cpu: list[Round]
    rate: list[Round]

    def ratio(self, name: str, other: str) -> Ratio | None:
        """Of processor time; None where one of them was not measured."""
        return ratio(self.cpu, name, other) if name in self.cpu[0] and other in self.cpu[0] else None


class Pace(NamedTuple):
    """How long: rounds, and seconds of each burst."""

    rounds: int
    seconds: int
    heavy_seconds: int
    noise: Noise


def _measure(cell: Cell, doors: Mapping[str, Door], heavy: frozenset[str], pace: Pace) -> Measured:
    load = Load((body_of(SIZES[cell.size]),))
    bursts: dict[str, list[Burst]] = {name: [] for name in doors}

    def once(name: str) -> float:
        bursts[name].append(burst(doors[name], load, pace.heavy_seconds if name in heavy else pace.seconds))
        return bursts[name][-1].cpu_us

    for name, door in doors.items():
        burst(door, load, _HEAVY_WARM_S if name in heavy else 1)
    say(f"{cell}: {', '.join(doors)}")
    judged = tuple(pair for pair in _JUDGED if set(pair) <= doors.keys())
    cpu = take(Plan(pace.rounds, judged, noise=pace.noise, where=str(cell)), list(doors), once)
    rate = [{name: each[at].per_second for name, each in bursts.items()} for at in range(len(cpu))]
    return Measured(cpu, rate)


def _scheme(upstream: Upstream, cores: Cores, options: Options, pace: Pace) -> dict[Cell, Measured]:
    """All cells of one scheme. Heavy contenders: the smallest body on plain HTTP, all with --full."""
    sizes = ["250 B", "1 MiB"] if options.quick else list(SIZES)
    has_heavy = not options.quick and (options.full or upstream.scheme == "http")
    gateways = chosen([], has_heavy=has_heavy)
    heavy = frozenset(each.name for each in gateways if each.is_heavy)
    found = {}
    with running(gateways, upstream, cores.proxy) as doors:
        for size in sizes:
            light = {name: door for name, door in doors.items() if name not in heavy}
            cell = Cell(upstream.scheme, size)
            is_whole = options.full or size == sizes[0]
            found[cell] = _measure(cell, doors if is_whole else light, heavy, pace)
    return found


def _row(name: str, measured: Measured) -> list[str]:
    cells = [TITLES[name]]
    cells.append("-" if name == "direct" else f"{median_of(measured.cpu, name):,.1f}")
    cells.append(f"{median_of(measured.rate, name):,.0f}")
    for other in ("envoy", "nginx"):
        found = measured.ratio(name, other) if name not in ("direct", other) else None
        cells.append("" if found is None else str(found))
    return cells


_HEAD = ("contender", "CPU µs per request", "requests/s on one core", "x Envoy", "x nginx")


def _told(found: Mapping[Cell, Measured], gateways: Sequence[Gateway], began: Setting) -> str:
    lines = [
        heading("Cost of a request", versions(list(gateways)), began),
        "One core for the contender, closed loop, 16 connections kept alive, the OpenAI SDK's headers. Medians of"
        " rounds; in brackets half of what the middle half of the rounds' ratios spans.",
        "",
    ]
    for cell, measured in found.items():
        lines += [f"## {cell}", "", table(_HEAD, [_row(name, measured) for name in measured.cpu[0]]), ""]
        lines += [f"{len(measured.cpu)} rounds.", ""]
    return "\n".join(lines)


def _targets(found: Mapping[Cell, Measured]) -> list[Target]:
    """Rows of design.md section 5."""
    wanted = [
        (Cell("http", "250 B"), "envoy", 0.6, "CPU per request over Envoy's"),
        (Cell("http", "250 B"), "nginx", 2.6, "CPU per request over nginx's"),
        (Cell("http", "250 B"), "litellm", 1 / 250, "CPU per request over LiteLLM's"),
        (Cell("https", "250 B"), "envoy", 0.8, "TLS upstream: CPU per request over Envoy's"),
        (Cell("http", "1 MiB"), "nginx", 1.5, "1 MiB body: CPU per request over nginx's"),
    ]
    targets = []
    for cell, other, most, what in wanted:
        judged = found[cell].ratio("sidecar", other) if cell in found else None
        if judged is not None:
            targets.append(Target(what, judged.median, most, spread=judged.spread))
    return targets


def _plots(found: Mapping[Cell, Measured]) -> dict[str, str]:
    """One for the smallest body with everyone in it, one for all bodies and schemes."""
    light = [name for name in TITLES if name not in ("direct", "portkey", "litellm")]
    first = next(iter(found.values()))
    everyone = {TITLES[n]: {TITLES[n]: median_of(first.cpu, n)} for n in first.cpu[0] if n != "direct"}
    cells = {
        str(cell): {TITLES[n]: median_of(each.cpu, n) for n in light if n in each.cpu[0]}
        for cell, each in found.items()
    }
    return {
        "overhead.svg": bars(Plot("CPU per request, 250-byte body, plain upstream", "µs"), everyone),
        "overhead-bodies.svg": bars(Plot("CPU per request, by body and upstream", "µs"), cells),
    }  # fmt: skip


def _foreign(options: Foreign) -> int:
    """A load test of someone else's deployment."""
    door = foreign_door(options)
    sizes = ["250 B"] if options.quick else list(SIZES)
    rows = []
    for size in sizes:
        seen = burst(door, Load((body_of(SIZES[size], options.model),), options.connections), options.seconds)
        rows.append(
            [size, str(seen.requests), f"{seen.per_second:,.0f}", f"{seen.cpu_us:,.1f}" if options.pid else "-"]
        )
    print(table(("body", "requests", "requests/s", "CPU µs per request"), rows))
    return 0


def main() -> int:
    """Measure; 1 when a target is missed."""
    options = foreign_options(parser(__doc__))
    if options.url:
        return _foreign(options)
    began, cores = setting(), split_cores()
    noise = Noise(options.despite_noise)
    pace = Pace(5, 1, 3, noise) if not options.full else Pace(7, 4, 8, noise)
    found: dict[Cell, Measured] = {}
    with static(cores.others) as upstreams:
        for upstream in upstreams.values():
            found |= _scheme(upstream, cores, options, pace)
    gateways = chosen([], has_heavy=not options.quick)
    text = _told(found, gateways, began)
    return conclude(Report("overhead", text, _targets(found), _plots(found), noise.told, began), options)


if __name__ == "__main__":
    sys.exit(run(main))
