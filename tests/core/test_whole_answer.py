"""What is no answer, though its status says so."""

from __future__ import annotations

import json

import pytest

from sidecar.core.whole_answer import flaw


def completion(message=None, finish="stop", usage=None, **choice):
    told = {"choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}]}
    return json.dumps(told | ({} if usage is None else {"usage": usage})).encode()


NOTHING = {"role": "assistant", "content": ""}


@pytest.mark.parametrize("body", [b"", b" ", b'{"choices":[{"index":0', b"<html>busy</html>", b"\xff"])
def test_B3_what_is_not_JSON_is_no_answer(body):
    assert flaw(body) == "the answer is not JSON"


def test_B5_a_flat_error_is_no_answer():
    error = b'{"message":"Try again.","type":"server_error","param":null,"code":"internal_error"}'
    assert flaw(error) == "the answer is an error: Try again."
    assert flaw(b'{"id":"file-1","message":"stored","code":"x"}') == ""
    assert flaw(b'{"message":"stored"}') == ""


@pytest.mark.parametrize(
    "body",
    [
        completion(NOTHING, usage={"completion_tokens": 0}),
        completion({"role": "assistant", "content": None, "tool_calls": []}, usage={"completion_tokens": 0}),
        completion(NOTHING, finish=None, usage={"completion_tokens": 5}),
        completion(NOTHING, finish=None),
        completion(None, finish=None),
        completion(text="", usage={"completion_tokens": 0}),
    ],
)
def test_B5_a_completion_without_a_word_is_no_answer(body):
    assert flaw(body) == "the answer is empty"


@pytest.mark.parametrize(
    "body",
    [
        completion({"role": "assistant", "content": "hi"}, usage={"completion_tokens": 0}),
        completion({"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]}, finish=None),
        completion({"role": "assistant", "reasoning": "hm"}, usage={"completion_tokens": 0}),
        completion({"role": "assistant", "refusal": "no"}, usage={"completion_tokens": 0}),
        completion(NOTHING, finish="length", usage={"completion_tokens": 0}),
        completion(NOTHING, finish="content_filter", usage={"completion_tokens": 0}),
        completion(NOTHING, usage={"completion_tokens": 1}),
        completion(NOTHING, usage={}),
        completion(NOTHING),
        completion(text="hi"),
        b'{"choices":[]}',
        b'{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":1}}',
        b'{"choices":"another shape"}',
        b"[1,2]",
        b'{"text":"\xff"}',
        b'{"n":NaN}',
    ],
)
def test_everything_else_is_passed_on(body):
    assert flaw(body) == ""


def test_one_choice_with_a_word_is_enough():
    body = b'{"choices":[{"message":{"content":""},"finish_reason":"stop"},{"message":{"content":"hi"}}],' \
        b'"usage":{"completion_tokens":0}}'  # fmt: skip
    assert flaw(body) == ""
