"""The state of a whole process as one value, for a scrape: read off the rooms, nothing of it decided here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sidecar import __version__
from sidecar.core.cache_counts import CacheStatus
from sidecar.core.entrance import Entrance
from sidecar.core.metrics import Connections, Inside, Kept, Live, Retries
from sidecar.core.sharing import Status as ShareStatus
from sidecar.gateway import Gateway
from sidecar.observing import Observer
from sidecar.persistence import Persistence
from sidecar.preparing import Prepared
from sidecar.upstream.pool import Pool


class Rooms(NamedTuple):
    """What a process is made of, as far as it is measured."""

    observer: Observer
    gateway: Gateway
    entrance: Entrance
    pool: Pool
    persistence: Persistence
    cache: Callable[[], CacheStatus]
    share: Callable[[], ShareStatus | None]


def live(rooms: Rooms, prepared: Prepared, is_ready: bool) -> Live:
    """Its state now. `prepared`: the configuration in force."""
    observer, gateway, entrance, pool, persistence, cache, share = rooms
    now_ns = gateway.clock.now_ns()
    roster = observer.roster
    limits = roster.snapshot.config
    idle = pool.idle
    return Live(
        now_ns=now_ns,
        roster=roster,
        tally=observer.tally,
        totals=gateway.totals,
        inside=Inside(entrance.inflight, limits.inflight.max, entrance.inflight_bytes, limits.inflight.bytes),
        waiting=gateway.room.waiting,
        most_waiting=limits.wait.queue,
        connections=Connections(idle, pool.open - idle, pool.connecting),
        kept=Kept(*persistence.standing),
        retries=Retries(*gateway.retry_budget.spent(now_ns)),
        events=observer.events,
        ambiguous=gateway.ambiguous,
        config=prepared.hash,
        is_config_absent=prepared.is_absent,
        version=__version__,
        is_ready=is_ready,
        cache=cache(),
        share=share(),
    )
