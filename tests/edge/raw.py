"""A client that sends exactly the bytes it is given, and reads answers with no library's opinion about them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from typing import NamedTuple, cast

from sidecar.core.config import Address

_LENGTH = re.compile(rb"^content-length: (\d+)\r$", re.MULTILINE | re.IGNORECASE)


class Received(NamedTuple):
    """One answer: its status line and header lines as they came, its body with the framing undone."""

    status: int
    lines: list[bytes]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of that header (lower-case name)."""
        pairs = [line.split(b": ", 1) for line in self.lines[1:]]
        return [value for key, value in pairs if key.lower() == name]


class RawClient:
    """One connection. Used as `async with await RawClient.open(address) as client`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: Address) -> RawClient:
        return cls(*await asyncio.open_connection(address.host, address.port))

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is not None:
            self.writer.transport.abort()  # a test that failed has no time to wait for what is unsent
        await self.close()

    async def close(self) -> None:
        """An ordinary close."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def half_close(self) -> None:
        """FIN: nothing more is sent, the answer could still be read."""
        self.writer.write_eof()

    def reset(self) -> None:
        """RST: gone without a word."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def pause(self) -> None:
        """Read nothing, so that the kernel's buffers fill."""
        self._transport().pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport().resume_reading()

    def _transport(self) -> asyncio.Transport:
        return cast(asyncio.Transport, self.writer.transport)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_bytewise(self, data: bytes) -> None:
        """Each byte in a packet of its own, and the server's turn between them."""
        for index in range(len(data)):
            await self.send(data[index : index + 1])
            await asyncio.sleep(0)

    async def head(self) -> bytes:
        """The next head, with its blank line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def answer(self, *, is_head: bool = False) -> Received:
        """The next answer, whole."""
        head = await self.head()
        lines = head[:-4].split(b"\r\n")
        status = int(lines[0].split()[1])
        return Received(status, lines, b"" if is_head or status in (204, 304) else await self._body(head))

    async def rest(self) -> bytes:
        """Everything until the server closes; a reset raises ConnectionResetError."""
        return await self.reader.read()

    async def _body(self, head: bytes) -> bytes:
        if b"\r\ntransfer-encoding: chunked\r\n" in head.lower():
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            return b"".join(pieces)
        if length := _LENGTH.search(head):
            return await self.reader.readexactly(int(length[1]))
        return await self.reader.read()


def request(target: bytes, *lines: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    """A request of HTTP/1.1 with Host, these header lines, and a length if it has a body."""
    head = [method + b" " + target + b" HTTP/1.1", b"host: localhost", *lines]
    if body:
        head.append(b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def post(body: bytes, *lines: bytes) -> bytes:
    """A request with a body."""
    return request(b"/v1/chat/completions", *lines, method=b"POST", body=body)
