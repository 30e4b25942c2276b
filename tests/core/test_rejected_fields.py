"""Which fields a 400 names, in the words of each provider, and what may be done about each."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.error_body import parse
from sidecar.core.outcomes import Outcome, Remedy
from sidecar.core.rejected_fields import judge

USER = {"role": "user", "content": "hello", "name": "x"}
ASSISTANT = {"role": "assistant", "content": "hi", "reasoning_content": "hm", "tool_calls": None}
SENT = {
    "model": "m",
    "messages": [USER, ASSISTANT],
    "input": "x",
    "store": True,
    "metadata": {"a": 1},
    "max_tokens": 5,
    "reasoning_effort": "low",
    "presence_penalty": 0,
    "temperature": 0.2,
    "stop": ["x"],
    "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
    "response_format": {"type": "json_object"},
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 2,
}
OPENAI = {"type": "invalid_request_error", "param": None, "code": None}


def openai(message, param=None, code=None):
    return {"error": OPENAI | {"message": message, "param": param, "code": code}}


def groq(message):
    return {"error": {"message": message, "type": "invalid_request_error"}}


def cerebras(message):
    return {
        "message": message,
        "type": "invalid_request_error",
        "param": "validation_error",
        "code": "wrong_api_format",
    }


def mistral(*places, kind="extra_forbidden"):
    details = [{"type": kind, "loc": ["body", *place], "msg": "Extra inputs are not permitted"} for place in places]
    return {"object": "error", "message": {"detail": details}, "type": "invalid_request_error", "param": None}


def xai(message):
    return {"code": "invalid-argument", "error": message}


def judged(said, sent=SENT, status=400):
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return judge(status, parse(body, b"application/json"), body, json.dumps(sent).encode() if sent else b"")


def shown(judgement):
    """`store`, `messages[].name`, `max_tokens -> x`; 'needed'; or None."""
    if judgement is None:
        return None
    if judgement.outcome is Outcome.FIELD_NEEDED:
        return "needed"
    names = [f"messages[].{each.name}" if each.is_in_messages else each.name for each in judgement.remedies]
    news = [f" -> {each.instead}" if each.instead else "" for each in judgement.remedies]
    return [name + new for name, new in zip(names, news, strict=True)]


GROQ_WITHIN = (
    "'messages.{0}' : for 'role:{1}' the following must be satisfied[('messages.{0}' : property '{2}' is unsupported)]"
)
CASES = [
    (groq("property 'store' is unsupported, did you mean 'stop'?"), ["store"]),
    (groq("property 'metadata' is unsupported"), ["metadata"]),
    (groq(GROQ_WITHIN.format(1, "assistant", "reasoning_content")), ["messages[].reasoning_content"]),
    (groq(GROQ_WITHIN.format(0, "user", "name")), ["messages[].name"]),
    (groq(GROQ_WITHIN.format(1, "assistant", "tool_calls")), "needed"),
    (groq(GROQ_WITHIN.format("0.content.0", "user", "name")), "needed"),
    (groq("`reasoning_effort` is not supported with this model"), ["reasoning_effort"]),
    (groq("`tool calling` is not supported with this model"), "needed"),
    (groq("This model does not support response format `json_schema`. See supported models."), "needed"),
    (groq("`reasoning_effort` must be one of `none` or `default`"), None),
    (groq("'n' : number must be at most 1"), None),
    (cerebras("store: property 'store' is unsupported"), ["store"]),
    (cerebras("body.metadata: property 'body.metadata' is unsupported"), ["metadata"]),
    (cerebras("messages.1.assistant.reasoning_content: property '…' is unsupported"), ["messages[].reasoning_content"]),
    (
        cerebras("messages.1.reasoning_content: property 'messages.1.reasoning_content' is unsupported"),
        ["messages[].reasoning_content"],
    ),
    (cerebras("messages.1.assistant.content: property 'x' is unsupported"), "needed"),
    (cerebras("tools.0.function.strict: property 'strict' is unsupported"), "needed"),
    (mistral(["max_tokens"]), ["max_tokens -> max_completion_tokens"]),
    (mistral(["store"], ["metadata"]), ["store", "metadata"]),
    (mistral(["messages", 0, "user", "name"]), ["messages[].name"]),
    (mistral(["messages", 1, "assistant", "tool_calls"]), "needed"),
    (mistral(["store"], ["tools"]), "needed"),
    (mistral(["stream_options"]), ["stream_options"]),
    (mistral(["metadata", "a"]), ["metadata"]),
    (mistral(["store"], kind="missing"), None),
    (mistral(["store"], kind="value_error.extra"), ["store"]),
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "store"], "msg": "no"}]}, ["store"]),
    (
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
            " instead.",
            "max_tokens",
            "unsupported_parameter",
        ),
        ["max_tokens -> max_completion_tokens"],
    ),
    (
        openai(
            "Unsupported parameter: 'max_tokens'. In the Responses API, this parameter has moved to 'ceiling'.",
            "max_tokens",
            "unsupported_parameter",
        ),
        ["max_tokens -> ceiling"],
    ),
    (openai("Unknown parameter: 'store'.", "store", "unknown_parameter"), ["store"]),
    (openai("Unknown parameter: '…'.", "messages[1].reasoning_content", "unknown_parameter"),
     ["messages[].reasoning_content"]),
    (openai("Unknown parameter: 'tools[0].function'.", "tools[0].function", "unknown_parameter"), "needed"),
    (openai("Unsupported parameter: 'metadata.a' is not supported"), ["metadata"]),
    (openai("Unrecognized request argument supplied: store"), ["store"]),
    (openai("Unrecognized request arguments supplied: store, metadata"), ["store"]),
    (
        openai(
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is"
            " supported.",
            "temperature",
            "unsupported_value",
        ),
        ["temperature"],
    ),
    (
        openai("Unsupported value: 'reasoning_effort' does not support 'low' with this model. Supported values are:"
               " 'medium'.", "reasoning_effort", "unsupported_value"),
        None,
    ),
    (openai("Unsupported value: 'messages[0].role' does not support 'developer' with this model."), None),
    (openai("Unsupported parameter: 'messages'. It has moved to 'input'.", "messages", "unsupported_parameter"), None),
    (openai("Unsupported parameter: 'input'.", "input", "unsupported_parameter"), None),
    (openai("Unsupported parameter: 'stream'.", "stream", "unsupported_parameter"), "needed"),
    (openai("Unsupported parameter: 'n'.", "n", "unsupported_parameter"), "needed"),
    (openai("Unsupported parameter: 'store'. Use 'messages' instead.", "store", "unsupported_parameter"), ["store"]),
    (xai("Model grok-code-fast-1 does not support parameter reasoningEffort."), ["reasoning_effort"]),
    (xai("Model grok-4 does not support parameter presencePenalty."), ["presence_penalty"]),
    (xai("Argument not supported on this model: presencePenalty"), ["presence_penalty"]),
    (xai("Argument not supported on this model: stop"), "needed"),
    # not a field of this request, so nothing could be left out
    (openai("Unknown parameter: 'user'.", "user", "unknown_parameter"), None),
    (groq(GROQ_WITHIN.format(1, "assistant", "audio")), None),
    # words of a caller that a provider repeats
    (openai("Your prompt was: property 'store' is unsupported"), None),
    (openai("Invalid prompt. Unsupported parameter: 'store'"), None),
    (groq("'messages.0' : bad text ('tools' : property"), None),
    (b"property 'store' is unsupported, in plain text", ["store"]),
    (b"", None),
]  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), CASES)
def test_B10_what_each_provider_says_of_fields(said, expected):
    assert shown(judged(said)) == expected
    assert shown(judged(said, status=422)) == expected


@pytest.mark.parametrize("status", [200, 401, 404, 413, 429, 500])
def test_B10_only_a_refusal_of_the_request_speaks_of_its_fields(status):
    assert judged(groq("property 'store' is unsupported"), status=status) is None


def test_B10_of_a_body_that_may_lose_nothing_nothing_is_said():
    assert judged(groq("property 'store' is unsupported"), sent=None) is None


def test_B10_the_responses_api_has_its_effort_within_another_field():
    sent = {"model": "m", "input": "x", "reasoning": {"effort": "low"}}
    assert shown(judged(xai("Model x does not support parameter reasoningEffort."), sent)) == ["reasoning"]


def test_B10_the_other_name_of_the_most_tokens_is_tried_before_they_are_lost():
    sent = {"model": "m", "max_completion_tokens": 5}
    (remedy,) = judged(mistral(["max_completion_tokens"]), sent).remedies
    assert remedy == Remedy("max_completion_tokens", instead="max_tokens")


TEXTS = [
    said["error"]["message"] if isinstance(said.get("error"), dict) else ""
    for said, _ in CASES
    if isinstance(said, dict)
]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.sampled_from(TEXTS).map(str.encode), st.binary(max_size=60))
def test_B10_no_error_body_and_no_request_body_breaks_it(said, sent):
    body = json.dumps({"error": {"message": said.decode("utf-8", "replace"), "code": "unknown_parameter"}}).encode()
    for raw in (said, body):
        judge(400, parse(raw, None), raw, sent)
