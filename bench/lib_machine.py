"""What the kernel says of processes: processor time and memory, of a process with all its threads and children.

Processor time is the scheduler's own sum (`schedstat`, in ns) where every thread of before is there after, else
`utime + stime` of `stat`, which counts in ticks of 10 ms. The proxy has a core for itself, everything else the others.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for task in _tasks(each):
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


class Spent(NamedTuple):
    """Processor time up to an instant: by thread, and of all processes in ticks."""

    threads: dict[str, int]
    ticks_ns: int
    at_s: float

    @property
    def total_s(self) -> float:
        """All of it, in seconds."""
        return (sum(self.threads.values()) or self.ticks_ns) / 1e9

    def since(self, before: Spent) -> float:
        """Seconds of processor time between two instants."""
        if before.threads and before.threads.keys() <= self.threads.keys():
            return (sum(self.threads.values()) - sum(before.threads.values())) / 1e9
        return (self.ticks_ns - before.ticks_ns) / 1e9


def spent(pid: int) -> Spent:
    """What a process, its threads and its children have used so far."""
    threads, ticks = {}, 0
    for each in family(pid):
        for task in _tasks(each):
            try:
                threads[task.name] = int((task / "schedstat").read_text().split()[0])
            except (OSError, IndexError):
                continue
        try:
            # the name, in brackets, may hold blanks: utime and stime are the 12th and 13th after it
            fields = (_PROC / str(each) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return Spent(threads, ticks * _TICK_NS, time.monotonic())


def resident_mib(pid: int) -> float:
    """Resident memory of a process and its children; what they share counts for each, as in `ps`."""
    total = 0
    for each in family(pid):
        try:
            text = (_PROC / str(each) / "status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:"))
    return total / 1024


class Cores(NamedTuple):
    """Which cores the measured proxy has, and which the callers and the provider. Empty: the machine has but one."""

    proxy: frozenset[int]
    others: frozenset[int]


def split_cores() -> Cores:
    """The first core for the proxy, the rest for everyone else, this process included from now on."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Cores(frozenset(), frozenset())
    split = Cores(frozenset(cores[:1]), frozenset(cores[1:]))
    os.sched_setaffinity(0, split.others)
    return split
