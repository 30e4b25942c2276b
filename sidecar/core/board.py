"""What the status page draws: how the whole house stands, bounded however many keys, models and callers there are.

A board holds the sums, everything that is in trouble, the worst rows and the last requests; what it leaves out is
asked for by `select`. Whoever watches gets the same board. Labels, numbers and reasons only; never a secret, a prompt
or an answer (acceptance I3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from sidecar.core.activity import Activity
from sidecar.core.activity_shapes import Curves, Finished
from sidecar.core.line import Ticket
from sidecar.core.quota import Quota
from sidecar.core.roster import Roster
from sidecar.core.rows import HELD, LOW, READY, STOPPED, Row, Stop, Stops, accounts_of, row_of
from sidecar.core.snapshot import Snapshot, Target
from sidecar.core.waits import Waiting, waits

MOST_ROWS = 60
MOST_TROUBLES = 40
MOST_MODELS = 60
MOST_PROVIDERS = 40
_MOST_TARGETS = 8


class Counts(msgspec.Struct):
    """What the process counts. `state`: serving or draining."""

    state: str
    version: str
    configuration: str
    in_flight: int
    waiting: int
    connections: int


class House(NamedTuple):
    """What a board is drawn from."""

    roster: Roster
    activity: Activity
    tickets: Callable[[], Iterable[Ticket]]
    counts: Callable[[], Counts]


class Hop(msgspec.Struct, omit_defaults=True):
    """One target of a chain, and how it stands. `takes`: it is the one that would serve a small request now."""

    target: str
    level: int
    state: str
    takes: bool = False
    for_s: float | None = None


class Chain(msgspec.Struct):
    """A public name, and where its requests go, in order."""

    name: str
    hops: list[Hop]


class Trouble(msgspec.Struct, omit_defaults=True):
    """Something that is not called, or not now: what, why, and for how long (None: until somebody changes it)."""

    what: str
    level: int
    reason: str
    for_s: float | None = None
    message: str = ""


class ProviderSum(msgspec.Struct):
    """One provider in numbers. `levels`: its rows by how they stand, from ready to stopped."""

    name: str
    url: str
    keys: int
    usable: int
    levels: list[int]
    in_flight: int
    waiting: int


class Board(msgspec.Struct):
    """Everything a viewer is told at once. `all_requests`: they replace those that are shown already."""

    now_ms: int
    counts: Counts
    curves: Curves
    providers: list[ProviderSum]
    chains: list[Chain]
    more_chains: int
    troubles: list[Trouble]
    more_troubles: int
    waits: list[Waiting]
    rows: list[Row]
    more_rows: int
    requests: list[Finished]
    all_requests: bool


class Selected(msgspec.Struct):
    """The rows that were asked for, a page of them. `total`: how many there are."""

    rows: list[Row]
    offset: int
    total: int


def draw(house: House, rows: list[Row], stops: Stops, now_ns: int) -> Board:
    """The board, without requests; `rows` are sorted, the worst first."""
    snapshot = house.roster.snapshot
    troubles = _troubles(snapshot, rows, stops, now_ns)
    best = _best_of(house.roster, rows)
    return Board(
        now_ms=now_ns // 1_000_000,
        counts=house.counts(),
        curves=house.activity.curves(now_ns),
        providers=_sums(house.roster, rows, now_ns),
        chains=_chains(snapshot, best, stops, now_ns, MOST_MODELS),
        more_chains=max(0, len(snapshot.chains) - MOST_MODELS),
        troubles=troubles[:MOST_TROUBLES],
        more_troubles=max(0, len(troubles) - MOST_TROUBLES),
        waits=waits(house.tickets(), now_ns),
        rows=rows[:MOST_ROWS],
        more_rows=max(0, len(rows) - MOST_ROWS),
        requests=[],
        all_requests=False,
    )


def chains_of(house: House, now_ns: int) -> list[Chain]:
    """Every public name with its chain, for who asks once: quotas are looked at until one is found that admits."""
    roster = house.roster
    stops = Stops(roster, now_ns)
    quotas: dict[tuple[str, str], list[Quota]] = {}
    for quota, models in roster.ledger.models().items():
        for model in models:
            quotas.setdefault((quota.account.partition("/")[0], model), []).append(quota)

    def best(target: Target) -> Row | None:
        provider = target.provider
        accounts = accounts_of(roster, provider)
        found = quotas.get((provider.name, target.model), [])
        looked: list[Row] = []
        for quota in found if len(found) >= len(accounts) else ():
            if quota.account in accounts:
                looked.append(row_of(provider, accounts[quota.account], quota, stops, now_ns))
                if looked[-1].level <= LOW:
                    break
        return min(looked, key=_soonest, default=None)

    return _chains(roster.snapshot, best, stops, now_ns)


def order(rows: Iterable[Row]) -> list[Row]:
    """The worst first; equals as they are configured."""
    return sorted(rows, key=lambda row: row.order)


def select(rows: Sequence[Row], text: str, level: int, offset: int) -> Selected:
    """A page of the rows that hold `text` and stand at `level` or worse."""
    wanted = text.strip().lower()
    found = [row for row in rows if row.level >= level and (not wanted or row.holds(wanted))]
    start = min(max(0, offset), max(0, len(found) - 1)) // MOST_ROWS * MOST_ROWS
    return Selected(found[start : start + MOST_ROWS], start, len(found))


def _sums(roster: Roster, rows: list[Row], now_ns: int) -> list[ProviderSum]:
    sums = {
        provider.name: ProviderSum(provider.name, provider.url, len(provider.keys), 0, [0, 0, 0, 0], 0, 0)
        for provider in list(roster.snapshot.providers.values())[:MOST_PROVIDERS]
    }
    for key in roster.snapshot.each_key():
        if key.provider in sums and roster.is_callable(key, now_ns):
            sums[key.provider].usable += 1
    for row in rows:
        if (each := sums.get(row.provider)) is not None:
            each.levels[row.level] += 1
            each.in_flight += row.in_flight
            each.waiting += row.waiting
    return list(sums.values())


Best = Callable[[Target], Row | None]
"""The row of a target that admits next; None: an account was never asked, and is free."""


def _best_of(roster: Roster, rows: list[Row]) -> Best:
    """By rows that are there already."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for model in row.models or [row.model]:
            found.setdefault((row.provider, model), []).append(row)

    def best(target: Target) -> Row | None:
        each = found.get((target.provider.name, target.model), [])
        is_free = len(each) < len(accounts_of(roster, target.provider))
        return None if is_free else min(each, key=_soonest, default=None)

    return best


