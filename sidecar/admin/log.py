"""Lines of JSON on standard output: one for each request, one for each event.

Lines of one turn of the event loop are written together: a write for each would cost more than the rest of the line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import msgspec

from sidecar.core.access import Line

_MOST_HELD = 64 * 1024  # bytes; beyond, they are written at once


def write_stdout(lines: bytes) -> None:
    """The real sink. A reader that goes away takes its log with it, and nothing else."""
    try:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # what is left in the buffer would fail again at the exit (Python's library reference, "Note on SIGPIPE")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Event(msgspec.Struct, omit_defaults=True):
    """Something an operator should know that is no request. `reason`, `until`: of what is not called for a while."""

    time: str
    event: str
    message: str
    subject: str | None = None
    reason: str | None = None
    until: str | None = None


class LineLog:
    """Collects lines and writes them when the loop is done with what it is at."""

    def __init__(self, sink: Callable[[bytes], None] = write_stdout) -> None:
        self._sink = sink
        self._held = bytearray()
        self._encoder = msgspec.json.Encoder()

    def request(self, line: Line) -> None:
        """The line of one request."""
        self._add(line)

    def event(self, event: Event) -> None:
        """The line of one event."""
        self._add(event)

    def flush(self) -> None:
        """Write what is held; called at the end too."""
        if self._held:
            lines, self._held = bytes(self._held), bytearray()
            self._sink(lines)

    def _add(self, line: Line | Event) -> None:
        if not self._held:
            asyncio.get_running_loop().call_soon(self.flush)
        self._held += self._encoder.encode(line)
        self._held += b"\n"
        if len(self._held) > _MOST_HELD:
            self.flush()
