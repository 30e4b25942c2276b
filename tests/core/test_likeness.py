"""Events known by their likeness: never one that says more than its text, held against the full decoder."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.likeness import Likeness, likeness
from sidecar.core.sse import Tap
from tests.core.streams import DONE, HELLO, STREAMS, USAGE_CHUNK, chunk

BEFORE, BEHIND = HELLO.split(b"Hello")
LIKE = cast(Likeness, likeness(HELLO))


def framed(event):
    return b"%x\r\n%b\r\n" % (len(event), event)


def test_another_text_is_like_it():
    for text in (b"", b"x", "日本 🎈".encode(), b"w" * 1000):
        event = BEFORE + text + BEHIND
        assert LIKE.has(event)
        assert LIKE.has_chunk(framed(event))


@pytest.mark.parametrize(
    "event",
    [
        chunk({"content": "x"}, "stop"),
        chunk({"content": "x"}, usage={"prompt_tokens": 1}),
        chunk({"content": "x"}, error={"message": "x"}),
        chunk({"content": 'a"b'}),
        chunk({"content": "a\\b"}),
        chunk({"content": "a\nb"}),
        BEFORE + b'x","finish_reason":"stop' + BEHIND,
        BEFORE + b"x\n\ndata: [DONE]\n\n" + BEHIND,
        BEFORE + b"x\r\rdata: [DONE]\r\r" + BEHIND,
        BEFORE + b"x\\" + BEHIND,
        BEFORE + BEHIND[1:],
        HELLO + DONE,
        HELLO + HELLO,
        HELLO[:-1],
        b": ping\n\n" + HELLO,
        b"event: error\n" + HELLO,
        DONE,
        USAGE_CHUNK,
        b"",
    ],
)
def test_I2_whatever_else_it_says_makes_it_another(event):
    assert not LIKE.has(event)
    assert not LIKE.has_chunk(framed(event))


def test_a_chunk_must_be_whole_and_one():
    whole = framed(HELLO)
    assert LIKE.has_chunk(whole)
    for other in (
        whole[1:],
        whole[:-1],
        whole + b"x",
        whole + whole,
        b"0" + whole,
        whole.replace(b"\r\n", b";x\r\n", 1),
    ):
        assert not LIKE.has_chunk(other)
    assert not LIKE.has_chunk(framed(BEFORE + b"x" * 4000 + BEHIND))  # longer than is looked up: read the other way


@pytest.mark.parametrize("event", [DONE, b": ping\n\n", chunk({"role": "assistant"}), HELLO.replace(b"\n", b"\r\n"),
                                   b"event: x\n" + HELLO, HELLO + HELLO, chunk({"content": "x" * 5000})])  # fmt: skip
def test_of_some_events_there_is_no_likeness(event):
    assert likeness(event) is None


SAID = ("committed", "error", "finished", "done", "usage", "malformed", "response_id", "is_known", "is_between_events")


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=12), st.data())
def test_I2_of_an_event_that_is_like_a_plain_one_nothing_is_to_be_noted(text, data):
    event = bytearray(BEFORE + text.encode() + BEHIND)
    for _ in range(data.draw(st.integers(0, 2))):
        event[data.draw(st.integers(0, len(event) - 1))] = data.draw(st.sampled_from(b'"\\\n\r{}[],:xn0'))
    if LIKE.has(bytes(event)):
        tap = Tap()
        tap.feed(HELLO)
        before = [getattr(tap, each) for each in SAID]
        tap.feed(bytes(event))  # has no likeness to go by yet
        assert [getattr(tap, each) for each in SAID] == before
    assert LIKE.has_chunk(framed(bytes(event))) == LIKE.has(bytes(event))


@pytest.mark.parametrize("name", STREAMS)
def test_I2_a_tap_that_knows_chunks_says_what_one_that_reads_all_of_them_says(name):
    for events in (1, 3):
        knowing, reading = Tap(), Tap()
        stream = STREAMS[name][0]
        wire = [part + b"\n\n" for part in stream.replace(b"\r\n", b"\n").split(b"\n\n") if part]
        for at in [*[place for place, event in enumerate(wire) if b"Hello" in event] * events, *range(len(wire))]:
            event = wire[at]
            if not knowing.knows(framed(event)):
                knowing.feed(event)
            for byte in event:
                reading.feed(bytes([byte]))
            assert [getattr(knowing, each) for each in SAID] == [getattr(reading, each) for each in SAID]


def test_a_tap_amid_an_event_knows_no_chunk():
    tap = Tap()
    tap.feed(HELLO)
    tap.feed(HELLO)
    assert tap.knows(framed(HELLO))
    tap.feed(b"data: {")
    assert not tap.knows(framed(HELLO))
