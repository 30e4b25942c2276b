"""Both event loops, both schemes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import NamedTuple

import pytest
import trustme
import uvloop

from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Fault
from sidecar.upstream.lookup import Answer
from sidecar.upstream.pool import Pool
from sidecar.upstream.resolver import Resolver
from sidecar.upstream.response import Response
from tests.fakes import LoopClock
from tests.upstream.scripted import Script, Scripted

Play = Callable[[Coroutine[None, None, None]], None]


class Wire(NamedTuple):
    """How a test's connections are made."""

    server: ssl.SSLContext | None
    client: ssl.SSLContext | None

    def provider(self, script: Script) -> Scripted:
        """A server with this script."""
        return Scripted(script, self.server)

    def pool(self, **settings: int) -> Pool:
        """A pool on real time; `localhost` is 127.0.0.1."""
        clock = LoopClock()
        return Pool(clock, local_resolver(clock), tls=self.client, **{"connect_timeout_ns": 5 * SECOND, **settings})


def local_resolver(clock: LoopClock) -> Resolver:
    """Every name is 127.0.0.1."""

    async def lookup(host: str) -> Answer:
        return Answer([(2, "127.0.0.1")], None)

    return Resolver(clock, None, lookup)


def soon() -> int:
    """A deadline that no test reaches."""
    return LoopClock().now_ns() + 60 * SECOND


async def whole(response: Response) -> bytes:
    """The rest of a body."""
    pieces = []
    while piece := await response.read(soon()):
        pieces.append(piece)
    return b"".join(pieces)


async def fault(attempt: Coroutine[None, None, object]) -> Fault:
    """The Fault that it ends in."""
    with pytest.raises(Fault) as caught:
        await attempt
    return caught.value


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request) -> Play:
    """Runs a scenario on one of the loops, under a watchdog."""
    factory = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[request.param]

    async def guarded(scenario: Coroutine[None, None, None]) -> None:
        async with asyncio.timeout(10):
            await scenario

    def run(scenario: Coroutine[None, None, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(guarded(scenario))

    return run


@pytest.fixture(params=["plain", "tls"])
def wire(request, authority) -> Wire:
    """Plain TCP, or TLS with a private authority."""
    if request.param == "plain":
        return Wire(None, None)
    return tls_wire(authority, "localhost")


def tls_wire(authority: trustme.CA, name: str) -> Wire:
    """TLS with a certificate for `name`."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Wire(server, client)
