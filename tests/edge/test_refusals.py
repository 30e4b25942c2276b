"""Requests refused by their head, or as their body grows: at once, in JSON, and without a reset."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.core.entrance import digest
from sidecar.core.errors import Reason, Refusal
from tests.edge.raw import RawClient, post, request
from tests.edge.stage import RULES


def code(answer):
    return json.loads(answer.body)["error"]["code"]


async def test_expect_continue_is_met_after_acceptance_only(conversing):
    async with conversing() as (stage, client):
        head, body = post(b"hello", b"expect: 100-Continue").split(b"hello")[0], b"hello"
        await client.send(head)
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert stage.service.requests == []
        await client.send(body)
        assert (await client.answer()).body == body
        await client.send(head + body)
        assert (await client.answer()).body == body, "the body is here: nobody waits for `100 Continue`"


async def test_expect_continue_of_http_1_0_is_ignored(conversing):
    async with conversing() as (stage, client):
        await client.send(b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        await stage.service.entered.wait()
        await client.send(b"ok")
        assert (await client.answer()).body == b"ok"


async def test_other_expectations_are_417(conversing):
    async with conversing() as (stage, client):
        await client.send(request(b"/", b"expect: 200-ok"))
        answer = await client.answer()
        assert (answer.status, code(answer)) == (417, "expectation_failed")
        assert stage.service.heads == []


@pytest.mark.parametrize("line", [b"content-length: 1048577", b"content-length: 1048577\r\nexpect: 100-continue"])
async def test_C7_413_before_the_body_is_read(line, conversing):
    async with conversing(rules=RULES._replace(max_body_bytes=1 << 20)) as (stage, client):
        await client.send(request(b"/", line, method=b"POST"))
        answer = await client.answer()
        assert (answer.status, code(answer)) == (413, "body_too_large")
        assert answer.values(b"connection") == [b"close"]
        # the sender goes on, as libraries do that look at the answer last: it is thrown away, and no reset comes
        await client.send(b"x" * (1 << 20))
        assert await client.rest() == b""
        assert stage.service.requests == []
        assert stage.service.entrance.inflight == 0


async def test_C7_413_when_a_chunked_body_outgrows_the_cap(conversing):
    async with conversing(rules=RULES._replace(max_body_bytes=1000)) as (stage, client):
        await client.send(request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"3e8\r\n" + b"x" * 1000)
        await stage.service.entered.wait()
        await client.send(b"\r\n1\r\nx\r\n")
        answer = await client.answer()
        assert (answer.status, code(answer)) == (413, "body_too_large")
        assert await client.rest() == b""


async def test_C7_a_client_that_sends_all_before_it_reads_still_sees_the_413(conversing):
    async with conversing(rules=RULES._replace(max_body_bytes=1 << 20)) as (_stage, client):
        await client.send(post(b"x" * (16 << 20)))
        assert (await client.answer()).status == 413


async def test_a_refused_body_in_tiny_chunks_does_not_stop_the_sender(conversing):
    # so many chunks in one piece make aiohttp pause reading, and nobody will ever read them
    data = b"GET / HTTP/1.1\r\nhost: evil.example\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 3_000_000
    async with conversing() as (_, client):
        await client.send(data)
        assert (await client.answer()).status == 403


async def test_a_caller_that_never_stops_sending_is_cut_off_in_the_end(conversing):
    async with conversing(rules=RULES._replace(max_body_bytes=10)) as (stage, client):
        await client.send(request(b"/", b"content-length: 99999999999", method=b"POST"))
        assert (await client.answer()).status == 413
        assert await client.rest() == b"", "the server has said that it writes no more"
        stage.clock.advance(5_000_000_000)
        assert await stage.lane.drain(stage.clock.now_ns() + 1) is True


async def test_E5_too_many_at_once_get_503_and_retry_after(conversing):
    gate = asyncio.Event()

    async def wait(request, reply):
        await gate.wait()
        await reply.send(200, [], b"")

    async with (
        conversing(wait, rules=RULES._replace(max_inflight=1)) as (stage, first),
        await RawClient.open(stage.address) as second,
    ):
        await first.send(post(b"{}"))
        await stage.service.started.wait()
        await second.send(post(b"{}"))
        answer = await second.answer()
        assert (answer.status, code(answer), answer.values(b"retry-after")) == (503, "overloaded", [b"1"])
        gate.set()
        assert (await first.answer()).status == 200
        await second.send(post(b"{}"))
        assert (await second.answer()).status == 200, "its body was read, so the connection lived on"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n", 403),
        (request(b"/", b"origin: https://evil.example"), 403),
        (request(b"/"), 401),
        (request(b"/", b"authorization: Bearer wrong"), 401),
        (request(b"/", b"authorization: Bearer s3cret"), 200),
    ],
)
async def test_G4_host_origin_and_token(data, status, conversing):
    async with conversing(rules=RULES._replace(tokens={digest(b"s3cret"): "a"})) as (stage, client):
        await client.send(data)
        answer = await client.answer()
        assert answer.status == status
        assert b"s3cret" not in answer.body
        assert len(stage.service.requests) == (status == 200)


@pytest.mark.parametrize(("reason", "ends"), [(Reason.INVALID_HTTP, True), (Reason.UNKNOWN_PATH, False)])
async def test_who_speaks_no_http_is_not_listened_to_any_longer(conversing, reason, ends):
    async with conversing() as (stage, client):
        stage.service.enter = lambda *args: Refusal(reason, "as the service says")
        await client.send(post(b"{}"))
        assert (await client.answer()).values(b"connection") == ([b"close"] if ends else [])
