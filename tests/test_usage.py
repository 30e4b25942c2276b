"""Usage through the whole house: asked for where it is told on request only, never shown unasked, counted to the token.

What a caller gets is compared, byte for byte, with the answer of a twin of the provider that is asked directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import msgspec
import pytest

from sidecar.core.http import find
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.fakes import FakeClock
from tests.rig import CHAT, WATCHDOG_S, DrivenClock, chat, pump, running, until
from tests.scraping import scrape

pytestmark = BOTH_WAYS

ONE = """
providers:
  - name: {name}
    base_url: "{sim}"
    dialect: {dialect}
    keys: [{name: a, env: KEY_A}]
"""
UNASKED = [
    {},
    {"stream_options": None},
    {"stream_options": {}},
    {"stream_options": {"include_usage": False}},
    {"stream_options": {"include_usage": None, "include_obfuscation": False}},
]
ASKED = {"stream_options": {"include_usage": True}}


def house(tmp_path, name="openai", dialect="openai", extra="", clock=None):
    """A sidecar before a simulator; `twin` is another with the same history."""
    sims = {"sim": SimConfig(dialect), "twin": SimConfig(dialect)}
    text = ONE.replace("{name}", name, 1).replace("{dialect}", dialect)
    return running(tmp_path, text + extra, sims, clock=clock or FakeClock())


async def both(rig, body, path="/chat/completions", **headers):
    """The answer through the sidecar and that of the twin."""
    content = msgspec.json.encode(body)
    named = {"content-type": "application/json", "authorization": "Bearer gsk_a"} | headers

    async def directly():
        async with rig.client.post(rig.sims["twin"].base_url + path, data=content, headers=named) as answer:
            return await answer.read()

    return await asyncio.gather(rig.send("POST", f"/v1{path}", content, named), directly())


def arrived(rig):
    return json.loads(rig.sims["sim"].requests[-1][1].body)


@pytest.mark.parametrize("more", UNASKED)
@pytest.mark.parametrize("packing", ["identity", "gzip"])
async def test_B14_a_stream_is_the_direct_one_to_the_byte_and_its_usage_is_known(tmp_path, more, packing):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        for fields in ({}, {"n": 2}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"max_tokens": 1}):
            body = chat("gpt-4o", stream=True, **fields, **more)
            relayed, direct = await both(rig, body, **{"accept-encoding": packing})
            assert relayed.body == direct
            assert b"usage" not in relayed.body
            assert relayed.body.endswith(b"data: [DONE]\n\n")
            assert find(rig.sims["sim"].requests[-1][1].headers, b"accept-encoding") is None, "it could not be read"
            assert arrived(rig)["stream_options"] == (more.get("stream_options") or {}) | ASKED["stream_options"]
        lines = rig.requests
        assert [line["outcome"] for line in lines] == ["ok"] * 4
        row = rig.row("sim")
        assert sum(line["tokens_in"] for line in lines) == row.input_tokens > 0
        assert sum(line["tokens_out"] for line in lines) == row.output_tokens > 0


async def test_B14_completions_are_chat_s_elder_sisters(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        body = {"model": "gpt-3.5-turbo-instruct", "prompt": "hello", "stream": True}
        relayed, direct = await both(rig, body, "/completions")
        assert relayed.body == direct
        assert rig.requests[-1]["tokens_out"] == rig.row("sim").output_tokens > 0


async def test_B14_a_caller_that_asks_gets_what_it_asked_for(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        relayed, direct = await both(rig, chat("gpt-4o", stream=True, **ASKED))
        assert relayed.body == direct
        assert b'"choices":[]' in relayed.body
        assert relayed.body.count(b'"usage":null') > 3


@pytest.mark.parametrize("name", ["groq", "cerebras", "deepinfra"])
async def test_B14_where_usage_comes_by_itself_nothing_is_asked_and_nothing_taken_out(tmp_path, name):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, name, name) as rig:
        body = chat("m", stream=True)
        relayed, direct = await both(rig, body)
        assert relayed.body == direct
        assert rig.sims["sim"].requests[-1][1].body == msgspec.json.encode(body)
        assert find(rig.sims["sim"].requests[-1][1].headers, b"accept-encoding") is not None
        assert rig.requests[-1]["tokens_out"] == 32


async def test_B14_an_unknown_provider_is_asked_and_loses_only_what_that_added(tmp_path):
    # Groq tells usage twice unasked, and once more in an event of its own when asked
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, "mine", "groq") as rig:
        relayed, direct = await both(rig, chat("m", stream=True))
        assert arrived(rig)["stream_options"] == ASKED["stream_options"]
        assert relayed.body == direct
        assert relayed.body.count(b'"usage":{') == 2


async def test_B14_nothing_is_asked_strictly_or_elsewhere(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, extra="retry: {strict: true}\n") as rig:
        relayed, direct = await both(rig, chat("gpt-4o", stream=True))
        assert relayed.body == direct
        assert "stream_options" not in arrived(rig)
        assert "tokens_in" not in rig.requests[-1]
        assert (await rig.status())["usage"] == {"input_tokens": 0, "output_tokens": 0, "unknown_answers": 1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat("gpt-4o")),
        ("/v1/chat/completions", chat("gpt-4o", stream=False)),
        ("/v1/responses", {"model": "gpt-4o", "input": "hello", "stream": True}),
        ("/p/openai/v1/chat/completions", chat("gpt-4o", stream=True)),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hello", "stream": True}),
    ],
)
async def test_B14_nothing_is_asked_where_there_is_no_such_stream(tmp_path, path, body):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        assert (await rig.post(path, body)).status == 200
        assert rig.sims["sim"].requests[-1][1].body == msgspec.json.encode(body)


@pytest.mark.parametrize("kind", ["cut", "error_event", "malformed"])
async def test_B14_a_stream_that_breaks_off_is_the_direct_one_as_far_as_it_went(tmp_path, kind):
    clock = DrivenClock()
    async with house(tmp_path, clock=clock) as rig:
        fault = Fault(kind, after_chunks=4, chunk_seconds=1, mode="end" if kind == "cut" else None)
        for name in ("sim", "twin"):
            rig.fault(name, fault)
        relayed, direct = await pump(clock, both(rig, chat("gpt-4o", stream=True)))
        assert len(direct.split(b"\n\n")) > 4
        assert relayed.body.startswith(direct)


HALF = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"half a'
WHOLE = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"}}],"usage":null}\n\n'


async def _serve_half(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + WHOLE + HALF)
    writer.close()


async def test_B14_a_half_event_is_not_lost_when_the_stream_breaks(tmp_path):
    server = await asyncio.start_server(_serve_half, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    config = f"providers: [{{name: table, base_url: '{url}'}}]\n"
    async with asyncio.timeout(WATCHDOG_S), server, running(tmp_path, config, {}) as rig:
        answer = await rig.post(body=chat("m", stream=True))
        assert answer.body.startswith(WHOLE.replace(b',"usage":null', b"") + HALF + b'\n\ndata: {"error":')


async def test_B14_silence_ends_a_stream_as_it_would_without_asking(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, extra="timeouts: {idle: 5s}\n", clock=clock) as rig:
        rig.fault("sim", Fault("stall_after_headers", after_chunks=4))
        answer = await pump(clock, rig.post(body=chat("gpt-4o", stream=True)))
        *events, error, done, rest = answer.body.split(b"\n\n")
        assert (len(events), done, rest) == (5, b"data: [DONE]", b""), "the last one is the empty line before the error"
        assert b"upstream_timeout" in error
        assert b"usage" not in answer.body


MIXED = """
providers:
  - name: openai
    base_url: "{openai}"
    keys: [{name: a, env: KEY_A}]
  - name: groq
    base_url: "{groq}"
    keys: [{name: b, env: KEY_B}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: one, chain: [openai/m, groq/m, cerebras/m]}
  - {name: two, chain: [groq/m, cerebras/m]}
  - {name: three, chain: [cerebras/m, openai/m]}
  - {name: cut, chain: [openai/cut, cerebras/m]}
  - {name: lost, chain: [groq/lost]}
  - {name: gone, chain: [openai/gone]}
