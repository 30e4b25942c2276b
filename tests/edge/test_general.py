"""Requests through the general lane: what arrives at the service, byte for byte, and what the caller reads back."""

from __future__ import annotations

import asyncio
import json
import logging

import aiohttp
import httpx
import pytest
from aiohttp import http_parser

from sidecar.core.config import Address
from sidecar.edge.general import PurePythonParser, require_c_parser
from tests.edge.raw import RawClient, post, request

CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    b'5\r\n{"a":\r\n2;note=x\r\n 1\r\n1\r\n}\r\n0\r\ntrailer: t\r\n\r\n'
)
WHOLE = [
    (post(b'{"model":"m"}'), b'{"model":"m"}'),
    (request(b"/v1/models"), b""),
    (CHUNKED, b'{"a": 1}'),
    (request(b"/v1/x", b"content-length: 0", method=b"POST"), b""),
    (post(b"\x00\xff" * 300, b"content-encoding: gzip"), b"\x00\xff" * 300),
    (post(b"{}", b"upgrade: h2c", b"http2-settings: AAMA", b"connection: upgrade, http2-settings"), b"{}"),
    (post(b"{}", b"upgrade: websocket", b"connection: upgrade"), b"{}"),
]


def code(answer):
    return json.loads(answer.body)["error"]["code"]


@pytest.mark.parametrize("is_bytewise", [False, True])
@pytest.mark.parametrize(("data", "body"), WHOLE)
async def test_a_request_arrives_whole_or_byte_by_byte(data, body, is_bytewise, conversing):
    async with conversing() as (stage, client):
        await (client.send_bytewise(data) if is_bytewise else client.send(data))
        assert (await client.answer()).body == body
        (arrived,) = stage.service.requests
        assert arrived.body == body
        sent = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        headers = [tuple(line.split(b": ", 1)) for line in sent]
        assert arrived.headers == [header for header in headers if header[0] != b"content-length"]
        assert arrived.is_measured is (arrived.headers != headers)


@pytest.mark.parametrize(("data", "body"), [row for row in WHOLE if b"h2c" not in row[0] and row[0] != CHUNKED])
async def test_pipelined_requests_are_answered_in_order(data, body, conversing):
    async with conversing() as (_, client):
        await client.send(data + post(b"second") + data)
        assert [(await client.answer()).body for _ in range(3)] == [body, b"second", body]


async def test_C11_a_trailer_never_becomes_a_header_of_the_next_request(conversing):
    async with conversing() as (stage, client):
        await client.send(CHUNKED + post(b"second"))
        assert (await client.answer()).values(b"connection") == [b"close"]
        assert await client.rest() == b""
        assert len(stage.service.requests) == 1


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/models/openai%2Fgpt%2doss?x=%20&y=a+b&&z",
        b"/v1//a/../b/./c/%2e%2e/%00",
        b"/v1/caf%C3%A9",
        b"/v1/%E9?q=%ZZ#frag",
        b"/?",
        b"//host/path",
    ],
)
async def test_the_target_is_passed_on_exactly_as_received(target, conversing):
    async with conversing() as (stage, client):
        await client.send(request(target))
        assert (await client.answer()).status == 200
        assert stage.service.requests[0].target == target


async def test_absolute_form_counts_as_origin_form_with_that_host(conversing):
    async with conversing() as (stage, client):
        await client.send(request(b"http://127.0.0.1:8787/v1/models?a=b", b"x: y"))
        await client.send(request(b"http://localhost"))
        await client.send(request(b"http://evil.example/v1/models"))
        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 403]
        first, second = stage.service.requests
        assert (first.target, first.headers) == (b"/v1/models?a=b", [(b"host", b"127.0.0.1:8787"), (b"x", b"y")])
        assert second.target == b"/"


async def test_headers_arrive_in_order_with_lower_case_names_and_duplicates(conversing):
    lines = [b"X-B: 1", b"x-a:  two words \t", b"X-b: 3", b"X-Empty:", b"x-latin: caf\xe9"]
    async with conversing() as (stage, client):
        await client.send(request(b"/v1/models", *lines))
        await client.answer()
        assert stage.service.requests[0].headers == [
            (b"host", b"localhost"), (b"x-b", b"1"), (b"x-a", b"two words"), (b"x-b", b"3"), (b"x-empty", b""),
            (b"x-latin", b"caf\xe9"),
        ]  # fmt: skip


