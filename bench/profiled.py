"""Where does the processor time of one request go?

A sidecar with everything on is loaded by wrk while a sampler inside it notes, at each tick of processor time, which of
our functions is at work (lib_sampler). A group's share is that of the samples, its microseconds that share of what a
request costs. Not for comparisons: nothing is compiled here, for a sampler would see nothing of it; the sampler costs a
percent or two, and C code counts for the function that called.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lib_gateways import Build, sidecar, sidecar_config
from lib_machine import split_cores
from lib_processes import LOGS, ROOT
from lib_report import Options, Report, conclude, heading, parser, run, say, setting, table
from lib_sampler import LOOP
from lib_svg import Plot, bars
from lib_upstream import Upstream, static
from lib_wrk import Burst, Load, body_of, burst

_WAIT_S = 10
_REST = "everything else"
# The innermost function that belongs to a group decides: what many call (windows, the clock) belongs to its caller.
# MODULE:FUNCTION, or MODULE: for all of a module; in the order of a request
GROUPS: Mapping[str, tuple[str, ...]] = {
    "event loop, reading sockets": (LOOP,),
    "edge in": (
        "edge/fastlane:",
        "edge/eager:",
        "edge/alarm:",
        "core/intake:",
        "core/hot_head:",
        "core/entrance:",
        "gateway:enter",
    ),
    "understand": ("gateway:_understood", "core/call:", "core/envelope:", "core/heading:", "core/conversation:turn_of"),
    "choose, admit": ("core/attempts:", "core/keys:", "core/roster:", "gateway:_job", "gateway:_policy"),
    "prepare": ("core/outgoing:", "core/rejections:"),
    "exchange": ("upstream/pool:", "upstream/connection:request", "upstream/connection:expect", "upstream/response:"),
    "read head": ("upstream/connection:data_received", "upstream/reader:", "core/hot_answer:match"),
    "learn": ("attempt:_heard", "core/hearing:", "core/ratelimit_headers:", "core/quota:learn", "core/keys:report"),
    "hold": ("attempt:_hold", "relay:open", "relay:hold", "relay:_weigh", "core/usage:", "core/sse:"),
    "answer head, writing": ("attempt:relay", "relay:", "core/answer:", "edge/reply:", "edge/writing:"),
    "settle": ("attempt:close", "attempt:_bill", "core/settlement:"),
    "line": ("observing:", "core/scribe:", "core/access:", "core/activity:", "admin/log:"),
    "tally": ("core/tally:",),
    "handing on between these": ("gateway:", "attempt:", "job:"),
}


class Wanted(Options):
    """The command line."""

    size: int
    seconds: int


class Sampled(NamedTuple):
    """What was seen: how often each stack, and what the load was."""

    stacks: Counter[str]
    seen: Burst


def group_of(stack: str) -> str:
    """The group that a stack belongs to (`module:function`, outermost first)."""
    for name in reversed(stack.split(";")):
        for group, members in GROUPS.items():
            if name in members or f"{name.partition(':')[0]}:" in members:
                return group
    return _REST


def shares(stacks: Mapping[str, int]) -> dict[str, float]:
    """Of all samples, the part of each group, in the order of a request."""
    total = sum(stacks.values())
    found = Counter[str]()
    for stack, count in stacks.items():
        found[group_of(stack)] += count
    return {name: found[name] / total for name in (*GROUPS, _REST)}


def _sampled(upstream: Upstream, cores: frozenset[int], options: Wanted) -> Sampled:
    path = LOGS / "samples.json"
    path.unlink(missing_ok=True)
    words = (sys.executable, str(ROOT / "bench" / "lib_sampler.py"), str(path))
    load = Load((body_of(options.size),))
    with sidecar("profiled", sidecar_config(upstream), upstream, cores, Build(words, ROOT)) as door:
        assert door.pid is not None
        burst(door, load, 2)
        os.kill(door.pid, signal.SIGUSR1)
        seen = burst(door, load, options.seconds)
        os.kill(door.pid, signal.SIGUSR2)
        return Sampled(_read(path), seen)


def _read(path: Path) -> Counter[str]:
    give_up = time.monotonic() + _WAIT_S
    while not path.exists():
        if time.monotonic() > give_up:
            raise RuntimeError("the sampler has not written what it saw; see build/bench/profiled.log")
        time.sleep(0.01)
    found = Counter[str](json.loads(path.read_text()))
    if not found:
        raise RuntimeError("the sampler has seen nothing")
    return found


def _most(stacks: Mapping[str, int], group: str) -> str:
    """The functions of a group that are at work most often, by their own time."""
    own = Counter[str]()
    for stack, count in stacks.items():
        if group_of(stack) == group:
            own[stack.rpartition(";")[2].rpartition("/")[2]] += count
    total = sum(own.values())
    return ", ".join(f"`{name}` {count / total:.0%}" for name, count in own.most_common(3) if name != LOOP)


def main() -> int:
    """Measure; there is no target."""
    made = parser(__doc__)
    made.add_argument("--size", type=int, default=250, help="bytes of a body (default: %(default)s)")
    made.add_argument("--seconds", type=int, default=20, help="how long (default: %(default)s)")
    options = made.parse_args(namespace=Wanted())
    if options.quick:
        options.seconds = 5
    began, cores = setting(), split_cores()
    with static(cores.others) as upstreams:
        stacks, seen = _sampled(upstreams["http"], cores.proxy, options)
    found, count = shares(stacks), sum(stacks.values())
    say(f"{count} samples of {seen.requests} requests")
    rows = [
        [name, f"{part:.1%}", f"{part * seen.cpu_us:.1f}", _most(stacks, name)] for name, part in found.items() if part
    ]
    rows.append(["all", "100%", f"{seen.cpu_us:.1f}", ""])
    text = [
        heading("Where the time of a request goes", {}, began),
        f"{count:,} samples in {seen.cpu_s:.1f} s of processor time for {seen.requests:,} requests with bodies of"
        f" {options.size:,} bytes, by the function at work; a group of 1,000 samples is right within 3 % of itself, one"
        " of 100 within 10 %.\n",
        table(("group", "share", "µs per request", "most of it in"), rows),
        "",
    ]
    plots = {
        "profiled.svg": bars(
            Plot("Processor time of one request", "µs", is_linear=True),
            {n: {"sidecar": p * seen.cpu_us} for n, p in found.items() if p},
        )
    }
    return conclude(Report("profiled", "\n".join(text), (), plots, began=began), options)


if __name__ == "__main__":
    sys.exit(run(main))
