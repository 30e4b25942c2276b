"""An open-loop caller: requests leave at a constant rate whatever becomes of those before, as those of many users do.

A latency counts from the instant the request was due, also when no connection was free or this caller was late: what a
stalled proxy makes wait is not forgotten (Gil Tene's coordinated omission). One thread, epoll, timers to the
microsecond: event loops round their timers to milliseconds, five requests at 5,000 a second.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools
from lib_gateways import Door
from lib_histogram import Histogram
from lib_wrk import SDK_HEADERS, body_of

_READ_BYTES = 64 * 1024
_GRACE_NS = 10_000_000_000  # for the last answers
_WAIT_NS = 500_000  # the longest it sleeps, so that answers that are late are still looked for


class Offer(NamedTuple):
    """What is offered: a rate, for how long, over how many connections, with which body."""

    per_second: float
    seconds: float
    connections: int
    body: bytes


class Taken(NamedTuple):
    """What came of it: latencies in ns of all that was answered with 2xx, and how many were not."""

    times_ns: Histogram
    failed: int
    late: int  # requests that were due when no connection was free


class _Connection:
    """One connection, with at most one request on it."""

    def __init__(self, url: str, authority: str) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if is_tls else 80)
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_tls:
            context = ssl.create_default_context(cafile=authority or None)
            self.socket = context.wrap_socket(self.socket, server_hostname=host)
        self.socket.setblocking(False)
        self.due_ns = 0
        self.is_done = False
        self._parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        """Of the parser: the answer is whole."""
        self.is_done = True

    def ask(self, request: bytes, due_ns: int) -> None:
        """Send a request that was due then."""
        self.due_ns, self.is_done = due_ns, False
        self._parser = httptools.HttpResponseParser(self)
        sent = 0
        while sent < len(request):  # bodies are small: the socket takes them whole
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                sent += self.socket.send(request[sent:])

    def read(self) -> int | None:
        """Take what came; the status of an answer that is whole now. ConnectionError: there will be none."""
        while True:
            try:
                data = self.socket.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            if not data:
                raise ConnectionResetError("closed")
            self._parser.feed_data(data)
            if self.is_done:
                return int(self._parser.get_status_code())


class _Caller:
    """The state of one offer under way."""

    def __init__(self, door: Door, offer: Offer) -> None:
        self._door, self._offer = door, offer
        self._request = _request(door.url, door.headers, offer.body)
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._free: list[_Connection] = []
        self._waiting: deque[int] = deque()  # when those were due that found no connection
        self._times, self._failed, self._late = Histogram(), 0, 0
        for _ in range(offer.connections):
            self._open()

    def _open(self) -> None:
        made = _Connection(self._door.url, self._door.authority)
        self._connections[made.socket.fileno()] = made
        self._poll.register(made.socket.fileno(), select.EPOLLIN)
        self._free.append(made)

    def run(self) -> Taken:
        """Until all have been offered, and the last is answered or given up."""
        gap_ns = 1e9 / self._offer.per_second
        count = round(self._offer.per_second * self._offer.seconds)
        began_ns = time.monotonic_ns() + 5_000_000
        give_up_ns = began_ns + round(count * gap_ns) + _GRACE_NS
        sent, due_ns = 0, began_ns
        while True:
            now_ns = time.monotonic_ns()
            while sent < count and due_ns <= now_ns:
                self._offer_one(due_ns)
                sent += 1
                due_ns = began_ns + round(sent * gap_ns)
            if sent == count and (len(self._free) == self._offer.connections or now_ns > give_up_ns):
                break
            self._sleep(min(due_ns - time.monotonic_ns(), _WAIT_NS) if sent < count else _WAIT_NS)
            self._collect()
        for each in self._connections.values():
            each.socket.close()
        self._poll.close()
        unanswered = self._offer.connections - len(self._free) + len(self._waiting)
        return Taken(self._times, self._failed + unanswered, self._late)

    def _sleep(self, left_ns: int) -> None:
        # epoll itself counts in milliseconds; select on it does in microseconds
        select.select([self._poll], [], [], max(0, left_ns) / 1e9)

    def _offer_one(self, due_ns: int) -> None:
        if self._free:
            self._send(self._free.pop(), due_ns)
        else:
            self._late += 1
            self._waiting.append(due_ns)

    def _send(self, connection: _Connection, due_ns: int) -> None:
        try:
            connection.ask(self._request, due_ns)
        except OSError:
            self._lose(connection)

    def _collect(self) -> None:
        for number, _ in self._poll.poll(0):
            connection = self._connections[number]
            try:
                status = connection.read()
            except (OSError, httptools.HttpParserError):
                self._lose(connection)
                continue
            if status is None:
                continue
            if 200 <= status < 300:
                self._times.add(time.monotonic_ns() - connection.due_ns)
            else:
                self._failed += 1
            self._release(connection)

    def _release(self, connection: _Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def _lose(self, connection: _Connection) -> None:
        """A connection broke, mostly with a request on it: another takes its place."""
        self._failed += connection not in self._free
        if connection in self._free:
            self._free.remove(connection)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
        self._open()


def _request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    parts = urlsplit(url)
    fields = SDK_HEADERS | dict(headers) | {"host": parts.netloc, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@contextlib.contextmanager
def _punctual() -> Iterator[None]:
    """Be woken when it was asked for, not up to 50 µs later, where the kernel lets a process ask for that."""
    path = Path("/proc/self/timerslack_ns")
    before = None
    with contextlib.suppress(OSError):
        before = path.read_text()
        path.write_text("1")
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                path.write_text(before)


def offer(door: Door, offered: Offer) -> Taken:
    """Offer that load."""
    with _punctual():
        return _Caller(door, offered).run()


def small() -> bytes:
    """The body of a small chat request."""
    return body_of(250)
