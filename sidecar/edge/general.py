"""The general lane: any HTTP/1.x request, on aiohttp's low-level server, to one `Service`.

One request: head -> enter (before its body is read, before `100 Continue`) -> body, counted piece by piece -> handle.
A caller that leaves at any point cancels all of it. Decides nothing about what a request asks for.
aiohttp without its C parser is refused: the one in Python reads some messages differently (acceptance C11).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import cast

from aiohttp import http_exceptions, http_parser, web
from aiohttp.web_protocol import RequestPayloadError

from sidecar.core.config import Address
from sidecar.core.errors import Reason, Refusal
from sidecar.core.http import Request
from sidecar.core.limits import SECOND
from sidecar.edge.connection import Connection, EdgeTiming
from sidecar.edge.head import read_head
from sidecar.edge.listening import address_of, open_sockets
from sidecar.edge.open_connections import OpenConnections
from sidecar.edge.reply import CONTINUE, Asked, Dates, HttpReply
from sidecar.interfaces import ClientGone, Clock, Entry, Service

# What follows such a head is not to be trusted to be the next one (after CONNECT it is not even HTTP).
_ENDS_CONNECTION = frozenset({Reason.INVALID_HTTP, Reason.HEADERS_TOO_LARGE, Reason.METHOD_NOT_ALLOWED})
_BACKLOG = 1024  # a burst of as many callers waits in the kernel rather than being refused
_log = logging.getLogger("sidecar.edge")


class PurePythonParser(RuntimeError):
    """aiohttp was installed or started without its C extension."""


class _BodyLate(Exception):
    """The caller took too long for its body."""


class GeneralLane:
    """Listens, serves, drains. Made inside a running event loop."""

    def __init__(self, service: Service, timing: EdgeTiming, clock: Clock) -> None:
        require_c_parser(http_parser.HttpRequestParser)
        self._service = service
        self._timing = timing
        self._clock = clock
        self._dates = Dates(clock.now_ns)
        self._open = OpenConnections()
        self._listeners: list[asyncio.Server] = []
        self._server = web.Server(self._serve, handler_cancellation=True)

    def __repr__(self) -> str:
        return f"GeneralLane({len(self._listeners)} listeners, {self._open!r})"

    async def start(self, listen: Sequence[Address]) -> list[Address]:
        """Listen on all of these or raise CannotListen; the addresses as bound, optional ones if they exist."""
        sockets = open_sockets(listen)
        addresses = [address_of(each) for each in sockets]
        loop = asyncio.get_running_loop()
        for each in sockets:
            self._listeners.append(await loop.create_server(self.make_protocol, sock=each, backlog=_BACKLOG))
        return addresses

    def make_protocol(self) -> Connection:
        """A protocol for one new connection, or for one to take over: `set_protocol`, `connection_made`, its bytes."""
        return Connection(self._server, self._open, self._timing, self._clock, self._dates)

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

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        # aiohttp 3.14 takes the last trailer of a chunked body for a header of the next request: let there be none
        keeps_alive = request.keep_alive and "transfer-encoding" not in request.headers
        reply = HttpReply(connection, Asked(request.method == "HEAD", tuple(request.version) == (1, 0), keeps_alive))
        try:
            refusal = await self._exchange(connection, request, reply) or _unfinished(reply)
            if refusal is not None:
                is_last = refusal.reason in _ENDS_CONNECTION or not request.content.is_eof()
                await connection.refuse(reply, refusal, is_last=is_last)
        except ClientGone:
            return _CLOSE
        connection.request_ended()
        return _KEEP if reply.keeps_alive and not connection.is_last else _CLOSE

    async def _exchange(self, connection: Connection, request: web.BaseRequest, reply: HttpReply) -> Refusal | None:
        """One request from its head to the end of its answer; a Refusal where nothing is answered yet."""
        try:
            return await self._pass_on(connection, request, reply)
        except ClientGone:
            raise
        except Exception:
            # the outermost catch of a request: whatever is wrong with us, the caller is told, and the process lives
            _log.exception("a request failed inside the proxy")
            return None

    async def _pass_on(self, connection: Connection, request: web.BaseRequest, reply: HttpReply) -> Refusal | None:
        head = read_head(request)
        if isinstance(head, Refusal):
            return head
        entry = self._service.enter(head.method, head.target, head.headers, head.length)
        if isinstance(entry, Refusal):
            return entry
        try:
            if head.expects_continue and not request.content.is_eof():
                connection.write(CONTINUE)
            body = await self._body(request, entry)
            if isinstance(body, Refusal):
                return body
            await self._service.handle(Request(head.method, head.target, head.headers, body, entry.caller), reply)
            return None
        finally:
            entry.leave()

    async def _body(self, request: web.BaseRequest, entry: Entry) -> bytes | Refusal:
        """The whole body. Its pieces are joined once, so that it never costs more than twice its size."""
        content = request.content
        timer = None
        if not content.is_eof():
            late_ns = self._clock.now_ns() + self._timing.client_body_ns
            timer = self._clock.call_at(late_ns, content.set_exception, _BodyLate())
        pieces: list[bytes] = []
        try:
            while piece := await content.readany():
                refusal = entry.grow(len(piece))
                if refusal is not None:
                    return refusal
                pieces.append(piece)
        except _BodyLate:
            return self._late_body()
        except (http_exceptions.HttpProcessingError, RequestPayloadError):
            return Refusal(Reason.INVALID_HTTP, "the body does not follow the framing that its head declares")
        except ConnectionError as error:
            raise ClientGone from error
        finally:
            if timer is not None:
                timer.cancel()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _late_body(self) -> Refusal:
        seconds = self._timing.client_body_ns / SECOND
        return Refusal(Reason.BODY_TIMEOUT, f"the body was not complete within {seconds:g} s (timeouts.client_body)")


def _unfinished(reply: HttpReply) -> Refusal | None:
    """What becomes of an answer that the service left as it is: none is made up, and none is left hanging."""
    if reply.is_fresh:
        return _INTERNAL
    if not reply.is_finished:
        reply.abort()
    return None


class _Written(web.StreamResponse):
    """Stands where aiohttp wants a response, when the answer is on the wire already."""

    def __init__(self, *, keeps_alive: bool) -> None:
        super().__init__()
        self._keeps_alive = keeps_alive

    @property
    def keep_alive(self) -> bool:
        return self._keeps_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to send."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


_INTERNAL = Refusal(Reason.INTERNAL, "the proxy failed on this request; its log says how")
_KEEP = _Written(keeps_alive=True)
_CLOSE = _Written(keeps_alive=False)


def require_c_parser(parser: type) -> None:
    """Raise PurePythonParser unless that is aiohttp's parser in C."""
    if parser is http_parser.HttpRequestParserPy:
        raise PurePythonParser(
            "aiohttp runs without its C parser; unset AIOHTTP_NO_EXTENSIONS, or install a binary wheel of aiohttp "
            "(`pip install --only-binary :all: aiohttp`)"
        )