retry: {attempts: 8, base: 1ms}
"""
MIXED_SIMS = {name: SimConfig(name, gzip=name != "openai", seed=3) for name in ("openai", "groq", "cerebras")}
FIELDS: list[dict[str, object]] = [
    {},
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"stream": True, "stream_options": {"include_usage": False}},
    {"stream": True, "max_tokens": 7},
    {"max_tokens": 3, "store": True},
    {"stream": True, "tools": [{"type": "function", "function": {"name": "f"}}]},
    {"messages": [{"role": "user", "content": "日本語 " * 30}]},
]


async def _left(rig, body):
    """A caller that leaves in the middle of its answer."""
    headers = {"content-type": "application/json"}
    async with rig.client.post(rig.url + CHAT, data=msgspec.json.encode(body), headers=headers) as answer:
        await answer.content.readany()


async def test_I2_the_sum_is_the_bill_to_the_token_and_what_is_not_known_is_counted_apart(tmp_path):
    good, cut, lost, gone, mute = 240, 12, 9, 8, 5
    async with asyncio.timeout(4 * WATCHDOG_S), running(tmp_path, MIXED, MIXED_SIMS) as rig:
        for name in ("openai", "groq"):
            rig.fault(name, Fault("status", status=500, probability=0.15, model="m"))
        rig.fault("openai", Fault("cut", model="cut", after_chunks=4))
        rig.fault("groq", Fault("cut", model="lost", after_chunks=4, mode="rst"))
        rig.fault("openai", Fault("stall_after_headers", model="gone", after_chunks=4))

        async def ask(at):
            model = ("one", "two", "three")[at % 3]
            if at % 10 == 9:
                return await rig.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": f"hello {at}"})
            return await rig.post(body=chat(model, user=str(at)) | FIELDS[at % len(FIELDS)])

        asked = [ask(at) for at in range(good)]
        asked += [rig.post(body=chat("cut", user=str(at))) for at in range(cut)]  # cut before anything was passed on
        asked += [rig.post(body=chat("lost", user=str(at), stream=True)) for at in range(lost)]
        asked += [rig.post("/v1/audio/speech", {"model": "tts-1", "input": "hello", "voice": "x"}) for _ in range(mute)]
        answers = await asyncio.gather(
            *asked, *(_left(rig, chat("gone", stream=True, user=str(at))) for at in range(gone))
        )
        await until(lambda: len(rig.requests) == len(answers))

        lines = rig.requests
        outcomes = [line["outcome"] for line in lines]
        assert (outcomes.count("broken"), outcomes.count("client_gone")) == (lost, gone)
        assert outcomes.count("ok") == len(answers) - lost - gone
        rows = [rig.row(name) for name in MIXED_SIMS]
        assert min(row.served for row in rows) > 20, "all took part"
        assert sum(row.faulted.get("status", 0) for row in rows) > 10
        known = [line for line in lines if "tokens_in" in line]
        assert len(known) == good + cut
        billed = (sum(row.served_input_tokens for row in rows), sum(row.served_output_tokens for row in rows))
        speech = mute * 2  # `hello`, which the simulators bill and no answer tells
        assert (sum(line["tokens_in"] for line in known), sum(line["tokens_out"] for line in known)) == (
            billed[0] - speech,
            billed[1],
        )
        usage = (await rig.status())["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (billed[0] - speech, billed[1])
        broken_off = sum(row.faulted.get("cut", 0) for row in rows)
        assert broken_off >= cut + lost
        assert usage["unknown_answers"] == broken_off + gone + mute
        told = await scrape(rig)
        assert told.by("type", "sidecar_tokens_total") == {"input": billed[0] - speech, "output": billed[1]}
        assert told.sum("sidecar_answers_without_usage_total") == broken_off + gone + mute


async def test_I2_an_answer_without_a_word_is_paid_for_but_not_the_next_one_s(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, MIXED, MIXED_SIMS) as rig:
        rig.fault("groq", Fault("empty", mode="completion", model="m", count=1))
        rig.fault("groq", Fault("down", mode="eof", model="m"))
        rig.fault("cerebras", Fault("down", mode="eof", model="m"))
        answer = await rig.post(body=chat("two"))
        assert answer.status == 502
        assert "tokens_in" not in rig.requests[-1], "what came of the last attempt is not known"
        row = rig.row("groq")
        assert (await rig.status())["usage"] == {
            "input_tokens": row.input_tokens,
            "output_tokens": 0,
            "unknown_answers": 0,
        }
        assert row.input_tokens > 0


async def test_I2_errors_and_lists_are_no_answers_of_a_model(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, MIXED, MIXED_SIMS) as rig:
        rig.fault("groq", Fault("status", status=400, model="lost"))
        assert (await rig.post(body=chat("lost"))).status == 400
        rig.fault("groq", Fault("error_event", model="m"))
        assert (await rig.post(body=chat("groq/m"), x_sidecar_fallback="off")).json["error"]
        assert (await rig.get("/v1/models")).status == 200
        assert (await rig.get("/v1/files")).status == 200
        assert (await rig.status())["usage"] == {"input_tokens": 0, "output_tokens": 0, "unknown_answers": 0}
