"""Callers that read streams: when the first event came, how late each was, in how many reads they came."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import uvloop
from lib_gateways import Door
from lib_histogram import Histogram
from lib_machine import spent
from lib_streamer import DIGITS, MARK
from lib_wrk import SDK_HEADERS, body_of

_EVENT = b"\ndata: "
_PATIENCE_S = 60
_AT_ONCE = 50


class Wish(NamedTuple):
    """A kind of stream: how many events, and ms between two."""

    events: int
    gap_ms: int
    model: str


class Seen(NamedTuple):
    """What came of all streams. Delays are known of our own provider only; gaps lie between two reads."""

    first_ns: Histogram
    delay_ns: Histogram
    gap_ns: Histogram
    events: int
    reads: int
    relayed: int = 0  # events while all streams ran, from the first event of the last to begin to the end of the first
    cpu_s: float = 0.0  # what they cost the process that relayed them

    @property
    def cpu_us(self) -> float:
        """Processor time for each event that was relayed, in microseconds."""
        return self.cpu_s / self.relayed * 1e6 if self.relayed else 0.0


class Reader(asyncio.Protocol):
    """One connection, on which one stream after the other is read."""

    def __init__(self, seen: Seen, is_ours: bool = True) -> None:
        self._seen = seen
        self._is_ours = is_ours
        self._done: asyncio.Future[None] | None = None
        self._tail = b""
        self._pieces: list[bytes] = []  # of the body, without its framing, which may cut an event anywhere
        self._is_whole = False
        self._events = 0  # of this stream
        self.events = self.reads = 0
        self.has_begun = asyncio.Event()  # the first event of all has come, or none will

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """A stream that is under way has failed."""
        self._end(RuntimeError("a stream broke off"))

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Ask for a stream; the future of its end."""
        self._done = asyncio.get_running_loop().create_future()
        self._tail, self._events, self._is_whole = b"\n", 0, False
        self._parser = httptools.HttpResponseParser(self)
        self._read_ns = time.monotonic_ns()
        self.transport.write(request)
        return self._done

    def on_body(self, piece: bytes) -> None:
        """Of the parser: a piece of the body."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Of the parser: the answer is whole."""
        self._is_whole = True

    def data_received(self, data: bytes) -> None:
        """A piece of a head or of the stream."""
        now_ns = time.monotonic_ns()
        self._parser.feed_data(data)
        fresh = b"".join(self._pieces)
        self._pieces.clear()
        count = self._count(self._tail + fresh, now_ns)
        if count and not self._events:
            self._seen.first_ns.add(now_ns - self._read_ns)
        elif self._events:
            self._seen.gap_ns.add(now_ns - self._read_ns)
        if count or self._events:
            self.reads += 1
            self._read_ns = now_ns
        if count:
            self.has_begun.set()
        self._events += count
        self.events += count
        status = self._parser.get_status_code()
        if status >= 300:
            self._end(RuntimeError(f"refused with {status}: {fresh[:300].decode('latin-1')}"))
        elif self._is_whole:
            self._end(None)

    def _count(self, held: bytes, now_ns: int) -> int:
        """Events in what came, with the delay of each where it tells when it was sent; the rest is held back."""
        if not self._is_ours:
            self._tail = held[-len(_EVENT) + 1 :]
            return held.count(_EVENT)
        count, place = 0, held.find(MARK)
        self._tail = held[-len(MARK) + 1 :]
        while place >= 0:
            start = place + len(MARK)
            if start + DIGITS > len(held):
                self._tail = held[place:]
                break
            self._seen.delay_ns.add(max(0, now_ns - int(held[start : start + DIGITS])))
            count, place = count + 1, held.find(MARK, start)
        return count

    def _end(self, error: RuntimeError | None) -> None:
        self.has_begun.set()
        if self._done is None or self._done.done():
            return
        if error is not None:
            self._done.set_exception(error)
        else:
            self._done.set_result(None)


