"""The race for a connected socket, on addresses that answer, refuse, or say nothing."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidecar.upstream.dial import STAGGER_NS, dial
from tests.fakes import FakeClock, settle

GOOD, GOOD6 = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")


@pytest.fixture
def port():
    """A port that accepts on 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def full():
    """A port on 127.0.0.2 where connecting hangs: its queue is full."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as server:
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            fillers.append(filler)
        yield server.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_the_first_that_answers(play, port):
    async def scenario():
        for addresses in ([GOOD], [GOOD, GOOD6], [GOOD6, GOOD], [GOOD6, GOOD6, GOOD]):
            with await dial(FakeClock(), addresses, port) as sock:
                assert sock.getpeername() == ("127.0.0.1", port)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert not sock.getblocking()

    play(scenario())


def test_none_answers(play, port):
    async def scenario():
        for addresses in ([GOOD6], [GOOD6, GOOD6], []):
            clock = FakeClock()
            with pytest.raises(OSError):  # noqa: PT011  # refused, or no address
                await dial(clock, addresses, port)
            assert clock.pending == 0

    play(scenario())


def test_a_silent_address_is_overtaken_after_the_stagger(play, full):
    async def scenario():
        clock = FakeClock()
        with socket.create_server(("127.0.0.1", full)):
            dialling = asyncio.ensure_future(dial(clock, [(socket.AF_INET, "127.0.0.2"), GOOD], full))
            await settle()
            clock.advance(STAGGER_NS - 1)
            await settle()
            assert not dialling.done()
            clock.advance(1)
            with await dialling as sock:
                assert sock.getpeername()[0] == "127.0.0.1"
            assert clock.pending == 0

    play(scenario())


@pytest.mark.parametrize("count", [1, 2])
def test_B1_cancelling_closes_every_socket(play, full, count):
    async def scenario():
        clock = FakeClock()
        dialling = asyncio.ensure_future(dial(clock, [(socket.AF_INET, "127.0.0.2")] * count, full))
        await settle()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert clock.pending == 0

    play(scenario())
