"""The general lane: any HTTP/1.x request, on aiohttp's low-level server, to one `Service`. Who listens is lanes.py's.

One request: head -> enter (before its body is read, before `100 Continue`) -> body, counted piece by piece -> handle.
A caller that leaves at any point cancels all of it. Decides nothing about what a request asks for.
aiohttp without its C parser is refused: the one in Python reads some messages differently (acceptance C11).
"""

from __future__ import annotations

import logging
from typing import cast

from aiohttp import http_exceptions, http_parser, web
from aiohttp.web_protocol import RequestPayloadError

from sidecar.core.errors import Reason, Refusal
from sidecar.core.http import Request
from sidecar.edge.connection import Connection, EdgeTiming, Way
from sidecar.edge.head import read_head
from sidecar.edge.open_connections import OpenConnections
from sidecar.edge.refusals import ENDS_CONNECTION, late_body, unfinished
from sidecar.edge.reply import CONTINUE, Asked, Dates, HttpReply
from sidecar.interfaces import ClientGone, Clock, Entry, Service

_log = logging.getLogger("sidecar.edge")


class PurePythonParser(RuntimeError):
    """aiohttp was installed or started without its C extension."""


class _BodyLate(Exception):
    """The caller took too long for its body."""


class GeneralLane:
    """Makes protocols, for new connections and for those that the fast lane gives up. Made inside a running loop."""

    def __init__(self, service: Service, timing: EdgeTiming, clock: Clock, open_connections: OpenConnections) -> None:
        require_c_parser(http_parser.HttpRequestParser)
        self._service = service
        self._timing = timing
        self._clock = clock
        self._dates = Dates(clock.now_ns)
        self._open = open_connections
        self._server = web.Server(self._serve, handler_cancellation=True)

    def make_protocol(self) -> Connection:
        """A protocol for one new connection, or for one to take over."""
        return Connection(self._server, self._open, self._timing, self._clock, self._dates)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        # aiohttp 3.14 takes the last trailer of a chunked body for a header of the next request: let there be none
        keeps_alive = request.keep_alive and "transfer-encoding" not in request.headers
        reply = HttpReply(
            Way(connection), Asked(request.method == "HEAD", tuple(request.version) == (1, 0), keeps_alive)
        )
        try:
            refusal = await self._exchange(connection, request, reply) or unfinished(reply)
            if refusal is not None:
                is_last = refusal.reason in ENDS_CONNECTION or not request.content.is_eof()
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
        entry = self._service.enter(head.method, head.target, head.headers, head.length, head.notes)
        if isinstance(entry, Refusal):
            return entry
        try:
            if head.expects_continue and not request.content.is_eof():
                connection.write(CONTINUE)
            body = await self._body(request, entry)
            if isinstance(body, Refusal):
                return self._service.refused(head.method, head.target, body)
            is_measured = head.length is not None
            await self._service.handle(
                Request(head.method, head.target, head.headers, body, entry.caller, is_measured, head.notes), reply
            )
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
            return late_body(self._timing.client_body_ns)
        except (http_exceptions.HttpProcessingError, RequestPayloadError):
            return Refusal(Reason.INVALID_HTTP, "the body does not follow the framing that its head declares")
        except ConnectionError as error:
            raise ClientGone from error
        finally:
            if timer is not None:
                timer.cancel()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


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


_KEEP = _Written(keeps_alive=True)
_CLOSE = _Written(keeps_alive=False)


def require_c_parser(parser: type) -> None:
    """Raise PurePythonParser unless that is aiohttp's parser in C."""
    if parser is http_parser.HttpRequestParserPy:
        raise PurePythonParser(
            "aiohttp runs without its C parser; unset AIOHTTP_NO_EXTENSIONS, or install a binary wheel of aiohttp "
            "(`pip install --only-binary :all: aiohttp`)"
        )
