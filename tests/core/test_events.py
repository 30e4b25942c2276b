"""One event: what it means, and that the glance at passing content never overlooks anything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.events import Meaning, identity, is_plain, meaning, read

MEMBERS: dict[str, st.SearchStrategy[object]] = {
    "id": st.sampled_from(["c", None]),
    "object": st.sampled_from(["chat.completion.chunk", "error"]),
    "error": st.sampled_from([None, {}, "x", {"code": 1}]),
    "usage": st.sampled_from([None, {}, {"prompt_tokens": 1}]),
    "x_groq": st.sampled_from([None, {"id": "r"}]),
    "type": st.sampled_from(["message_delta", "content_block_delta", "message_stop", "error", "response.failed", "x"]),
    "delta": st.sampled_from([None, "", "x", {"type": "t", "text": "x"}, {"stop_reason": "end_turn"}]),
    "choices": st.lists(
        st.fixed_dictionaries(
            {"delta": st.sampled_from([{}, {"content": "x"}, {"role": "a"}])},
            optional={"finish_reason": st.sampled_from([None, "stop", "error"]), "error": st.sampled_from([None, {}])},
        ),
        max_size=2,
    ),
}


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional=MEMBERS), st.sampled_from(["data: ", "event: e\ndata: ", ": c\n\ndata: "]))
def test_what_is_plain_is_neither_end_nor_error_nor_usage(value, prefix):
    if value.get("object") == "error":
        return  # no provider calls an error that and a delta at once
    data = json.dumps(value).encode()
    if is_plain(prefix.encode() + data + b"\n\n"):
        said = read(data)
        assert said is not None
        found = meaning(said)
        assert not (found.fails)
        assert not (found.finishes)
        assert not (found.is_last)
        assert value.get("usage") is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b": comment\n\n",
        b"data: [DONE]\n\n",
        b"data: {\n\n",
        b"event: error\ndata: {}\n\n",
        b"data: 1\n\n",
        b'data: {"choices":[]}\n\ndata: {"choices":[]}\n\n',
        b'data: {"choices":[]}\nevent: error\n\n',
        b'event: error\ndata: {"choices":[]}\n\n',
        b'data: {"choices":[{"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[],"usage":{}}\n\n',
        b"data: " + b"[" * 100000,
    ],
)
def test_not_plain(text):
    assert not is_plain(text)


def test_plain():
    assert is_plain(b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}],"usage":null}\r\n\r\n')
    assert is_plain(b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"x"}}\n\n')


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"id":"c"}', "c"),
        (b'{"id":"","response":{"id":"r"}}', "r"),
        (b'{"message":{"id":"m"}}', "m"),
        (b'{"message":"text","response":"text"}', None),
        (b'{"id":5}', None),
    ],
)
def test_identity(data, expected):
    said = read(data)
    assert said is not None
    assert identity(said) == expected


def test_an_unknown_shape_commits():
    said = read(b'{"id":5,"odd":true}')
    assert said is not None
    assert meaning(said) == Meaning(commits=True, is_known=False)
    assert read(b'{"id":') is None
