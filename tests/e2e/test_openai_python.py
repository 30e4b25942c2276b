"""The official Python SDK of OpenAI, sync and async, on every surface it has and we relay."""

from __future__ import annotations

import asyncio

import openai
import pytest

from tests.e2e.house import (
    CALLER_KEY,
    GROQ_MODEL,
    GROQ_MODELS,
    HELLO,
    KEYS,
    OPENAI_MODELS,
    async_openai_client,
    text_of,
)

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("model", ["fast", GROQ_MODEL, "gpt-4o-mini"])
def test_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=5)
    assert len(answer.choices[0].message.content.split()) == 5
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5


def test_the_callers_own_key_goes_no_further(house, client):
    client.chat.completions.create(model="fast", messages=HELLO)
    (seen,) = house.seen(house.groq)
    assert seen.key in (KEYS["GROQ_A"], KEYS["GROQ_B"])
    assert CALLER_KEY not in str(seen.headers)


@pytest.mark.parametrize("model", ["fast", "gpt-4o-mini"])
def test_streamed_chat_is_what_the_plain_one_says(client, model):
    plain = client.chat.completions.create(model=model, messages=HELLO, max_tokens=30)
    with client.chat.completions.create(model=model, messages=HELLO, max_tokens=30, stream=True) as stream:
        chunks = list(stream)
    assert all(chunk.choices for chunk in chunks), "a chunk without choices was not asked for (B14)"
    assert chunks[-1].choices[0].finish_reason == "length"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(text.split()) == len(plain.choices[0].message.content.split()) == 30


@pytest.mark.parametrize("model", ["fast", "gpt-4o-mini"])
def test_B14_usage_in_the_stream_when_asked_for(client, model):
    with client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=7, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = stream
    assert last.choices == []
    assert last.usage.completion_tokens == 7
    assert all(chunk.choices for chunk in chunks)


def test_I2_usage_is_counted_streamed_or_not(house, client):
    since = len(house.sidecar.stdout)
    client.chat.completions.create(model=GROQ_MODEL, messages=HELLO, max_tokens=9)
    assert "stream" not in house.sidecar.request("/v1/chat/completions", since, tokens_out=9)
    since = len(house.sidecar.stdout)
    with client.chat.completions.create(model=GROQ_MODEL, messages=HELLO, max_tokens=11, stream=True) as stream:
        text_of(stream)
    line = house.sidecar.request("/v1/chat/completions", since, tokens_out=11)
    assert (line["stream"], line["outcome"]) == (True, "ok")


def test_tools_plain(client):
    answer = client.chat.completions.create(model="fast", messages=HELLO, tools=[TOOL])
    (called,) = answer.choices[0].message.tool_calls
    assert (called.function.name, called.function.arguments) == ("weather", "{}")
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tools_streamed(client):
    with client.chat.completions.create(model="fast", messages=HELLO, tools=[TOOL], stream=True) as stream:
        deltas = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or ()]
    assert deltas[0].function.name == "weather"
    assert "".join(delta.function.arguments or "" for delta in deltas) == "{}"


def test_the_stream_helper_of_the_sdk(client):
    with client.chat.completions.stream(model="gpt-4o-mini", messages=HELLO) as stream:
        final = stream.get_final_completion()
    assert len(final.choices[0].message.content.split()) == 32


@pytest.mark.parametrize("coding", ["float", "base64"])
def test_embeddings(client, coding):
    answer = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"], encoding_format=coding)
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.data[0].embedding != answer.data[1].embedding
    assert answer.usage.prompt_tokens == 2


def test_completions(client):
    answer = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once", max_tokens=4)
    assert len(answer.choices[0].text.split()) == 4
    with client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once", max_tokens=4, stream=True) as stream:
        text = "".join(choice.text for chunk in stream for choice in chunk.choices)
    assert len(text.split()) == 4


def test_responses_plain_and_again_by_id(house, client):
    made = client.responses.create(model="gpt-4o-mini", input="hello", max_output_tokens=8)
    assert len(made.output_text.split()) == 8
    again = client.responses.retrieve(made.id)
    assert again.output_text == made.output_text
    created, retrieved = house.seen(house.openai)
    assert created.key == retrieved.key, "what a key created is that key's alone"


def test_responses_streamed_as_typed_events(house, client):
    with client.responses.create(model="gpt-4o-mini", input="hello", max_output_tokens=8, stream=True) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    for _ in range(4):  # either key may have made it, and must be asked for it
        assert client.responses.retrieve(events[-1].response.id).output_text == text
    assert len({seen.key for seen in house.seen(house.openai)}) == 1


@pytest.mark.parametrize("model", ["whisper-1", "whisper-large-v3"])
def test_transcription_is_an_upload_with_a_model_in_its_form(house, client, model):
    speech = b"RIFF" + bytes(range(256)) * 300
    answer = client.audio.transcriptions.create(model=model, file=("speech.wav", speech), language="en")
    assert len(answer.text.split()) > 3
    sim = house.groq if model == "whisper-large-v3" else house.openai
    assert sim.total["served"] == 1


