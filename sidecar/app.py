"""The composition root: from a configuration to wired objects, and their life: start, reload, drain, stop.

Complete or refused before any port is bound: `prepare` finds everything that is wrong first. A reload that fails leaves
everything as it was. Nothing else in the package reads the environment or knows all rooms.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import msgspec

from sidecar.admin.log import Event, LineLog
from sidecar.admin.server import AdminServer
from sidecar.core.access import Record, line_of, timestamp
from sidecar.core.catalog import Catalog
from sidecar.core.config import Address, Config, Share, is_loopback
from sidecar.core.entrance import Entrance, Rules, digest
from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.roster import Roster
from sidecar.core.secret import Secret
from sidecar.core.sharing import Status as ShareStatus
from sidecar.core.snapshot import Snapshot, compile_snapshot
from sidecar.core.state import State
from sidecar.core.status import status_of
from sidecar.core.store_url import parse as parse_store_url
from sidecar.credentials import Secrets, read_secrets
from sidecar.edge.connection import EdgeTiming
from sidecar.edge.lanes import DataLanes
from sidecar.edge.listening import CannotListen, open_sockets
from sidecar.gateway import Gateway
from sidecar.interfaces import Clock, Store, Timer
from sidecar.loading import fingerprint, load, watched
from sidecar.persistence import Persistence
from sidecar.store.memory import MemoryStore
from sidecar.store.sqlite import SqliteStore
from sidecar.upstream.pool import Pool
from sidecar.upstream.resolver import make_resolver
from sidecar.zones import calendars

if TYPE_CHECKING:
    from sidecar.leasing import Leasing

# Files are looked at, not watched: inotify sees neither the link swaps of Kubernetes volumes nor network file systems
_LOOK_EVERY_NS = SECOND
_DRAIN_NS = 60 * MINUTE  # streams end by themselves; whoever stops us sooner says so with a second signal
# what is built once and not again: a change of these asks for a restart
_FIXED = ("listen", "admin", "dns", "state")
_FIXED_TIMEOUTS = ("connect", "client_headers", "client_body", "client_idle")

Identity = tuple[int, int, int, int] | None


class Source(NamedTuple):
    """Where the configuration comes from. `path` None: the environment."""

    path: str | None
    environ: Mapping[str, str]


class Prepared(NamedTuple):
    """A configuration found good. `hash` names it, without a secret in it; `seen`: the files as they were then."""

    config: Config
    snapshot: Snapshot
    rules: Rules
    warnings: tuple[str, ...]
    hash: str
    seen: dict[str, Identity]
    share_password: Secret | None = None


def prepare(source: Source, catalog: Catalog, now_ns: int, share: Share | None = None) -> Prepared | list[str]:
    """Everything up to binding a port; or everything that is wrong, a line each. `share`: what is in force already."""
    # looked at before they are read, so that a change in between is seen as one
    seen = identities(watched(None, source.path))
    loaded = load(source.path, source.environ, catalog)
    config = loaded.config
    if config is None:
        return [str(problem) for problem in loaded.problems]
    seen = identities(watched(config, source.path)) | seen
    secrets = read_secrets(config, source.environ)
    if secrets.problems:
        return [str(loaded.located(problem)) for problem in secrets.problems]
    config, share_warnings = _sharing_as(config, share)
    entries = [catalog.providers[each.name] for each in config.providers if each.name in catalog.providers]
    try:
        zones = calendars((entry.timezone for entry in entries), now_ns)
    except ZoneInfoNotFoundError as error:
        return [f"{error.args[0]}: a provider's days begin there; install the system's time zone data (tzdata)"]
    snapshot = compile_snapshot(config, catalog, secrets.keys, zones)
    encoded = msgspec.json.encode(config)
    warnings = (*loaded.warnings, *secrets.warnings, *share_warnings)
    name = hashlib.sha256(encoded).hexdigest()[:12]
    return Prepared(config, snapshot, _rules(config, secrets), warnings, name, seen, secrets.share)


def _sharing_as(config: Config, share: Share | None) -> tuple[Config, tuple[str, ...]]:
    """A ledger that is in force, or none, stays until a restart: windows cannot be counted in two ways at once."""
    if share is None or share == config.share or (share.url is None and config.share.url is None):
        return config, ()
    return msgspec.structs.replace(config, share=share), ("a change of `share` takes effect after a restart",)


def identities(paths: tuple[str, ...]) -> dict[str, Identity]:
    """Each file with what changes when it does."""
    return dict(zip(paths, fingerprint(paths), strict=True))


def _rules(config: Config, secrets: Secrets) -> Rules:
    tokens = {digest(token.reveal().encode()): f"token-{at}" for at, token in enumerate(secrets.tokens) if token}
    if config.auth.tokens and not tokens:
        tokens = {b"": "nobody"}  # a token that is asked for and missing lets nobody in
    return Rules(
        config.body.max_bytes,
        config.inflight.max,
        config.inflight.bytes,
        tokens,
        frozenset(config.auth.hosts),
        frozenset(config.auth.origins),
        all(is_loopback(address) for address in config.listen),
    )


class Sidecar:
    """One running proxy. `log` takes its lines."""

    def __init__(  # five parts that only the root knows
        self, source: Source, prepared: Prepared, catalog: Catalog, clock: Clock, log: LineLog
    ) -> None:
        config = prepared.config
        self._source, self._prepared, self._catalog = source, prepared, catalog
        self._clock, self._log = clock, log
        self._roster = Roster(prepared.snapshot, clock.now_ns())
        self._entrance = Entrance(prepared.rules)
        self._admin_entrance = Entrance(_admin_rules(prepared))
        self._resolver = make_resolver(clock, config.dns.resolver)
        self._pool = Pool(clock, self._resolver, connect_timeout_ns=config.timeouts.connect)
        self._gateway = Gateway(self._roster, self._entrance, self._pool, clock, self._finished)
        self._gateway.warned = self._tell
        times = config.timeouts
        timing = EdgeTiming(times.client_headers, times.client_body, times.client_idle)
        self._lane = DataLanes(self._gateway, timing, clock)
        self._admin = AdminServer(lambda: self._is_ready, self._status, self._admin_entrance)
        state = State(self._roster, self._gateway.ownership)
        self._persistence = Persistence(_store(config, clock.now_ns()), state, clock, self._tell)
        self._leasing = _leasing(prepared, self._roster, clock, self._tell)
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
        try:
            await self._bind(self._prepared.config)
        except CannotListen:
            await self._persistence.stop()
            raise
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
            if self._leasing is not None:
                await self._leasing.stop()
            await self._persistence.stop()
            await self._pool.close()
            await self._resolver.close()
            await self._admin.close()
            self._tell("stopped", "bye")
            self._log.flush()

    def reload(self) -> bool:
        """Read everything again. A configuration with problems is refused, and the old one kept."""
        self._seen = identities(tuple(self._seen))
        prepared = prepare(self._source, self._catalog, self._clock.now_ns(), self._prepared.config.share)
        if isinstance(prepared, list):
            for problem in prepared:
                self._tell("reload_refused", problem)
            return False
        old, self._prepared = self._prepared, prepared
        self._gateway.reload(prepared.snapshot)
        self._entrance.replace(prepared.rules)
        self._admin_entrance.replace(_admin_rules(prepared))
        self._seen = prepared.seen
        self._warn(prepared)
        for field in _needing_restart(old.config, prepared.config):
            self._tell("restart_needed", f"a change of `{field}` takes effect after a restart")
        self._tell("reloaded", f"configuration {prepared.hash}")
        return True

    def _look(self) -> None:
        if identities(tuple(self._seen)) != self._seen:
            self.reload()
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
            "state": self._persistence.status(),
            "share": self.share_status(),
            "usage": self._gateway.totals,
            "accounts_merged": self._roster.accounts.merged,
            "ambiguous": self._gateway.ambiguous,
            "connections": {"open": self._pool.open, "idle": self._pool.idle, "leased": self._pool.leased},
        }
        return msgspec.json.encode(counts | {"providers": status})

    def share_status(self) -> ShareStatus | None:
        """How limits are shared with other sidecars; None: they are not."""
        if self._leasing is not None:
            return self._leasing.sharing.status()
        replicas = self._prepared.config.share.replicas
        return ShareStatus("divided", replicas) if replicas > 1 else None

    def _finished(self, record: Record, now_ns: int) -> None:
        self._log.request(line_of(record, now_ns))

    def _warn(self, prepared: Prepared) -> None:
        for warning in prepared.warnings:
            self._tell("warning", warning)

    def _tell(self, event: str, message: str, subject: str | None = None) -> None:
        self._log.event(Event(timestamp(self._clock.now_ns()), event, message, subject))


def _store(config: Config, now_ns: int) -> Store:
    path = config.state.path
    return MemoryStore() if path is None else SqliteStore(path, now_ns)


def _leasing(prepared: Prepared, roster: Roster, clock: Clock, tell: Callable[[str, str], None]) -> Leasing | None:
    """The way to the shared ledger, where one is configured."""
    share = prepared.config.share
    url = None if share.url is None else parse_store_url(share.url)
    if url is None or share.url is None:
        return None
    from sidecar.leasing import Leasing  # with the client of the store
    from sidecar.store.redis import RedisStore

    password = None if prepared.share_password is None else prepared.share_password.reveal()
    store = RedisStore(url, share.url, share.prefix, os.urandom(8).hex(), password)
    return Leasing(roster, store, share.replicas, clock, tell)


def _needing_restart(old: Config, new: Config) -> list[str]:
    fields = [field for field in _FIXED if getattr(old, field) != getattr(new, field)]
    times = [name for name in _FIXED_TIMEOUTS if getattr(old.timeouts, name) != getattr(new.timeouts, name)]
    return fields + [f"timeouts.{name}" for name in times]


def _admin_rules(prepared: Prepared) -> Rules:
    """The status page's: on loopback a right Host will do, elsewhere a token is asked for."""
    is_local = is_loopback(prepared.config.admin)
    tokens = {} if is_local else prepared.rules.tokens or {b"": "nobody"}
    return prepared.rules._replace(tokens=tokens, is_loopback_only=is_local)
