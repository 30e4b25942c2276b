"""Has what core.state keeps in the store: taken up before the first request, saved every second and at the end.

A kill at any moment so costs a second, and the time of one save. A store that fails is told once, and tried again every
second; nothing that serves requests waits for it. Looking for what has changed is done in slices, between which
requests go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from sidecar.core.access import timestamp
from sidecar.core.limits import SECOND
from sidecar.core.state import Batch, State
from sidecar.interfaces import CannotKeep, Clock, NotSaved, Store, Timer

EVERY_NS = SECOND  # with a save of up to a second no more than two are lost (acceptance A21)

Tell = Callable[[str, str], None]  # an event's name, and its message


class Status(msgspec.Struct, omit_defaults=True):
    """As `/status.json` tells it. `saved_at`: the store holds all that was so then; `problem`: why it is not newer."""

    path: str | None
    saved_at: str | None = None
    problem: str | None = None


class Persistence:
    """Owns the store. `tell` takes events."""

    def __init__(self, store: Store, state: State, clock: Clock, tell: Tell) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._tell = tell
        self._timer: Timer | None = None
        self._saving: asyncio.Task[None] | None = None
        self._is_open = False
        self._saved_ns: int | None = None
        self._problem: str | None = None

    async def start(self) -> None:
        """Take up what the store holds, and begin to save. Raises CannotKeep."""
        try:
            loaded = await self._store.load()
        except CannotKeep:
            await self._store.close()
            raise
        if loaded.warning is not None:
            self._tell("warning", loaded.warning)
        self._state.restore(loaded.rows, self._clock.now_ns())
        self._is_open = self._store.place is not None
        self._save_later()

    async def stop(self) -> None:
        """Save once more, and close the store."""
        if self._timer is not None:
            self._timer.cancel()
        was_open, self._is_open = self._is_open, False
        try:
            if self._saving is not None:
                await self._saving
            if was_open:
                await self._save()
        finally:
            await self._store.close()

    def status(self) -> Status:
        """How it stands."""
        saved_at = None if self._saved_ns is None else timestamp(self._saved_ns)
        return Status(self._store.place, saved_at, self._problem)

    @property
    def standing(self) -> tuple[bool, int | None, bool]:
        """Whether anything is kept at all, when it last held the present, whether it cannot be written."""
        return self._store.place is not None, self._saved_ns, self._problem is not None

    def _save_later(self) -> None:
        if self._is_open:
            self._timer = self._clock.call_at(self._clock.now_ns() + EVERY_NS, self._begin)

    def _begin(self) -> None:
        self._saving = asyncio.ensure_future(self._save_again())

    async def _save_again(self) -> None:
        try:
            await self._save()
        finally:
            self._save_later()

    async def _save(self) -> None:
        now_ns = self._clock.now_ns()
        batch = Batch()
        for _ in self._state.look(batch, now_ns):
            await asyncio.sleep(0)
        try:
            if batch:
                await self._store.save(batch.changed, batch.removed)
        except NotSaved as error:
            if self._problem is None:
                self._tell("state_not_saved", f"{self._store.place}: {error}; it is tried again every second")
            self._problem = str(error)
            return
        self._state.confirm(batch)
        self._saved_ns = now_ns
        if self._problem is not None:
            self._problem = None
            self._tell("state_saved", f"{self._store.place}: saved again")

    def __repr__(self) -> str:
        return f"<Persistence {self._store!r} saved at {self._saved_ns}>"
