"""What a scrape is made of: the state it is taken of, and the parts that each tell some of it.

A part is a list of families and a function that fills them in. To add one, write it and put it into `PARTS`
(metrics_table.py); docs/metrics.md follows from there. A part with much to tell yields now and then, so that requests
go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from sidecar.core.cache_counts import CacheStatus
from sidecar.core.exposition import Family, Page
from sidecar.core.roster import Roster
from sidecar.core.sharing import Status as ShareStatus
from sidecar.core.tally import Tally
from sidecar.core.totals import Totals


class Connections(NamedTuple):
    """Of the pool, towards all providers."""

    idle: int
    leased: int
    connecting: int


class Kept(NamedTuple):
    """How the state file stands. `saved_ns`: when it last held the present; `has_problem`: it cannot be written."""

    is_configured: bool
    saved_ns: int | None
    has_problem: bool


class Retries(NamedTuple):
    """At the same target, in the last minute."""

    made: int
    allowed: int


class Inside(NamedTuple):
    """Requests in flight and the bytes of their bodies, with the caps on both."""

    requests: int
    most_requests: int
    bytes: int
    most_bytes: int


class Live(NamedTuple):
    """The whole state of a process at `now_ns`. `config`: the hash that names its configuration;
    `is_config_absent`: there is no file yet, and it waits; `events`: how often
    each kind was logged; `ambiguous`: connections lost when the request may have been served."""

    now_ns: int
    roster: Roster
    tally: Tally
    totals: Totals
    inside: Inside
    waiting: int
    most_waiting: int
    connections: Connections
    kept: Kept
    retries: Retries
    events: Mapping[str, int]
    ambiguous: int
    config: str
    is_config_absent: bool
    version: str
    is_ready: bool
    cache: CacheStatus | None = None
    share: ShareStatus | None = None  # None: limits are not shared


class Part(NamedTuple):
    """Families that are told together. `title`: the heading in docs/metrics.md."""

    title: str
    families: tuple[Family, ...]
    fill: Callable[[Live, Page], Iterable[None]]


def fill(parts: Iterable[Part], live: Live, page: Page) -> Iterator[None]:
    """Fill a page, part by part; others may go on at each step."""
    for part in parts:
        for family in part.families:
            page.lines(family)
        yield from part.fill(live, page)
        yield
