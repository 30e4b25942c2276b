"""One answer of a provider: its head, and its body as it comes.

It decides when a waiting reader is woken and what a reader sees when the connection dies: first everything received,
then the fault. Who wants no pause between coming and going has each piece handed over as it comes (`flow`). It refuses
to know HTTP (`reader` fills it) and sockets (a Carrier brings the bytes). It outlives its exchange: once complete, the
connection serves the next request while this is still being read.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from sidecar.core.hot_answer import Known
from sidecar.core.http import Header
from sidecar.core.outcomes import Fault, Outcome
from sidecar.extensible import mypyc_attr
from sidecar.interfaces import Clock

# Unread bytes at which reading pauses: half of what asyncio or uvloop receive at most at once. What has been received
# is held up to four times on its way (pieces, joined, framed, in the transport); with 256 KiB here, a caller that does
# not read cost 2.8 MB of resident memory, with 128 KiB it is 1.6 (acceptance E4 allows 2).
MAX_UNREAD_BYTES: Final = 128 * 1024


@mypyc_attr(allow_interpreted_subclasses=True)
class Taker(ABC):
    """Whoever takes the pieces of a body as they come."""

    __slots__ = ()

    @abstractmethod
    def take_chunk(self, data: bytes) -> bool | None:
        """Take input between two chunks, if it is one whole chunk of a kind that needs no reading, and say whether to
        go on; None: it is not, and was not taken."""

    @abstractmethod
    def take(self, piece: bytes, framed: bytes | None) -> bool:
        """Take a piece of the body, `framed` as whole chunks where it came so; whether to go on."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Carrier(ABC):
    """The connection an answer comes over."""

    __slots__ = ()

    @abstractmethod
    def expect(self, deadline_ns: int) -> asyncio.Future[None]:
        """A future for the next change; when it does not come until `deadline_ns` (Unix ns), the answer fails."""

    @abstractmethod
    def resume(self) -> None:
        """Read on after a pause."""

    @abstractmethod
    def abort(self) -> None:
        """Close at once."""


class Response:
    """One answer. `length` as declared, None when it was not; `known`: its head, where one like it was seen before.

    `complete` says that everything has been received, though some of it may still be unread.
    """

    __slots__ = (
        "_carrier", "_failure", "_headers", "_waiter", "complete", "idle_ns", "known", "length", "pieces", "status",
        "taker", "unread"
    )  # fmt: skip

    def __init__(self, carrier: Carrier) -> None:
        self.status = 0  # 0 until the head has arrived
        self.known: Known | None = None
        self._headers: list[Header] | None = None
        self.length: int | None = None
        self.complete = False
        self.pieces: list[bytes] = []  # of the body, received and not yet read
        self.unread = 0  # bytes received since the last read, framing included
        self.taker: Taker | None = None  # while it flows
        self.idle_ns = 0  # how long it may then be silent
        self._carrier: Carrier | None = carrier  # None when complete or failed
        self._failure: tuple[Outcome, str] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "complete" if self.complete else self._failure[0].value if self._failure else "open"
        return f"<Response {self.status} {state} unread={sum(map(len, self.pieces))}>"

    @property
    def headers(self) -> list[Header]:
        """All headers, in the order received, names lower-case."""
        if self._headers is None:
            self._headers = [] if self.known is None else self.known.headers
        return self._headers

    @headers.setter
    def headers(self, headers: list[Header]) -> None:
        self._headers = headers

    # === the reader's side ===

    async def arrive(self, deadline_ns: int) -> Response:
        """Itself, once the head is there. Raises Fault when it does not come; cancelling closes the connection."""
        if not self.status:
            try:
                await self.change(deadline_ns)
            except BaseException:  # cancelled: nobody is left to read the rest
                self.abort()
                raise
        if not self.status:
            raise self._fault()
        return self

    def take(self) -> bytes | None:
        """The whole body, where all of it is here and none was read; else None, and nothing has happened."""
        return self.taken() if self.complete else None

    async def read(self, deadline_ns: int) -> bytes:
        """What has come of the body, as soon as that is anything; b"" when it is complete.

        Raises Fault: CONTENT_TIMEOUT when nothing came until `deadline_ns` (Unix ns), BROKEN when the body broke off.
        A fault is final and has closed the connection. Cancelling closes it too.
        """
        while not self.pieces:
            if self.complete:
                return b""
            try:
                await self.change(deadline_ns)
            except BaseException:  # cancelled, as above
                self.abort()
                raise
        content = self.taken()
        if self.unread > MAX_UNREAD_BYTES and self._carrier is not None:
            self._carrier.resume()
        self.unread = 0
        return content

    async def flow(self, taker: Taker, clock: Clock, idle_ns: int) -> None:
        """Hand each piece to `taker` in the turn of the loop in which it comes, until that says no, or there is an end.

        What comes after a no, the last piece and what is wrong are left for `read`: at an end at the latest when that
        has been silent for `idle_ns`. Cancelling closes the connection.
        """
        if self.pieces or self._carrier is None:
            return
        waiter = self.change(clock.now_ns() + idle_ns)
        self.taker, self.idle_ns = taker, idle_ns
        try:
            await waiter
        except BaseException:  # cancelled, as above
            self.taker = None
            self.abort()
            raise

    async def stirs(self, clock: Clock, until_ns: int, deadline_ns: int) -> bool:
        """Whether `read` has something to say at once; waits for that until `until_ns`. Cancelling as with `read`."""
        if not self.pieces and self._carrier is not None:
            timer = clock.call_at(until_ns, self.wake)
            try:
                await self.change(deadline_ns)
            except BaseException:  # cancelled, as above
                self.abort()
                raise
            finally:
                timer.cancel()
        return bool(self.pieces) or self._carrier is None

    def abort(self) -> None:
        """Give up the rest: the connection is closed at once. Nothing happens when the answer is complete."""
        if self._carrier is not None:
            self._carrier.abort()

    def change(self, deadline_ns: int) -> asyncio.Future[None]:
        """A future for the next change, also that the time is over. Whoever is cancelled while waiting aborts. Raises
        Fault when none can come any more."""
        if self._carrier is None:
            raise self._fault()
        waiter = self._waiter = self._carrier.expect(deadline_ns)
        return waiter

    def _fault(self) -> Fault:
        # A new one each time: a kept exception would keep the frames it passed through.
        return Fault(*(self._failure or (Outcome.BROKEN, "closed")))

    # === the carrier's side ===

    def taken(self) -> bytes:
        """All that has come of the body and was not read, which is read now."""
        pieces = self.pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return content

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a change."""
        return self._waiter is not None

    def wake(self) -> None:
        """Something changed."""
        self.taker = None
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def finish(self) -> None:
        """Everything has been received; the carrier is free of this answer."""
        self.complete = True
        self._carrier = None
        self.wake()

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Nothing more will come. What has been received can still be read."""
        self._failure = (outcome, detail)
        self._carrier = None
        self.wake()
