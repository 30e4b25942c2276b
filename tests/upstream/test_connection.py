"""One connection on a transport that only records, and on time that tests drive."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Fault, Outcome
from sidecar.upstream.connection import Connection, Shelf
from sidecar.upstream.response import MAX_UNREAD_BYTES, Response
from tests.fakes import FakeClock, settle
from tests.upstream.scripted import OK, ask

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"


class Recorder(asyncio.Transport):
    """A transport that notes what is asked of it; it takes `room` bytes before it pauses its protocol."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.written = bytearray()
        self.room = room
        self.buffered = 0
        self.protocol: Connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        self.room -= len(data)
        if self.room <= 0:
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return "abort" in self.calls

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


class Ledger:
    """An owner that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def freed(self, connection: Connection) -> None:
        self.told.append("freed")

    def gone(self, connection: Connection) -> None:
        self.told.append("gone")


class Bench:
    """A connection with everything around it recorded."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.clock = FakeClock()
        self.owner = Ledger()
        self.transport = Recorder(room)
        self.connection = Connection(self.clock, self.owner, Shelf(), 0)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)

    def ask(self, body: bytes = b"{}") -> Response:
        return self.connection.request(*ask(body))

    def at(self, seconds: int) -> int:
        """A deadline."""
        return self.clock.now_ns() + seconds * SECOND

    def waits(self, seconds: int, response: Response) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(response.read(self.at(seconds)))


async def test_one_exchange_after_the_other_in_one_write_each():
    bench = Bench()
    for _ in range(3):
        response = bench.ask(b"body")
        head, body = ask(b"body")
        assert bench.transport.written == head + body
        bench.transport.written.clear()
        bench.connection.data_received(OK)
        assert await response.arrive(bench.at(1)) is response
        assert await response.read(bench.at(1)) == b"ok"
        assert await response.read(bench.at(1)) == b""
    assert bench.owner.told == ["freed"] * 3
    assert bench.transport.calls == []


