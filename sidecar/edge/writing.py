"""The writing half of a connection in the fast lane: what an answer needs of it, and back pressure (acceptance E4).

Decides when a writer waits. Knows nothing of what is read, nor of HTTP.
"""

from __future__ import annotations

import asyncio

from sidecar.edge.open_connections import OpenConnections
from sidecar.edge.reply import Dates, Wire
from sidecar.interfaces import ClientGone


class Writing(Wire):
    """A Wire on a transport. One writer at a time."""

    __slots__ = ("_dates", "_drained", "_is_stalled", "_open", "_transport")

    def __init__(self, open_connections: OpenConnections, dates: Dates) -> None:
        self._dates = dates
        self._is_stalled = False  # the transport holds more than it wants to
        self._open = open_connections
        self._transport: asyncio.Transport | None = None  # None when lost, or in other hands
        self._drained: asyncio.Future[None] | None = None

    def is_last(self) -> bool:
        """Whether no further request will be served here, because the process drains."""
        return self._open.is_draining

    def is_stalled(self) -> bool:
        """Whether the transport holds more than it wants to."""
        return self._is_stalled

    def date(self) -> bytes:
        """The value of a Date header now."""
        return self._dates()

    def write(self, piece: bytes) -> None:
        """Hand over to the transport; ClientGone when the connection is closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(piece)

    async def writable(self) -> None:
        """Wait while the transport holds more than it wants to; ClientGone when the connection closes."""
        if self._is_stalled:
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
        self._is_stalled = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._is_stalled = False
        self._wake()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
