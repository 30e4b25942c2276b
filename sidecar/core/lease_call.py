"""What a sidecar and the shared ledger say to each other about one quota, as values: one call, one reply.

Field names are short because two hundred sidecars send them twice a second; the script in lua_ledger.py reads them.
Times are microseconds and relative (ages, durations), so no two clocks need agree; only the end of a calendar's day and
of what was heard are Unix time, where a second does not matter. Amounts are whole units of a window's axis, by its
name `AXIS/LENGTH`. Refuses to know when a call is made and what becomes of it (lease.py).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sidecar.core.limits import Axis, Cost, Source

US = 1000  # ns

Amounts = dict[str, int]


class Batch(msgspec.Struct):
    """What has happened between two calls; counted once however often it is told. `u`: used, less what was given back
    of the present lease; `k`: held and not wanted any more; `r`: window, amount and age of what former leases had."""

    s: int
    u: Amounts
    k: Amounts
    r: list[tuple[str, int, int]]


class Outage(msgspec.Struct):
    """The ledger was out of reach for `d`; `w`: what all `n` sidecars may have spent meanwhile on their shares."""

    d: int
    w: Amounts
    n: int


class Call(msgspec.Struct, omit_defaults=True):
    """One call. `s` numbers it; `e`: the epoch of the ledger that was known; `p`: the prefix of the channels on which
    the living listen. `w`: the windows (name, algorithm, limit, length, transit, next boundary or 0); `b`: what is not
    known to have arrived; `n`: waiting requests, oldest first, with their ages; `x` requests of `a` each are wanted
    ahead; `t`: what the provider says is left, where that is less; `h`: limits heard, by window and source, with their
    ends in Unix seconds; `c`: a new cooldown's rest; `g`: the gate here; `l`: what was used of long windows."""

    m: str
    s: int
    e: str
    p: str
    w: list[tuple[str, str, int, int, int, int]]
    b: list[Batch]
    n: list[tuple[int, Amounts]]
    x: int
    a: Amounts
    t: Amounts
    h: dict[str, tuple[int, int]]
    c: int
    g: str
    l: Amounts  # noqa: E741 - as in the script
    o: Outage | None = None
    bye: int = 0


class Answer(msgspec.Struct):
    """The reply. `w`: of each window what this sidecar holds, what is left at the ledger, and when that is whole; `x`:
    when what waits can be had, -1: nothing waits; `c`: the rest of a cooldown; `g`: open, cooling, probing (another
    one), mine (the probe is ours); `n`: sidecars at this quota."""

    e: str
    n: float
    w: dict[str, tuple[float, float, float]]
    x: float
    c: float
    g: str
    h: dict[str, tuple[float, float]]
    late: float = 0


class Heard(NamedTuple):
    """A limit that some sidecar heard. `until_s`: Unix seconds."""

    axis: Axis
    window_ns: int
    source: Source
    limit: int
    until_s: int


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Answer).decode


def window_name(axis: int, window_ns: int) -> str:
    """The name of a window in calls."""
    return f"{axis}/{window_ns}"


def heard_name(axis: int, window_ns: int, source: Source) -> str:
    """The name of what was heard, in calls."""
    return f"{axis}/{window_ns} {source.value}"


def heard(name: str, told: tuple[float, float]) -> Heard | None:
    """What a reply tells; None: another version's words."""
    window, _, source = name.partition(" ")
    axis, _, window_ns = window.partition("/")
    try:
        return Heard(Axis(int(axis)), int(window_ns), Source(source), int(told[0]), int(told[1]))
    except ValueError:
        return None


def wanted(cost: Cost) -> tuple[int, int, int, int, int]:
    """What a request takes from a window of each axis, as quota.py charges it."""
    return cost.taken(0), cost.taken(1), cost.taken(2), cost.taken(3), cost.taken(4)


def folded(batches: list[Batch]) -> list[Batch]:
    """Many batches as one, on the strict side: what may have arrived already is used again, and not given back."""
    used: Amounts = {}
    for batch in batches:
        for name, amount in batch.u.items():
            used[name] = used.get(name, 0) + max(0, amount)
    return [Batch(batches[-1].s, used, {}, [])]
