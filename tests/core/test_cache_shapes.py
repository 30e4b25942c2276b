"""What is kept: known, whole, proper answers, and nothing else (J5)."""

from __future__ import annotations

import gzip
import json

import pytest

from sidecar.core.cache_shapes import Shape, is_convertible, keepable, shape_of
from sidecar.core.paths import Surface, resolve

JSON = (b"content-type", b"application/json; charset=utf-8")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
DONE = b"data: [DONE]\n\n"


def chat(finish="stop", content="hi", **more):
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
        **more,
    }


def typed(*events):
    return b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)


RESPONSE = {"status": "completed", "error": None, "output": [{"type": "message"}]}
MESSAGE = {"type": "message", "stop_reason": "end_turn", "content": [{"type": "text", "text": "hi"}]}


@pytest.mark.parametrize(
    ("shape", "answer", "expected"),
    [
        (Shape.CHAT, chat(), True),
        (Shape.CHAT, chat("tool_calls"), True),
        (Shape.CHAT, chat("function_call"), True),
        (Shape.CHAT, chat("length"), False),
        (Shape.CHAT, chat("content_filter"), False),
        (Shape.CHAT, chat(None), False),
        (Shape.CHAT, chat(content=""), False),
        (Shape.CHAT, chat(content=None), False),
        (Shape.CHAT, chat(error={"message": "no"}), False),
        (Shape.CHAT, {"choices": []}, False),
        (Shape.CHAT, {"choices": [*chat()["choices"], *chat("length")["choices"]]}, False),
        (
            Shape.CHAT,
            {"choices": [{"finish_reason": "stop", "message": {"content": "x"}, "error": {"code": 1}}]},
            False,
        ),
        (Shape.CHAT, {"object": "odd"}, False),
        (Shape.CHAT, [1], False),
        (Shape.COMPLETIONS, {"choices": [{"text": "hi", "finish_reason": "stop"}]}, True),
        (Shape.COMPLETIONS, {"choices": [{"text": "", "finish_reason": "stop"}]}, False),
        (Shape.EMBEDDINGS, {"data": [{"embedding": [0.5]}, {"embedding": "AAAA"}]}, True),
        (Shape.EMBEDDINGS, {"data": [{"embedding": [0.5]}, {"embedding": []}]}, False),
        (Shape.EMBEDDINGS, {"data": []}, False),
        (Shape.IMAGES, {"data": [{"b64_json": "AAAA"}]}, True),
        (Shape.IMAGES, {"data": [{"url": "https://x"}]}, False),
        (Shape.TRANSCRIPTIONS, {"text": "hi"}, True),
        (Shape.TRANSLATIONS, {"text": ""}, False),
        (Shape.RESPONSES, RESPONSE, True),
        (Shape.RESPONSES, {**RESPONSE, "status": "incomplete"}, False),
        (Shape.RESPONSES, {**RESPONSE, "output": []}, False),
        (Shape.RESPONSES, {**RESPONSE, "error": {"code": "x"}}, False),
        (Shape.MESSAGES, MESSAGE, True),
        (Shape.MESSAGES, {**MESSAGE, "stop_reason": "tool_use"}, True),
        (Shape.MESSAGES, {**MESSAGE, "stop_reason": "max_tokens"}, False),
        (Shape.MESSAGES, {**MESSAGE, "type": "error"}, False),
        (Shape.MESSAGES, {**MESSAGE, "content": []}, False),
    ],
)
@pytest.mark.parametrize("packing", [None, b"gzip", b"br"])
def test_J5_whole_answers(shape, answer, expected, packing):
    body = json.dumps(answer).encode()
    headers = [JSON] if packing is None else [JSON, (b"content-encoding", packing)]
    packed = gzip.compress(body) if packing == b"gzip" else body
    kept = keepable(shape, headers, packed, None)
    assert kept == ((JSON[1], body) if expected and packing != b"br" else None)