async def test_a_connection_is_free_before_its_answer_is_read():
    bench = Bench()
    first = bench.ask()
    bench.connection.data_received(OK)
    second = bench.ask()
    first.abort()  # nothing: the connection is not its own any more
    bench.connection.data_received(OK.replace(b"ok", b"no"))
    assert [await first.read(0), await second.read(0)] == [b"ok", b"no"]
    assert bench.transport.calls == []


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"tail",
        OK.replace(b"OK", b"OK\r\nConnection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_complete_but_not_to_be_used_again(answer):
    bench = Bench()
    response = bench.ask()
    bench.connection.data_received(answer)
    assert response.complete
    assert bench.owner.told == ["gone"]
    assert bench.transport.calls == ["abort"]
    assert await response.read(0) == b"ok"


async def test_C11_bytes_on_an_idle_connection_close_it():
    bench = Bench()
    bench.connection.data_received(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert bench.owner.told == ["gone"]
    bench.connection.data_received(b"more")
    bench.connection.eof_received()
    bench.connection.connection_lost(None)
    assert bench.owner.told == ["gone"]


class TestTimers:
    async def test_headers_timeout(self):
        bench = Bench()
        arriving = asyncio.ensure_future(bench.ask().arrive(bench.at(30)))
        await settle()
        bench.clock.advance(30 * SECOND - 1)
        await settle()
        assert not arriving.done()
        bench.clock.advance(1)
        with pytest.raises(Fault) as caught:
            await arriving
        assert caught.value.outcome is Outcome.HEADERS_TIMEOUT
        assert bench.transport.calls == ["abort"]
        assert bench.clock.pending == 0

    async def test_content_timeout_and_what_came_before_it(self):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(CHUNKED + b"2\r\nhi\r\n")
        assert await response.read(bench.at(1)) == b"hi"
        reading = bench.waits(1, response)
        await settle()
        bench.clock.advance(SECOND)
        for attempt in (reading, response.read(0)):
            with pytest.raises(Fault) as caught:
                await attempt
            assert caught.value.outcome is Outcome.CONTENT_TIMEOUT

    async def test_C8_a_chunk_every_20_s_for_20_min_and_a_timer_every_40_s(self):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(CHUNKED)
        for _ in range(60):
            reading = bench.waits(60, response)
            await settle()
            bench.clock.advance(20 * SECOND)
            bench.connection.data_received(b"2\r\nhi\r\n")
            assert await reading == b"hi"
        assert bench.clock.calls == 30

    async def test_chunks_cost_no_timer(self):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(CHUNKED)
        for _ in range(1000):
            reading = bench.waits(60, response)
            await asyncio.sleep(0)
            bench.connection.data_received(b"2\r\nhi\r\n")
            assert await reading == b"hi"
        assert bench.clock.calls == 1

    async def test_a_shorter_deadline_replaces_the_timer(self):
        bench = Bench()
        response = bench.ask()
        arriving = asyncio.ensure_future(response.arrive(bench.at(30)))
        await settle()
        bench.connection.data_received(CHUNKED)
        await arriving
        reading = bench.waits(5, response)
        await settle()
        assert bench.clock.pending == 1
        bench.clock.advance(5 * SECOND)
        with pytest.raises(Fault, match="content_timeout"):
            await reading

    async def test_nobody_waiting_is_nobody_late(self):
        bench = Bench()
        response = bench.ask()
        arriving = asyncio.ensure_future(response.arrive(bench.at(1)))
        await settle()
        bench.connection.data_received(CHUNKED)
        await arriving
        bench.clock.advance(100 * SECOND)  # the caller is slow in taking what it was given
        assert bench.transport.calls == []
        reading = bench.waits(1, response)
        await settle()
        bench.clock.advance(SECOND)
        with pytest.raises(Fault, match="content_timeout"):
            await reading

    async def test_a_deadline_long_past_does_not_lose_what_is_there(self):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(CHUNKED + b"2\r\nhi\r\n")
        assert (await response.arrive(0)).status == 200
        assert await response.read(0) == b"hi"
        reading = asyncio.ensure_future(response.read(0))
        await settle()
        bench.clock.advance(0)
        with pytest.raises(Fault, match="content_timeout"):
            await reading


class TestLoss:
    @pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"])
    @pytest.mark.parametrize("how", ["eof", "lost", "reset"])
    async def test_B13_before_a_status_is_ambiguous(self, received, how):
        bench = Bench()
        response = bench.ask()
        if received:
            bench.connection.data_received(received)
        lose(bench.connection, how)
        with pytest.raises(Fault) as caught:
            await response.arrive(bench.at(1))
        assert caught.value.outcome is Outcome.AMBIGUOUS
        assert bench.connection.has_heard_nothing is (not received)

    @pytest.mark.parametrize("how", ["eof", "lost", "reset"])
    @pytest.mark.parametrize("start", [CHUNKED + b"2\r\nhi\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
    async def test_B3_inside_the_body_is_broken_after_what_came(self, start, how):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(start)
        lose(bench.connection, how)
        assert await response.read(bench.at(1)) == b"hi"
        for _ in range(2):
            with pytest.raises(Fault) as caught:
                await response.read(bench.at(1))
            assert caught.value.outcome is Outcome.BROKEN

    @pytest.mark.parametrize("how", ["eof", "lost"])
    async def test_a_body_that_ends_with_the_connection(self, how):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(ENDLESS + b"hi")
        assert not response.complete
        reading = bench.waits(1, response)
        assert await reading == b"hi"
        reading = bench.waits(1, response)
        await settle()
        lose(bench.connection, how)
        assert await reading == b""
        assert response.complete
        assert bench.owner.told == ["gone"]

    async def test_a_body_that_ends_with_a_reset_is_broken(self):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(ENDLESS)
        lose(bench.connection, "reset")
        with pytest.raises(Fault, match="broken"):
            await response.read(0)

    async def test_B3_a_malformed_chunk(self):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(CHUNKED + b"2\r\nhi\r\nzz\r\n")
        assert await response.read(0) == b"hi"
        with pytest.raises(Fault, match="broken: not HTTP"):
            await response.read(0)
        assert bench.transport.calls == ["abort"]

    async def test_B1_abort_is_idempotent_and_fails_the_reader(self):
        bench = Bench()
        response = bench.ask()
        bench.connection.data_received(CHUNKED)
        reading = bench.waits(1, response)
        await settle()
        response.abort()
        response.abort()
        with pytest.raises(Fault, match="broken"):
            await reading
        assert bench.transport.calls == ["abort"]
        assert bench.owner.told == ["gone"]
        assert bench.clock.pending == 0

    @pytest.mark.parametrize("received", [b"", CHUNKED])
    async def test_B1_cancelling_aborts_at_once(self, received):
        bench = Bench()
        response = bench.ask()
        if received:
            bench.connection.data_received(received)
        waiting = asyncio.ensure_future(response.read(bench.at(1)) if received else response.arrive(bench.at(1)))
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert bench.transport.calls == ["abort"]
        assert bench.owner.told == ["gone"]

    async def test_B2_cancelled_in_the_very_turn_it_completes_keeps_the_connection(self):
        bench = Bench()
        arriving = asyncio.ensure_future(bench.ask().arrive(bench.at(1)))
        await settle()
        bench.connection.data_received(OK)
        arriving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await arriving
        assert bench.owner.told == ["freed"]


def lose(connection: Connection, how: str) -> None:
    if how == "eof":
        connection.eof_received()
    connection.connection_lost(ConnectionResetError() if how == "reset" else None)


class TestBackPressure:
    async def test_E4_reading_pauses_and_resumes(self):
        bench = Bench()
        response = bench.ask()
        length = 4 * MAX_UNREAD_BYTES
        bench.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        piece = b"x" * (MAX_UNREAD_BYTES // 2)
        bench.connection.data_received(piece)
        assert bench.transport.calls == []
        bench.connection.data_received(piece)
        assert bench.transport.calls == ["pause"]
        assert len(await response.read(0)) == MAX_UNREAD_BYTES
        assert bench.transport.calls == ["pause", "resume"]
        bench.connection.data_received(piece)
        assert len(await response.read(0)) == len(piece)
        assert bench.transport.calls == ["pause", "resume"]

    async def test_E4_an_upload_waits_for_room(self):
        bench = Bench(room=100_000)
        body = bytes(range(256)) * 65536  # 16 MiB
        head, _ = ask(body)
        response = bench.ask(body)
        written = []
        while len(bench.transport.written) < len(head) + len(body):
            written.append(len(bench.transport.written))
            bench.transport.room = 100_000
            bench.connection.resume_writing()
        assert max(b - a for a, b in itertools.pairwise(written)) <= 1_200_000
        assert bench.transport.written == head + body
        bench.connection.data_received(OK)
        assert await response.read(0) == b"ok"
        assert bench.owner.told == ["freed"]

    async def test_a_refusal_ends_the_upload(self):
        bench = Bench(room=100_000)
        response = bench.ask(b"x" * 10_000_000)
        before = len(bench.transport.written)
        bench.connection.data_received(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\n")
        assert (await response.arrive(bench.at(1))).status == 413
        bench.connection.resume_writing()
        assert len(bench.transport.written) == before
        bench.connection.data_received(b"no")
        assert await response.read(0) == b"no"
        assert bench.owner.told == ["gone"]

    async def test_an_early_success_does_not_end_the_upload(self):
        bench = Bench(room=100_000)
        body = b"x" * 10_000_000
        response = bench.ask(body)
        bench.connection.data_received(CHUNKED)
        bench.transport.room = 1 << 30
        bench.connection.resume_writing()
        assert bench.transport.written == b"".join(ask(body))
        bench.connection.data_received(b"0\r\n\r\n")
        assert await response.read(0) == b""
        assert bench.owner.told == ["freed"]

    @pytest.mark.parametrize("unsent", ["in the transport", "here"])
    async def test_complete_before_the_request_is_sent_is_not_used_again(self, unsent):
        bench = Bench(room=100_000)
        response = bench.ask(b"x" * (10_000_000 if unsent == "here" else 1))
        bench.transport.buffered = 1 if unsent == "in the transport" else 0
        bench.connection.data_received(OK)
        assert await response.read(0) == b"ok"
        assert bench.owner.told == ["gone"]


async def test_repr_says_what_an_operator_asks():
    bench = Bench()
    assert repr(bench.connection) == "<Connection idle None>"
    response = bench.ask(b"secret")
    bench.connection.data_received(CHUNKED + b"2\r\nhi\r\n")
    assert repr(bench.connection) == "<Connection leased <Response 200 open unread=2>>"
    bench.connection.abort()
    assert repr(bench.connection) == "<Connection closed None>"
    assert repr(response) == "<Response 200 broken unread=2>"
