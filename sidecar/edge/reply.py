"""Answers as bytes on the wire: status line, headers as given, framing and Date. Used by both lanes (RFC 9112).

Adds nothing else: no Server, no default content-type, since an answer is to be what the provider sent. Decides the
framing (length, chunks, or the end of the connection) and whether the connection lives on; knows no library, only a
`Wire` to write to.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple

from sidecar.core.chunks import content
from sidecar.core.errors import Answer
from sidecar.core.http import Lines
from sidecar.core.limits import SECOND
from sidecar.extensible import mypyc_attr

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# Below this, copying the body behind its head is cheaper than a second system call.
_JOIN_BYTES: Final = 64 * 1024
_STATUS_LINES: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_DATE: Final = re.compile(rb"^date:", re.IGNORECASE | re.MULTILINE)


@mypyc_attr(allow_interpreted_subclasses=True)
class Wire(ABC):
    """The caller's connection, as far as an answer needs it."""

    __slots__ = ()

    @abstractmethod
    def is_last(self) -> bool:
        """Whether no further request will be served here, because the process drains."""

    @abstractmethod
    def is_stalled(self) -> bool:
        """Whether the transport holds more than it wants to: `writable` would wait."""

    @abstractmethod
    def write(self, piece: bytes) -> None:
        """Hand over to the transport; ClientGone when the connection is closed."""

    @abstractmethod
    async def writable(self) -> None:
        """Wait while the transport holds more than it wants to; ClientGone when the connection closes."""

    @abstractmethod
    def abort(self) -> None:
        """Close at once, throwing away what is not sent."""

    @abstractmethod
    def date(self) -> bytes:
        """The value of a Date header now."""


class Asked(NamedTuple):
    """What of a request shapes the framing of its answer."""

    is_head: bool
    is_http_1_0: bool
    keeps_alive: bool


class _Phase(enum.Enum):
    FRESH = enum.auto()
    STARTED = enum.auto()
    FINISHED = enum.auto()  # whole, or given up


_FRESH, _STARTED, _FINISHED = _Phase  # an attribute of a class costs more than a global


