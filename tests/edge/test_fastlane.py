"""What the fast lane alone is: who stays in it, how the others leave, what is read behind a running request."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidecar.core.entrance import Rules
from sidecar.core.intake import MAX_HOT_BODY_BYTES
from sidecar.core.limits import SECOND
from sidecar.edge.connection import EdgeTiming
from sidecar.edge.fastlane import FastConnection
from sidecar.edge.lanes import DataLanes
from tests.edge.memory import Memory
from tests.edge.raw import post, request
from tests.edge.stage import TIMING, HandClock, ScriptedService, wait_for_ever
from tests.fakes import settle


@pytest.fixture
def lane():
    return "fast"


def connection(stage):
    """The only connection."""
    (only,) = stage.lane._open._connections
    return only


def is_fast(stage):
    return isinstance(connection(stage), FastConnection)


async def test_the_hot_shape_stays(conversing):
    async with conversing() as (stage, client):
        for data in (
            post(b"{}"),
            request(b"/", method=b"HEAD"),
            request(b"/", b"connection: keep-alive"),
            post(b"x" * MAX_HOT_BODY_BYTES),
            post(b"in two pieces"),
        ):
            await client.send(data[:100])
            await settle()
            await client.send(data[100:])
            assert (await client.answer(is_head=data.startswith(b"HEAD"))).status == 200
            assert is_fast(stage)
        assert repr(connection(stage)) == "FastConnection(idle, HEAD, Intake(0 bytes held, 0 missing))"
        assert repr(stage.lane) == "DataLanes(1 listeners, OpenConnections(open, 1 connections, 0 tasks))"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        request(b"http://localhost/"),
        request(b"/", b"expect: 100-continue"),
        request(b"/", b"upgrade: h2c"),
        request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"0\r\n\r\n",
        post(b"x" * (MAX_HOT_BODY_BYTES + 1)),
    ],
)
async def test_the_first_request_of_another_shape_leaves_for_good(conversing, data):
    async with conversing() as (stage, client):
        await client.send(post(b"before"))
        assert (await client.answer()).body == b"before"
        await client.send(data)
        answer = await client.answer()
        assert answer.status == 200
        if b"chunked" not in data:
            assert not is_fast(stage)
            await client.send(post(b"after"))
            assert (await client.answer()).body == b"after"
            assert not is_fast(stage)


async def test_nobody_leaves_before_everything_written_is_out(conversing):
    size = 8 << 20

    async def large(request, reply):
        await reply.send(200, [], b"x" * (size if request.body == b"large" else 2))

    async with conversing(large) as (stage, client):
        client.pause()
        await client.send(post(b"large"))
        await stage.service.started.wait()
        await settle()
        await client.send(request(b"/", b"expect: 100-continue"))
        await settle()
        assert is_fast(stage)
        client.resume()
        assert len((await client.answer()).body) == size
        assert len((await client.answer()).body) == 2
        assert not is_fast(stage)


async def test_who_leaves_waits_for_the_last_byte_of_the_answer_before(lane):
    service = ScriptedService()
    lanes = DataLanes(service, TIMING, HandClock())
    with socket.socket() as sock:
        transport = Memory(lanes._make_protocol(), sock)
        transport.protocol.connection_made(transport)
        transport.feed(post(b"{}"))
        await settle()
        transport.unsent = 1
        transport.feed(b"GET /odd HTTP/1.0\r\nconnection: keep-alive\r\n")
        transport.feed(b"\r\n")
        await settle()
        assert repr(transport.protocol) == "FastConnection(busy, LEAVING, Intake(45 bytes held, 0 missing))"
        assert len(service.requests) == 1
        behind = request(b"/behind", b"x: " + b"x" * 65_450)
        transport.feed(behind[:-4])
        assert transport.is_deaf
        transport.send_all()
        assert not transport.is_deaf
        assert transport.high is None
        transport.feed(behind[-4:])
        await settle()
        assert [each.target for each in service.requests] == [b"/v1/chat/completions", b"/odd", b"/behind"]
        assert not isinstance(transport.protocol, FastConnection)
        await lanes.close()


async def test_who_is_lost_while_leaving_is_forgotten(lane):
    lanes = DataLanes(ScriptedService(), TIMING, HandClock())
    with socket.socket() as sock:
        transport = Memory(lanes._make_protocol(), sock)
        transport.protocol.connection_made(transport)
        transport.unsent = 1
        transport.feed(b"GET /odd HTTP/1.0\r\n\r\n")
        assert len(lanes._open) == 1
        transport.abort()
        await settle()
        assert len(lanes._open) == 0
        await lanes.close()


async def test_what_comes_behind_a_running_request_is_read_up_to_a_cap(conversing):
    gate = asyncio.Event()

    async def gated(request, reply):
        await gate.wait()
        await reply.send(200, [], request.body[:5])

    async with conversing(gated) as (stage, client):
        await client.send(post(b"first"))
        await stage.service.started.wait()
        sending = asyncio.ensure_future(client.send(post(b"x" * 500_000) * 40))
        await settle(200)
        assert connection(stage)._is_deaf
        assert len(connection(stage)._intake.held) < 1 << 20
        gate.set()
        assert [(await client.answer()).body for _ in range(41)] == [b"first"] + [b"xxxxx"] * 40
        await sending
        assert not connection(stage)._is_deaf


async def test_deaf_connections_hear_again_in_the_general_lane(conversing):
    gate = asyncio.Event()

    async def gated(request, reply):
        await gate.wait()
        await reply.send(200, [], request.body[:5])

    async with conversing(gated) as (stage, client):
        await client.send(post(b"first"))
        await stage.service.started.wait()
        sending = asyncio.ensure_future(client.send(post(b"x" * (4 << 20))))
        await settle(200)
        gate.set()
        assert [(await client.answer()).body for _ in range(2)] == [b"first", b"xxxxx"]
        await sending


async def test_a_head_in_pieces_keeps_its_time_when_it_leaves(conversing):
    async with conversing() as (stage, client):
        await settle()
        stage.clock.advance(TIMING.client_headers_ns // 2)
        await client.send(b"GET / HTTP/1.1\r\nhost: loc")
        await settle()
        assert is_fast(stage)
        await client.send(b"alhost\r\nexpect: 100-continue\r\n")
        await settle()
        assert not is_fast(stage)
        stage.clock.advance(TIMING.client_headers_ns // 2)
        assert (await client.answer()).status == 408


async def test_a_head_in_pieces_between_requests_has_its_own_time_in_the_fast_lane(conversing):
    async with conversing(timing=EdgeTiming(10 * SECOND, 30 * SECOND, client_idle_ns=SECOND)) as (stage, client):
        await client.send(post(b"{}"))
        await client.answer()
        await client.send(b"GET / HTTP/1.1\r\nhost: loc")
        await settle()
        stage.clock.advance(10 * SECOND - 1)
        assert is_fast(stage)
        stage.clock.advance(1)
        assert (await client.answer()).status == 408
        assert await client.rest() == b""


async def test_a_request_under_way_outlives_every_time_limit_of_the_edge(conversing):
    async with conversing(wait_for_ever) as (stage, client):
        await client.send(post(b"{}"))
        await stage.service.started.wait()
        stage.clock.advance(3600 * SECOND)
        await settle()
        assert not stage.service.cancelled.is_set()
        assert repr(connection(stage)).startswith("FastConnection(busy, ANSWER")


async def test_B1_a_request_whose_caller_leaves_in_the_same_turn_gives_its_place_back(conversing):
    async with conversing() as (stage, client):
        await client.send(post(b"{}"))
        client.reset()
        await stage.all_gone()
        assert stage.service.entrance.inflight == 0


async def test_a_task_that_never_began_gives_its_place_back(conversing):
    async with conversing(wait_for_ever) as (stage, client):
        await settle()
        protocol = connection(stage)
        protocol.data_received(post(b"{}"))
        protocol.connection_lost(None)
        assert len(stage.lane._open) == 1, "its task has still to end"
        await stage.all_gone()
        assert stage.service.entrance.inflight == 0
        client.reset()


async def test_a_service_that_raises_on_entering_is_500(conversing, caplog):
    async with conversing() as (stage, client):
        stage.service.enter = lambda *args: 1 // 0
        await client.send(post(b"{}"))
        answer = await client.answer()
        assert (answer.status, answer.values(b"connection")) == (500, [])
        assert "ZeroDivisionError" in caplog.text


async def test_a_service_that_cancels_itself_ends_the_connection(conversing):
    async def give_up(request, reply):
        raise asyncio.CancelledError

    async with conversing(give_up) as (stage, client):
        await client.send(post(b"{}"))
        assert await client.rest() == b""
        await stage.all_gone()


async def test_draining_while_a_caller_is_seen_off_waits_for_it(conversing):
    rules = Rules(max_body_bytes=10, max_inflight=10, max_inflight_bytes=100)
    async with conversing(rules=rules) as (stage, client):
        await client.send(request(b"/", b"content-length: 1000", method=b"POST"))
        assert (await client.answer()).status == 413
        draining = asyncio.ensure_future(stage.lane.drain(stage.clock.now_ns() + 100 * SECOND))
        await settle()
        assert not draining.done()
        stage.clock.advance(5 * SECOND)
        assert await draining is True
