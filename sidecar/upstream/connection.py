"""One connection to a provider, carrying one exchange at a time.

It decides when bytes are written, when reading pauses because nobody takes them, and what a lost connection means for
the answer in progress. It knows no pool, no retry, no name and no TLS: asyncio hands it a transport, and an Owner is
told when it is free or gone. HTTP is `reader`'s.

This is the hot path: one future per wait, one timer per connection that is armed again only when it fires early, no
task; what flows (`Response.flow`) is handed on without any of these. Uploads are pumped by the transport's own
callbacks, so an early answer is seen while one is under way.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from sidecar.core.hot_answer import Patterns
from sidecar.core.outcomes import Outcome
from sidecar.interfaces import Clock, Timer
from sidecar.upstream.reader import Reader
from sidecar.upstream.response import MAX_UNREAD_BYTES, Carrier, Response

# One write of an upload. The transport is given a view of it, so nothing is copied that the socket takes at once; TLS
# keeps as much of it encrypted.
_SLICE_BYTES: Final = 1024 * 1024
_JOINED_BYTES: Final = 16 * 1024  # smaller bodies go out with their head in one piece
_NEVER_NS: Final = 1 << 63


class Owner(Protocol):
    """Whoever hands out connections."""

    def freed(self, connection: Connection) -> None:
        """The answer is complete and the connection can carry another request."""

    def gone(self, connection: Connection) -> None:
        """The connection is closed. Told once."""


class Shelf:
    """The idle connections to one origin, in the order they became idle; and how answers from there begin."""

    __slots__ = ("idle", "patterns")

    def __init__(self) -> None:
        self.idle: Final[dict[Connection, None]] = {}
        self.patterns: Final = Patterns()


class Connection(Carrier):
    """A connection. Made by its owner, closed by `abort` or by the peer.

    An `asyncio.Protocol` in all but descent, which would keep it from being compiled as a class with slots.
    """

    __slots__ = (
        "_armed_ns",
        "_clock",
        "_deadline_ns",
        "_farewell",
        "_is_lost",
        "_is_stalled",
        "_loop",
        "_owner",
        "_reader",
        "_response",
        "_timer",
        "_transport",
        "_upload",
        "expires_ns",
        "is_closed",
        "retires_ns",
        "shelf",
    )

    def __init__(self, clock: Clock, owner: Owner, shelf: Shelf, retires_ns: int) -> None:
        # the owner's notes: where it keeps the connection while idle, and until when (Unix ns)
        self.shelf = shelf
        self.retires_ns = retires_ns
        self.expires_ns = retires_ns
        self.is_closed = False
        self._clock = clock
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(shelf.patterns)
        self._response: Response | None = None  # None while idle
        self._upload: memoryview | None = None  # what is still to be written of a large body
        self._is_stalled = False  # the transport holds enough
        self._timer: Timer | None = None
        self._armed_ns = _NEVER_NS
        self._deadline_ns = _NEVER_NS
        self._is_lost = False  # the transport has let go of its socket
        self._farewell: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "idle" if self._response is None else "leased"
        return f"<Connection {state} {self._response!r}>"

    @property
    def is_usable(self) -> bool:
        """Whether a request may be written, as far as anyone can tell."""
        return not self.is_closed and self._transport is not None and not self._transport.is_closing()

    @property
    def has_heard_nothing(self) -> bool:
        """Whether not one byte has come since the last request, when its answer has no status."""
        return self._reader.unheard == 0

    # === the owner's side ===

    def request(self, head: bytes, body: bytes) -> Response:
        """Send a request; `head` ends with the blank line. The connection must be usable and idle."""
        transport = cast(asyncio.Transport, self._transport)
        response = self._response = Response(self)
        self._reader.begin(response, skips_body=head.startswith(b"HEAD "))
        if len(body) <= _JOINED_BYTES:
            transport.write(head + body)
        elif len(body) <= _SLICE_BYTES:
            transport.writelines((head, body))
        else:
            transport.write(head)
            self._upload = memoryview(body)
            self._pump()
        return response

    def abort(self) -> None:
        """Close at once, whatever is under way; harmless when closed. Never `close()`: uvloop lingers 30 s over TLS."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._reader.close()
        self._upload = None
        if self._transport is not None:
            self._transport.abort()
        response, self._response = self._response, None
        if response is not None:
            response.fail(Outcome.BROKEN, "closed from this side")
        self._owner.gone(self)

    async def lost(self) -> None:
        """Wait until the transport has let go of its socket."""
        if self._transport is not None and not self._is_lost:
            self._farewell = self._loop.create_future()
            await self._farewell

    # === the answer's side ===

    def expect(self, deadline_ns: int) -> asyncio.Future[None]:
        """A future for the next change of the answer, which fails when none comes until `deadline_ns`."""
        self._deadline_ns = deadline_ns
        if deadline_ns < self._armed_ns:
            self._arm(deadline_ns)
        return self._loop.create_future()

    def resume(self) -> None:
        """Read on after a pause."""
        cast(asyncio.Transport, self._transport).resume_reading()

    def _arm(self, when_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = when_ns
        self._timer = self._clock.call_at(when_ns, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._armed_ns = _NEVER_NS
        response = self._response
        if response is None or not response.is_awaited:
            return  # the next to wait arms it again
        if self._clock.now_ns() < self._deadline_ns:
            self._arm(self._deadline_ns)
        elif response.status:
            self._fail(Outcome.CONTENT_TIMEOUT, "no more of the body in time")
        else:
            self._fail(Outcome.HEADERS_TIMEOUT, "no status in time")

    def _fail(self, outcome: Outcome, detail: str) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.fail(outcome, detail)
        self.abort()

    # === asyncio's side ===

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came, then wake the reader once for all of it."""
        response = self._response
        if response is None:
            self.abort()  # nobody asked: a 408 on an idle connection, say
            return
        taker = response.taker
        if taker is not None and self._reader.is_between:
            goes_on = taker.take_chunk(data)
            if goes_on is None and (content := self._reader.whole_chunks(data)) is not None:
                goes_on = taker.take(content, data)
            if goes_on is not None:
                self._deadline_ns = self._clock.now_ns() + response.idle_ns
                if not goes_on:
                    response.wake()
                return
        wrong = self._reader.feed(data)
        if response.complete:
            self._finish(response)
        elif wrong is not None:
            self._fail(Outcome.BROKEN, wrong)
        elif response.status:
            self._advance(response, len(data))

    def _advance(self, response: Response, size: int) -> None:
        if self._upload is not None and response.status >= 300:
            # Refused: the rest of the upload is not wanted (RFC 9112, 9.5). A success may stream both ways: go on.
            self._upload = None
            self._reader.may_reuse = False
        if response.taker is not None:
            if response.pieces:
                self._deadline_ns = self._clock.now_ns() + response.idle_ns
                if not response.taker.take(response.taken(), None):
                    response.wake()
            return
        response.unread += size
        if response.unread > MAX_UNREAD_BYTES:
            cast(asyncio.Transport, self._transport).pause_reading()
        response.wake()

    def _finish(self, response: Response) -> None:
        self._response = self._reader.response = None
        unsent = self._upload is not None or cast(asyncio.Transport, self._transport).get_write_buffer_size()
        if self._reader.may_reuse and not unsent:
            self._owner.freed(self)
        else:
            self.abort()
        response.finish()

    def _ended(self, *, is_clean: bool) -> None:
        response = self._response
        if response is None:
            self.abort()
        elif not response.status:
            self._fail(Outcome.AMBIGUOUS, "connection lost before a status")
        elif is_clean and self._reader.ends_with_connection():
            self._reader.may_reuse = False
            self._finish(response)
        else:
            self._fail(Outcome.BROKEN, "connection lost inside the body")

    def eof_received(self) -> None:
        """The peer has said all it will say."""
        self._ended(is_clean=True)

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed."""
        self._is_lost = True
        if self._farewell is not None and not self._farewell.done():
            self._farewell.set_result(None)
        self._ended(is_clean=error is None)

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._is_stalled = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._is_stalled = False
        self._pump()

    def _pump(self) -> None:
        while self._upload is not None and not self._is_stalled:
            piece, rest = self._upload[:_SLICE_BYTES], self._upload[_SLICE_BYTES:]
            self._upload = rest if len(rest) else None  # before the write, which may pause us
            cast(asyncio.Transport, self._transport).write(piece)
