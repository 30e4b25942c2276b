"""How soon is it ready, how much memory does it take, and does that stay so?

Ready is the first good answer of its own readiness URL, asked each millisecond from the moment the process was made.
Memory is what is resident: idle, after 100,000 requests, after 10,000 streams that their callers left after the first
event; with --long after two million requests, half of them streamed, a tenth left. Contenders: idle only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple
from urllib.request import urlopen

from lib_gateways import TITLES, Door, chosen, running, sidecar, sidecar_config, versions
from lib_machine import Cores, resident_mib, split_cores
from lib_readers import Wish, leave, read
from lib_report import Options, Report, Setting, Target, conclude, heading, parser, run, say, setting, table
from lib_rounds import Noise, of
from lib_streamer import streaming
from lib_svg import Plot, lines
from lib_upstream import MODEL, Upstream, static
from lib_wrk import Load, body_of, burst

_MOST_MIB, _MOST_READY_MS = 60.0, 400.0
_GROWTH_MIB = 1.0  # for each 100,000 requests, once it is warm (acceptance E1)
_SPREAD = 0.3  # of times to ready, which are wall time
_REQUESTS, _STREAMS = 100_000, 10_000
_LONG = 2_000_000
_SMALL = Load((body_of(250),))


class Wanted(Options):
    """The command line."""

    long: bool


Step = tuple[str, int, float]  # after what, of which so many, MiB


class Footprint(NamedTuple):
    """What was found of the sidecar."""

    ready_ms: list[float]
    idle_mib: float
    steps: list[Step]
    others: list[list[str]]


def _ready(upstream: Upstream, cores: Cores, count: int) -> list[float]:
    """Milliseconds from exec to ready, each time anew; the first, which may find nothing cached, is left out."""
    times = []
    for _ in range(count + 1):
        with sidecar("footprint-ready", sidecar_config(upstream), upstream, cores.proxy) as door:
            times.append(door.ready_ms)
    return times[1:]


def _in_flight(door: Door) -> int:
    with urlopen(f"{door.admin}/status.json", timeout=10) as response:
        return int(json.load(response)["in_flight"])


def _quiet(door: Door) -> None:
    """Wait until nothing is under way."""
    give_up = time.monotonic() + 30
    while _in_flight(door):
        if time.monotonic() > give_up:
            raise RuntimeError(f"{_in_flight(door)} requests are in flight though nobody asks: they leak")
        time.sleep(0.05)


def _requests(door: Door, count: int) -> int:
    """At least so many plain requests."""
    done = 0
    while done < count:
        done += burst(door, _SMALL, 2).requests
    return done


def _sizes(cores: Cores, upstreams: tuple[Upstream, Upstream], options: Wanted) -> tuple[float, list[Step]]:
    """Idle memory, and memory after each step. Plain requests and streams go to two sidecars of the same kind."""
    plain, streamed = upstreams
    scale = 10 if options.quick else 1
    steps: list[Step] = []
    with sidecar("footprint-plain", sidecar_config(plain), plain, cores.proxy) as door:
        assert door.pid is not None
        time.sleep(1)
        idle = resident_mib(door.pid)
        done = 0
        for part in range(2):
            done += _requests(door, _REQUESTS // scale // 2)
            steps.append((("half of the " if part == 0 else "") + "requests", done, resident_mib(door.pid)))
            say(f"  {done:,} requests: {steps[-1][2]:.1f} MiB")
        _quiet(door)
    with sidecar("footprint-streams", sidecar_config(streamed), streamed, cores.proxy) as door:
        assert door.pid is not None
        leave(door, Wish(1000, 20, MODEL), _STREAMS // scale)
        _quiet(door)
        steps.append(("streams left by their callers", _STREAMS // scale, resident_mib(door.pid)))
        say(f"  {_STREAMS // scale:,} streams left: {steps[-1][2]:.1f} MiB")
    return idle, steps


def _long(cores: Cores, streamed: Upstream, total: int) -> list[Step]:
    """Two million requests: of ten, five plain, four streamed to the end, one left."""
    steps: list[Step] = []
    part = total // 20
    with sidecar("footprint-long", sidecar_config(streamed), streamed, cores.proxy) as door:
        assert door.pid is not None
        for at in range(20):
            _requests(door, part // 2)
            read(door, Wish(2, 1, MODEL), part * 4 // 10)
            leave(door, Wish(1000, 20, MODEL), part // 10)
            _quiet(door)
            steps.append(("mixed requests", (at + 1) * part, resident_mib(door.pid)))
            say(f"  {steps[-1][1]:,} mixed requests: {steps[-1][2]:.1f} MiB")
    return steps


def _others(upstream: Upstream, cores: Cores) -> Iterator[list[str]]:
    """Time to ready and idle memory of the others, once each."""
    for gateway in chosen([], has_heavy=True):
        if gateway.name in ("direct", "sidecar"):
            continue
        say(f"  {gateway.title}")
        with running([gateway], upstream, cores.proxy) as doors:
            door = doors[gateway.name]
            time.sleep(1)
            assert door.pid is not None
            yield [TITLES[gateway.name], f"{door.ready_ms:,.0f}", f"{resident_mib(door.pid):.1f}"]


def _growth(steps: list[Step]) -> float:
    """MiB for each 100,000 requests over the second half of a long run: by then everything is warm."""
    half = steps[len(steps) // 2 - 1 :]
    return (half[-1][2] - half[0][2]) / (half[-1][1] - half[0][1]) * 100_000


def _report(found: Footprint, long: list[Step], began: Setting, noise: Noise) -> Report:
    steps = [*found.steps, *long]
    best, (middle, spread) = min(found.ready_ms), of(found.ready_ms)
    if spread > _SPREAD:
        apart = f"the middle half of the starts lies {spread:.0%} apart (at most {_SPREAD:.0%})"
        noise.note("exec to ready", [f"it is {middle:.0f} ms, but {apart}"])
    compared = [["sidecar", f"{middle:,.0f}", f"{found.idle_mib:.1f}"], *found.others]
    rows = [[f"{count:,} {what}" if count else what, f"{size:.1f}"] for what, count, size in steps]
    text = [
        heading("Time to ready, memory", versions(chosen([], has_heavy=True)), began),
        f"Ready {best:.0f} ms after exec at best, {middle:.0f} ms in the median of {len(found.ready_ms)}.\n",
        table(("sidecar, after", "resident MiB"), [["start", f"{found.idle_mib:.1f}"], *rows]),
        "\n## Others, once each\n",
        table(("contender", "ms to ready", "idle MiB"), compared),
        "\nOf nginx and LiteLLM, memory is the sum over their processes, in which shared pages count more than once.\n",
    ]
    targets = [
        Target("exec to ready, median", middle, _MOST_READY_MS, "ms", spread),
        Target("resident memory idle", found.idle_mib, _MOST_MIB, "MiB"),
        Target("the most resident memory after load", max(size for _, _, size in steps), _MOST_MIB, "MiB"),
    ]
    plots = {}
    if long:
        targets.append(Target("growth for each 100,000 requests, second half", _growth(long), _GROWTH_MIB, "MiB"))
        points = {"sidecar": [(float(count), size) for _, count, size in long]}
        ticks = {float(count): f"{count:,}" for _, count, _ in long[4::5]}
        plots["footprint.svg"] = lines(Plot("Resident memory after so many requests", "MiB"), points, ticks)
    return Report("footprint-long" if long else "footprint", "\n".join(text), targets, plots, noise.told, began)


def main() -> int:
    """Measure; 1 when a target is missed."""
    made = parser(__doc__)
    made.add_argument("--long", action="store_true", help="also two million mixed requests; takes half an hour")
    options = made.parse_args(namespace=Wanted())
    began, cores, noise = setting(), split_cores(), Noise(options.despite_noise)
    with static(cores.others) as upstreams, streaming(cores.others) as streamed:
        plain = upstreams["http"]
        say("exec to ready")
        ready = _ready(plain, cores, 3 if options.quick else 10)
        idle, steps = _sizes(cores, (plain, streamed), options)
        long = _long(cores, streamed, _LONG // (50 if options.quick else 1)) if options.long else []
        others = [] if options.quick else list(_others(plain, cores))
    return conclude(_report(Footprint(ready, idle, steps, others), long, began, noise), options)


if __name__ == "__main__":
    sys.exit(run(main))
