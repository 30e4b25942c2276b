"""Streams as providers send them, cut at every offset: what the tap saw must not depend on the cuts."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import Usage
from sidecar.core.sse import MAX_EVENT_BYTES, Tap
from tests.core.streams import (
    AZURE_FILTER,
    CJK,
    DONE,
    ERRORS,
    GEMINI,
    GROQ_ERROR,
    HELLO,
    ROLE,
    STREAMS,
    USAGE_CHUNK,
    USED,
    chunk,
    event,
)


def watched(*pieces, ends=True):
    tap = Tap()
    for piece in pieces:
        tap.feed(piece)
    if ends:
        tap.feed_eof()
    return tap


def seen(tap):
    names = ("committed", "error", "finished", "done", "usage", "malformed", "response_id", "is_known", "empty")
    return {name: getattr(tap, name) for name in names}


def line_ends(stream, end):
    return stream.replace(b"\r\n", b"\n").replace(b"\n", end)


@pytest.mark.parametrize("name", STREAMS)
def test_B3_recorded_streams(name):
    stream, usage, response_id, done = STREAMS[name]
    assert seen(watched(stream)) == {
        "committed": True,
        "error": None,
        "finished": True,
        "done": done,
        "usage": usage,
        "malformed": False,
        "response_id": response_id,
        "is_known": True,
        "empty": False,
    }


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("name", STREAMS)
def test_C10_the_same_however_it_is_cut(name, end):
    stream = line_ends(STREAMS[name][0], end)
    whole = seen(watched(STREAMS[name][0]))
    assert seen(watched(stream)) == whole
    assert seen(watched(*(stream[i : i + 1] for i in range(len(stream))))) == whole
    as_it_comes = watched(*(stream[i : i + 1] for i in range(len(stream))), ends=False)
    assert seen(as_it_comes) == whole
    assert seen(watched(stream[: -len(end)])) == whole
    assert seen(watched(stream[: -2 * len(end)])) == whole
    for i in range(1, len(stream), 3 if end == b"\n" else 7):
        assert seen(watched(stream[:i], stream[i:])) == whole


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([ROLE, HELLO, CJK, DONE, USAGE_CHUNK, GROQ_ERROR, GEMINI, b": c\n\n", b"data: x\n\n"])),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 4000), max_size=12),
)
def test_C10_any_stream_cut_anywhere(events, end, cuts):
    stream = line_ends(b"".join(events), end)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert seen(watched(*pieces)) == seen(watched(stream))


@pytest.mark.parametrize(
    "stream",
    [
        b": comment\n\n",
        b"\n\n\n",
        b"event: ping\n\n",
        b"data:\n\n",
        b"id: 1\nretry: 5\n\n",
        ROLE,
        chunk({}),
        chunk({"role": "assistant", "tool_calls": [], "content": "", "reasoning": None}),
        AZURE_FILTER,
        USAGE_CHUNK,
        b'data: {"choices":[{"index":0,"text":"","finish_reason":null}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":""}]}}]}\n\n',
        event("ping"),
        event("message_start", message={}),
        event("content_block_delta", delta={"type": "text_delta", "text": ""}),
        event("message_delta", delta={"stop_reason": None}),
        event("response.queued", response={}),
        event("response.output_text.delta", delta=""),
    ],
)
def test_B6_what_precedes_content_does_not_commit(stream):
    tap = watched(stream)
    assert not tap.committed
    assert not tap.finished
    assert not tap.malformed
    assert tap.error is None
    assert watched(stream, HELLO).committed


@pytest.mark.parametrize(
    "stream",
    [
        HELLO,
        chunk({"reasoning": "x"}),
        chunk({"reasoning_content": "x"}),
        chunk({"content": [{"type": "thinking"}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}),
        chunk({"refusal": "no"}),
        chunk({}, "length"),
        chunk({}, "content_filter"),
        chunk({}, "tool_calls"),
        b'data: {"choices":[{"index":0,"text":"x","finish_reason":null}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"x"},"logprobs":{"x":NaN}}]}\n\n',
        b'data: {"choices":"odd"}\n\n',
        b'data: {"something":"else"}\n\n',
        b"data: [1]\n\n",
        b"data: 5\n\n",
        b'data: {"candidates":[{"finishReason":"SAFETY"}]}\n\n',
        event("content_block_delta", delta={"type": "input_json_delta", "partial_json": "{"}),
        event("message_delta", delta={"stop_reason": "max_tokens"}),
        event("message_stop"),
        event("response.function_call_arguments.delta", delta="{"),
        event("response.web_search_call.searching"),
        event("response.completed", response={}),
        event("speech.audio.delta", audio="AAAA"),
        event("transcript.text.delta", delta="x"),
        b'data: {"choices":[{"delta":{\ndata: "content":"x"}}]}\n\n',
        b'data:{"choices":[{"delta":{"content":"x"}}]}\n\n',
    ],
)
def test_B6_content_commits(stream):
    tap = watched(ROLE, stream, ends=False)
    assert tap.committed
    assert tap.error is None
    assert not tap.malformed


@pytest.mark.parametrize("stream", ERRORS)
def test_B5_an_error_is_seen_before_and_after_the_commit(stream):
    before = watched(ROLE, stream)
    data = stream.partition(b"data: ")[2].strip()
    assert (before.committed, before.error) == (False, data)
    assert watched(stream, DONE).committed is False
    assert watched(stream, GROQ_ERROR).error == data
    after = watched(ROLE, HELLO, HELLO, stream)
    assert (after.committed, after.error) == (True, data)
    assert watched(HELLO + stream).error == data


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_an_error_that_says_nothing_is_none(error):
    tap = watched(chunk({"content": "x"}, None, error=error), HELLO)
    assert (tap.committed, tap.error) == (True, None)


def test_B3_a_malformed_event_counts_before_the_commit_alone():
    broken = b'data: {"choices":[{"delta":{"content":"x\n\n'
    assert watched(ROLE, broken).malformed
    assert watched(b"data: " + b"[" * 100_000 + b"\n\n").malformed
    tap = watched(HELLO, broken, HELLO, chunk({}, "stop"))
    assert (tap.malformed, tap.finished, tap.error) == (False, True, None)


@pytest.mark.parametrize(
    ("events", "finished", "done"),
    [
        ([HELLO], False, False),
        ([HELLO, chunk({}, "stop")], True, False),
        ([HELLO, DONE], True, True),
        ([HELLO, b"data: [DONE]"], True, True),
        ([HELLO, b"data: [DONE]\n"], True, True),
        ([event("response.output_text.delta", delta="x"), event("response.incomplete", response={})], True, True),
        ([event("response.output_text.delta", delta="x"), event("response.failed", response={})], True, True),
        ([event("transcript.text.delta", delta="x"), event("transcript.text.done", text="x", usage={})], True, True),
        ([HELLO, chunk({}, "error")], True, False),
    ],
)
def test_B4_the_end(events, finished, done):
    tap = watched(*events)
    assert (tap.finished, tap.done) == (finished, done)


def test_B4_a_stream_of_unknown_shape_has_no_known_end():
    assert not watched(b'data: {"step":1}\n\n').is_known
    assert not watched(b'data: {"type":"image_generation.partial_image","b64":"A"}\n\n').is_known
    assert watched(HELLO).is_known


@pytest.mark.parametrize(
    ("events", "committed", "empty"),
    [
        ([chunk({}, "stop")], False, False),
        ([chunk({}, "stop"), DONE], True, False),
        ([chunk({}, "stop"), USAGE_CHUNK], True, False),
        ([chunk({}, "stop", usage=USED)], True, False),
        ([chunk({}, "stop", usage={"prompt_tokens": 9, "completion_tokens": 0})], False, True),
        ([chunk({}, "stop"), chunk({}, usage={"prompt_tokens": 9, "completion_tokens": 0}), DONE], False, True),
        ([DONE], False, True),
        ([ROLE, DONE], False, True),
        ([ROLE], False, False),
        ([HELLO, chunk({}, "stop", usage={"prompt_tokens": 9, "completion_tokens": 0})], True, False),
        ([chunk({}, "length", usage={"prompt_tokens": 9, "completion_tokens": 0}), DONE], True, False),
        ([GROQ_ERROR, chunk({}, "stop"), DONE], False, False),
    ],
)
def test_B5_an_empty_completion_is_no_answer(events, committed, empty):
    tap = watched(ROLE, *events)
    assert (tap.committed, tap.empty) == (committed, empty)


@pytest.mark.parametrize("size", [64, 1000, 65536, 9 << 20])
def test_C6_an_event_of_8_MiB_passes_unread(size):
    stream = ROLE + b'data: {"error":"' + b"A" * (8 << 20) + b'"}\n\n' + chunk({}, "stop", usage=USED) + DONE
    tap = Tap()
    for i in range(0, len(stream), size):
        tap.feed(stream[i : i + size])
        assert int(repr(tap).split()[-3]) <= MAX_EVENT_BYTES + 4
    assert (tap.committed, tap.error, tap.done, tap.usage) == (True, None, True, Usage(9, 2))


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_C6_reading_goes_on_after_an_event_that_was_skipped(end):
    long = b"data: " + b"A" * (MAX_EVENT_BYTES + 100)
    after = b'data: {"error":"x"}' + end
    for cut in range(len(end) + 1):
        tap = watched(long + end[:cut], end[cut:], after, ends=False)
        assert (tap.committed, tap.error) == (True, b'{"error":"x"}')
        assert watched(long, b"A" + end[:cut], end[cut:] + HELLO, after).error == b'{"error":"x"}'
    assert watched(long).error is None
    assert watched(long, b'\ndata: {"error":"within"}', end, HELLO).error is None
    assert watched(long, b"A" + end + HELLO, HELLO, after).error == b'{"error":"x"}'


def test_an_event_that_ended_is_not_kept():
    for end in (b"\n", b"\r\n", b"\r"):
        stream = line_ends(HELLO, end)
        for cut in range(1, len(stream) - len(end)):
            assert repr(watched(stream[:cut], stream[cut:], ends=False)) == "<Tap committed, 0 bytes pending>"


def test_content_that_looks_like_news_is_content():
    text = 'data: {"error":{"x":1},"usage":{"prompt_tokens":5},"finish_reason":"stop"}\n\nevent: error [DONE]'
    tap = watched(HELLO, chunk({"content": text}), chunk({"content": "finish_reason", "role": "usage"}))
    assert (tap.error, tap.finished, tap.usage) == (None, False, None)


def test_usage_of_groq_alone():
    assert watched(HELLO, chunk({}, x_groq={"id": "r", "usage": USED})).usage == Usage(9, 2)


def test_usage_in_each_chunk_grows():
    first, second = ({"prompt_tokens": 9, "completion_tokens": n} for n in (1, 2))
    assert watched(chunk({"content": "a"}, usage=first), chunk({"content": "b"}, usage=second)).usage == Usage(9, 2)


def test_spaced_json_and_several_events_in_one_chunk():
    spaced = HELLO.replace(b":null", b": null").replace(b'","', b'", "')
    assert seen(watched(ROLE, spaced, spaced + spaced, chunk({}, "stop").replace(b'":', b'" : '))) == seen(
        watched(ROLE, HELLO, chunk({}, "stop"))
    )


def test_repr():
    assert repr(Tap()) == "<Tap nothing yet, 0 bytes pending>"
    assert repr(watched(HELLO, DONE, GROQ_ERROR, b"data", ends=False)) == (
        "<Tap committed finished done error, 4 bytes pending>"
    )


@pytest.mark.parametrize(
    ("last", "ends_ill"),
    [
        ({"choices": [{"index": 0, "delta": {"content": "b"}}]}, True),
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, False),
        ({"error": {"message": "broken"}}, False),
        ({"message": "broken", "type": "server_error", "code": "internal_error"}, True),
    ],
)
def test_B4_a_stream_ends_ill_unless_it_finished_or_told_an_error_that_SDKs_know(last, ends_ill):
    tap = Tap()
    for said in ({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}}]}, last):
        tap.feed(b"data: " + json.dumps(said).encode() + b"\n\n")
    assert tap.ends_ill is ends_ill
