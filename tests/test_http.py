"""HTTP through the whole house, bytes in and bytes out (acceptance C, E4, E5)."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import zlib

import pytest

from sidecar.admin.log import LineLog
from sidecar.app import Prepared, Sidecar, Source, prepare
from sidecar.core.config import Address
from sidecar.core.limits import MINUTE, SECOND
from sidecar.sim.config import SimConfig
from tests.both_ways import BOTH_WAYS
from tests.edge.raw import RawClient, post, request
from tests.edge.test_listening import has_ipv6
from tests.fakes import LoopClock, settle
from tests.rig import CATALOG, WATCHDOG_S, DrivenClock, chat, pump, running, until
from tests.upstream.scripted import answering
from tests.wire import COMPLETION, EVENTS, LAST_CHUNK, at_rest, before, chunk, delta, error, says, seen

pytestmark = BOTH_WAYS

MIB = 1 << 20
BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
STREAM = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
MODEL_OF_OWN = answering(says(COMPLETION))


# === the upstream's connections ===


async def test_C4_a_provider_that_closes_idle_connections_at_random_is_no_error_and_no_duplicate(tmp_path):
    draws = random.Random(4)

    async def script(peer):
        for _ in range(draws.randrange(1, 6)):
            await peer.request()
            peer.send(says(COMPLETION))
        await settle(draws.randrange(4))
        peer.close()

    async with before(tmp_path, script) as (rig, server):

        async def caller(number):
            for turn in range(40):
                name = f"caller {number} turn {turn}"
                answer = await rig.post(body=chat("m", user=name))
                assert (answer.status, answer.headers["x-sidecar-attempts"]) == (200, "1"), answer
                await settle(draws.randrange(4))

        await asyncio.gather(*map(caller, range(16)))
        assert len({each.body for each in seen(server)}) == len(server.requests) == 640
        assert len(server.peers) > 100


async def test_C5_a_caller_that_was_idle_finds_its_connection_open(tmp_path):
    clock = DrivenClock()
    async with before(tmp_path, MODEL_OF_OWN, clock=clock) as (rig, server), await rig.raw() as client:
        for idle_s in (0, 1, 5, 30, 90, 299):
            clock.leap(idle_s * SECOND)
            await client.send(post(BODY))
            answer = await pump(clock, client.answer())
            assert (answer.status, answer.values(b"connection")) == (200, [])
        assert len(server.requests) == 6
        assert rig.sidecar.config.timeouts.client_idle >= 300 * SECOND


# === sizes ===


@pytest.mark.parametrize("opening", [b"", b"data: " + delta("small").encode() + b"\n\n"], ids=["first", "later"])
async def test_C6_a_line_of_8_mib_passes_as_it_comes(tmp_path, opening):
    line = b"data: " + delta("x" * (8 * MIB), finish_reason="stop").encode() + b"\n\n"
    half_is_there = asyncio.Event()

    async def script(peer):
        await peer.request()
        peer.send(EVENTS + (chunk(opening) if opening else b"") + chunk(line[: 4 * MIB]))
        await half_is_there.wait()
        peer.send(chunk(line[4 * MIB :]) + chunk(b"data: [DONE]\n\n") + LAST_CHUNK)

    async with before(tmp_path, script) as (rig, _), await rig.raw() as client:
        await client.send(post(STREAM))
        assert b" 200 " in await client.head()
        received = b""
        while piece := await client.chunk():
            received += piece
            if len(received) > 3 * MIB:
                half_is_there.set()
        assert received == opening + line + b"data: [DONE]\n\n"


async def test_C6_a_json_answer_of_8_mib_passes(tmp_path):
    body = b'{"object":"list","data":[' + b"1," * (4 * MIB) + b"1]}"
    async with before(tmp_path, answering(says(body))) as (rig, _):
        answer = await rig.post("/v1/embeddings", {"model": "m", "input": "x"})
        assert answer.body == body


async def test_C7_a_body_of_32_mib_passes(tmp_path):
    url = b"data:image/png;base64," + b"iVBORw0K" * (4 * MIB)
    content = b'[{"type":"image_url","image_url":{"url":"%b"}}]' % url
    body = b'{"messages":[{"role":"user","content":%b}],"model":"m"}' % content
    async with before(tmp_path, MODEL_OF_OWN) as (rig, server), await rig.raw() as client:
        await client.send(post(body))
        assert (await client.answer()).status == 200
        assert len(body) > 32 * MIB
        assert seen(server)[0].body == body


@pytest.mark.parametrize(
    "head",
    [b"content-length: %d" % (MIB + 1), b"transfer-encoding: chunked"],
    ids=["declared", "chunked"],
)
async def test_C7_above_the_cap_413_comes_before_the_body_is_read(tmp_path, head):
    async with (
        before(tmp_path, MODEL_OF_OWN, "body: {max_bytes: 1MiB}\n") as (rig, server),
        await rig.raw() as client,
    ):
        await client.send(request(b"/v1/chat/completions", b"content-type: application/json", head, method=b"POST"))
        if b"chunked" in head:
            await client.send(chunk(b" " * (MIB + 1)))  # and no end
        answer = await client.answer()
        assert (answer.status, error(answer)["code"]) == (413, "body_too_large")
        assert "1MiB" in error(answer)["message"]
        assert server.requests == []


async def test_C8_a_stream_of_20_minutes_completes(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq", chunk_count=60, tokens_per_reply=120, chunk_delay_ns=20 * SECOND)}
    config = 'providers: [{name: groq, base_url: "{groq}", keys: [{name: a, env: KEY_A}]}]\n'
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, sims, clock=clock) as rig:
        began_ns = clock.now_ns()
        running_post = asyncio.ensure_future(rig.post(body=chat(stream=True)))
        while not running_post.done():
            await settle(40)
            clock.leap(20 * SECOND)
        answer = await running_post
        assert answer.body.count(b'"content"') >= 60
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in answer.body
        assert clock.now_ns() - began_ns >= 20 * MINUTE
        assert rig.requests[-1]["outcome"] == "ok"


# === bodies as they are ===

_DEFLATE = zlib.compress(COMPLETION)
AS_IT_IS = {
    "gzip": says(gzip.compress(COMPLETION), b"content-encoding: gzip"),
    "deflate": says(_DEFLATE, b"content-encoding: deflate"),
    # no coder of these is here: what matters is that nobody opens them
    "br": says(b"\x8b\x02\x80hello\x03", b"content-encoding: br"),
    "zstd": says(b"\x28\xb5\x2f\xfd\x04\x00\x01", b"content-encoding: zstd"),
    "chained": says(gzip.compress(_DEFLATE), b"content-encoding: deflate, gzip"),
    "broken gzip": says(b"\x1f\x8b\x08 this is none", b"content-encoding: gzip"),
    "gzip that lies": says(COMPLETION, b"content-encoding: gzip"),
    "gzip events": says(gzip.compress(b"data: [DONE]\n\n"), b"content-encoding: gzip", kind=b"text/event-stream"),
    "chunked gzip": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
    b"transfer-encoding: chunked\r\n\r\n" + chunk(gzip.compress(COMPLETION)) + LAST_CHUNK,
    "text": says("grüße\r\n".encode("latin-1"), kind=b"text/plain; charset=latin-1"),
    "binary": says(bytes(range(256)) * 4, kind=b"audio/mpeg"),
    "no type": says(b"?", kind=None),
    "nothing": says(b"", kind=b"application/octet-stream"),
    "204": b"HTTP/1.1 204 No Content\r\nx-mark: 1\r\n\r\n",
    "304": b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n',
    "gzip error": says(gzip.compress(b'{"error":{}}'), b"content-encoding: gzip", status=b"400 Bad Request"),
}  # fmt: skip
_OF_THE_MESSAGE = (b"content-type", b"content-encoding", b"etag", b"x-mark")


def _of_message(head):
    lines = [line.split(b": ", 1) for line in head.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    return sorted((name, value) for name, value in lines if name in _OF_THE_MESSAGE)


def _unframed(answer):
    body = answer.partition(b"\r\n\r\n")[2]
    if b"transfer-encoding: chunked" not in answer:
        return body
    size = int(body.partition(b"\r\n")[0], 16)
    return body.partition(b"\r\n")[2][:size]


@pytest.mark.parametrize("name", AS_IT_IS)
async def test_C9_an_answer_is_byte_identical_to_a_direct_one(tmp_path, name):
    direct = AS_IT_IS[name]
    async with before(tmp_path, answering(direct)) as (rig, server), await rig.raw() as client:
        for _ in range(2):  # the second on the connections of the first
            await client.send(post(BODY, b"accept-encoding: gzip, br, zstd"))
            answer = await client.answer()
            assert answer.body == _unframed(direct)
            assert _of_message(b"\r\n".join(answer.lines)) == _of_message(direct)
            assert answer.lines[0].split(b" ", 1)[1] == direct.split(b"\r\n")[0].split(b" ", 1)[1]
        assert len(server.peers) == 1
        assert seen(server)[0].values(b"accept-encoding") == [b"gzip, br, zstd"]


@pytest.mark.parametrize("length", [b"content-length: 4711\r\n", b"transfer-encoding: chunked\r\n", b""])
async def test_C9_the_answer_to_head_keeps_its_length_and_has_no_body(tmp_path, length):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + length + b"\r\n"
    async with before(tmp_path, answering(head)) as (rig, server), await rig.raw() as client:
        for _ in range(2):
            await client.send(request(b"/v1/files/f1", method=b"HEAD"))
            answer = await client.answer(is_head=True)
            assert (answer.status, answer.values(b"content-type")) == (200, [b"application/json"])
            assert answer.values(b"content-length") == ([b"4711"] if b"4711" in length else [])
        assert [each.method for each in seen(server)] == [b"HEAD", b"HEAD"]


async def test_C9_a_packed_request_body_passes_packed(tmp_path):
    packed = gzip.compress(b"hello" * 100)
    async with before(tmp_path, MODEL_OF_OWN) as (rig, server), await rig.raw() as client:
        lines = (b"content-encoding: gzip", b"content-type: application/jsonl")
        await client.send(request(b"/v1/uploads/u1/parts", *lines, method=b"POST", body=packed))
        assert (await client.answer()).status == 200
        assert (seen(server)[0].body, seen(server)[0].values(b"content-encoding")) == (packed, [b"gzip"])


# CJK, emoji of four bytes and of several code points, every line end, comments, a name of an event, several data lines
_WORDS = (
    ": 始まり\n\n"
    f"data: {delta('日本語')}\n\n"
    f"data: {delta('👩‍👩‍👧‍👦🏳️‍🌈')}\r\n\r\n"
    ": 沈黙\r\n\r\n"
    f"event: チャンク\rdata: {delta('한국어')}\r\r"
    'data: {"id":"c1",\ndata: "choices":[{"index":0,"delta":{"content":"𠀋"}}]}\n\n'
)
ENDINGS = {
    "done": f"data: {delta('終', finish_reason='stop')}\n\ndata: [DONE]\n\n",
    "done without a new line": f"data: {delta('終', finish_reason='stop')}\n\ndata: [DONE]",
    "no new line at all": f"data: {delta('終', finish_reason='stop')}",
    "a reason in an event that has one line end": f"data: {delta('終', finish_reason='stop')}\n",
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_C10_events_cut_at_every_offset_come_out_identical(tmp_path, ending):
    text = (_WORDS + ENDINGS[ending]).encode()
    # within characters, line ends and names; where the end is cut, at every offset (of all: tests/core/test_sse.py)
    first = range(1, len(text), 3) if ending == "done" else range(len(text) - 40, len(text))
    cuts = iter(first)

    async def script(peer):
        while True:
            await peer.request()
            cut = next(cuts)
            peer.send(EVENTS + chunk(text[:cut]))
            await settle(8)  # so that the pieces are read one by one
            peer.send(chunk(text[cut:]) + LAST_CHUNK)

    async with before(tmp_path, script) as (rig, _), await rig.raw() as client:
        for cut in first:
            await client.send(post(STREAM))
            answer = await client.answer()
            assert answer.body == text, cut
        assert {line["outcome"] for line in rig.requests} == {"ok"}


async def test_C10_events_that_come_byte_by_byte_come_out_identical(tmp_path):
    text = (_WORDS + ENDINGS["done"]).encode()

    async def script(peer):
        await peer.request()
        peer.send(EVENTS)
        for at in range(len(text)):
            peer.send(chunk(text[at : at + 1]))
            await settle(3)
        peer.send(LAST_CHUNK)

    async with before(tmp_path, script) as (rig, _), await rig.raw() as client:
        await client.send(post(STREAM))
        assert (await client.answer()).body == text


# === messages that are read in two ways ===


@pytest.mark.parametrize(
    "lines",
    [
        (b"content-length: 3", b"content-length: 3"),
        (b"content-length: 3", b"content-length: 30"),
        (b"content-length: 3", b"transfer-encoding: chunked"),
        (b"transfer-encoding: chunked", b"content-length: 3"),
        (b"transfer-encoding: gzip, chunked",),
        (b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
        (b"content-length: +3",),
        (b"content-length : 3",),
        (b"host: other",),
    ],
)
async def test_C11_what_could_be_read_in_two_ways_is_400_and_reaches_nobody(tmp_path, lines):
    async with before(tmp_path, MODEL_OF_OWN) as (rig, server), await rig.raw() as client:
        smuggled = request(b"/v1/smuggled")
        await client.send(request(b"/v1/chat/completions", *lines, method=b"POST") + b"0\r\n\r\n" + smuggled)
        answer = await client.answer()
        assert (answer.status, error(answer)["code"]) == (400, "invalid_http")
        assert await client.rest() == b""
        assert server.requests == []


async def test_C11_what_is_meant_for_this_hop_stays_here_in_both_directions(tmp_path):
    answer = says(
        COMPLETION, b"connection: keep-alive, x-hop", b"x-hop: 1", b"keep-alive: timeout=5", b"proxy-authenticate: x",
        b"trailer: x-t", b"upgrade: h2c", b"set-cookie: a=b", b"alt-svc: h3", b"strict-transport-security: max-age=1",
        b"x-kept: 1", b"x-kept: 2",
    )  # fmt: skip
    async with before(tmp_path, answering(answer)) as (rig, server), await rig.raw() as client:
        await client.send(
            post(
                BODY, b"connection: keep-alive, X-Caller-Hop, authorization", b"x-caller-hop: 1", b"keep-alive: 5",
                b"te: trailers", b"proxy-authorization: x", b"proxy-connection: keep-alive", b"upgrade: h2c",
                b"cookie: a=b", b"x-kept: 1", b"x-kept: 2",
            )
        )  # fmt: skip
        received = await client.answer()
        names = {name for name, _ in seen(server)[0].headers}
        assert names == {b"host", b"content-length", b"authorization", b"x-kept"}
        assert seen(server)[0].values(b"x-kept") == [b"1", b"2"]
        told = {line.split(b":")[0] for line in received.lines[1:] if not line.startswith(b"x-sidecar-")}
        assert told == {b"content-type", b"content-length", b"date", b"x-kept", b"x-request-id"}
        assert received.values(b"x-kept") == [b"1", b"2"]


async def test_C11_a_chunked_body_goes_on_with_a_length(tmp_path):
    async with before(tmp_path, MODEL_OF_OWN) as (rig, server), await rig.raw() as client:
        head = request(b"/v1/chat/completions", b"transfer-encoding: chunked", method=b"POST")
        pieces = b"".join(chunk(BODY[at : at + 7]) for at in range(0, len(BODY), 7))
        await client.send(head + pieces + LAST_CHUNK)
        assert (await client.answer()).status == 200
        assert seen(server)[0].body == BODY
        assert seen(server)[0].values(b"transfer-encoding") == []


# === callers that leave or stall, and too many of them ===


@pytest.mark.parametrize("how", [RawClient.reset, RawClient.half_close])
async def test_C13_a_caller_that_leaves_ends_the_exchange_with_the_provider(tmp_path, how):
    async def script(peer):
        await peer.request()
        peer.send(EVENTS + chunk(b"data: " + delta("x").encode() + b"\n\n"))
        await peer.gone()

    async with before(tmp_path, script) as (rig, server), await rig.raw() as client:
        await client.send(post(STREAM))
        await client.head()
        how(client)
        await server.empty()
        await at_rest(rig)
        assert rig.requests[-1]["outcome"] == "client_gone"


async def test_C15_localhost_is_served_whichever_address_it_is(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "sidecar.yaml"
    path.write_text(f"listen: localhost:{port}\nadmin: 127.0.0.1:0\nproviders: [{{name: ollama}}]\n")
    source, clock = Source(str(path), {}), LoopClock()
    async with asyncio.timeout(WATCHDOG_S):
        prepared = prepare(source, CATALOG, clock.now_ns())
        assert isinstance(prepared, Prepared)
        sidecar = Sidecar(source, prepared, CATALOG, clock, LineLog(lambda _: None))
        await sidecar.start()
        assert [address.host for address in sidecar.listening] == ["127.0.0.1", *(["::1"] if has_ipv6() else [])]
        for address in (*sidecar.listening, Address("localhost", port)):
            async with await RawClient.open(address) as client:
                await client.send(request(b"/nowhere"))
                assert (await client.answer()).status == 404
        await sidecar.stop()


async def test_E4_a_caller_that_does_not_read_stops_the_provider(tmp_path):
    piece = chunk(b"data: " + delta("x" * 65000).encode() + b"\n\n")
    stalled, total = asyncio.Event(), 200 * MIB

    async def script(peer):
        await peer.request()
        peer.send(EVENTS)
        while peer.sent < total and not stalled.is_set():
            peer.send(piece)
            for _ in range(400):
                if not peer.transport.get_write_buffer_size():
                    break
                await settle(1)
            else:
                stalled.set()
        accepted = peer.accepted
        await until(lambda: peer.accepted > accepted)
        peer.send(chunk(b"data: " + delta("", finish_reason="stop").encode() + b"\n\n") + LAST_CHUNK)
        await peer.gone()

    async with before(tmp_path, script) as (rig, server), await rig.raw() as client:
        await client.send(post(STREAM))
        await client.head()
        client.pause()
        await stalled.wait()
        # what the two pairs of sockets hold, and little of ours
        assert server.peers[0].sent < 64 * MIB
        client.resume()
        received = 0
        while got := await client.chunk():
            received += len(got)
        assert received > server.peers[0].sent * 0.99


async def test_E5_beyond_the_cap_503_comes_at_once(tmp_path):
    release = asyncio.Event()

    async def script(peer):
        while True:
            await peer.request()
            await release.wait()
            peer.send(says(COMPLETION))

    async with before(tmp_path, script, "inflight: {max: 2}\n") as (rig, server):
        held = [asyncio.ensure_future(rig.post(body=chat("m"))) for _ in range(2)]
        await server.until(lambda: len(server.peers) == 2)
        refused = await rig.post(body=chat("m"))
        assert (refused.status, error(refused)["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert (await rig.status())["in_flight"] == 2
        release.set()
        assert [answer.status for answer in await asyncio.gather(*held)] == [200, 200]
        assert (await rig.post(body=chat("m"))).status == 200
        assert len(server.requests) == 3


async def test_E5_beyond_the_bytes_503_comes_at_once(tmp_path):
    config = "body: {max_bytes: 1MiB}\ninflight: {bytes: 1MiB}\n"
    async with before(tmp_path, MODEL_OF_OWN, config) as (rig, _), await rig.raw() as client:
        await client.send(post(b" " * MIB)[:-1])
        await until_counted(rig)
        refused = await rig.post(body=chat("m"))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        client.reset()
        await at_rest(rig)
        assert (await rig.post(body=chat("m"))).status == 200


async def until_counted(rig):
    """Wait until a request is seen to be in flight."""
    while (await rig.status())["in_flight"] == 0:
        await settle()
