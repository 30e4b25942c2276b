"""Lines of JSON on standard output: one for each request, one for each event.

Lines of the same moment are written together: a write for each would cost more than all the rest of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from sidecar.admin.event import Event

_MOST_HELD: Final = 64 * 1024  # bytes; beyond, they are written at once
_encode: Final = msgspec.json.Encoder().encode


def write_stdout(lines: bytes) -> None:
    """The real sink. A reader that goes away takes its log with it, and nothing else."""
    try:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # what is left in the buffer would fail again at the exit (Python's library reference, "Note on SIGPIPE")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class LineLog:
    """Collects lines and writes them together: what there is after `every_s` seconds, and with each event; with 0, when
    the loop is done with what it is at."""

    __slots__ = ("_bytes", "_every_s", "_held", "_is_due", "_sink")

    def __init__(self, sink: Callable[[bytes], None] = write_stdout, every_s: float = 0.0) -> None:
        self._sink = sink
        self._every_s = every_s
        self._held: list[bytes] = []
        self._bytes = 0
        self._is_due = False

    def request(self, line: bytes) -> None:
        """The line of one request, with its end."""
        self._add(line)
        if not self._is_due:
            self._is_due = True
            loop = asyncio.get_running_loop()
            if self._every_s:
                loop.call_later(self._every_s, self.flush)
            else:
                loop.call_soon(self.flush)

    def event(self, event: Event) -> None:
        """The line of one event, and all before it."""
        self._add(_encode(event) + b"\n")
        asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what is held; called at the end too."""
        self._is_due = False
        if self._held:
            lines, self._held, self._bytes = b"".join(self._held), [], 0
            self._sink(lines)

    def _add(self, line: bytes) -> None:
        self._held.append(line)
        self._bytes += len(line)
        if self._bytes > _MOST_HELD:
            self.flush()
