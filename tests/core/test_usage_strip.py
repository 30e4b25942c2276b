"""Usage asked for on our own account: the asking, and that a stream without what it adds is the one not asked for."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.envelope import Envelope, peek
from sidecar.core.sse import MAX_EVENT_BYTES
from sidecar.core.usage_strip import UsageStrip, asking
from tests.core.streams import AZURE_FILTER, DONE, STREAMS, USED

ENDS = [b"\n", b"\r\n", b"\r"]
COMMENT = b": keep-alive\n\n"
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}


def chunk(content, asked, finish=None, place="last", separators=(",", ":")):
    """A chunk of OpenAI's, with `usage: null` where usage was asked for."""
    choice = {"index": 0, "delta": {} if content is None else {"content": content}, "finish_reason": finish}
    null = {"usage": None} if asked else {}
    value = {
        "first": null | HEAD | {"choices": [choice]},
        "middle": HEAD | null | {"choices": [choice]},
        "last": HEAD | {"choices": [choice]} | null,
    }[place] | {"obfuscation": "xyz"}
    return b"data: " + json.dumps(value, separators=separators, ensure_ascii=False).encode() + b"\n\n"


def usage_chunk(**more):
    value = HEAD | {"choices": [], "usage": USED} | more
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def stream(contents, asked, **shape):
    """A stream as OpenAI sends it, asked for its usage or not, with comments and an event of Azure's in between."""
    filtered = AZURE_FILTER.replace(b'"choices":[]', b'"choices":[],"usage":null') if asked else AZURE_FILTER
    events = [COMMENT, filtered]
    events += [chunk(content, asked, **shape) for content in contents]
    events += [COMMENT, chunk(None, asked, "stop", **shape)]
    return b"".join(events + ([usage_chunk()] if asked else []) + [DONE])


def stripped(*pieces):
    strip = UsageStrip()
    return b"".join([strip.feed(piece) for piece in pieces]) + strip.feed_eof()


def by_line_end(text, end):
    return text.replace(b"\n", end)


TRICKY = [
    "Hello",
    '"usage":null',
    ',"usage":null,',
    "usage",
    '{"choices":[],"usage":{}}',
    "日本 🎈",
    "\r\n\r\n",
    "data: [DONE]",
]
SHAPES = [
    {"place": place, "separators": separators}
    for place in ("first", "middle", "last")
    for separators in [(",", ":"), (", ", ": "), (" , ", " : ")]
]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_B14_what_is_left_is_the_stream_that_was_not_asked_for(shape, end):
    asked, direct = (by_line_end(stream(TRICKY, is_asked, **shape), end) for is_asked in (True, False))
    assert asked != direct
    assert stripped(asked) == direct
    assert stripped(*(asked[at : at + 1] for at in range(len(asked)))) == direct
    for at in range(1, len(asked), 31):
        assert stripped(asked[:at], asked[at:]) == direct
        assert direct.startswith(UsageStrip().feed(asked[:at])), "what has gone on so far"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(max_size=12) | st.sampled_from(TRICKY), max_size=6),
    st.sampled_from(SHAPES),
    st.sampled_from(ENDS),
    st.lists(st.integers(0, 4000), max_size=12),
)
def test_B14_however_it_is_cut(contents, shape, end, cuts):
    asked, direct = (by_line_end(stream(contents, is_asked, **shape), end) for is_asked in (True, False))
    places = [0, *sorted(min(cut, len(asked)) for cut in cuts), len(asked)]
    pieces = [asked[start:stop] for start, stop in itertools.pairwise(places)]
    assert stripped(*pieces) == direct


@settings(max_examples=200, deadline=None)
@given(st.text("ab\r\n:", max_size=30).map(str.encode), st.lists(st.integers(0, 40), max_size=5), st.booleans())
def test_B14_what_holds_no_usage_passes_whatever_it_is(text, cuts, is_marked):
    text = text.replace(b"a", b'data: {"usage": 1, "no') if is_marked else text
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert stripped(*(text[start:stop] for start, stop in itertools.pairwise(places))) == text


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "name", [name for name in STREAMS if name not in ("openai", "azure", "deepseek", "byte order mark")]
)
def test_B14_streams_that_tell_usage_unasked_keep_it(name, end):
    text = by_line_end(STREAMS[name][0].replace(b"\r\n", b"\n"), end)
    assert stripped(text) == text
    assert stripped(*(text[at : at + 1] for at in range(len(text)))) == text


