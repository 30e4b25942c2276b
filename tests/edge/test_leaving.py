"""Callers that leave, at every point and in every manner: what was done for them stops (acceptance B1, C13)."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.interfaces import ClientGone
from tests.edge.raw import RawClient, post
from tests.edge.stage import wait_for_ever


def code(answer):
    return json.loads(answer.body)["error"]["code"]


LEAVING = [RawClient.close, RawClient.reset, RawClient.half_close]


async def leave(client, how):
    result = how(client)
    if result is not None:
        await result


@pytest.mark.parametrize("how", LEAVING)
async def test_B1_C13_leaving_within_the_head_or_the_body_gives_the_place_back(how, conversing):
    for data in (b"GET / HT", post(b"x" * 10)[:-1]):
        async with conversing() as (stage, client):
            await client.send(data)
            if data.startswith(b"POST"):
                await stage.service.entered.wait()
            await leave(client, how)
            await stage.all_gone()
            assert stage.service.entrance.inflight == 0
            assert stage.service.requests == []


async def start_and_wait(request, reply):
    await reply.start(200, [], None)
    await wait_for_ever(request, reply)


async def write_and_wait(request, reply):
    await reply.start(200, [], None)
    await reply.write(b"token")
    await wait_for_ever(request, reply)


async def fill_the_wire(request, reply):
    await reply.start(200, [], None)
    while True:
        await reply.write(b"x" * 65536)


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("script", [wait_for_ever, start_and_wait, write_and_wait, fill_the_wire])
async def test_B1_C13_leaving_cancels_the_service(script, how, conversing):
    async with conversing(script) as (stage, client):
        await client.send(post(b"{}"))
        await stage.service.started.wait()
        if script is not wait_for_ever:
            await client.head()
        await leave(client, how)
        await stage.all_gone()
        assert stage.service.entrance.inflight == 0
        if script is not fill_the_wire:  # whose write may also find the connection closed first
            assert stage.service.cancelled.is_set()


async def test_B1_leaving_with_requests_pipelined_behind_is_seen(conversing):
    async with conversing(wait_for_ever) as (stage, client):
        await client.send(post(b"{}") * 10 + b"GET /incompl")
        await stage.service.started.wait()
        client.half_close()
        await stage.service.cancelled.wait()
        assert len(stage.service.requests) == 1


async def test_C13_a_caller_that_leaves_after_its_answer_cancels_nothing(conversing):
    async with conversing() as (stage, client):
        await client.send(post(b"{}"))
        assert (await client.answer()).status == 200
        client.half_close()
        assert await client.rest() == b""
        assert not stage.service.cancelled.is_set()


async def test_writing_to_a_caller_that_left_raises_client_gone(conversing):
    seen = asyncio.get_running_loop().create_future()

    async def stubborn(request, reply):
        try:
            await wait_for_ever(request, reply)
        except asyncio.CancelledError:
            with pytest.raises(ClientGone):
                await reply.send(200, [], b"")
            seen.set_result(True)
            raise ClientGone from None

    async with conversing(stubborn) as (stage, client):
        await client.send(post(b"{}"))
        await stage.service.started.wait()
        client.reset()
        assert await seen
