"""One caller's connection in the general lane: aiohttp's protocol, with what it leaves open decided here.

A head may take so long and be so large; a body that breaks off is told to its reader; errors of parsing are answered in
JSON; the last answer is followed by a lingering close, since closing on unread input makes TCP throw the answer away
(RFC 9112 9.6). End of input means the caller is gone (design section 6). Refuses to know what a request means.
Some names of aiohttp used here begin with `_`: tests/edge holds them to what we rely on, and the version is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from aiohttp import http_exceptions, web
from aiohttp.http_parser import HttpRequestParser

from sidecar.core.errors import Reason, Refusal, render
from sidecar.core.limits import SECOND
from sidecar.edge.head import HEAD_TOO_LARGE, MAX_HEAD_BYTES
from sidecar.edge.open_connections import OpenConnections
from sidecar.edge.reply import Asked, Dates, HttpReply, Wire, last_answer
from sidecar.edge.watched_parser import HeadTooLarge, WatchedParser
from sidecar.interfaces import ClientGone, Clock, Timer, sleep_until

# How long input is thrown away after a last answer. Libraries that look at the answer only when they have sent all
# (http.client) get 5 s to do so.
_LINGER_NS = 5 * SECOND
# Messages of these are aiohttp's own words in their first line; those of other errors quote the request.
_PLAIN_SPOKEN = (http_exceptions.BadHttpMessage, http_exceptions.BadHttpMethod, http_exceptions.BadStatusLine)


class EdgeTiming(NamedTuple):
    """How long a caller may take for a head and for a body, and how long a connection may stay idle after a request."""

    client_headers_ns: int
    client_body_ns: int
    client_idle_ns: int


class Connection(web.RequestHandler):
    """A caller's connection. Made for a new transport, or for one that the fast lane hands over with its bytes."""

    __slots__ = ("_clock", "_dates", "_head_due_ns", "_head_timer", "_is_lingering", "_open", "_timing", "_watched")

    def __init__(
        self, server: web.Server, open_connections: OpenConnections, timing: EdgeTiming, clock: Clock, dates: Dates
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=timing.client_idle_ns / SECOND,
            logger=logging.getLogger("sidecar.edge"),
            access_log=None,  # type: ignore[arg-type]  # documented as allowed; the gateway writes the access line
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=8 * MAX_HEAD_BYTES,  # never reached: the bytes of the head are counted instead
            lingering_time=0,  # our own `linger` also lets the caller see the end of the answer
            auto_decompress=False,
        )
        assert isinstance(self._parser, HttpRequestParser)
        self._watched = WatchedParser(self._parser)
        self._parser = self._watched  # type: ignore[assignment]
        self._open = open_connections
        self._timing = timing
        self._clock = clock
        self._dates = dates
        self._head_due_ns: int | None = None  # of a head that another protocol began to read
        self._head_timer: Timer | None = None
        self._is_lingering = False

    def __repr__(self) -> str:
        state = "idle" if self.is_idle else "lingering" if self._is_lingering else "busy"
        return f"Connection({self.peername}, {state}, requests={self._request_count})"

    # what the fast lane calls

    def take_over(self, transport: asyncio.Transport, received: bytes, head_due_ns: int) -> None:
        """Serve a connection from here on. `received`: a head, or a part of one that is due then, and what follows."""
        self._head_due_ns = head_due_ns
        transport.set_protocol(self)
        self.connection_made(transport)
        self._head_due_ns = None
        self.data_received(received)

    def see_off(self, transport: asyncio.Transport) -> None:
        """Let a caller read its last answer: throw away what it still sends until it closes, or for 5 s."""
        self.take_over(transport, b"", self._clock.now_ns() + _LINGER_NS)
        self._linger_unawaited()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._task_handler is not None
        self._open.add(self, self._task_handler)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        if not self._is_lingering:
            super().data_received(data)
            self._watch_head()

    def eof_received(self) -> None:
        # A full buffer would keep a closing transport from ever telling that the caller is gone.
        if self._is_busy and not self._is_lingering and self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)
        self._open.remove(self)

    # what aiohttp calls

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP; the only errors that aiohttp itself finds before our code runs."""
        return _Refused(self, _refusal_of(exc))

    # what the lane and the reply call

    @property
    def is_idle(self) -> bool:
        """Nothing of a request has come that is not answered."""
        return not (self._is_busy or self._watched.head_bytes or self._is_lingering)

    @property
    def is_last(self) -> bool:
        """No further request will be served here, because the process drains."""
        return self._open.is_draining

    def write(self, piece: bytes) -> None:
        """Hand over to the transport; ClientGone when the connection is closed."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(piece)

    async def writable(self) -> None:
        """Wait while the transport holds more than it wants to; ClientGone when the connection closes."""
        if not self.writing_paused:
            return
        try:
            await self._drain_helper()
        except ConnectionError as error:
            raise ClientGone from error
        if self.transport is None:
            raise ClientGone

    def abort(self) -> None:
        """Close at once, throwing away what is not sent."""
        if self.transport is not None:
            self.transport.abort()

    def date(self) -> bytes:
        """The value of a Date header now."""
        return self._dates()

    def request_ended(self) -> None:
        """An answer is finished: a head of which a part is here already has its own time to come."""
        self._watch_head(is_between=True)

    async def refuse(self, reply: HttpReply, refusal: Refusal, *, is_last: bool) -> None:
        """Answer with a refusal; `is_last`: input that nobody will read follows, so the connection ends."""
        if is_last:
            reply.keeps_alive = False
        answer = render(refusal, refusal.dialect)
        await reply.send(answer.status, answer.headers, answer.body)
        if is_last:
            await self._linger()

    async def _linger(self) -> None:
        """Throw input away until the caller closes, which cancels this, or for 5 s."""
        if self._end_output():
            await sleep_until(self._clock, self._clock.now_ns() + _LINGER_NS)

    def _end_output(self) -> bool:
        """Say that no more is written, and read on without looking; False when the connection is gone already."""
        self._is_lingering = True
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        try:
            transport.write_eof()
        except OSError:
            return False  # reset meanwhile
        self._resume_transport_reading()
        return True

    # the time a head may take

    @property
    def _is_busy(self) -> bool:
        return self._request_in_progress or bool(self._messages)

    def _watch_head(self, *, is_between: bool = False) -> None:
        is_waiting = not self._messages and (is_between or not self._request_in_progress)
        if is_waiting and (self._watched.head_bytes or not self._request_count):
            if self._head_timer is None:
                when = self._head_due_ns or self._clock.now_ns() + self._timing.client_headers_ns
                self._head_timer = self._clock.call_at(when, self._head_is_late)
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is None:
            return
        if not self._watched.head_bytes:
            self.force_close()
            return
        seconds = self._timing.client_headers_ns / SECOND
        refusal = Refusal(Reason.BODY_TIMEOUT, f"the head of the request was not complete within {seconds:g} s")
        self.transport.write(last_answer(render(refusal), self._dates))
        self._linger_unawaited()

    def _linger_unawaited(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._end_output():
            self._head_timer = self._clock.call_at(self._clock.now_ns() + _LINGER_NS, self.force_close)
        else:
            self.force_close()


class Way(Wire):
    """To the caller at the other end of such a connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def is_last(self) -> bool:
        return self._connection.is_last

    def is_stalled(self) -> bool:
        return self._connection.writing_paused

    def write(self, piece: bytes) -> None:
        self._connection.write(piece)

    async def writable(self) -> None:
        await self._connection.writable()

    def abort(self) -> None:
        self._connection.abort()

    def date(self) -> bytes:
        return self._connection.date()


class _Refused(web.StreamResponse):
    """Stands where aiohttp wants a response, for what never became a request."""

    def __init__(self, connection: Connection, refusal: Refusal) -> None:
        super().__init__()
        self._connection = connection
        self._refusal = refusal

    @property
    def keep_alive(self) -> bool:
        return False

    async def prepare(self, request: web.BaseRequest) -> None:
        reply = HttpReply(Way(self._connection), Asked(is_head=False, is_http_1_0=False, keeps_alive=False))
        try:
            await self._connection.refuse(reply, self._refusal, is_last=True)
        except ClientGone:
            return

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything is written by `prepare`."""


def _refusal_of(error: BaseException | None) -> Refusal:
    if isinstance(error, (HeadTooLarge, http_exceptions.LineTooLong)):
        return HEAD_TOO_LARGE
    detail = ""
    if isinstance(error, http_exceptions.InvalidURLError):
        detail = ": the target has characters that a URI has not"
    elif type(error) in _PLAIN_SPOKEN:
        detail = ": " + str(getattr(error, "message", "")).partition("\n")[0].rstrip(":")
    return Refusal(Reason.INVALID_HTTP, f"the request is not valid HTTP/1.1{detail}")