def _soonest(row: Row) -> tuple[int, float]:
    return row.level, row.for_s or 0


def _chains(snapshot: Snapshot, best: Best, stops: Stops, now_ns: int, most: int | None = None) -> list[Chain]:
    chains = []
    for name, targets in islice(snapshot.chains.items(), most):
        hops = [_hop(target, best, stops, now_ns) for target in targets[:_MOST_TARGETS]]
        taker = next((hop for hop in hops if hop.level <= LOW), None)
        if taker is not None:
            taker.takes = True
        chains.append(Chain(name, hops))
    return chains


def _hop(target: Target, best: Best, stops: Stops, now_ns: int) -> Hop:
    name = str(target)
    stop = stops.of_target(name)
    if stop is not None:
        return Hop(name, STOPPED, stop.reason, for_s=stop.for_s(now_ns))
    if all(stops.of_key(key) is not None for key in target.provider.keys):
        return Hop(name, STOPPED, "no usable key")
    row = best(target)
    if row is None:
        return Hop(name, READY, "ready")
    return Hop(name, row.level, row.state, for_s=row.for_s if row.level >= HELD else None)


def _troubles(snapshot: Snapshot, rows: list[Row], stops: Stops, now_ns: int) -> list[Trouble]:
    """Benches, breakers and missing keys; then cooldowns and what is spent."""
    found = [
        _trouble(name, stop, now_ns)
        for stopped in (stops.breakers, stops.targets)
        for name, stop in list(stopped.items())
    ]
    for key in snapshot.each_key():
        stop = stops.of_key(key)
        if stop is not None:
            found.append(_trouble(f"key {key.ident}", stop, now_ns))
    for name, stop in stops.at_models.items():
        ident, _, model = name.partition(" ")
        found.append(_trouble(f"key {ident} at {model}", stop, now_ns))
    held = [row for row in rows if row.level == HELD and row.state in ("cooling down", "spent", "probing")]
    found += [
        Trouble(f"{row.provider}/{row.model} · {row.account}", HELD, row.state, row.for_s, row.last_error)
        for row in held
    ]
    return found


def _trouble(what: str, stop: Stop, now_ns: int) -> Trouble:
    return Trouble(what[:192], STOPPED, stop.reason, stop.for_s(now_ns), stop.message)