def request_of(url: str, headers: Mapping[str, str], wish: Wish) -> bytes:
    """The request for such a stream, as the SDK would send it."""
    parts = urlsplit(url)
    body = body_of(250, wish.model, stream=True, max_tokens=wish.events, seed=wish.gap_ms)
    fields = SDK_HEADERS | dict(headers) | {"host": parts.netloc, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def _open(door: Door, seen: Seen) -> Reader:
    parts, is_ours = urlsplit(door.url), not door.is_foreign
    is_tls = parts.scheme == "https"
    context = ssl.create_default_context(cafile=door.authority or None) if is_tls else None
    port = parts.port or (443 if is_tls else 80)
    _, reader = await asyncio.get_running_loop().create_connection(
        lambda: Reader(seen, is_ours), parts.hostname or "", port, ssl=context
    )
    return reader


async def _in_parallel(door: Door, wish: Wish, count: int) -> Seen:
    seen = Seen(Histogram(), Histogram(), Histogram(), 0, 0)
    readers = [await _open(door, seen) for _ in range(count)]
    request = request_of(door.url, door.headers, wish)
    ends = []
    async with asyncio.timeout(_PATIENCE_S + wish.events * wish.gap_ms / 1000):
        for reader in readers:
            ends.append(reader.ask(request))
            await asyncio.sleep(wish.gap_ms / 1000 / count)  # so that they do not send in step
        await asyncio.gather(*(reader.has_begun.wait() for reader in readers))
        cpu, relayed = _spent(door), sum(reader.events for reader in readers)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        cpu, relayed = _spent(door) - cpu, sum(reader.events for reader in readers) - relayed
        await asyncio.gather(*ends)
    for reader in readers:
        reader.transport.abort()
    counts = sum(reader.events for reader in readers), sum(reader.reads for reader in readers)
    return Seen(seen.first_ns, seen.delay_ns, seen.gap_ns, *counts, relayed, cpu)


def _spent(door: Door) -> float:
    return spent(door.pid).total_s if door.pid else 0.0


async def _in_turn(door: Door, wish: Wish, count: int) -> Seen:
    seen = Seen(Histogram(), Histogram(), Histogram(), 0, 0)
    reader = await _open(door, seen)
    request = request_of(door.url, door.headers, wish)
    async with asyncio.timeout(_PATIENCE_S):
        for _ in range(count):
            await reader.ask(request)
    reader.transport.abort()
    return seen._replace(events=reader.events, reads=reader.reads)


def in_parallel(door: Door, wish: Wish, count: int) -> Seen:
    """So many streams at once, each on a connection of its own. RuntimeError: one was refused or broke off."""
    return uvloop.run(_in_parallel(door, wish, count))


def in_turn(door: Door, wish: Wish, count: int) -> Seen:
    """So many streams one after the other, on one connection."""
    return uvloop.run(_in_turn(door, wish, count))


async def _several(count: int, work: Callable[[int], Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for at in range(_AT_ONCE):
            group.create_task(work(count // _AT_ONCE + (at < count % _AT_ONCE)))


def leave(door: Door, wish: Wish, count: int) -> None:
    """So many streams of which the caller reads the first event and goes, several at once."""
    seen, request = Seen(Histogram(), Histogram(), Histogram(), 0, 0), request_of(door.url, door.headers, wish)

    async def work(times: int) -> None:
        for _ in range(times):
            reader = await _open(door, seen)
            ended = reader.ask(request)
            await reader.has_begun.wait()
            if ended.done():
                ended.result()
            ended.cancel()
            reader.transport.abort()

    uvloop.run(_several(count, work))


def read(door: Door, wish: Wish, count: int) -> None:
    """So many streams, read to their end, several at once."""
    seen, request = Seen(Histogram(), Histogram(), Histogram(), 0, 0), request_of(door.url, door.headers, wish)

    async def work(times: int) -> None:
        reader = await _open(door, seen)
        for _ in range(times):
            await reader.ask(request)
        reader.transport.abort()

    uvloop.run(_several(count, work))
