"""The data port: both lanes behind the same listening sockets, and the life of these: start, drain, close.

A connection begins in the fast lane, which gives it to the general lane, for good, at the first request that is not of
the hot shape. Knows neither what is served nor what HTTP is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

from sidecar.core.config import Address
from sidecar.edge.connection import EdgeTiming
from sidecar.edge.fastlane import FastConnection
from sidecar.edge.general import GeneralLane
from sidecar.edge.lane import Lane
from sidecar.edge.listening import address_of, open_sockets
from sidecar.edge.open_connections import OpenConnections
from sidecar.interfaces import Clock, Service

_BACKLOG: Final = 1024  # a burst of as many callers waits in the kernel rather than being refused


class FastLane(Lane):
    """Makes protocols for new connections."""

    __slots__ = ()

    def make_protocol(self) -> asyncio.Protocol:
        """A protocol for one new connection."""
        return cast(asyncio.Protocol, FastConnection(self))


class DataLanes:
    """Listens, serves, drains. Made inside a running event loop. `has_fast_lane`: tests compare with and without."""

    def __init__(self, service: Service, timing: EdgeTiming, clock: Clock, *, has_fast_lane: bool = True) -> None:
        self._clock = clock
        self._open = OpenConnections()
        self._listeners: list[asyncio.Server] = []
        general = GeneralLane(service, timing, clock, self._open)
        self._make_protocol: Callable[[], asyncio.Protocol] = general.make_protocol
        if has_fast_lane:
            self._make_protocol = FastLane(service, timing, clock, self._open, general).make_protocol

    def __repr__(self) -> str:
        return f"DataLanes({len(self._listeners)} listeners, {self._open!r})"

    async def start(self, listen: Sequence[Address]) -> list[Address]:
        """Listen on all of these or raise CannotListen; the addresses as bound, optional ones if they exist."""
        sockets = open_sockets(listen)
        addresses = [address_of(each) for each in sockets]
        loop = asyncio.get_running_loop()
        for each in sockets:
            self._listeners.append(await loop.create_server(self._make_protocol, sock=each, backlog=_BACKLOG))
        return addresses

    def stop_accepting(self) -> None:
        """Close the listening sockets; open connections go on."""
        for listener in self._listeners:
            listener.close()

    async def drain(self, deadline_ns: int) -> bool:
        """End idle connections at once and the others after their answer; False when some are left at the deadline."""
        self._open.close_idle()
        return await self._open.emptied(self._clock, deadline_ns)

    async def close(self) -> None:
        """End everything now: running requests are cancelled and awaited."""
        self.stop_accepting()
        self._open.is_draining = True
        self._open.abort_all()
        await self._open.emptied(self._clock)
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()
