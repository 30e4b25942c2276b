"""Bodies in a content coding, through the whole house: read where they have to be, else passed on as they came (C9)."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from tests.both_ways import BOTH_WAYS
from tests.edge.raw import post, request
from tests.fakes import settle
from tests.upstream.scripted import answering
from tests.wire import COMPLETION, LAST_CHUNK, at_rest, before, chunk, error, says, seen

pytestmark = BOTH_WAYS

CHAT = b'{"messages":[{"role":"user","content":"hello"}],"model":"%b","seed":1}'
NAMES = "models:\n  - {name: fast, chain: [own/m]}\n"
OWN = answering(says(COMPLETION))
REFUSED = answering(
    says(b'{"error":{"message":"Unsupported parameter: seed","param":"seed","code":"unsupported_parameter"}}',
         status=b"400 Bad Request"),
    says(COMPLETION),
)  # fmt: skip


async def asked(client, body, coding=b"gzip", path=b"/v1/chat/completions"):
    lines = (b"content-type: application/json", b"content-encoding: " + coding)
    await client.send(request(path, *lines, method=b"POST", body=body))
    return await client.answer()


@pytest.mark.parametrize(("pack", "coding"), [(gzip.compress, b"gzip"), (zlib.compress, b"deflate")])
async def test_C9_a_packed_request_goes_on_as_it_came_where_nothing_changes(tmp_path, pack, coding):
    body = pack(CHAT % b"m")
    async with before(tmp_path, OWN, NAMES) as (rig, server), await rig.raw() as client:
        answer = await asked(client, body, coding)
        assert (answer.status, answer.values(b"x-sidecar-model")) == (200, [b"m"])
        assert (seen(server)[0].body, seen(server)[0].values(b"content-encoding")) == (body, [coding])
        assert seen(server)[0].values(b"content-length") == [b"%d" % len(body)]


async def test_C9_a_packed_request_that_is_rewritten_goes_on_plain(tmp_path):
    async with before(tmp_path, OWN, NAMES) as (rig, server), await rig.raw() as client:
        assert (await asked(client, gzip.compress(CHAT % b"fast"))).status == 200
        assert (seen(server)[0].body, seen(server)[0].values(b"content-encoding")) == (CHAT % b"m", [])
        assert seen(server)[0].values(b"content-length") == [b"%d" % len(CHAT % b"m")]


async def test_B10_a_packed_request_loses_a_field_that_is_refused(tmp_path):
    body = gzip.compress(CHAT % b"m")
    async with before(tmp_path, REFUSED) as (rig, server), await rig.raw() as client:
        answer = await asked(client, body)
        assert (answer.status, answer.values(b"x-sidecar-dropped")) == (200, [b"seed"])
        first, second = seen(server)
        assert (first.body, first.values(b"content-encoding")) == (body, [b"gzip"])
        assert (second.body, second.values(b"content-encoding")) == ((CHAT % b"m").replace(b',"seed":1', b""), [])


@pytest.mark.parametrize(
    ("body", "coding", "status", "code"),
    [
        (b"\x8b\x02\x80hello\x03", b"br", 415, "unsupported_content_encoding"),
        (b"\x28\xb5\x2f\xfd\x04\x00\x01", b"zstd", 415, "unsupported_content_encoding"),
        (b"\x1f\x8b\x08 this is none", b"gzip", 400, "invalid_json"),
        (gzip.compress(b"no JSON", mtime=0), b"gzip", 400, "invalid_json"),
        (gzip.compress(b" " * (2 << 20)), b"gzip", 413, "body_too_large"),
    ],
)
async def test_C9_what_cannot_be_read_is_refused_with_a_remedy(tmp_path, body, coding, status, code):
    async with before(tmp_path, OWN, "body: {max_bytes: 1MiB}\n") as (rig, server), await rig.raw() as client:
        answer = await asked(client, body, coding)
        assert (answer.status, error(answer)["code"]) == (status, code)
        if status == 415:
            assert "send it as it is, or as gzip" in error(answer)["message"]
            assert coding.decode() in error(answer)["message"]
        assert server.requests == []


@pytest.mark.parametrize("coding", [b"gzip", b"br"])
async def test_C9_where_no_model_is_needed_it_passes_whatever_it_is(tmp_path, coding):
    body = gzip.compress(b"no JSON", mtime=0) if coding == b"gzip" else b"\x8b\x02\x80hello\x03"
    async with before(tmp_path, OWN) as (rig, server), await rig.raw() as client:
        lines = (b"content-type: application/octet-stream", b"content-encoding: " + coding)
        await client.send(request(b"/v1/uploads/u1/parts", *lines, method=b"POST", body=body))
        assert (await client.answer()).status == 200
        assert (seen(server)[0].body, seen(server)[0].values(b"content-encoding")) == (body, [coding])


async def test_E5_what_is_unpacked_counts_as_in_flight(tmp_path):
    release = asyncio.Event()

    async def script(peer):
        await peer.request()
        await release.wait()
        peer.send(says(COMPLETION))

    long = gzip.compress(CHAT % b"m" + b" " * (700 << 10))
    config = "body: {max_bytes: 1MiB}\ninflight: {bytes: 1MiB}\n"
    async with before(tmp_path, script, config) as (rig, server), await rig.raw() as first, await rig.raw() as second:
        held = asyncio.ensure_future(asked(first, long))
        await server.accepted(1)
        refused = await asked(second, long)
        assert (refused.status, error(refused)["code"]) == (503, "overloaded")
        release.set()
        assert (await held).status == 200
        await at_rest(rig)
        assert rig.sidecar._entrance.inflight_bytes == 0


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"400 Bad Request"])
@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip"])
async def test_G3_an_error_that_cannot_be_read_is_not_passed_on(tmp_path, coding, status):
    """It may hold the key; here it does, in the clear, as whoever can unpack it would see."""
    sealed = says(b"\x01 key gsk_a", b"content-encoding: " + coding, status=status)
    async with before(tmp_path, answering(sealed), "retry: {attempts: 1}\n") as (rig, _), await rig.raw() as client:
        await client.send(post(CHAT % b"m", b"x-sidecar-fallback: off"))
        answer = await client.answer()
        assert b"gsk_a" not in answer.body
        assert b"%d" % answer.status == status[:3]
        assert answer.values(b"content-encoding") == []
        assert "withheld" in error(answer)["message"]


async def test_C7_a_native_caller_is_told_in_its_own_shape_that_its_body_grew_too_large(tmp_path):
    async with (
        before(tmp_path, OWN, "body: {max_bytes: 1MiB}\n", name="anthropic") as (rig, server),
        await rig.raw() as client,
    ):
        lines = (b"content-type: application/json", b"transfer-encoding: chunked")
        await client.send(request(b"/p/anthropic/v1/messages", *lines, method=b"POST"))
        for _ in range(5):
            await client.send(chunk(b" " * (256 << 10)))
            await settle(2)
        await client.send(LAST_CHUNK)
        answer = await client.answer()
        told = answer.body
        assert answer.status == 413
        assert told.startswith(b'{"type":"error","error":{')
        assert server.requests == []
        assert rig.requests[-1]["outcome"] == "body_too_large"
