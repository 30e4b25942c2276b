"""A stream put together, and an answer taken apart: what is said stays the same both ways (J2)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.cache_shapes import Shape, is_proper
from sidecar.core.chat_stream import assembled, events_of, replayed
from sidecar.core.limits import Usage
from sidecar.core.sse import Tap

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def event(*choices, **more):
    return b"data: " + json.dumps({**HEAD, "choices": list(choices), **more}).encode() + b"\n\n"


def delta(finish=None, index=0, logprobs=None, **fields):
    return {"index": index, "delta": fields, "logprobs": logprobs, "finish_reason": finish}


DONE = b"data: [DONE]\n\n"


def whole(*events, usage=None):
    made = assembled(b"".join(events) + DONE, usage)
    return None if made is None else json.loads(made)


def test_texts_grow_and_the_rest_is_said_once():
    answer = whole(
        event(delta(role="assistant", content="")),
        event(delta(reasoning="let me ", channel="analysis")),
        event(delta(reasoning="think", channel="analysis")),
        event(delta(content="a")),
        b": a comment\n\n",
        event(delta(content="b")),
        event(delta("stop"), system_fingerprint="fp", obfuscation="xxx"),
        event(usage={"prompt_tokens": 1}),
    )
    assert answer == {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab", "reasoning": "let me think"},
                     "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1},
    }  # fmt: skip


def test_tool_calls_are_added_up_by_their_index():
    answer = whole(
        event(delta(role="assistant", content=None)),
        event(
            delta(tool_calls=[{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}])
        ),
        event(delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}])),
        event(
            delta(
                tool_calls=[{"index": 1, "id": "2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]
            )
        ),
        event(delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}])),
        event(delta("tool_calls")),
    )
    message = answer["choices"][0]["message"]
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert message["content"] is None


def test_choices_and_log_probabilities():
    answer = whole(
        event(delta(index=1, content="x", logprobs={"content": [1], "refusal": None})),
        event(delta(index=0, content="y")),
        event(delta("stop", index=1, content="z", logprobs={"content": [2], "refusal": None})),
        event(delta("stop", index=0)),
    )
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["y", "xz"]
    assert answer["choices"][1]["logprobs"] == {"content": [1, 2], "refusal": None}


def test_usage_from_elsewhere_stands_in():
    assert whole(event(delta("stop", content="x")), usage=Usage(3, 4))["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
    }  # fmt: skip
    assert "usage" not in whole(event(delta("stop", content="x")))


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        DONE,
        event(delta("stop", content="x")),
        event(delta("stop", content="x")) + b"data: [DONE]",
        event(delta("stop", content="x")) + DONE + event(delta(content="y")),
        event(error={"message": "no"}) + DONE,
        b"data: nonsense\n\n" + DONE,
        b"data: []\n\n" + DONE,
        event(delta(content="x"), delta(content=1)) + DONE,
        event(delta(content="x", odd=[1])) + event(delta(odd=[2])) + DONE,
        event(delta(tool_calls=[{"index": 3}])) + DONE,
        event(delta(tool_calls=[1])) + DONE,
        event(delta(index="x")) + DONE,
        event("x") + DONE,
        event(delta(content="x", logprobs={"content": 1})) + event(delta(logprobs={"content": 2})) + DONE,
        event({"index": 0, "text": 1}) + DONE,
    ],
)
def test_what_cannot_be_put_together(stream):
    assert assembled(stream, None) is None


def test_events_however_their_lines_end():
    for end in (b"\n", b"\r\n", b"\r"):
        stream = end.join([b"event: x", b"data: 1", b"data:2", b"", b": c", b"", b"id: 3", b"data: 4", b"", b"data: 5"])
        assert events_of(stream) == [b"1\n2", b"4"]


texts = st.text(max_size=200)
calls = st.lists(
    st.fixed_dictionaries(
        {"id": st.text(max_size=5), "type": st.just("function"),
         "function": st.fixed_dictionaries({"name": st.text(max_size=5), "arguments": st.text(max_size=100)})}
    ),
    min_size=1, max_size=3,
)  # fmt: skip
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts},
    optional={"reasoning": texts.filter(bool), "refusal": texts.filter(bool), "tool_calls": calls,
              "audio": st.fixed_dictionaries({"id": st.text(max_size=4)}), "annotations": st.just([{"type": "x"}])},
)  # fmt: skip
answers = st.lists(messages, min_size=1, max_size=3).map(
    lambda said: {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "x": {"y": [1]},
        "choices": [{"index": at, "message": message, "finish_reason": "stop"} for at, message in enumerate(said)],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(answer=answers)
def test_J2_there_and_back_again(answer):
    stream = replayed(json.dumps(answer).encode(), True)
    assert stream is not None
    assert json.loads(assembled(stream, None) or b"") == answer
    bare = replayed(json.dumps(answer).encode(), False)
    assert bare is not None
    assert b'"usage"' not in bare
    assert all(json.loads(data)["choices"] for data in events_of(bare)[:-1])
    tap = Tap()
    tap.feed(stream)
    assert (tap.done, tap.finished, tap.error, tap.malformed) == (True, True, None, False)
    assert tap.usage == Usage(1, 2)


def test_log_probabilities_come_with_the_first_piece_or_at_the_end():
    def told(content):
        choice = {"index": 0, "message": {"content": content}, "logprobs": {"content": [1]}, "finish_reason": "stop"}
        stream = replayed(json.dumps({"choices": [choice]}).encode(), False)
        assert stream is not None
        events = [json.loads(data)["choices"][0] for data in events_of(stream)[:-1]]
        return ["logprobs" in each for each in events]

    assert told("x" * 100) == [False, True, False, False]
    assert told("") == [False, True]


def test_completions_there_and_back_again():
    answer = {
        "id": "c", "object": "text_completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "text": "word " * 50, "logprobs": {"tokens": ["w"]}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1},
    }  # fmt: skip
    stream = replayed(json.dumps(answer).encode(), True)
    assert stream is not None
    assert len(events_of(stream)) > 4
    assert json.loads(assembled(stream, None) or b"") == answer


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"choices":1}', b'{"choices":[{"message":1}]}', b'{"choices":[{"text":1}]}']
)
def test_what_cannot_be_taken_apart(answer):
    assert replayed(answer, False) is None


def test_a_tool_call_alone_is_proper():
    made = assembled(event(delta("tool_calls", role="assistant", tool_calls=[{"index": 0, "id": "1"}])) + DONE, None)
    assert made is not None
    assert is_proper(Shape.CHAT, made)
