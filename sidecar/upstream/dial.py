"""A connected TCP socket from a list of addresses, the way of Happy Eyeballs (RFC 8305, 5), with no preference added.

Addresses are tried in the order given, which is the resolver's (RFC 6724). The next one starts when one has failed or
after a stagger; the first to connect wins and the others are closed. TLS comes after the race: two handshakes would
cost the provider twice, and a host with a broken TLS stack is broken on every address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from sidecar.core.limits import SECOND
from sidecar.interfaces import Clock
from sidecar.upstream.deadline import until

STAGGER_NS = SECOND // 4  # RFC 8305, 8: "Connection Attempt Delay", 250 ms recommended

Address = tuple[int, str]  # socket family, literal IP


async def dial(clock: Clock, addresses: Sequence[Address], port: int) -> socket.socket:
    """The first socket to connect. Raises the first OSError when none does; cancelling closes all."""
    if len(addresses) == 1:
        return await _connect(addresses[0], port)
    attempts: list[asyncio.Task[socket.socket]] = []
    try:
        for address in addresses:
            attempts.append(asyncio.create_task(_connect(address, port)))
            last = address is addresses[-1]
            winner = await _first(attempts, clock, None if last else clock.now_ns() + STAGGER_NS)
            if winner is not None:
                attempts.remove(winner)
                return winner.result()
        raise _complaint(attempts)
    finally:
        await _drop(attempts)


async def _connect(address: Address, port: int) -> socket.socket:
    family, host = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # A request is one write: waiting for more to send would only delay it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _first(
    attempts: list[asyncio.Task[socket.socket]], clock: Clock, when_ns: int | None
) -> asyncio.Task[socket.socket] | None:
    """The first attempt to connect; None when all have failed or it is `when_ns`, or when one more has failed."""
    pending = {attempt for attempt in attempts if not attempt.done()}
    with contextlib.suppress(TimeoutError):
        if when_ns is None:
            while pending and not _winners(attempts):
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        else:
            async with until(clock, when_ns):
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    return next(iter(_winners(attempts)), None)


def _winners(attempts: list[asyncio.Task[socket.socket]]) -> list[asyncio.Task[socket.socket]]:
    return [attempt for attempt in attempts if attempt.done() and attempt.exception() is None]


def _complaint(attempts: list[asyncio.Task[socket.socket]]) -> BaseException:
    return next((attempt.exception() for attempt in attempts), None) or OSError("no address")


async def _drop(attempts: list[asyncio.Task[socket.socket]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()