PASSED = [
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n',
    b'data: {"usage":null}\n\n',
    b'data: {"choices":[{"delta":{"usage":null}}]}\n\n',
    b'data: {"choices":null,"usage":null}\n\n',
    b'data: {"choices":[],"usage":7}\n\n',
    b'data: {"choices":[{"delta":{"content":"half a "usage":null\n\n',
    b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":1}}\n\n',
    b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1}}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":15}}\n\n',
    b'data: {"error":{"message":"\\"usage\\":null"}}\n\n',
    b': {"choices":[],"usage":{}}\n\n',
    b'data: \xff"usage":null\n\n',
    b'data: {"a\\"usage":null,"choices":[{}]}\n\n',
]


@pytest.mark.parametrize("event", PASSED)
def test_B14_what_has_another_shape_passes(event):
    assert stripped(event) == event
    assert stripped(event[:-1], event[-1:]) == event
    assert stripped(event.rstrip(b"\n")) == event.rstrip(b"\n")


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (usage_chunk(), b""),
        (usage_chunk().rstrip(b"\n"), b""),
        (usage_chunk(service_tier="x", prompt_filter_results=[]), b""),
        (b": ping\n" + usage_chunk(), b": ping\n\n"),
        (b"\n" + usage_chunk(), b"\n"),
        (usage_chunk()[:-1] + b"id: 7\n\n", b"id: 7\n\n"),
        (b'data: {"usage":null,"choices":[1]}\n\n', b'data: {"choices":[1]}\n\n'),
        (b'data:{"choices":[1],"usage":null}\n\n', b'data:{"choices":[1]}\n\n'),
        (b'\xef\xbb\xbfdata: {"choices":[1],"usage":null}\n\n', b'\xef\xbb\xbfdata: {"choices":[1]}\n\n'),
        (
            b'data: {"choices":[{"delta":{"usage":null}}],"usage":null}\n\n',
            b'data: {"choices":[{"delta":{"usage":null}}]}\n\n',
        ),
        (
            b'data: {"choices":[{"delta":{"a":1,"usage":null}}], "usage": null}\n\n',
            b'data: {"choices":[{"delta":{"a":1,"usage":null}}]}\n\n',
        ),
    ],
)
def test_B14_what_is_taken_out(event, left):
    assert stripped(event) == left
    assert stripped(*(event[at : at + 1] for at in range(len(event)))) == left


@pytest.mark.parametrize("end", ENDS)
def test_E1_an_event_too_long_to_be_held_passes_and_what_follows_is_stripped(end):
    long = chunk("x" * (2 * MAX_EVENT_BYTES), asked=False)
    asked = by_line_end(long + chunk("a", asked=True) + usage_chunk() + DONE, end)
    direct = by_line_end(long + chunk("a", asked=False) + DONE, end)
    strip = UsageStrip()
    got = bytearray()
    for at in range(0, len(asked), 100_001):
        got += strip.feed(asked[at : at + 100_001])
        assert int(repr(strip).split()[1]) <= MAX_EVENT_BYTES, "held back"
    assert bytes(got) + strip.feed_eof() == direct
    for cut in range(len(long) - 4, len(long) + 6):
        assert stripped(asked[: 1 << 20], asked[1 << 20 : cut], asked[cut:]) == direct


def test_B14_an_event_goes_on_as_soon_as_it_is_whole():
    strip = UsageStrip()
    event = chunk("a", asked=True)
    assert strip.feed(event[:-1]) == b""
    assert strip.feed(event[-1:] + event[:10]) == chunk("a", asked=False)
    assert strip.feed(by_line_end(event, b"\r\n")[10:]) == by_line_end(chunk("a", asked=False), b"\r\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"m"}', b'{"stream_options":{"include_usage":true},"model":"m"}'),
        (b' { "model":"m"}', b' {"stream_options":{"include_usage":true}, "model":"m"}'),
        (b'{"stream_options":null,"a":1}', b'{"stream_options":{"include_usage":true},"a":1}'),
        (b'{"stream_options" : { } }', b'{"stream_options" : {"include_usage":true } }'),
        (
            b'{"a":1,"stream_options":{"include_obfuscation": false}}',
            b'{"a":1,"stream_options":{"include_usage":true,"include_obfuscation": false}}',
        ),
        (b'{"stream_options":{"include_usage": false}}', b'{"stream_options":{"include_usage": true}}'),
        (b'{"stream_options":{"x":1,"include_usage":null}}', b'{"stream_options":{"x":1,"include_usage":true}}'),
        (b'{"messages":[{"stream_options":1}],"b":"\\"stream_options\\""}', None),
        (b'{"stream_options":{"include_usage":true}}', None),
        (b'{"stream_options":{"include_usage":"yes"}}', None),
        (b'{"stream_options":"all"}', None),
        (b"[]", None),
    ],
)
def test_B14_how_usage_is_asked_for(before, after):
    if after is None:
        assert asking(before) is before
    else:
        assert asking(before) == after
        envelope = peek(after)
        assert isinstance(envelope, Envelope)
        assert envelope.include_usage is True
