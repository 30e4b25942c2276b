"""The writing half of a connection in the fast lane: what an answer needs of it, and back pressure (acceptance E4).

Decides when a writer waits. Knows nothing of what is read, nor of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.edge.open_connections import OpenConnections
from sidecar.interfaces import ClientGone


class Writing:
    """Implements `reply.Wire`. One writer at a time."""

    __slots__ = ("_drained", "_open", "_transport", "date", "is_stalled")

    def __init__(self, open_connections: OpenConnections, date: Callable[[], bytes]) -> None:
        self.date = date
        self.is_stalled = False  # the transport holds more than it wants to
        self._open = open_connections
        self._transport: asyncio.Transport | None = None  # None when lost, or in other hands
        self._drained: asyncio.Future[None] | None = None

    @property
    def is_last(self) -> bool:
        """No further request will be served here, because the process drains."""
        return self._open.is_draining

    def write(self, piece: bytes) -> None:
        """Hand over to the transport; ClientGone when the connection is closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(piece)

    async def writable(self) -> None:
        """Wait while the transport holds more than it wants to; ClientGone when the connection closes."""
        if self.is_stalled:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
            if self._transport is None:
                raise ClientGone

    def force_close(self) -> None:
        """Close when what is written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, throwing away what is not sent."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed."""
        self._transport = None
        self._wake()

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self.is_stalled = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self.is_stalled = False
        self._wake()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