async def test_the_head_alone_decides_before_the_body_is_there(conversing):
    async with conversing() as (stage, client):
        await client.send(post(b"x" * 10)[:-5])
        await stage.service.entered.wait()
        assert stage.service.heads == [(b"POST", b"/v1/chat/completions", 10)]
        assert (stage.service.entrance.inflight, stage.service.entrance.inflight_bytes) == (1, 10)
        assert stage.service.requests == []
        await client.send(b"x" * 5)
        assert (await client.answer()).body == b"x" * 10


async def test_http_1_0_closes_unless_asked_to_stay(conversing):
    async with conversing() as (stage, client):
        await client.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
        answer = await client.answer()
        assert answer.values(b"connection") == [b"close"]
        assert await client.rest() == b""
        async with await RawClient.open(stage.address) as client:
            await client.send(b"GET /v1/models HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" * 2)
            for _ in range(2):
                assert (await client.answer()).values(b"connection") == [b"keep-alive"]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_connection_close_is_obeyed(version, conversing):
    async with conversing() as (_stage, client):
        await client.send(b"GET / HTTP/" + version + b"\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert (await client.answer()).values(b"connection") == [b"close"]
        assert await client.rest() == b""


async def test_keep_alive_reuses_the_connection(serving):
    async with serving() as stage:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            for index in range(20):
                url = f"http://127.0.0.1:{stage.address.port}/v1/{index}"
                async with session.post(url, json={"n": index}) as response:
                    assert await response.json(content_type=None) == {"n": index}
            assert "1 connections" in repr(stage.lane)


async def test_C7_a_multipart_upload_of_20_mib(serving):
    part = bytes(range(256)) * 4096 * 20
    async with serving() as stage, httpx.AsyncClient() as client:
        url = f"http://localhost:{stage.address.port}/v1/audio/transcriptions"
        answer = await client.post(url, files={"file": ("a.wav", part)}, data={"model": "whisper"})
        assert answer.status_code == 200
        assert part in stage.service.requests[0].body


async def test_C15_both_loopback_addresses_are_served(serving):
    listen = (Address("127.0.0.1", 0), Address("::1", 0, is_optional=True))
    async with serving(listen=listen) as stage:
        assert [address.host for address in stage.addresses] in (["127.0.0.1", "::1"], ["127.0.0.1"])
        for address in stage.addresses:
            async with await RawClient.open(address) as client:
                await client.send(post(b"hello"))
                assert (await client.answer()).body == b"hello"


async def test_an_unexpected_error_is_500_when_nothing_is_sent_and_is_logged_without_the_request(caplog, conversing):
    async def fail(request, reply):
        raise KeyError("inside")

    async with conversing(fail) as (_stage, client):
        with caplog.at_level(logging.DEBUG):
            await client.send(post(b"private-prompt", b"authorization: Bearer private-key"))
            answer = await client.answer()
        assert (answer.status, code(answer)) == (500, "internal_error")
        assert "KeyError" in caplog.text
        assert "private" not in caplog.text
        await client.send(post(b"{}"))
        assert (await client.answer()).status == 500, "the connection lives on"


async def test_an_unexpected_error_after_the_head_breaks_the_answer_off(caplog, conversing):
    async def fail(request, reply):
        await reply.start(200, [], None)
        await reply.write(b"some")
        raise KeyError("inside")

    async with conversing(fail) as (_stage, client):
        await client.send(post(b"{}"))
        await client.head()
        assert await client.chunk() == b"some"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.chunk()


@pytest.mark.parametrize("starts", [False, True])
async def test_a_service_that_forgets_to_answer_leaves_nobody_hanging(starts, conversing):
    async def forget(request, reply):
        if starts:
            await reply.start(200, [], 10)

    async with conversing(forget) as (_stage, client):
        await client.send(post(b"{}"))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 200" if starts else b"HTTP/1.1 500")
        if starts:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.reader.readexactly(1)


def test_C11_the_parser_is_the_one_in_c():
    require_c_parser(http_parser.HttpRequestParser)
    with pytest.raises(PurePythonParser, match="AIOHTTP_NO_EXTENSIONS"):
        require_c_parser(http_parser.HttpRequestParserPy)