def test_transcription_as_text(client):
    answer = client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"abc"), response_format="srt")
    assert answer.startswith("1\n00:00:00,000 --> ")


def test_speech_is_binary(client):
    sound = client.audio.speech.create(model="tts-1", voice="alloy", input="hello")
    content = sound.read()
    assert len(content) == 1024
    assert {0, 255, 0x80} <= set(content), "every byte passes"
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="hello") as answer:
        assert b"".join(answer.iter_bytes(100)) == content


def test_models_of_all_providers_public_names_first(client):
    names = [model.id for model in client.models.list()]
    assert names == ["fast", *OPENAI_MODELS, *GROQ_MODELS]


def test_model_with_a_slash_in_its_id(house, client):
    assert client.models.retrieve(GROQ_MODEL).owned_by == "groq"
    (seen,) = house.seen(house.groq)
    assert seen.target.replace("%2F", "/") == f"/openai/v1/models/{GROQ_MODEL}"


def test_files_stay_with_the_key_that_created_them(house, client):
    made = [client.files.create(file=(f"{turn}.jsonl", b'{"turn": %d}\n' % turn), purpose="batch") for turn in range(4)]
    owners = [seen.key for seen in house.seen(house.openai)]
    assert set(owners) == {KEYS["OPENAI_MAIN"], KEYS["OPENAI_SPARE"]}, "uploads are spread"
    for turn, file in enumerate(made):
        assert client.files.retrieve(file.id).filename == f"{turn}.jsonl"
        assert client.files.content(file.id).read() == b'{"turn": %d}\n' % turn
        assert client.files.delete(file.id).deleted
    later = [seen.key for seen in house.seen(house.openai)[4:]]
    assert later == [owner for owner in owners for _ in range(3)]
    assert house.openai.total["refused"] == {}


def test_batches_go_to_the_key_that_has_the_file(house, client):
    for turn in range(4):
        file = client.files.create(file=(f"{turn}.jsonl", b"{}\n"), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert client.batches.retrieve(batch.id).input_file_id == file.id
        assert client.batches.cancel(batch.id).status == "cancelling"
    keys = [seen.key for seen in house.seen(house.openai)]
    assert len(set(keys)) == 2
    assert [len(set(keys[start : start + 4])) for start in range(0, 16, 4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("words", [{}, {"model": "omni-moderation-latest"}])
def test_moderation_needs_no_model(house, client, words):
    house.openai.steer("limits", [])
    answer = client.moderations.create(input="kind words", **words)
    assert answer.results[0].flagged is False
    assert house.openai.total["served"] == 1


@pytest.mark.parametrize(
    ("model", "kind"),
    [("gpt-none", openai.NotFoundError), ("groq/none", openai.NotFoundError)],
)
def test_an_unknown_model_is_the_sdks_own_error(client, model, kind):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=HELLO)
    assert caught.value.code == "model_not_found"


def test_a_bad_request_is_relayed_and_tried_once(house, client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fast", messages=HELLO, extra_body={"max_tokens": "many"})
    assert "max_tokens" in caught.value.message
    assert (house.groq.total["seen"], house.openai.total["seen"]) == (1, 0)


def test_B11_an_answer_says_who_served_it(client):
    answer = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    assert answer.headers["x-sidecar-provider"] == "groq"
    assert answer.headers["x-sidecar-key"] in ("team-a", "team-b")
    assert answer.headers["x-sidecar-attempts"] == "1"
    assert answer.headers["x-request-id"].startswith("req_sim")


async def test_async_client(house):
    async with asyncio.timeout(20), async_openai_client(house.url) as sdk:
        plain = await sdk.chat.completions.create(model="fast", messages=HELLO, max_tokens=5)
        assert plain.choices[0].finish_reason == "length"
        async with await sdk.chat.completions.create(
            model="fast", messages=HELLO, max_tokens=12, stream=True
        ) as stream:
            words = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert len("".join(words).split()) == 12
        async with await sdk.responses.create(model="gpt-4o-mini", input="hi", stream=True) as events:
            kinds = [event.type async for event in events]
        assert kinds[-1] == "response.completed"
        assert (await sdk.embeddings.create(model="text-embedding-3-small", input="x")).data
        assert [model.id async for model in sdk.models.list()][:1] == ["fast"]
        file = await sdk.files.create(file=("a.txt", b"abc"), purpose="assistants")
        assert (await sdk.files.content(file.id)).read() == b"abc"


async def test_many_streams_at_once_never_mix(house):
    async def one(sdk, number):
        messages = [{"role": "user", "content": f"number {number}"}]
        async with await sdk.chat.completions.create(model=GROQ_MODEL, messages=messages, stream=True) as stream:
            chunks = [chunk async for chunk in stream]
        assert len({chunk.id for chunk in chunks}) == 1
        return chunks[0].id, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    async with asyncio.timeout(20), async_openai_client(house.url) as sdk:
        answers = await asyncio.gather(*(one(sdk, number) for number in range(40)))
    assert len({name for name, _ in answers}) == 40
    assert len({text for _, text in answers}) == 40
