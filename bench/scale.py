"""Does a request cost more when there are more keys, more models, more open connections?

Processor time for each request, with everything on, in interleaved rounds: with 1, 10, 100 and 1,000 keys of as many
accounts; with requests for 1, 10, 100 and 1,000 models in turn; while 0, 100, 1,000 and 5,000 other connections are
open and idle. All sidecars run at once, and one after the other is loaded.
"""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from lib_gateways import Door, sidecar, sidecar_config
from lib_machine import Cores, split_cores
from lib_report import Options, Report, Setting, Target, conclude, heading, parser, run, say, setting, table
from lib_rounds import SPREAD, Noise, Plan, Round, median, ratio, take
from lib_svg import Plot, bars
from lib_upstream import MODEL, Upstream, static
from lib_wrk import Load, body_of, burst

_COUNTS = (1, 10, 100, 1000)
_IDLE = (0, 100, 1000, 5000)
_MOST = 1.1
_SPREAD = 0.25  # where no target is judged
_WARM_S = 2  # every model is asked for once at least: its quotas are made then
_SMALL = Load((body_of(250),))


class Case(NamedTuple):
    """One of several that are compared: what there are so many of, and how it is loaded."""

    door: Door
    load: Load = _SMALL
    idle: int = 0


class Pace(NamedTuple):
    """How long: rounds, seconds of each burst; and what becomes of rounds that disagree."""

    rounds: int
    seconds: int
    noise: Noise


class Series(NamedTuple):
    """What was found about one question. `names` in order; ratios are to the first."""

    title: str
    rounds: list[Round]

    @property
    def names(self) -> list[str]:
        """The cases, the smallest first."""
        return list(self.rounds[0])

    def told(self) -> str:
        """As a table."""
        first = self.names[0]
        rows = [
            [n, f"{median(self.rounds, n):.1f}", "" if n == first else str(ratio(self.rounds, n, first))]
            for n in self.names
        ]
        shown = table((self.title, "CPU µs per request", f"x that of {first}"), rows)
        return f"## {self.title}\n\n{shown}\n\n{len(self.rounds)} rounds.\n"


def _take(title: str, cases: Mapping[str, Case], pace: Pace, spread: float = _SPREAD) -> Series:
    def once(name: str) -> float:
        case = cases[name]
        with _idle(case.door, case.idle):
            return burst(case.door, case.load, pace.seconds).cpu_us

    say(title)
    names = list(cases)
    for case in cases.values():
        burst(case.door, case.load, _WARM_S)
    plan = Plan(pace.rounds, ((names[-1], names[0]),), spread, pace.noise, title)
    return Series(title, [_ordered(each, names) for each in take(plan, names, once)])


def _ordered(figures: Round, names: Sequence[str]) -> Round:
    return {name: figures[name] for name in names}


@contextmanager
def _idle(door: Door, count: int) -> Iterator[None]:
    """So many connections that ask nothing."""
    parts = urlsplit(door.url)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=10))
        yield


def _models(count: int) -> tuple[str, Load]:
    """A configuration of so many names, and requests for each in turn."""
    names = [f"model-{at}" for at in range(count)]
    lines = "".join(f"  - {{name: {name}, chain: [groq/{MODEL}-{name}]}}\n" for name in names)
    return f"models:\n{lines}", Load(tuple(body_of(250, name) for name in names * 2))


def _start(stack: ExitStack, name: str, config: str, where: tuple[Upstream, Cores]) -> Door:
    upstream, cores = where
    return stack.enter_context(sidecar(f"scale-{name}", config, upstream, cores.proxy))


def _measure(where: tuple[Upstream, Cores], pace: Pace, counts: Sequence[int], idle: Sequence[int]) -> list[Series]:
    upstream, _ = where
    found = []
    with ExitStack() as stack:
        keys = {f"{n:,}": Case(_start(stack, f"keys-{n}", sidecar_config(upstream, n), where)) for n in counts}
        found.append(_take("keys", keys, pace, SPREAD))
    with ExitStack() as stack:
        models = {}
        for count in counts:
            more, load = _models(count)
            door = _start(stack, f"models-{count}", sidecar_config(upstream, 2, more), where)
            models[f"{count:,}"] = Case(door, load)
        found.append(_take("models", models, pace))
    with ExitStack() as stack:
        door = _start(stack, "connections", sidecar_config(upstream), where)
        found.append(_take("other open connections", {f"{n:,}": Case(door, idle=n) for n in idle}, pace))
    return found  # fmt: skip


def _report(found: Sequence[Series], began: Setting, noise: Noise) -> Report:
    text = [
        heading("Cost and size", {}, began),
        "Everything on, 250-byte bodies, plain upstream, 16 connections that ask. Medians of interleaved"
        " rounds; in brackets half of what the middle half of the rounds' ratios spans.\n",
        *(series.told() for series in found),
    ]
    keys = found[0]
    growth = ratio(keys.rounds, keys.names[-1], keys.names[0])
    what = f"CPU per request with {keys.names[-1]} keys over that with {keys.names[0]}"
    targets = [Target(what, growth.median, _MOST, spread=growth.spread)]
    groups = {f"{n} {series.title}": {series.title: median(series.rounds, n)} for series in found for n in series.names}
    plot = bars(Plot("CPU per request, by how much there is", "µs"), groups)
    return Report("scale", "\n".join(text), targets, {"scale.svg": plot}, noise.told, began)


def _possible(idle: Sequence[int]) -> list[int]:
    """As many as this process may have open (`ulimit -n`, which its children inherit)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return [count for count in idle if most == resource.RLIM_INFINITY or count + 500 < most]


def main() -> int:
    """Measure; 1 when a target is missed."""
    options = parser(__doc__).parse_args(namespace=Options())
    began, cores = setting(), split_cores()
    noise = Noise(options.despite_noise)
    pace = Pace(7, 4, noise) if options.full else Pace(5, 1, noise)
    counts = (1, 1000) if options.quick else _COUNTS
    idle = _possible((0, 1000) if options.quick else _IDLE)
    with static(cores.others) as upstreams:
        found = _measure((upstreams["http"], cores), pace, counts, idle)
    return conclude(_report(found, began, noise), options)


if __name__ == "__main__":
    sys.exit(run(main))
