"""A transport without a network: each piece of input is what a test says, and each write is seen."""

from __future__ import annotations

import asyncio
import socket
from typing import cast


class Memory(asyncio.Transport):
    """A transport into a list. The socket is there for its options alone."""

    def __init__(self, protocol: asyncio.BaseProtocol, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.protocol = protocol
        self.written: list[bytes] = []
        self.is_ended = False
        self.high: int | None = None  # more unsent than that pauses the writer; None: the usual
        self.unsent = 0  # bytes that the other side has not read, as the test says
        self.is_deaf = False
        self._is_closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high
        if high == 0 and self.unsent:
            self._protocol().pause_writing()

    def send_all(self) -> None:
        """The other side has read what was written."""
        self.unsent = 0
        self._protocol().resume_writing()

    def feed(self, data: bytes) -> None:
        """Bytes come."""
        assert not self.is_deaf
        self._protocol().data_received(data)

    def _protocol(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, self.protocol)

    def is_closing(self) -> bool:
        return self._is_closing

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        assert not self.is_ended
        self.written.append(data)

    def write_eof(self) -> None:
        self.is_ended = True

    def pause_reading(self) -> None:
        self.is_deaf = True

    def resume_reading(self) -> None:
        self.is_deaf = False

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = self.is_ended = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()
