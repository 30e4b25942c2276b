"""What is not HTTP, or more of it than is taken: refused in JSON, and the connection ends (acceptance C11)."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.raw import request
from tests.edge.stage import conversing


def code(answer):
    return json.loads(answer.body)["error"]["code"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"FETCH / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        request(b"/v1/caf\xc3\xa9"),
        request(b"/ /x"),
        request(b"http://[::1/x"),
        request(b"/", b"bad header: x"),
        request(b"/", b"x : space before the colon"),
        request(b"/", b"x: a\r\n folded"),
        request(b"/", b"x: a\x00b"),
        request(b"/", b"x: a\rb: c"),
        request(b"/", b"content-length: 3", b"transfer-encoding: chunked", method=b"POST") + b"0\r\n\r\n",
        request(b"/", b"transfer-encoding: chunked", b"content-length: 3", method=b"POST") + b"0\r\n\r\n",
        request(b"/", b"content-length: 3", b"content-length: 4", method=b"POST") + b"abcd",
        request(b"/", b"content-length: 3", b"content-length: 3", method=b"POST") + b"abc",
        request(b"/", b"content-length: 3, 3", method=b"POST") + b"abc",
        request(b"/", b"content-length: +3", method=b"POST") + b"abc",
        request(b"/", b"content-length: -1", method=b"POST"),
        request(b"/", b"content-length: 0x3", method=b"POST") + b"abc",
        request(b"/", b"content-length: 99999999999999999999999", method=b"POST"),
        request(b"/", b"content-length:", method=b"POST"),
        request(b"/", b"transfer-encoding: gzip, chunked", method=b"POST") + b"0\r\n\r\n",
        request(b"/", b"transfer-encoding: chunked, identity", method=b"POST") + b"0\r\n\r\n",
        request(b"/", b"transfer-encoding: xchunked", method=b"POST") + b"0\r\n\r\n",
        request(b"/", b"transfer-encoding: chunked", b"transfer-encoding: chunked", method=b"POST") + b"0\r\n\r\n",
        b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"zz\r\n",
        request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"3\r\nabcd\r\n0\r\n\r\n",
        request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"-3\r\nabc\r\n0\r\n\r\n",
        request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"ffffffffffffffffff\r\n",
    ],
)
@pytest.mark.parametrize("is_bytewise", [False, True])
async def test_C11_what_is_not_http_is_400_in_json_and_ends_the_connection(data, is_bytewise, conversing):
    async with conversing() as (stage, client):
        try:
            await (client.send_bytewise(data) if is_bytewise else client.send(data))
        except ConnectionResetError:
            assert is_bytewise, "only a sender that goes on for long may be cut off"
        answer = await client.answer()
        assert (answer.status, code(answer)) == (400, "invalid_http"), answer
        assert answer.values(b"connection") == [b"close"]
        assert answer.values(b"content-type") == [b"application/json"]
        await client.send(request(b"/v1/models"))
        assert await client.rest() == b""
        assert stage.service.requests == []


async def test_connect_is_405(conversing):
    async with conversing() as (stage, client):
        await client.send(b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, code(answer)) == (405, "method_not_allowed")
        assert await client.rest() == b""
        assert stage.service.heads == []


async def test_nothing_of_a_malformed_request_is_repeated_in_the_error(conversing):
    async with conversing() as (_, client):
        await client.send(request(b"/?key=sk-1", b"authorization: Bearer sk-2", b"sk-3: x\x00", b"s k-4: x"))
        assert b"sk-" not in (await client.answer()).body


async def test_C11_a_body_that_breaks_off_in_the_middle_is_400(conversing):
    async with conversing() as (stage, client):
        await client.send(request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"3\r\nabc\r\n")
        await stage.service.entered.wait()
        await client.send(b"nonsense\r\n")
        assert code(await client.answer()) == "invalid_http"
        assert await client.rest() == b""


async def test_C11_framing_without_end_around_a_small_body_is_400(conversing):
    async with conversing() as (stage, client):
        await client.send(request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"1\r\na\r\n0\r\n")
        await stage.service.entered.wait()
        trailers = b"".join(b"x-%d: %s\r\n" % (number, b"t" * 1000) for number in range(1200))
        await client.send(trailers)
        assert code(await client.answer()) == "invalid_http"


async def test_many_tiny_chunks_are_taken(conversing):
    async with conversing() as (_, client):
        await client.send(
            request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
        )
        assert (await client.answer()).body == b"x" * 100_000


@pytest.mark.parametrize(
    "data",
    [
        request(b"/" + b"a" * 70_000),
        request(b"/", b"x: " + b"a" * 70_000),
        request(b"/", b"a" * 70_000 + b": x"),
        request(b"/", *(b"x-%d: " % number + b"a" * 4000 for number in range(20))),
        request(b"/", *(b"x: y" for _ in range(20_000))),
        request(b"/", *(b"x-%d: " % number + b"a" * 4000 for number in range(20)))[:-4],
        b"GET /" + b"a" * 70_000,
    ],
)
@pytest.mark.parametrize("piece_bytes", [1 << 20, 5000])
async def test_a_head_above_64_kib_is_431(data, piece_bytes, conversing):
    async with conversing() as (stage, client):
        for start in range(0, len(data), piece_bytes):
            await client.send(data[start : start + piece_bytes])
            await asyncio.sleep(0)
        answer = await client.answer()
        assert (answer.status, code(answer)) == (431, "headers_too_large")
        assert await client.rest() == b""
        assert stage.service.heads == []


async def test_a_head_of_60_kib_is_taken(conversing):
    async with conversing() as (_, client):
        await client.send(request(b"/", *(b"x-%d: " % number + b"a" * 4000 for number in range(15))))
        assert (await client.answer()).status == 200


async def test_pipelined_heads_do_not_add_up(conversing):
    async with conversing() as (stage, client):
        await client.send(request(b"/", b"x: " + b"a" * 3000) * 60)
        for _ in range(60):
            assert (await client.answer()).status == 200
        assert len(stage.service.requests) == 60


@pytest.mark.parametrize("lane", ["general", "fast"])
@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(
        st.one_of(
            st.sampled_from([b"GET ", b"POST ", b"/", b"//[", b"http://", b":", b" HTTP/1.1", b"\r\n", b"\r\n\r\n"]),
            st.sampled_from([b"host: localhost", b"content-length: 5", b"transfer-encoding: chunked", b"0\r\n\r\n"]),
            st.binary(max_size=8),
        ),
        max_size=12,
    ).map(b"".join)
)
def test_C11_no_input_breaks_a_connection(lane, data):
    async def scenario():
        async with conversing(lane=lane) as (_, client):
            await client.send(data)
            client.half_close()
            await client.rest()

    errors: list[object] = []
    log = logging.handlers.BufferingHandler(capacity=1000)
    logging.getLogger("sidecar.edge").addHandler(log)
    try:
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: errors.append(context))
            runner.run(scenario())
    finally:
        logging.getLogger("sidecar.edge").removeHandler(log)
    assert errors == log.buffer == []
