"""The connections that are open and the tasks that serve them, and how they come to an end.

Draining: idle ones close at once, busy ones after their answer, since every answer from then on says `connection:
close`. Whoever stops the process waits here until none is left. Shared by both lanes; knows no protocol.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from sidecar.interfaces import Clock


class Closable(Protocol):
    """A connection, as far as its end is concerned."""

    @property
    def is_idle(self) -> bool:
        """Nothing of a request has come that is not answered."""

    def force_close(self) -> None:
        """Close when what is written has been sent."""

    def abort(self) -> None:
        """Close at once, throwing away what is not sent."""


class OpenConnections:
    """All connections of one listener. Lives on one event loop."""

    def __init__(self) -> None:
        self.is_draining = False
        self._connections: set[Closable] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: set[asyncio.Future[bool]] = set()

    def __len__(self) -> int:
        return len(self._connections)

    def __repr__(self) -> str:
        state = "draining" if self.is_draining else "open"
        return f"OpenConnections({state}, {len(self._connections)} connections, {len(self._tasks)} tasks)"

    def add(self, connection: Closable, task: asyncio.Task[None] | None = None) -> None:
        """A connection was made; `task` serves it and is awaited with it."""
        self._connections.add(connection)
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def remove(self, connection: Closable) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        self._tell()

    def close_idle(self) -> None:
        """From now on no connection outlives its answer; those without a request end here."""
        self.is_draining = True
        for connection in [each for each in self._connections if each.is_idle]:
            connection.force_close()

    def abort_all(self) -> None:
        """Cut off every connection; what serves them is cancelled."""
        for connection in list(self._connections):
            connection.abort()

    async def emptied(self, clock: Clock, deadline_ns: int | None = None) -> bool:
        """Wait until no connection and no task is left; False when the deadline (Unix ns) came first."""
        if not self._connections and not self._tasks:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        timer = None if deadline_ns is None else clock.call_at(deadline_ns, _resolve, waiter, False)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._tell()

    def _tell(self) -> None:
        if not self._connections and not self._tasks:
            for waiter in self._waiters:
                _resolve(waiter, True)


def _resolve(waiter: asyncio.Future[bool], is_empty: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_empty)
