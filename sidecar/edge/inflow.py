"""The body of one large request, read by the kernel straight into the place where it will be read from.

An event loop hands on what comes as one object for each read, and all of them joined are another: two copies of a MiB
cost as much as passing it on. So the transport is given this protocol until the body is complete, and then the former
again. Decides nothing: time limits and the end of the connection are the receiver's.
"""

from __future__ import annotations

import asyncio
import io
from typing import Protocol

# what is missing of a body when this is worth its two changes of the protocol
WORTH_BYTES = 128 * 1024


class Receiver(Protocol):
    """Whose body it is, and whose transport."""

    def body_received(self, body: bytes) -> None:
        """All of it is here; what comes next comes to the receiver."""

    def eof_received(self) -> bool | None:
        """As of `asyncio.Protocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """As of `asyncio.Protocol`."""

    def pause_writing(self) -> None:
        """As of `asyncio.Protocol`."""

    def resume_writing(self) -> None:
        """As of `asyncio.Protocol`."""


class Inflow(asyncio.BufferedProtocol):
    """Reads what is missing of a body of `length` bytes that begins with `begun`. Made while its transport reads."""

    __slots__ = ("_filled", "_is_over", "_length", "_receiver", "_room", "_transport", "_view")

    def __init__(self, transport: asyncio.Transport, receiver: Receiver, begun: bytes, length: int) -> None:
        self._transport = transport
        self._receiver = receiver
        self._length = length
        self._is_over = False
        # of all that Python can write into, this alone gives out its memory as `bytes` without a copy
        room = self._room = io.BytesIO()
        room.seek(length - 1)
        room.write(b"\0")
        self._view = room.getbuffer()
        self._view[: len(begun)] = begun
        self._filled = len(begun)
        self._pass_to(self)

    def __repr__(self) -> str:
        return f"Inflow({self._filled} of {self._length} bytes)"

    def get_buffer(self, sizehint: int) -> memoryview:
        """The rest of the room."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many more bytes are in it."""
        self._filled += nbytes
        if self._filled == self._length:
            self._transport.pause_reading()
            # the loop holds the memory until this call returns
            asyncio.get_running_loop().call_soon(self._finish)

    def eof_received(self) -> bool | None:
        """The receiver is told."""
        return self._receiver.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The receiver is told."""
        self._is_over = True
        self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        """The receiver is told."""
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        """The receiver is told."""
        self._receiver.resume_writing()

    def end(self) -> None:
        """Give the transport back, complete or not; harmless when it has it."""
        if not self._is_over:
            self._is_over = True
            self._pass_to(self._receiver)

    def _finish(self) -> None:
        if self._is_over:
            return
        self.end()
        self._view.release()
        self._receiver.body_received(self._room.getvalue()[: self._length])  # the whole of `bytes` is no copy

    def _pass_to(self, protocol: Receiver | Inflow) -> None:
        # a transport chooses how it reads when it starts to
        self._transport.pause_reading()
        self._transport.set_protocol(protocol)  # type: ignore[arg-type]
        self._transport.resume_reading()