@pytest.mark.parametrize(
    ("shape", "stream", "expected"),
    [
        (
            Shape.RESPONSES,
            typed({"type": "response.created"}, {"type": "response.completed", "response": RESPONSE}),
            True,
        ),
        (Shape.RESPONSES, typed({"type": "response.created"}), False),
        (Shape.RESPONSES, typed({"type": "response.incomplete", "response": RESPONSE}), False),
        (Shape.RESPONSES, typed({"type": "error"}, {"type": "response.completed", "response": RESPONSE}), False),
        (Shape.RESPONSES, typed({"type": "response.completed"}), False),
        (
            Shape.MESSAGES,
            typed(
                {"type": "content_block_delta", "delta": {}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
                {"type": "message_stop"},
            ),
            True,
        ),
        (
            Shape.MESSAGES,
            typed(
                {"type": "content_block_delta", "delta": {}},
                {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
                {"type": "message_stop"},
            ),
            False,
        ),
        (
            Shape.MESSAGES,
            typed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}),
            False,
        ),
        (Shape.MESSAGES, typed({"type": "content_block_delta", "delta": {}}, {"type": "message_stop"}), False),
        (
            Shape.MESSAGES,
            typed(
                {"type": "content_block_delta", "delta": {}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            ),
            False,
        ),
        (Shape.TRANSCRIPTIONS, typed({"type": "transcript.text.done", "text": "x"}), True),
        (Shape.TRANSCRIPTIONS, typed({"type": "transcript.text.delta", "delta": "x"}), False),
        (Shape.TRANSCRIPTIONS, typed({"type": 1}), False),
        (Shape.EMBEDDINGS, typed({"type": "x"}), False),
        (Shape.RESPONSES, DONE, False),
        (Shape.RESPONSES, b": ping\n\n", False),
    ],
)
def test_J5_typed_streams(shape, stream, expected):
    assert keepable(shape, [EVENTS], stream, None) == ((EVENTS[1], stream) if expected else None)


@pytest.mark.parametrize(("finish", "expected"), [("stop", True), ("length", False), (None, False)])
def test_J5_chat_streams(finish, expected):
    data = json.dumps({"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": finish}]}).encode()
    kept = keepable(Shape.CHAT, [EVENTS], b"data: " + data + b"\n\n" + DONE, None)
    assert (kept is not None) is expected
    assert kept is None or kept[0] == b"application/json"
    assert keepable(Shape.CHAT, [EVENTS], b"data: " + data + b"\n\n", None) is None


@pytest.mark.parametrize(
    ("shape", "kind", "body", "expected"),
    [
        (Shape.TRANSCRIPTIONS, b"text/plain; charset=utf-8", b"hello", True),
        (Shape.TRANSCRIPTIONS, b"text/vtt", b"WEBVTT", True),
        (Shape.TRANSCRIPTIONS, b"text/plain", b" \n", False),
        (Shape.TRANSCRIPTIONS, b"text/html", b"<html>", False),
        (Shape.CHAT, b"text/plain", b"hello", False),
        (Shape.CHAT, b"application/json", b"", False),
        (Shape.CHAT, b"application/json", b"\xff", False),
    ],
)
def test_J5_other_forms(shape, kind, body, expected):
    assert (keepable(shape, [(b"content-type", kind)], body, None) is not None) is expected


def test_shapes_by_path():
    def of(target):
        surface = resolve(b"POST", target)
        assert isinstance(surface, Surface)
        return shape_of(surface)

    assert of(b"/v1/chat/completions") is Shape.CHAT
    assert of(b"/openai/v1/audio/translations?x=1") is Shape.TRANSLATIONS
    assert of(b"/p/anthropic/v1/messages") is Shape.MESSAGES
    assert of(b"/p/groq/openai/v1/chat/completions") is Shape.CHAT
    assert of(b"/v1/messages") is None
    assert of(b"/p/x/v1/embeddings") is None
    assert [shape for shape in Shape if is_convertible(shape)] == [Shape.CHAT, Shape.COMPLETIONS]
