"""Pieces that flow: in the turn in which they come, with their framing, until a stall, an end or a silence (E4)."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Fault, Outcome
from sidecar.core.sse import Tap
from sidecar.core.usage_strip import UsageStrip
from sidecar.edge.reply import Asked, HttpReply
from sidecar.flowing import Flow
from sidecar.interfaces import ClientGone
from sidecar.upstream.connection import Connection, Shelf
from sidecar.upstream.response import Taker
from tests.core.streams import DONE, HELLO, chunk
from tests.edge.memory import Memory
from tests.edge.test_reply import LAST, OLD, PLAIN, ListWire
from tests.fakes import FakeClock, settle

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
BYE = HELLO.replace(b"Hello", b"Bye")


def framed(piece):
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class Owner:
    def freed(self, connection):
        pass

    def gone(self, connection):
        pass


class Taken(Taker):
    """A Taker that writes down what it gets and stops when told to."""

    def __init__(self, known=()):
        self.got = []
        self.known = known
        self.goes_on = True

    def take_chunk(self, data):
        if data not in self.known:
            return None
        self.got.append(("chunk", data))
        return self.goes_on

    def take(self, piece, framed):
        self.got.append((piece, framed))
        return self.goes_on


class House:
    """A connection whose answer has begun."""

    def __init__(self):
        self.clock = FakeClock()
        self.connection = Connection(self.clock, Owner(), Shelf(), 1 << 62)
        self.wire = Memory(cast(asyncio.Protocol, self.connection), cast(socket.socket, None))
        self.connection.connection_made(self.wire)
        self.response = self.connection.request(b"GET / HTTP/1.1\r\n\r\n", b"")
        self.wire.feed(HEAD)

    def flow(self, taker):
        return asyncio.ensure_future(self.response.flow(taker, self.clock, 5 * SECOND))


async def test_each_piece_is_taken_in_the_turn_in_which_it_comes():
    house, taker = House(), Taken(known=[framed(b"known")])
    flowing = house.flow(taker)
    await settle()
    for data in (
        framed(b"hi"),
        framed(b"known"),
        framed(b"a") + framed(b"b"),
        b"3;x=y\r\nodd\r\n",
        b"5\r\nab",
        b"cde\r\n",
    ):
        house.wire.feed(data)
    house.wire.feed(framed(b"ho"))
    assert taker.got == [
        (b"hi", framed(b"hi")), ("chunk", framed(b"known")), (b"ab", framed(b"a") + framed(b"b")), (b"odd", None),
        (b"ab", None), (b"cde", None), (b"ho", framed(b"ho")),
    ]  # fmt: skip
    assert not flowing.done()
    house.wire.feed(framed(b"last") + END)
    await flowing
    assert await house.response.read(0) == b"last"
    assert await house.response.read(0) == b""


async def test_E4_after_a_no_what_comes_is_kept_and_reading_pauses():
    house, taker = House(), Taken()
    flowing = house.flow(taker)
    await settle()
    taker.goes_on = False
    house.wire.feed(framed(b"hi"))
    house.wire.feed(framed(b"kept"))  # before the one who waits had a turn
    await flowing
    house.wire.feed(framed(b"x" * 200_000))
    assert house.wire.is_deaf
    assert [piece for piece, _ in taker.got] == [b"hi"]
    await house.response.flow(taker, house.clock, SECOND)  # nothing flows past what is kept
    assert await house.response.read(0) == b"kept" + b"x" * 200_000
    assert not house.wire.is_deaf


async def test_the_time_for_silence_begins_anew_with_each_piece():
    house, taker = House(), Taken()
    flowing = house.flow(taker)
    await settle()
    for data in (framed(b"a"), b"2\r\nb", b"c\r\n"):
        house.clock.advance(4 * SECOND)
        house.wire.feed(data)
    house.clock.advance(5 * SECOND - 1)
    await settle()
    assert not flowing.done()
    house.clock.advance(1)
    await flowing
    with pytest.raises(Fault) as caught:
        await house.response.read(0)
    assert caught.value.outcome is Outcome.CONTENT_TIMEOUT


async def test_a_lost_connection_ends_the_flow():
    house, taker = House(), Taken()
    flowing = house.flow(taker)
    await settle()
    house.wire.feed(framed(b"a") + b"5\r\nab")
    house.connection.connection_lost(ConnectionResetError())
    await flowing
    assert [piece for piece, _ in taker.got] == [b"aab"]
    with pytest.raises(Fault) as caught:
        await house.response.read(0)
    assert caught.value.outcome is Outcome.BROKEN
    await house.response.flow(taker, house.clock, SECOND)


async def test_B1_cancelling_closes_the_connection():
    house = House()
    flowing = house.flow(Taken())
    await settle()
    flowing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flowing
    assert house.connection.is_closed


async def reply_to(asked):
    wire = ListWire()
    reply = HttpReply(wire, asked)
    await reply.start(200, [], None)
    wire.written.clear()
    return wire, reply


@pytest.mark.parametrize("asked", [PLAIN, LAST, OLD, Asked(True, False, keeps_alive=True)])
async def test_C10_what_is_pushed_is_what_is_written(asked):
    wire, reply = await reply_to(asked)
    other, written = await reply_to(asked)
    for piece in (HELLO, b"x"):
        assert reply.push(framed(piece), True)
        assert reply.push(piece, False)
        await written.write(piece)
        await written.write(piece)
    await reply.drained()
    assert wire.written == other.written
    wire.stalls = True
    assert not reply.push(b"more", False)


async def test_a_flow_looks_at_all_and_passes_on_what_it_may():
    wire, reply = await reply_to(PLAIN)
    tap = Tap()
    tap.feed(HELLO)
    flow = Flow(tap, reply, None)
    assert flow.take_chunk(framed(BYE)) is None
    assert flow.take(HELLO, framed(HELLO))
    assert flow.take_chunk(framed(BYE))
    assert flow.take_chunk(framed(DONE)) is None
    assert not tap.done
    assert flow.take(DONE, None)
    assert tap.done
    assert wire.written == [framed(HELLO), framed(BYE), framed(DONE)]
    wire.abort()
    assert flow.take_chunk(framed(BYE)) is False
    assert flow.take(BYE, None) is False
    with pytest.raises(ClientGone):
        reply.push(b"x", False)


async def test_B14_a_flow_strips_what_was_not_asked_for():
    wire, reply = await reply_to(PLAIN)
    tap = Tap()
    flow = Flow(tap, reply, UsageStrip())
    used = chunk({"content": "x"}, usage=None)
    for piece in (HELLO, HELLO, used):
        assert flow.take_chunk(framed(piece)) is None
        assert flow.take(piece, framed(piece))
    assert flow.take(used[:9], framed(used[:9]))  # nothing to be said yet
    assert wire.written == [framed(HELLO), framed(HELLO), framed(used.replace(b',"usage":null', b""))]
