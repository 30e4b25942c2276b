"""The official Python SDK of Groq: it is given the origin alone and appends /openai/v1 itself."""

from __future__ import annotations

import groq
import pytest

from tests.e2e.house import GROQ_MODEL, GROQ_MODELS, HELLO, KEYS, OPENAI_MODELS


def test_chat(groq_sdk):
    answer = groq_sdk.chat.completions.create(model=GROQ_MODEL, messages=HELLO, max_completion_tokens=5)
    assert len(answer.choices[0].message.content.split()) == 5
    assert answer.usage.queue_time is not None, "the provider's own fields pass"


def test_public_name(groq_sdk):
    answer = groq_sdk.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    assert answer.headers["x-sidecar-provider"] == "groq"
    assert answer.parse().model == GROQ_MODEL


def test_stream(groq_sdk):
    with groq_sdk.chat.completions.create(model=GROQ_MODEL, messages=HELLO, stream=True) as stream:
        chunks = list(stream)
    assert chunks[0].x_groq.id.startswith("req_")
    assert chunks[-1].x_groq.usage.completion_tokens == 32
    assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks).split()) == 32


def test_transcription(house, groq_sdk):
    answer = groq_sdk.audio.transcriptions.create(
        model="whisper-large-v3", file=("speech.mp3", b"\xff\xfb" + bytes(40_000)), response_format="verbose_json"
    )
    assert answer.text
    (seen,) = house.seen(house.groq)
    assert seen.key in (KEYS["GROQ_A"], KEYS["GROQ_B"])


def test_models(groq_sdk):
    assert [model.id for model in groq_sdk.models.list().data] == ["fast", *OPENAI_MODELS, *GROQ_MODELS]


def test_errors_are_the_sdks_own(groq_sdk):
    with pytest.raises(groq.NotFoundError):
        groq_sdk.chat.completions.create(model="groq/none-for-groq", messages=HELLO)
