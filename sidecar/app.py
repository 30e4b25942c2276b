"""The composition root: from a configuration to wired objects, and their life: start, reload, drain, stop.

What is wrong with a configuration is found before (preparing.py). A reload that fails leaves
everything as it was. Nothing else in the package reads the environment or knows all rooms.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from sidecar import __version__
from sidecar.admin.live import Live
from sidecar.admin.log import LineLog
from sidecar.admin.metrics import Metrics
from sidecar.admin.page import StatusPage
from sidecar.admin.server import AdminServer
from sidecar.answers import Answers
from sidecar.core.board import Counts, House, chains_of
from sidecar.core.catalog import Catalog
from sidecar.core.config import Address, Config
from sidecar.core.entrance import Entrance
from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.metrics_table import PARTS
from sidecar.core.roster import Roster
from sidecar.core.secret import Secret
from sidecar.core.sharing import Status as ShareStatus
from sidecar.core.state import State
from sidecar.core.status import status_of
from sidecar.core.store_url import parse as parse_store_url
from sidecar.core.waits import waits
from sidecar.edge.connection import EdgeTiming
from sidecar.edge.lanes import DataLanes
from sidecar.edge.listening import CannotListen, open_sockets
from sidecar.gateway import Finished, Gateway
from sidecar.interfaces import Clock, Store, Timer
from sidecar.observing import Observer
from sidecar.persistence import Persistence
from sidecar.preparing import Prepared, Source, admin_rules, identities, needing_restart, prepare
from sidecar.scraping import Rooms, live
from sidecar.store.memory import MemoryStore
from sidecar.store.sqlite import SqliteStore
from sidecar.upstream.pool import Pool
from sidecar.upstream.resolver import make_resolver

if TYPE_CHECKING:
    from sidecar.leasing import Leasing
    from sidecar.tracing import Tracing

__all__ = ["Prepared", "Sidecar", "Source", "prepare"]

# Files are looked at, not watched: inotify sees neither the link swaps of Kubernetes volumes nor network file systems
_LOOK_EVERY_NS = SECOND
_DRAIN_NS = 60 * MINUTE  # streams end by themselves; whoever stops us sooner says so with a second signal


class Sidecar:
    """One running proxy. `log` takes its lines."""

    def __init__(  # five parts that only the root knows
        self, source: Source, prepared: Prepared, catalog: Catalog, clock: Clock, log: LineLog
    ) -> None:
        config = prepared.config
        self._source, self._prepared, self._catalog = source, prepared, catalog
        self._clock = clock
        self._roster = Roster(prepared.snapshot, clock.now_ns())
        self._observer = Observer(self._roster, clock, log)
        self._tell = self._observer.tell
        self._entrance = Entrance(prepared.rules)
        self._admin_entrance = Entrance(admin_rules(prepared))
        self._resolver = make_resolver(clock, config.dns.resolver)
        self._pool = Pool(clock, self._resolver, connect_timeout_ns=config.timeouts.connect)
        self._tracing = _tracing(config, self._tell)
        finished: Finished = self._observer.finished
        if self._tracing is not None:
            finished = self._tracing.finishing(finished)
        self._gateway = Gateway(self._roster, self._entrance, self._pool, clock, finished)
        self._gateway.warned, self._gateway.traces = self._tell, self._tracing
        self._answers = Answers(config, clock, self._tell)
        times = config.timeouts
        timing = EdgeTiming(times.client_headers, times.client_body, times.client_idle)
        self._lane = DataLanes(self._gateway, timing, clock)
        self._house = House(self._roster, self._observer.activity, self._gateway.room.tickets, self._counts)
        self.live = Live(self._house, clock)
        self._admin = AdminServer(lambda: self._is_ready, self._status, self._admin_entrance, StatusPage(self.live))
        state = State(self._roster, self._gateway.ownership)
        self._persistence = Persistence(_store(config, clock.now_ns()), state, clock, self._tell)
        self._leasing = _leasing(prepared, self._roster, clock, self._tell)
        kept = (self._persistence, self._answers.status, self.share_status)
        rooms = Rooms(self._observer, self._gateway, self._entrance, self._pool, *kept)
        self._admin.metrics = Metrics(lambda: live(rooms, self._prepared, self._is_ready), PARTS)
        self._is_ready = False
        self._seen = prepared.seen
        self._look_timer: Timer | None = None
        self.listening: list[Address] = []
        self.admin_port = 0

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._prepared.config

    async def start(self) -> None:
        """Take up what was kept, bind the ports, serve. Raises CannotKeep or CannotListen, in words for an operator."""
        await self._persistence.start()
        self._observer.start()
        try:
            await self._bind(self._prepared.config)
        except CannotListen:
            await self._persistence.stop()
            raise
        self._gateway.cache = self._answers.configure(self._prepared.config, self._prepared.rules.tokens)
        if self._leasing is not None:
            self._leasing.start(self._gateway.room)
        self._is_ready = True
        self._warn(self._prepared)
        for address in self.listening:
            self._tell("listening", f"http://{address}/v1", f"configuration {self._prepared.hash}")
        self._look_again()

    async def _bind(self, config: Config) -> None:
        (bound,) = open_sockets([config.admin])
        self.admin_port = await self._admin.start(bound)
        self.listening = await self._lane.start(config.listen)

    async def stop(self) -> None:
        """Take no new connections, let what runs finish, close. Cancel to close at once."""
        self._is_ready = False
        if self._look_timer is not None:
            self._look_timer.cancel()
        self._tell("draining", f"{self._entrance.inflight} requests in flight")
        self._lane.stop_accepting()
        try:
            await self._lane.drain(self._clock.now_ns() + _DRAIN_NS)
        finally:
            await self._lane.close()
            await self._answers.stop()
            if self._leasing is not None:
                await self._leasing.stop()
            await self._persistence.stop()
            await self._pool.close()
            await self._resolver.close()
            await self._admin.close()
            if self._tracing is not None:
                await self._tracing.stop()
            self._observer.stop()

    def reload(self) -> bool:
        """Read everything again. A configuration with problems is refused, and the old one kept."""
        self._seen = identities(tuple(self._seen))
        # what was there once is not given up for nothing
        prepared = prepare(
            self._source._replace(waits=False), self._catalog, self._clock.now_ns(), self._prepared.config.share
        )
        if isinstance(prepared, list):
            for problem in prepared:
                self._tell("reload_refused", problem)
            return False
        old, self._prepared = self._prepared, prepared
        self._gateway.reload(prepared.snapshot)
        self._observer.reload()
        self._gateway.cache = self._answers.configure(prepared.config, prepared.rules.tokens)
        if self._leasing is not None:
            self._leasing.know(_revealed(prepared.share_password))
        self._entrance.replace(prepared.rules)
        self._admin_entrance.replace(admin_rules(prepared))
        self._seen = prepared.seen
        self._warn(prepared)
        for field in needing_restart(old.config, prepared.config):
            self._tell("restart_needed", f"a change of `{field}` takes effect after a restart")
        self._tell("reloaded", f"configuration {prepared.hash}")
        return True

    def _look(self) -> None:
        if identities(tuple(self._seen)) != self._seen:
            self.reload()
        self._observer.look()
        self._look_again()

    def _look_again(self) -> None:
        self._look_timer = self._clock.call_at(self._clock.now_ns() + _LOOK_EVERY_NS, self._look)

    def _status(self) -> bytes:
        now_ns = self._clock.now_ns()
        status = status_of(self._roster, now_ns)
        counts = {
            "configuration": self._prepared.hash,
            "in_flight": self._entrance.inflight,
            "waiting": self._gateway.room.waiting,
            "waits": waits(self._gateway.room.tickets(), now_ns),
            "models": chains_of(self._house, now_ns),
            "requests": self._observer.activity.since(0),
            "state": self._persistence.status(),
            "share": self.share_status(),
            "usage": self._gateway.totals.by_name(),
            "cache": self._answers.status(),
            "accounts_merged": self._roster.accounts.merged,
            "ambiguous": self._gateway.ambiguous,
            "connections": {"open": self._pool.open, "idle": self._pool.idle, "leased": self._pool.leased},
        }
        return msgspec.json.encode(counts | {"providers": status})

    def _counts(self) -> Counts:
        state = "serving" if self._is_ready else "draining"
        waiting, connections = self._gateway.room.waiting, self._pool.open
        return Counts(state, __version__, self._prepared.hash, self._entrance.inflight, waiting, connections)

    def share_status(self) -> ShareStatus | None:
        """How limits are shared with other sidecars; None: they are not."""
        if self._leasing is not None:
            return self._leasing.sharing.status()
        replicas = self._prepared.config.share.replicas
        return ShareStatus("divided", replicas) if replicas > 1 else None

    def _warn(self, prepared: Prepared) -> None:
        for warning in prepared.warnings:
            self._tell("warning", warning)


def _store(config: Config, now_ns: int) -> Store:
    path = config.state.path
    return MemoryStore() if path is None else SqliteStore(path, now_ns)


def _tracing(config: Config, tell: Callable[[str, str], None]) -> Tracing | None:
    """Where spans go, where that is configured."""
    if config.traces.endpoint is None:
        return None
    from sidecar.tracing import Tracing  # with the SDK

    return Tracing(config.traces, tell)


def _leasing(prepared: Prepared, roster: Roster, clock: Clock, tell: Callable[[str, str], None]) -> Leasing | None:
    """The way to the shared ledger, where one is configured."""
    share = prepared.config.share
    url = None if share.url is None else parse_store_url(share.url)
    if url is None or share.url is None:
        return None
    from sidecar.leasing import Leasing  # with the client of the store
    from sidecar.store.redis import RedisStore

    store = RedisStore(url, share.url, share.prefix, os.urandom(8).hex(), _revealed(prepared.share_password))
    return Leasing(roster, store, share.replicas, clock, tell)


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
