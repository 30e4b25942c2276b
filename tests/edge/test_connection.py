"""The time a head and a body may take, the end of connections by draining, and their take-over."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.core.limits import SECOND
from sidecar.edge.connection import EdgeTiming
from tests.edge.raw import RawClient, post, request
from tests.edge.stage import TIMING, wait_for_ever


def code(answer):
    return json.loads(answer.body)["error"]["code"]


async def settle():
    """Let both ends take their turns: what was sent on loopback has arrived by then."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_head_that_stays_incomplete_is_408(conversing):
    async with conversing() as (stage, client):
        await client.send(b"GET / HTTP/1.1\r\nhost: local")
        await settle()
        stage.clock.advance(TIMING.client_headers_ns - 1)
        await client.send(b"host\r\n")  # bytes that trickle in win no time
        stage.clock.advance(1)
        answer = await client.answer()
        assert (answer.status, code(answer)) == (408, "request_timeout")
        assert await client.rest() == b""


async def test_a_connection_that_never_speaks_is_closed_without_a_word(conversing):
    async with conversing() as (stage, client):
        await stage.clock.until_pending(TIMING.client_headers_ns)
        stage.clock.advance(TIMING.client_headers_ns)
        assert await client.rest() == b""


async def test_a_second_head_has_its_own_time(conversing):
    async with conversing() as (stage, client):
        await client.send(request(b"/") + b"GET /second HTT")
        await client.answer()
        await client.send(b"P/1.1\r\n")
        await stage.clock.until_pending(TIMING.client_headers_ns)
        stage.clock.advance(TIMING.client_headers_ns)
        assert (await client.answer()).status == 408


async def test_a_head_that_began_behind_a_running_request_has_its_time_from_the_end_of_the_answer(conversing):
    gate = asyncio.Event()

    async def gated(request, reply):
        await gate.wait()
        await reply.send(200, [], b"")

    async with conversing(gated) as (stage, client):
        await client.send(request(b"/"))
        await stage.service.started.wait()
        await client.send(b"GET /second HTT")
        await settle()
        stage.clock.advance(TIMING.client_headers_ns)
        gate.set()
        assert (await client.answer()).status == 200
        await stage.clock.until_pending(TIMING.client_headers_ns)
        stage.clock.advance(TIMING.client_headers_ns)
        assert (await client.answer()).status == 408


async def test_a_caller_that_got_its_408_and_stays_is_cut_off_later(conversing):
    async with conversing() as (stage, client):
        await client.send(b"GET / HT")
        await settle()
        assert "busy" in repr(stage.lane._open._connections)
        stage.clock.advance(TIMING.client_headers_ns)
        assert (await client.answer()).status == 408
        assert await client.rest() == b""
        await stage.clock.until_pending(5 * SECOND)
        stage.clock.advance(5 * SECOND)
        await stage.all_gone()


async def test_a_caller_that_left_without_being_noticed_gets_no_408(conversing):
    async with conversing() as (stage, client):
        await client.send(b"GET / HT")
        await settle()
        client.reset()
        stage.clock.advance(TIMING.client_headers_ns)
        await stage.all_gone()


async def test_between_requests_only_the_idle_time_counts(conversing):
    async with conversing(timing=TIMING._replace(client_idle_ns=101 * TIMING.client_headers_ns)) as (stage, client):
        for _ in range(3):
            await client.send(request(b"/"))
            assert (await client.answer()).status == 200
            stage.clock.advance(100 * TIMING.client_headers_ns)


async def test_an_idle_connection_is_closed_after_its_time(conversing):
    timing = EdgeTiming(10 * SECOND, 30 * SECOND, client_idle_ns=SECOND // 50)
    async with conversing(timing=timing) as (stage, client):
        await client.send(request(b"/"))
        assert (await client.answer()).status == 200
        stage.clock.advance(timing.client_idle_ns)  # aiohttp's own clock cannot be driven
        assert await client.rest() == b""


async def test_a_body_that_stays_incomplete_is_408(conversing):
    async with conversing() as (stage, client):
        await client.send(post(b"x" * 10)[:-1])
        await stage.service.entered.wait()
        stage.clock.advance(TIMING.client_body_ns - 1)
        await settle()
        assert stage.service.entrance.inflight == 1
        stage.clock.advance(1)
        answer = await client.answer()
        assert (answer.status, code(answer)) == (408, "request_timeout")
        assert await client.rest() == b""
        assert stage.service.entrance.inflight == 0


async def test_draining_ends_idle_connections_and_waits_for_running_requests(conversing):
    gate = asyncio.Event()

    async def gated(request, reply):
        await reply.start(200, [], None)
        await gate.wait()
        await reply.finish()

    async with conversing(gated) as (stage, busy), await RawClient.open(stage.address) as idle:
        gate.set()
        await idle.send(request(b"/"))
        await idle.answer()
        gate.clear()
        stage.service.started.clear()
        await busy.send(request(b"/"))
        await stage.service.started.wait()
        stage.lane.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await RawClient.open(stage.address)
        draining = asyncio.ensure_future(stage.lane.drain(stage.clock.now_ns() + 20 * SECOND))
        assert await idle.rest() == b""
        assert not draining.done()
        gate.set()
        assert (await busy.answer()).status == 200
        assert await draining is True
        assert await busy.rest() == b""


async def test_while_draining_a_request_whose_head_is_on_its_way_is_served(conversing):
    async with conversing() as (stage, client):
        data = request(b"/")
        await client.send(data[:20])
        await settle()
        draining = asyncio.ensure_future(stage.lane.drain(stage.clock.now_ns() + 20 * SECOND))
        await settle()
        await client.send(data[20:])
        answer = await client.answer()
        assert (answer.status, answer.values(b"connection")) == (200, [b"close"])
        assert await draining is True


async def test_while_draining_a_request_whose_body_is_on_its_way_is_served_and_told_to_leave(conversing):
    async with conversing() as (stage, client):
        await client.send(post(b"x" * 10)[:-1])
        await stage.service.entered.wait()
        draining = asyncio.ensure_future(stage.lane.drain(stage.clock.now_ns() + 20 * SECOND))
        await asyncio.sleep(0)
        await client.send(b"x")
        answer = await client.answer()
        assert (answer.status, answer.values(b"connection")) == (200, [b"close"])
        assert await draining is True


async def test_draining_ends_at_its_deadline_and_closing_cancels_what_is_left(conversing):
    async with conversing(wait_for_ever) as (stage, client):
        await client.send(post(b"{}"))
        await stage.service.started.wait()
        draining = asyncio.ensure_future(stage.lane.drain(stage.clock.now_ns() + 20 * SECOND))
        await stage.clock.until_pending(20 * SECOND)
        stage.clock.advance(20 * SECOND)
        assert await draining is False
        assert not stage.service.cancelled.is_set()
        await stage.lane.close()
        assert stage.service.cancelled.is_set()
        assert stage.service.entrance.inflight == 0
