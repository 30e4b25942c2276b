"""The official SDKs against every endpoint, and usage where each provider puts it."""

from __future__ import annotations

import asyncio

import groq
import openai
import pytest

from sidecar.sim.config import LimitRule
from tests.sim.rig import simulated

CHAT = [{"role": "user", "content": "hello"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def client(rig, key="k1"):
    return openai.AsyncOpenAI(api_key=key, base_url=rig.sim.base_url, max_retries=0)


def groq_client(rig):
    return groq.AsyncGroq(api_key="k1", base_url=rig.root, max_retries=0)


async def test_openai_sdk_chat():
    async with simulated("openai") as rig, client(rig) as sdk:
        whole = await sdk.chat.completions.create(model="m", messages=CHAT, n=2)
        assert len(whole.choices) == 2
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 64)
        short = await sdk.chat.completions.create(model="m", messages=CHAT, max_completion_tokens=3)
        assert short.choices[0].finish_reason == "length"
        assert len((short.choices[0].message.content or "").split()) == 3
        called = await sdk.chat.completions.create(model="m", messages=CHAT, tools=TOOLS)
        assert called.choices[0].finish_reason == "tool_calls"
        assert called.choices[0].message.tool_calls[0].function.name == "look"


async def test_openai_sdk_streams():
    async with simulated("openai", chunk_count=4) as rig, client(rig) as sdk:
        stream = await sdk.chat.completions.create(model="m", messages=CHAT, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        whole = await sdk.chat.completions.create(model="m", messages=CHAT, stream=True, tools=TOOLS)
        calls = [chunk.choices[0].delta.tool_calls async for chunk in whole]
        assert len(text.split()) == 32
        assert [call[0].function.arguments for call in calls if call] == ["", "{", "}"]


async def test_openai_sdk_responses():
    async with simulated("openai", LimitRule(rpm=9)) as rig, client(rig) as sdk:
        whole = await sdk.responses.create(model="m", input="hello")
        assert len(whole.output_text.split()) == 32
        assert (await sdk.responses.retrieve(whole.id)).id == whole.id
        stream = await sdk.responses.create(model="m", input=CHAT, stream=True)
        events = [event async for event in stream]
        assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
        assert events[-1].response.usage.total_tokens == 34
        assert (
            "".join(e.delta for e in events if e.type == "response.output_text.delta")
            == events[-1].response.output_text
        )
        await sdk.responses.delete(whole.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(whole.id)


async def test_openai_sdk_everything_else():
    async with simulated("openai") as rig, client(rig) as sdk:
        vectors = await sdk.embeddings.create(model="m", input=["a", "b", "a"])  # base64, the SDK's own choice
        assert vectors.data[0].embedding == vectors.data[2].embedding != vectors.data[1].embedding
        floats = await sdk.embeddings.create(model="m", input=["a"], encoding_format="float", dimensions=3)
        assert len(floats.data[0].embedding) == 3
        completed = await sdk.completions.create(model="m", prompt="hello", max_tokens=2)
        assert len(completed.choices[0].text.split()) == 2
        stream = await sdk.completions.create(model="m", prompt="hello", stream=True)
        assert len("".join([chunk.choices[0].text async for chunk in stream]).split()) == 32
        assert not (await sdk.moderations.create(input="hello")).results[0].flagged
        assert len((await sdk.audio.speech.create(model="m", voice="alloy", input="hello")).content) == 1024
        audio = ("a.wav", b"RIFF", "audio/wav")
        assert (await sdk.audio.transcriptions.create(model="m", file=audio)).text
        for form in ("text", "srt", "vtt"):
            assert isinstance(await sdk.audio.transcriptions.create(model="m", file=audio, response_format=form), str)
        verbose = await sdk.audio.transcriptions.create(model="m", file=audio, response_format="verbose_json")
        assert verbose.duration == 1.0
        assert [model.id async for model in sdk.models.list()] == ["m", "vendor/m"]


async def test_files_and_batches_belong_to_an_account():
    async with simulated("openai") as rig, client(rig) as sdk, client(rig, "k2") as same, client(rig, "k3") as other:
        made = await sdk.files.create(file=("x.jsonl", b"{}\n\xff"), purpose="batch")
        assert (made.filename, made.bytes, made.purpose) == ("x.jsonl", 4, "batch")
        assert (await same.files.content(made.id)).content == b"{}\n\xff"
        assert [file.id async for file in same.files.list()] == [made.id]
        with pytest.raises(openai.NotFoundError):
            await other.files.retrieve(made.id)
        wanted = {"input_file_id": made.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        with pytest.raises(openai.BadRequestError):
            await other.batches.create(**wanted)
        batch = await sdk.batches.create(**wanted)
        assert (await same.batches.cancel(batch.id)).status == "cancelling"
        assert (await sdk.batches.retrieve(batch.id)).status == "cancelling"
        assert (await sdk.files.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await sdk.files.content(made.id)


async def test_groq_sdk():
    async with simulated("groq") as rig, groq_client(rig) as sdk:
        whole = await sdk.chat.completions.create(model="m", messages=CHAT)
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 32
        stream = await sdk.chat.completions.create(model="m", messages=CHAT, stream=True)
        chunks = [chunk async for chunk in stream]
        assert chunks[0].x_groq.id
        assert chunks[-1].x_groq.usage.completion_tokens == 32
        assert (await sdk.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF"))).text


def placed(events) -> list[str]:
    """Where usage stands: one letter an event."""
    return ["-" if "usage" not in event else "n" if event["usage"] is None else "U" for event in events]


@pytest.mark.parametrize(
    ("dialect", "asked", "places"),
    [
        ("groq", False, "---U"),
        ("groq", True, "---UU"),
        ("cerebras", False, "---U"),
        ("cerebras", True, "---U"),
        ("openai", False, "----"),
        ("openai", True, "nnnnU"),
        ("deepinfra", False, "---U"),
        ("deepinfra", True, "---U"),
    ],
)
async def test_I2_usage_stands_where_that_provider_puts_it(dialect, asked, places):
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with simulated(dialect, chunk_count=2) as rig:
        check_usage(await rig.chat(stream=True, **options), places, asked and dialect in ("groq", "openai"))
        if dialect != "groq":
            body = {"model": "m", "prompt": "hello", "stream": True, **options}
            got = await rig.call("POST", "/completions", json=body)
            # one event less: nothing opens with a role
            check_usage(got, places[1:], asked and dialect == "openai")


def check_usage(got, places, extra):
    assert "".join(placed(got.events)) == places
    assert got.body.endswith(b"data: [DONE]\n\n")
    with_choices = [event for event in got.events if event["choices"]]
    assert with_choices[-1]["choices"][0]["finish_reason"] == "stop"
    assert len(with_choices) == len(got.events) - extra


async def test_groq_marks_its_first_and_last_chunk():
    async with simulated("groq") as rig:
        events = (await rig.chat(stream=True)).events
        assert [list(event["x_groq"]) for event in events if "x_groq" in event] == [["id"], ["id", "usage"]]
        assert events[-1]["x_groq"]["usage"] == events[-1]["usage"]


async def test_cerebras_may_leave_out_the_end_marker():
    async with simulated("cerebras", done=False) as rig:
        got = await rig.chat(stream=True)
        assert b"[DONE]" not in got.body
        assert "time_info" in got.events[-1]


async def test_latency_and_pauses_go_by_the_clock():
    async with simulated("openai", latency_ns=5, chunk_delay_ns=7, chunk_count=2) as rig:
        task = asyncio.create_task(rig.chat(stream=True))
        for pause_ns in (5, 7, 7, 7, 7):  # the opening, two pieces, the finish, the end marker
            await rig.until(lambda: rig.clock.pending == 1)
            assert rig.clock.next_ns == rig.clock.now_ns() + pause_ns
            rig.clock.advance(pause_ns)
        assert len((await task).events) == 4
