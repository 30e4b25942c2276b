"""The contracts between rooms that may not import each other: time, the caller's side of an exchange, what is kept."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from sidecar.core.errors import Refusal
from sidecar.core.http import Header, Lines, Notes, Request
from sidecar.core.trace import Trace
from sidecar.extensible import mypyc_attr


class ClientGone(Exception):
    """The caller's connection is closed; nothing more can be told to it."""


class Timer(Protocol):
    """A call that has been scheduled."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has already run."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock(ABC):
    """Time as the shells see it. The real one is made in app.py; tests drive their own."""

    @abstractmethod
    def now_ns(self) -> int:
        """Unix time in integer nanoseconds, never going backwards within a process."""

    @abstractmethod
    def call_at(self, when_ns: int, callback: Callable[..., object], *args: object) -> Timer:
        """Call `callback(*args)` from the event loop at `when_ns` (Unix ns), soon if that is past."""


class Reply(Protocol):
    """The caller's side of one exchange. `headers` never hold framing (content-length, transfer-encoding, connection).

    Either `send` once, or `start`, any number of `write`, and `finish`. Every method raises ClientGone when the
    connection is closed, and waits while the caller reads more slowly than we write.
    """

    async def send(self, status: int, headers: Lines, body: bytes) -> None:
        """A whole answer in one write."""

    async def start(self, status: int, headers: Lines, length: int | None) -> None:
        """The head of a streamed answer; `length` in bytes where known, else the framing is chunked."""

    async def write(self, chunk: bytes) -> None:
        """A piece of the body, passed on at once."""

    def push(self, piece: bytes, is_framed: bool) -> bool:
        """A piece of the body, without waiting; False where the caller reads more slowly than we write: nothing more is
        to be pushed before `drained`. `is_framed`: it is whole chunks of a chunked body, as core.chunks knows them."""

    async def drained(self) -> None:
        """Wait while the caller reads more slowly than we write."""

    async def finish(self) -> None:
        """The end of the body; the connection stays usable."""

    def abort(self) -> None:
        """Close the connection without ending the body, so that the caller sees the answer is not whole."""


async def sleep_until(clock: Clock, when_ns: int) -> None:
    """Wait until `when_ns` by that clock; cancellable."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_at(when_ns, _wake, future)
    try:
        await future
    finally:
        timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Entry(Protocol):
    """A request's place among those in flight. `caller`: the name of the token it came with, if any is asked for."""

    caller: str | None

    def grow(self, length: int) -> Refusal | None:
        """Count `length` more bytes of body; a Refusal when the body or all bodies together exceed the cap."""

    def leave(self) -> None:
        """Give the place and its bytes back; harmless when called again."""


class Service(Protocol):
    """What both lanes of the edge serve."""

    def enter(  # the five parts of a head
        self, method: bytes, target: bytes, headers: list[Header], length: int | None, notes: Notes
    ) -> Refusal | Entry:
        """Decide on a request by its head alone, before its body is read; `length` is the declared content-length."""

    def refused(self, method: bytes, target: bytes, refusal: Refusal) -> Refusal:
        """A request that was let in is refused for its body: how its caller is told. It is never handled."""

    async def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request. Cancelled when the caller is gone. Never raises anything but ClientGone."""


class Traces(Protocol):
    """Where requests are traced."""

    def begin(self, headers: list[Header], at_ns: int) -> Trace:
        """The trace of a request that came at `at_ns` with these headers."""


class CannotKeep(Exception):
    """Nothing can be kept where it was to be; the text names the place, the reason and a remedy."""


class NotSaved(Exception):
    """The store did not take what it was given, and holds what it held before; the text is the reason."""


class Loaded(NamedTuple):
    """What a store held. `warning`: why that is less than was saved, if it is."""

    rows: dict[str, bytes]
    warning: str | None = None


class Store(Protocol):
    """Where rows outlive their process. One call at a time; none keeps the event loop waiting."""

    place: str | None  # for people; None: they do not outlive it after all

    async def load(self) -> Loaded:
        """Every row, those saved first at the front. The first call of all. Raises CannotKeep."""

    async def save(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        """Write rows and remove others (also some that there are not), all or none. Raises NotSaved."""

    async def close(self) -> None:
        """No call follows."""
