"""A wire between clients and a server that keeps a copy of all that the server says (acceptance G3).

Bytes pass as they come; the end of input passes on its own, a reset as a reset: neither side can tell it is there.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

_PIECE_BYTES = 1 << 16
# on, and no time to linger: close() then sends RST (socket(7), SO_LINGER)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Wiretap:
    """Listens on a port of its own for `target` (port on 127.0.0.1). `heard`: what the server said, by connection."""

    def __init__(self, target: int) -> None:
        self.heard: list[bytearray] = []
        self._target = target
        self._door = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __repr__(self) -> str:
        return f"<Wiretap {self.url} -> {self._target}, {len(self.heard)} connections>"

    def close(self) -> None:
        """Take no more connections, and wait for the open ones to end, as they do when the server does."""
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the door was closed
            while True:
                client, _ = self._door.accept()
                thread = threading.Thread(target=self._carry, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket) -> None:
        heard = bytearray()
        self.heard.append(heard)
        with client:
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with server:
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=_pump, args=(server, client, heard), daemon=True)
                back.start()
                _pump(client, server, None)
                back.join()


def _pump(source: socket.socket, sink: socket.socket, heard: bytearray | None) -> None:
    """Pass on until the end; a reset of one side resets the other."""
    try:
        while piece := source.recv(_PIECE_BYTES):
            if heard is not None:
                heard += piece
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                each.shutdown(socket.SHUT_RDWR)
