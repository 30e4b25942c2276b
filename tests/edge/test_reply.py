"""Answers: every framing byte for byte on a wire of our own, then streaming and back pressure on real sockets."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from sidecar.core.errors import Answer
from sidecar.core.limits import SECOND
from sidecar.edge.reply import Asked, Dates, HttpReply, Wire, last_answer
from sidecar.interfaces import ClientGone
from tests.edge.raw import RawClient, post, request

PLAIN = Asked(is_head=False, is_http_1_0=False, keeps_alive=True)
HEAD = PLAIN._replace(is_head=True)
LAST = PLAIN._replace(keeps_alive=False)
OLD = PLAIN._replace(is_http_1_0=True)
DATE = b"date: now\r\n"


class ListWire(Wire):
    """A Wire on a list."""

    def __init__(self, is_last=False):
        self.ends = is_last
        self.stalls = False
        self.written = []
        self.is_aborted = False

    def is_last(self):
        return self.ends

    def is_stalled(self):
        return self.stalls

    def write(self, piece):
        if self.is_aborted:
            raise ClientGone
        self.written.append(piece)

    async def writable(self):
        raise AssertionError("nobody waits for a wire that takes more")

    def abort(self):
        self.is_aborted = True

    def date(self):
        return b"now"


@pytest.mark.parametrize(
    ("asked", "status", "body", "expected"),
    [
        (PLAIN, 200, b"ok", b"HTTP/1.1 200 OK\r\nx: y\r\n" + DATE + b"content-length: 2\r\n\r\nok"),
        (PLAIN, 200, b"", b"HTTP/1.1 200 OK\r\nx: y\r\n" + DATE + b"content-length: 0\r\n\r\n"),
        (PLAIN, 529, b"ok", b"HTTP/1.1 529 \r\nx: y\r\n" + DATE + b"content-length: 2\r\n\r\nok"),
        (HEAD, 200, b"ok", b"HTTP/1.1 200 OK\r\nx: y\r\n" + DATE + b"content-length: 2\r\n\r\n"),
        (PLAIN, 204, b"", b"HTTP/1.1 204 No Content\r\nx: y\r\n" + DATE + b"\r\n"),
        (PLAIN, 304, b"no", b"HTTP/1.1 304 Not Modified\r\nx: y\r\n" + DATE + b"\r\n"),
        (LAST, 200, b"ok", b"HTTP/1.1 200 OK\r\nx: y\r\n" + DATE + b"content-length: 2\r\nconnection: close\r\n\r\nok"),
        (
            OLD,
            200,
            b"o",
            b"HTTP/1.1 200 OK\r\nx: y\r\n" + DATE + b"content-length: 1\r\nconnection: keep-alive\r\n\r\no",
        ),
    ],
)
async def test_a_whole_answer_is_one_write(asked, status, body, expected):
    wire = ListWire()
    reply = HttpReply(wire, asked)
    await reply.send(status, [(b"x", b"y")], body)
    assert wire.written == [expected]
    assert reply.is_finished


@pytest.mark.parametrize(
    ("asked", "status", "length", "framing", "body", "keeps_alive"),
    [
        (PLAIN, 200, None, b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", True),
        (PLAIN, 200, 19, b"content-length: 19\r\n", b"abc0123456789abcdef", True),
        (OLD, 200, None, b"connection: close\r\n", b"abc0123456789abcdef", False),
        (OLD, 200, 19, b"content-length: 19\r\nconnection: keep-alive\r\n", b"abc0123456789abcdef", True),
        (LAST, 200, None, b"transfer-encoding: chunked\r\nconnection: close\r\n",
         b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", False),
        (HEAD, 200, 19, b"content-length: 19\r\n", b"", True),
        (HEAD, 200, None, b"", b"", True),
        (PLAIN, 204, None, b"", b"", True),
        (PLAIN, 304, 19, b"", b"", True),
    ],
)  # fmt: skip
async def test_a_streamed_answer(asked, status, length, framing, body, keeps_alive):
    wire = ListWire()
    reply = HttpReply(wire, asked)
    await reply.start(status, [], length)
    assert len(wire.written) == 1, "the head leaves before the first piece is there"
    for piece in (b"abc", b"", b"0123456789abcdef"):
        await reply.write(piece)
    await reply.finish()
    head, _, rest = b"".join(wire.written).partition(b"\r\n\r\n")
    assert (head + b"\r\n").partition(DATE)[2] == framing
    assert rest == body
    assert reply.keeps_alive is keeps_alive


async def test_headers_pass_as_given_and_nothing_is_made_up():
    wire = ListWire()
    headers = [(b"x-b", b"1"), (b"Date", b"kept?"), (b"x-a", b""), (b"x-b", b"2"), (b"date", b"then")]
    await HttpReply(wire, PLAIN).send(200, headers, b"")
    assert wire.written[0] == (
        b"HTTP/1.1 200 OK\r\nx-b: 1\r\nDate: kept?\r\nx-a: \r\nx-b: 2\r\ndate: then\r\ncontent-length: 0\r\n\r\n"
    )


async def test_a_large_body_is_not_copied_behind_its_head():
    wire = ListWire()
    body = b"x" * 100_000
    await HttpReply(wire, PLAIN).send(200, [], body)
    assert len(wire.written) == 2
    assert wire.written[1] is body


async def test_draining_is_seen_when_the_head_is_written():
    wire = ListWire(is_last=True)
    reply = HttpReply(wire, PLAIN)
    await reply.start(200, [], None)
    assert b"connection: close\r\n" in wire.written[0]
    assert not reply.keeps_alive


async def test_a_body_shorter_than_declared_aborts_and_a_longer_one_is_an_error():
    wire = ListWire()
    reply = HttpReply(wire, PLAIN)
    await reply.start(200, [], 5)
    await reply.write(b"abc")
    with pytest.raises(ValueError, match="3 bytes of body where 2 were left"):
        await reply.write(b"def")
    await reply.finish()
    assert wire.is_aborted
    assert not reply.keeps_alive


async def test_calls_out_of_order_are_errors_and_the_repr_tells_where_it_stands():
    reply = HttpReply(ListWire(), PLAIN)
    for call in (reply.write(b"x"), reply.finish()):
        with pytest.raises(RuntimeError, match="FRESH, not STARTED"):
            await call
    await reply.start(200, [], 3)
    assert repr(reply) == "HttpReply(STARTED, left=3, keeps_alive=True)"
    for call in (reply.send(200, [], b""), reply.start(200, [], None)):
        with pytest.raises(RuntimeError, match="STARTED, not FRESH"):
            await call
    reply.abort()
    with pytest.raises(RuntimeError, match="FINISHED, not STARTED"):
        await reply.write(b"x")


def test_the_date_is_made_once_a_second():
    now = [784111777 * SECOND]
    dates = Dates(lambda: now[0])
    first = dates()
    assert first == b"Sun, 06 Nov 1994 08:49:37 GMT"
    now[0] += SECOND - 1
    assert dates() is first
    now[0] += 1
    assert dates() == b"Sun, 06 Nov 1994 08:49:38 GMT"


def test_an_answer_to_what_never_became_a_request():
    assert last_answer(Answer(408, [(b"x", b"y")], b"late"), lambda: b"now") == (
        b"HTTP/1.1 408 Request Timeout\r\nx: y\r\n" + DATE + b"content-length: 4\r\nconnection: close\r\n\r\nlate"
    )


async def test_each_piece_arrives_before_the_next_is_written(conversing):
    asked_for = asyncio.Queue[bytes]()

    async def on_demand(request, reply):
        await reply.start(200, [(b"content-type", b"text/event-stream")], None)
        while piece := await asked_for.get():
            await reply.write(piece)
        await reply.finish()

    async with conversing(on_demand) as (_, client):
        await client.send(post(b"{}"))
        await client.head()
        for index in range(5):
            piece = b"data: %d\n\n" % index
            asked_for.put_nowait(piece)
            assert await client.chunk() == piece
        asked_for.put_nowait(b"")
        assert await client.chunk() == b""
        await client.send(post(b"{}"))
        asked_for.put_nowait(b"")
        assert (await client.answer()).status == 200


async def test_head_and_204_leave_the_connection_usable(conversing):
    async def answer(request, reply):
        if request.method == b"HEAD":
            await reply.start(200, [(b"x-upstream", b"y")], 1234)
            await reply.finish()
        else:
            await reply.send(204, [], b"")

    async with conversing(answer) as (_, client):
        await client.send(
            request(b"/", method=b"HEAD") + request(b"/", method=b"DELETE") + request(b"/", method=b"HEAD")
        )
        for is_head in (True, False, True):
            received = await client.answer(is_head=is_head)
            assert received.values(b"content-length") == ([b"1234"] if is_head else [])
            assert received.values(b"server") == received.values(b"content-type") == []


async def test_an_aborted_answer_has_no_last_chunk(conversing):
    async def give_up(request, reply):
        await reply.start(200, [], None)
        await reply.write(b"some")
        reply.abort()

    async with conversing(give_up) as (_, client):
        await client.send(post(b"{}"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.answer()


async def test_E4_a_reader_that_stalls_stops_the_writer(conversing):
    written = 0

    async def endless(request, reply):
        nonlocal written
        await reply.start(200, [], None)
        while True:
            await reply.write(b"x" * 65536)
            written += 65536
            await asyncio.sleep(0)

    async with conversing(endless) as (stage, client):
        client.pause()
        await client.send(post(b"{}"))
        await stage.service.started.wait()
        before = -1
        while written != before:
            before = written
            for _ in range(200):
                await asyncio.sleep(0)
            assert written < 16 << 20, "what is out is in the kernel's buffers, and they are small"
        assert before > 65536
        client.resume()
        await client.head()
        received = 0
        while received <= before + (1 << 20):
            received += len(await client.chunk())


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_E4_a_body_costs_less_than_two_and_a_half_times_its_size(is_chunked, conversing):
    size, piece = 16 << 20, b"x" * 65536

    async def count(request, reply):
        await reply.send(200, [], b"%d" % len(request.body))

    async with conversing(count) as (_, client):
        framing = b"transfer-encoding: chunked" if is_chunked else b"content-length: %d" % size
        await client.send(request(b"/", framing, method=b"POST"))
        tracemalloc.start()
        try:
            for _ in range(size // len(piece)):
                await client.send(b"10000\r\n%b\r\n" % piece if is_chunked else piece)
            if is_chunked:
                await client.send(b"0\r\n\r\n")
            assert (await client.answer()).body == b"%d" % size
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size < peak < 2.5 * size


async def test_two_connections_do_not_wait_for_each_other(conversing):
    gate = asyncio.Event()

    async def first_waits(request, reply):
        if request.body == b"wait":
            await gate.wait()
        await reply.send(200, [], request.body)

    async with conversing(first_waits) as (stage, slow), await RawClient.open(stage.address) as quick:
        await slow.send(post(b"wait"))
        await stage.service.started.wait()
        await quick.send(post(b"go"))
        assert (await quick.answer()).body == b"go"
        gate.set()
        assert (await slow.answer()).body == b"wait"
