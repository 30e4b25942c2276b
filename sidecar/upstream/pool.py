"""The connections to all providers: who gets which, how long they are kept, and the one retry nobody sees.

It decides when an idle connection is too old, and whether a lost exchange may be repeated: only when a kept connection
died at once without a byte of answer, on a new connection, once (RFC 9112, 9.3.1 and 9.5). Everything else is said as
a Fault and left to the gateway. There is no limit on the number of connections and nothing waits for a place: limits
are quotas. A connection serves the origin it was made for and no other, and redirects are answers like any other.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from itertools import takewhile
from typing import Final, Protocol, cast

from sidecar.core.http import Origin
from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.outcomes import Fault, Outcome
from sidecar.interfaces import Clock, Timer
from sidecar.upstream.connection import Connection, Shelf
from sidecar.upstream.deadline import until
from sidecar.upstream.dial import Address, dial
from sidecar.upstream.resolver import Resolver
from sidecar.upstream.response import Response
from sidecar.upstream.tls import client_context, for_http1

# A kept connection that the peer had closed shows it within a round trip, or two when a packet is lost. One that dies
# later may have died at work: repeating would generate, and charge, twice.
STALE_WITHIN_NS = SECOND
MAX_IDLE_NS: Final = 30 * SECOND  # load balancers in front of providers close after 60 s and more
MAX_AGE_NS: Final = 5 * MINUTE  # so that a change of address is followed by busy connections too


class Sender(Protocol):
    """Whoever has a request sent. `is_sent`: whether a byte of it may have been written; else it costs nothing.
    `sent_ns`: when that was."""

    is_sent: bool
    sent_ns: int


class Pool:
    """Exchanges with any origin over kept connections.

    `tls` is the context for https origins, by default `tls.client_context()`, made when first needed; its ALPN list is
    set to http/1.1. `connect_timeout_ns` covers name, TCP and TLS together.
    """

    def __init__(  # noqa: PLR0913  # two are services, four are settings with names
        self,
        clock: Clock,
        resolver: Resolver,
        *,
        connect_timeout_ns: int,
        max_idle_ns: int = MAX_IDLE_NS,
        max_age_ns: int = MAX_AGE_NS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._connect_timeout_ns = connect_timeout_ns
        self._max_idle_ns = max_idle_ns
        self._max_age_ns = max_age_ns
        self._tls = None if tls is None else for_http1(tls)
        self._shelves: dict[Origin, Shelf] = {}  # the connection that became idle last is taken first
        self._open: set[Connection] = set()
        self._sweeper: Timer | None = None
        self._is_closed = False
        self.connecting = 0  # attempts under way

    def __repr__(self) -> str:
        return f"<Pool {self.leased} leased, {self.idle} idle, {self.connecting} connecting>"

    @property
    def open(self) -> int:
        """Connections that are established."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return sum([len(shelf.idle) for shelf in self._shelves.values()])

    @property
    def leased(self) -> int:
        """Connections with an exchange under way."""
        return self.open - self.idle

    async def exchange(
        self, origin: Origin, head: bytes, body: bytes, headers_deadline_ns: int, sender: Sender | None = None
    ) -> Response:
        """Send a request and wait for the head of its answer, until `headers_deadline_ns` (Unix ns).

        `head` is the whole head with its blank line. Raises Fault: CONNECT_FAILED (no byte was sent), AMBIGUOUS (lost
        before a status), HEADERS_TIMEOUT, BROKEN (not HTTP). Cancelling closes the connection at once; `sender` is told
        before the first byte is written.
        """
        now_ns = self._clock.now_ns()
        connection = self._lease(origin, now_ns)
        if connection is not None:
            if sender is not None:
                sender.is_sent, sender.sent_ns = True, now_ns
            response = connection.request(head, body)
            try:
                await response.change(headers_deadline_ns)
                if response.status:
                    return response
                return await response.arrive(headers_deadline_ns)
            except asyncio.CancelledError:  # nobody is left to read the rest
                response.abort()
                raise
            except Fault as fault:
                died_idle = fault.outcome is Outcome.AMBIGUOUS and connection.has_heard_nothing
                if not died_idle or self._clock.now_ns() - now_ns > STALE_WITHIN_NS:
                    raise
        connection = await self._connect(origin, headers_deadline_ns)
        if sender is not None:
            sender.is_sent, sender.sent_ns = True, self._clock.now_ns()
        return await connection.request(head, body).arrive(headers_deadline_ns)

    async def close(self) -> None:
        """Close every connection and wait for the sockets. Exchanges under way fail, later ones cannot connect."""
        self._is_closed = True
        doomed = list(self._open)
        for connection in doomed:
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*(connection.lost() for connection in doomed))

    # === the connections' side ===

    def freed(self, connection: Connection) -> None:
        """Keep it for the next request, unless it is too old."""
        now_ns = self._clock.now_ns()
        expires_ns = min(now_ns + self._max_idle_ns, connection.retires_ns)
        if expires_ns <= now_ns:
            connection.abort()
            return
        connection.expires_ns = expires_ns
        connection.shelf.idle[connection] = None
        if self._sweeper is None:
            self._sweeper = self._clock.call_at(expires_ns, self._sweep)

    def gone(self, connection: Connection) -> None:
        """Forget it."""
        connection.shelf.idle.pop(connection, None)
        self._open.discard(connection)

    def _lease(self, origin: Origin, now_ns: int) -> Connection | None:
        shelf = self._shelves.get(origin)
        idle = {} if shelf is None else shelf.idle
        while idle:
            connection, _ = idle.popitem()
            if connection.expires_ns > now_ns and connection.is_usable:
                return connection
            connection.abort()
        return None

    def _sweep(self) -> None:
        self._sweeper = None
        now_ns = self._clock.now_ns()
        for shelf in self._shelves.values():
            for connection in list(takewhile(lambda kept: kept.expires_ns <= now_ns, shelf.idle)):
                connection.abort()
        oldest = [next(iter(shelf.idle)).expires_ns for shelf in self._shelves.values() if shelf.idle]
        if oldest:
            self._sweeper = self._clock.call_at(min(oldest), self._sweep)

    # === connecting ===

    async def _connect(self, origin: Origin, deadline_ns: int) -> Connection:
        limit_ns = min(self._clock.now_ns() + self._connect_timeout_ns, deadline_ns)
        self.connecting += 1
        try:
            async with until(self._clock, limit_ns):
                connection = await self._establish(origin)
        except OSError as error:
            self._resolver.forget(origin.host)
            raise Fault(Outcome.CONNECT_FAILED, f"{origin.host}:{origin.port}: {_describe(error)}") from None
        finally:
            self.connecting -= 1
        self._open.add(connection)
        if self._is_closed or not connection.is_usable:
            connection.abort()
            raise Fault(Outcome.CONNECT_FAILED, f"{origin.host}:{origin.port}: closed at once")
        return connection

    async def _establish(self, origin: Origin) -> Connection:
        sock = await dial(self._clock, await self._addresses(origin.host), origin.port)
        retires_ns = self._clock.now_ns() + self._max_age_ns
        connection = Connection(self._clock, self, self._shelf(origin), retires_ns)
        try:
            if origin.scheme == "https":
                await _handshake(sock, connection, self._context(), origin.host)
            else:
                await asyncio.get_running_loop().create_connection(lambda: _protocol(connection), sock=sock)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _shelf(self, origin: Origin) -> Shelf:
        shelf = self._shelves.get(origin)
        if shelf is None:
            shelf = self._shelves[origin] = Shelf()
        return shelf

    async def _addresses(self, host: str) -> list[Address]:
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            return await self._resolver.resolve(host)
        return [(socket.AF_INET6 if literal.version == 6 else socket.AF_INET, host)]

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = client_context()
        return self._tls


async def _handshake(sock: socket.socket, connection: Connection, context: ssl.SSLContext, host: str) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: _protocol(connection), sock=sock, ssl=context, server_hostname=host)


def _protocol(connection: Connection) -> asyncio.Protocol:
    return cast(asyncio.Protocol, connection)


def _describe(error: OSError) -> str:
    """What went wrong, in words that hold nothing of the request."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return "not connected in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason}"
    return error.strerror or type(error).__name__
