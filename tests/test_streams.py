"""Streams and whole answers that go wrong on the way, through the whole house (B3-B7), and what they are billed (I2).

Before its first content an answer may still be another provider's; after it, nothing is replayed and nothing hidden.
"""

from __future__ import annotations

import asyncio
import json
import re

import openai
import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.edge.raw import post
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running

pytestmark = BOTH_WAYS

PROVIDERS = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
"""
SIMS = {"groq": SimConfig("groq"), "cerebras": SimConfig("cerebras")}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def house(tmp_path, extra="", clock=None, sims=SIMS):
    return running(tmp_path, PROVIDERS + extra, sims, clock=clock)


def events(body):
    """The data of each event; `[DONE]` as it is."""
    texts = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def ids(body):
    """The ids of all completions that the bytes hold pieces of."""
    return set(re.findall(rb'"id":"(chatcmpl-\w+)"', body))


def text_of(body):
    """What a reader of the stream has read."""
    deltas = [choice["delta"] for event in events(body) if event != "[DONE]" for choice in event.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


# what spoils an answer before its first content. One event of a stream is its role alone, which is no content.
BEFORE_CONTENT = {
    "reset after the head": Fault("cut", after_chunks=0, mode="rst"),
    "closed after the head": Fault("cut", after_chunks=0, mode="eof"),
    "reset after the role": Fault("cut", after_chunks=1, mode="rst"),
    "closed after the role": Fault("cut", after_chunks=1, mode="eof"),
    "ended after the role": Fault("cut", after_chunks=1, mode="end"),
    "broken JSON": Fault("malformed", after_chunks=0),
    "broken JSON after the role": Fault("malformed", after_chunks=1),
    "error at once": Fault("error_event", after_chunks=0),
    "error after the role": Fault("error_event", after_chunks=1),
    "no byte": Fault("empty", mode="body"),
    "no word": Fault("empty", mode="completion"),
}


@BOTH
@pytest.mark.parametrize("name", BEFORE_CONTENT)
async def test_B3_B5_B6_what_fails_before_its_content_is_answered_by_the_next(tmp_path, name, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", BEFORE_CONTENT[name])
        answer = await rig.post(body=chat("fast", stream=stream), accept_encoding="identity")
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "cerebras"), answer
        assert rig.row("groq").seen == 1
        # not one byte of the first attempt
        assert len(ids(answer.body)) == 1
        assert b"x_groq" not in answer.body
        assert b"error" not in answer.body
        if stream:
            assert len(text_of(answer.body).split()) == 32
            assert events(answer.body)[-1] == "[DONE]"
        assert rig.requests[-1]["outcome"] == "ok"
        assert rig.requests[-1]["trail"][0]["target"] == "groq/openai/gpt-oss-120b"


@pytest.mark.parametrize("mode", ["rst", "eof", "end"])
async def test_B4_B6_a_broken_stream_ends_with_an_error_on_a_connection_that_lives_on(tmp_path, mode):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig, await rig.raw() as client:
        rig.fault("groq", Fault("cut", after_chunks=3, mode=mode, count=1))
        request = post(json.dumps(chat("fast", stream=True)).encode(), b"content-type: application/json")
        await client.send(request)
        broken = await client.answer()
        *content, error, done = events(broken.body)
        assert (broken.status, len(content), done) == (200, 3, "[DONE]")
        assert (error["error"]["code"], error["error"]["type"]) == ("upstream_failed", "api_error")
        assert rig.row("cerebras").seen == 0, "nothing is replayed"
        assert rig.requests[-1]["outcome"] == "broken"
        await client.send(request)
        assert len(text_of((await client.answer()).body).split()) == 32


async def test_B4_the_openai_sdk_raises_on_a_broken_stream(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("cut", after_chunks=3, mode="rst"))
        async with openai.AsyncOpenAI(base_url=rig.url + "/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="fast", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            for _ in range(3):
                await anext(stream)
            with pytest.raises(openai.APIError, match="broke off"):
                await anext(stream)


async def test_B4_an_end_without_ceremony_after_the_finish_is_an_end(tmp_path):
    sims = SIMS | {"groq": SimConfig("groq", done=False)}
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, sims=sims) as rig:
        answer = await rig.post(body=chat("fast", stream=True))
        assert events(answer.body)[-1]["choices"][0]["finish_reason"] == "stop"
        assert rig.requests[-1]["outcome"] == "ok"
        # the same when the connection dies there: role, eight pieces and the finish are ten events
        rig.fault("groq", Fault("cut", after_chunks=10, mode="rst"))
        answer = await rig.post(body=chat("fast", stream=True))
        assert (len(events(answer.body)), b"error" in answer.body) == (10, False)
        assert rig.requests[-1]["outcome"] == "ok"


async def test_B5_an_error_within_a_stream_is_passed_on_and_counted(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, clock=clock) as rig:
        rig.fault("groq", Fault("error_event", after_chunks=3, chunk_seconds=1))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        assert b"event: error\n" in answer.body
        assert events(answer.body)[-1]["error"]["type"] == "internal_server_error"
        assert (rig.row("cerebras").seen, rig.requests[-1]["outcome"]) == (0, "broken")


async def test_B3_a_malformed_line_after_content_is_passed_on(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, clock=clock) as rig:
        rig.fault("groq", Fault("malformed", after_chunks=3, chunk_seconds=1))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        assert b'"content":"half a\n\n' in answer.body
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (rig.row("cerebras").seen, rig.requests[-1]["outcome"]) == (0, "ok")


@pytest.mark.parametrize("after_chunks", [0, 1])
async def test_B7_no_content_in_time_goes_to_the_next_at_that_moment(tmp_path, after_chunks):
    clock = DrivenClock()
    async with house(tmp_path, "timeouts: {first_content: 7s}\n", clock) as rig:
        rig.fault("groq", Fault("stall_after_headers", after_chunks=after_chunks))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        assert rig.arrivals("cerebras")[0] - rig.arrivals("groq")[0] == 7 * SECOND
        assert (answer.headers["x-sidecar-provider"], len(ids(answer.body))) == ("cerebras", 1)
        assert answer.headers["x-sidecar-reason"] == "groq/openai/gpt-oss-120b a: content_timeout"


async def test_B7_pieces_without_content_do_not_put_it_off(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, "timeouts: {first_content: 7s}\n", clock) as rig:
        # the role comes after five seconds, and its content would after five more
        rig.fault("groq", Fault("slow", seconds=0, chunk_seconds=5))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        assert answer.headers["x-sidecar-provider"] == "groq"
        rig.sims["groq"].provider.faults.clear()
        rig.fault("groq", Fault("slow", seconds=0, chunk_seconds=8))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        assert answer.headers["x-sidecar-provider"] == "cerebras"
        assert rig.arrivals("cerebras")[0] - rig.arrivals("groq")[1] == 7 * SECOND


async def test_B7_a_plain_answer_that_stalls_half_way_goes_to_the_next(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, "timeouts: {answer: 9s, idle: 4s}\n", clock) as rig:
        rig.fault("groq", Fault("stall_after_headers", after_chunks=0, count=1))
        rig.fault("groq", Fault("stall_after_headers", after_chunks=1))
        for waited_s in (9, 4):
            answer = await pump(clock, rig.post(body=chat("fast")))
            assert answer.headers["x-sidecar-provider"] == "cerebras"
            assert rig.arrivals("cerebras")[-1] - rig.arrivals("groq")[-1] == waited_s * SECOND


async def test_B7_silence_after_content_ends_the_stream_with_an_error_at_that_moment(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, "timeouts: {idle: 5s}\n", clock) as rig:
        rig.fault("groq", Fault("stall_after_headers", after_chunks=4))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        *content, error, done = events(answer.body)
        assert (len(content), error["error"]["code"], done) == (4, "upstream_timeout", "[DONE]")
        assert clock.now_ns() - rig.arrivals("groq")[0] == 5 * SECOND
        assert (rig.row("cerebras").seen, rig.requests[-1]["outcome"]) == (0, "broken")


async def test_B7_a_committed_stream_may_last_as_long_as_it_speaks(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, "timeouts: {total: 30s, idle: 25s}\n", clock) as rig:
        rig.fault("groq", Fault("slow", seconds=0, chunk_seconds=20))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        assert len(text_of(answer.body).split()) == 32
        assert clock.now_ns() - rig.arrivals("groq")[0] >= 180 * SECOND


async def test_I2_usage_adds_up_to_the_bill(tmp_path):
    fields: list[dict[str, object]] = [
        {},
        {"stream": True},
        {"stream": True, "max_tokens": 7},
        {"max_tokens": 3},
        {"stream": True, "tools": []},
    ]
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=500, probability=0.2, seed=1))
        bodies = [chat("fast", **fields[at % len(fields)], user=str(at)) for at in range(60)]
        answers = await asyncio.gather(*(rig.post(body=body) for body in bodies))
        assert {answer.status for answer in answers} == {200}
        rows = [rig.row(name) for name in SIMS]
        assert min(row.served for row in rows) > 0, "both took part"
        assert sum(line["tokens_in"] for line in rig.requests) == sum(row.input_tokens for row in rows)
        assert sum(line["tokens_out"] for line in rig.requests) == sum(row.output_tokens for row in rows)