class HttpReply:
    """Implements `interfaces.Reply` on a Wire."""

    __slots__ = ("_asked", "_has_body", "_is_chunked", "_left", "_phase", "_wire", "keeps_alive")

    def __init__(self, wire: Wire, asked: Asked) -> None:
        self._wire = wire
        self._asked = asked
        self._phase = _FRESH
        self._has_body = True
        self._is_chunked = False
        self._left: int | None = None  # bytes still owed of a declared length
        self.keeps_alive = asked.keeps_alive  # may be set to False before the head goes out

    def __repr__(self) -> str:
        return f"HttpReply({self._phase.name}, left={self._left}, keeps_alive={self.keeps_alive})"

    @property
    def is_fresh(self) -> bool:
        """Nothing of the answer is written yet."""
        return self._phase is _FRESH

    @property
    def is_finished(self) -> bool:
        """The answer is whole, or given up; nothing more is written."""
        return self._phase is _FINISHED

    async def send(self, status: int, headers: Lines, body: bytes) -> None:
        """A whole answer in one write."""
        framing = b"content-length: %d\r\n" % len(body) if status == 200 or _may_have_body(status) else b""
        if self._asked.is_head or not framing:
            body = b""
        if len(body) < _JOIN_BYTES:
            self._wire.write(self._open(status, headers, framing, body))
        else:
            self._wire.write(self._open(status, headers, framing))
            self._wire.write(body)
        self._phase = _FINISHED
        if self._wire.is_stalled():
            await self._wire.writable()

    async def start(self, status: int, headers: Lines, length: int | None) -> None:
        """The head of a streamed answer; `length` in bytes where known, else chunks, or for HTTP/1.0 the end."""
        self._has_body = _may_have_body(status) and not self._asked.is_head
        framing = b""
        if length is not None and _may_have_body(status):
            framing = b"content-length: %d\r\n" % length
            self._left = length if self._has_body else None
        elif self._has_body and self._asked.is_http_1_0:
            self.keeps_alive = False
        elif self._has_body:
            framing = b"transfer-encoding: chunked\r\n"
            self._is_chunked = True
        self._wire.write(self._open(status, headers, framing))
        if self._wire.is_stalled():
            await self._wire.writable()

    async def write(self, chunk: bytes) -> None:
        """A piece of the body, passed on at once. Dropped where the answer has none (HEAD, 204, 304)."""
        self._put(chunk)
        if self._wire.is_stalled():
            await self._wire.writable()

    def _put(self, chunk: bytes) -> None:
        self._expect(_STARTED)
        if not chunk or not self._has_body:
            return
        if self._left is not None:
            if len(chunk) > self._left:
                raise ValueError(f"{len(chunk)} bytes of body where {self._left} were left of the declared length")
            self._left -= len(chunk)
        # one write, for a chunk in pieces would leave in several packets (TCP_NODELAY is on)
        self._wire.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunked else chunk)

    def push(self, piece: bytes, is_framed: bool) -> bool:
        """A piece of the body, without waiting; False where `drained` would wait. Chunks go through as they came."""
        if is_framed and self._is_chunked and self._phase is _STARTED:
            self._wire.write(piece)
        else:
            self._put((content(piece) or b"") if is_framed else piece)
        return not self._wire.is_stalled()

    async def drained(self) -> None:
        """Wait while the caller reads more slowly than we write."""
        if self._wire.is_stalled():
            await self._wire.writable()

    async def finish(self) -> None:
        """The end of the body; the connection stays usable. A body shorter than declared aborts the connection."""
        self._expect(_STARTED)
        if self._left:
            self.abort()
            return
        if self._is_chunked:
            self._wire.write(b"0\r\n\r\n")
        self._phase = _FINISHED
        if self._wire.is_stalled():
            await self._wire.writable()

    def abort(self) -> None:
        """Close the connection without ending the body, so that the caller sees the answer is not whole."""
        self._phase = _FINISHED
        self.keeps_alive = False
        self._wire.abort()

    def _open(self, status: int, headers: Lines, framing: bytes, body: bytes = b"") -> bytes:
        if self._phase is not _FRESH:
            self._expect(_FRESH)
        self._phase = _STARTED
        if self._wire.is_last():
            self.keeps_alive = False
        if not self.keeps_alive:
            framing += b"connection: close\r\n"
        elif self._asked.is_http_1_0:
            framing += b"connection: keep-alive\r\n"
        return head_bytes(status, headers, framing, self._wire.date) + body

    def _expect(self, phase: _Phase) -> None:
        if self._phase is not phase:
            raise RuntimeError(f"the answer is {self._phase.name}, not {phase.name}")


def head_bytes(status: int, headers: Lines, framing: bytes, date: Callable[[], bytes]) -> bytes:
    """The head of an answer, with the blank line. `framing` are whole lines of our own; Date is added where missing."""
    first = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    lines = headers if isinstance(headers, bytes) else b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.find(b"\nDate: ") < 0 and _DATE.search(lines) is None:
        lines += b"date: %b\r\n" % date()
    return b"%b%b%b\r\n" % (first, lines, framing)


def last_answer(answer: Answer, date: Callable[[], bytes]) -> bytes:
    """A whole answer to what never became a request, on a connection that closes after it."""
    framing = b"content-length: %d\r\nconnection: close\r\n" % len(answer.body)
    return head_bytes(answer.status, answer.headers, framing, date) + answer.body


class Dates:
    """The value of Date (RFC 9110 5.6.7), made once a second."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._until_ns = 0
        self._value = b""

    def __call__(self) -> bytes:
        now_ns = self._now_ns()
        if now_ns >= self._until_ns:
            second = now_ns // SECOND
            self._until_ns = (second + 1) * SECOND
            self._value = formatdate(second, usegmt=True).encode()
        return self._value


def _may_have_body(status: int) -> bool:
    return status >= 200 and status not in (204, 304)
