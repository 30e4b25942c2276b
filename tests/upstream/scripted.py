"""A provider that follows a script: bytes in, scripted bytes out, and a record of what it saw.

A script is a coroutine function of one Peer, run for each connection. It reads with `peer.request()`, writes with
`peer.send()`, and may close, reset, or wait for the other side to be gone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import cast

from sidecar.core.http import Origin

Script = Callable[["Peer"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(body: bytes = b"{}", method: bytes = b"POST") -> tuple[bytes, bytes]:
    """The head and body of a request."""
    return b"%s /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (method, len(body)), body


class Peer(asyncio.Protocol):
    """One accepted connection, seen from the provider."""

    def __init__(self, server: Scripted) -> None:
        self.server = server
        self.number = len(server.peers)  # 0 for the first connection
        self.received = bytearray()  # what has not been taken by `request`
        self.is_gone = False
        self.sent = 0
        self.transport: asyncio.Transport
        self._changed = asyncio.Event()

    @property
    def accepted(self) -> int:
        """Bytes sent that the network has taken."""
        return self.sent - self.transport.get_write_buffer_size()

    async def request(self) -> bytes:
        """The next whole request; ends the script when the connection is gone."""
        await self.until(lambda: self._size() is not None)
        size = self._size()
        assert size is not None
        taken = bytes(self.received[:size])
        del self.received[:size]
        self.server.requests.append(taken)
        return taken

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, tested whenever bytes come; ends the script when the connection is gone."""
        while not condition():
            if self.is_gone:
                raise asyncio.CancelledError
            self._changed.clear()
            await self._changed.wait()

    async def gone(self) -> None:
        """Wait until the connection is closed."""
        while not self.is_gone:
            self._changed.clear()
            await self._changed.wait()

    def send(self, content: bytes) -> None:
        """Write."""
        self.sent += len(content)
        self.transport.write(content)

    def close(self) -> None:
        """End the connection in order."""
        self.transport.close()

    def reset(self) -> None:
        """End the connection with a RST."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server.accept(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_gone = True
        self._changed.set()
        self.server.changed.set()

    def _size(self) -> int | None:
        end = self.received.find(b"\r\n\r\n") + 4
        if end == 3:
            return None
        length = 0
        for line in bytes(self.received[:end]).lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        return end + length if len(self.received) >= end + length else None


class Scripted:
    """The server. An exception in a script fails the test when the block is left."""

    def __init__(
        self, script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", name: str = "localhost"
    ) -> None:
        """`name`: what the certificate of `tls` is for."""
        self.peers: list[Peer] = []
        self.requests: list[bytes] = []
        self.changed = asyncio.Event()
        self._script = script
        self._tls = tls
        self._host = host
        self._name = name
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def origin(self) -> Origin:
        """Where it listens; https by the name that its certificate is for."""
        port = self._server.sockets[0].getsockname()[1]
        return Origin("https", self._name, port) if self._tls else Origin("http", self._host, port)

    async def accepted(self, count: int) -> None:
        """Wait until that many connections have been made."""
        await self.until(lambda: len(self.peers) >= count)

    async def empty(self) -> None:
        """Wait until all connections are closed."""
        await self.until(lambda: all(peer.is_gone for peer in self.peers))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, tested whenever a connection comes or goes."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def accept(self, peer: Peer) -> None:
        """Start the script for a new connection."""
        self.peers.append(peer)
        self._tasks.append(asyncio.ensure_future(self._play(peer)))
        self.changed.set()

    async def _play(self, peer: Peer) -> None:
        await self._script(peer)

    async def __aenter__(self) -> Scripted:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), self._host, 0, ssl=self._tls, backlog=4096)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for peer in self.peers:
            peer.transport.abort()
        await self.empty()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        faults = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if faults and error is None:
            raise faults[0]


def answering(*answers: bytes) -> Script:
    """A script that gives these answers in turn, the last one for ever."""

    async def script(peer: Peer) -> None:
        for number in range(1_000_000):
            await peer.request()
            peer.send(answers[min(number, len(answers) - 1)])

    return script
