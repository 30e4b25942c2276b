"""The cache as the root holds it: on or off by the configuration, and with `state.path` a file in which answers stay.

What changed is saved once a second, in slices of a few MiB, the newest last; whatever was dropped leaves the file as
well, so that it stays below the cap. Taken up in the background: a large file delays no start. A file that cannot be
used costs the answers in it and nothing else, for it holds nothing that cannot be asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from sidecar.caching import Caching
from sidecar.core.cache_counts import CacheStatus
from sidecar.core.config import Config
from sidecar.core.limits import SECOND
from sidecar.interfaces import CannotKeep, Clock, NotSaved, Store, Timer
from sidecar.store.sqlite import SqliteStore

SUFFIX = "-answers"  # beside the file of quotas, which never holds an answer
_EVERY_NS = SECOND
_SLICE_BYTES = 4 << 20  # written in one go
_KIND = "answer1 "  # what its rows are, and their version

Tell = Callable[[str, str], None]  # an event's name, and its message


class Answers:
    """Owns the cache and its file. `tell` takes events."""

    def __init__(self, config: Config, clock: Clock, tell: Tell) -> None:
        self._clock = clock
        self._tell = tell
        self._caching = Caching(config.cache, clock)
        self._path = None if config.state.path is None else config.state.path + SUFFIX
        self._store: Store | None = None
        self._working: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._problem: str | None = None

    def configure(self, config: Config, tokens: Mapping[bytes, str]) -> Caching | None:
        """The cache by this configuration, None while it is off. `tokens`: as in `core.entrance.Rules`."""
        self._caching.configure(config.cache, {name: token for token, name in tokens.items()})
        if config.cache.enabled and self._path is not None and self._store is None:
            self._store = SqliteStore(self._path, self._clock.now_ns(), "the answers in it are asked for again")
            self._caching.entries.is_tracked = True
            self._working = asyncio.ensure_future(self._load(self._store))
        return self._caching if config.cache.enabled else None

    async def stop(self) -> None:
        """Save once more, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        await self._caching.close()
        if self._store is None:
            return
        try:
            if self._working is not None:
                await self._working
            if self._timer is not None:  # the file could be read
                self._timer.cancel()
                await self._save(self._store)
        finally:
            await self._store.close()

    def status(self) -> CacheStatus:
        """How it stands."""
        status = self._caching.status()
        if self._store is not None:
            status.path, status.problem = self._store.place, self._problem
        return status

    def __repr__(self) -> str:
        return f"<Answers {self._caching!r} in {self._store!r}>"

    async def _load(self, store: Store) -> None:
        try:
            loaded = await store.load()
        except CannotKeep as error:
            self._problem = str(error)
            self._caching.entries.is_tracked = False
            return self._tell("warning", f"{error}; answers are kept in memory alone")
        if loaded.warning is not None:
            self._tell("warning", loaded.warning)
        rows = [(key, row) for name, row in loaded.rows.items() if (key := _key_of(name)) is not None]
        self._caching.take_up(rows)
        self._save_later()

    def _save_later(self) -> None:
        self._timer = self._clock.call_at(self._clock.now_ns() + _EVERY_NS, self._begin)

    def _begin(self) -> None:
        assert self._store is not None
        self._working = asyncio.ensure_future(self._save_again(self._store))

    async def _save_again(self, store: Store) -> None:
        await self._save(store)
        self._save_later()

    async def _save(self, store: Store) -> None:
        """Give the store what it lacks."""
        entries = self._caching.entries
        while True:
            changed, removed = entries.changes(_SLICE_BYTES)
            if not changed and not removed:
                return
            try:
                await store.save({_name_of(key): row for key, row in changed.items()}, list(map(_name_of, removed)))
            except NotSaved as error:
                if self._problem is None:
                    self._tell("answers_not_saved", f"{store.place}: {error}; it is tried again every second")
                self._problem = str(error)
                return
            self._problem = None
            entries.confirm(changed, removed)


def _name_of(key: bytes) -> str:
    return _KIND + key.hex()


def _key_of(name: str) -> bytes | None:
    try:
        return bytes.fromhex(name.removeprefix(_KIND)) if name.startswith(_KIND) else None
    except ValueError:
        return None
