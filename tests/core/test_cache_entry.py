"""Rows: what is kept of an answer, and the head with which it is told again."""

from __future__ import annotations

import json

import pytest

from sidecar.core.cache_entry import asked_of, entry_of, made, row_of, shared_head, told
from sidecar.core.cache_key import Lookup
from sidecar.core.cache_shapes import Shape
from sidecar.core.limits import SECOND, Usage

NOW = 1_700_000_000 * SECOND
HEAD = [
    (b"content-type", b"application/json"), (b"x-request-id", b"theirs"), (b"x-ratelimit-remaining-tokens", b"1"),
    (b"content-encoding", b"gzip"), (b"x-sidecar-provider", b"groq"), (b"x-sidecar-wait-ms", b"7"),
    (b"x-sidecar-dropped", b"store"), (b"date", b"long ago"),
]  # fmt: skip
BODY = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()


def lookup(shape=Shape.CHAT, streamed=False):
    return Lookup(shape, b"k", (b"k", streamed, False, b"", None), True, None, streamed, False)


def test_a_row_there_and_back_again():
    entry = made("fast", NOW, HEAD, (b"application/json", BODY), Usage(1, 2))
    row = row_of(entry)
    assert entry_of(row) == entry
    assert asked_of(row) == "fast"
    assert (entry.input_tokens, entry.output_tokens) == (1, 2)
    assert made(None, NOW, HEAD, (b"", b""), None).asked == ""


@pytest.mark.parametrize("row", [b"", b"\x90", b"\xff", b"{}", b"\x91\x01"])
def test_what_is_no_row(row):
    assert entry_of(row) is None


@pytest.mark.parametrize(("later_ns", "age"), [(0, b"0"), (SECOND - 1, b"0"), (90 * SECOND, b"90"), (-SECOND, b"0")])
def test_a_hit_tells_its_age_and_nothing_of_that_moment(later_ns, age):
    entry = made("fast", NOW, HEAD, (b"application/json", BODY), None)
    answer = told(entry, lookup(), NOW + later_ns, "req_1")
    assert answer is not None
    assert answer.body == BODY
    assert dict(answer.head) == {
        b"content-type": b"application/json", b"x-sidecar-provider": b"groq", b"x-sidecar-dropped": b"store",
        b"x-sidecar-attempts": b"0", b"x-sidecar-wait-ms": b"0", b"x-sidecar-cache": b"hit", b"age": age,
        b"x-request-id": b"req_1",
    }  # fmt: skip


def test_a_stream_is_made_of_what_is_kept():
    entry = made("fast", NOW, HEAD, (b"application/json", BODY), None)
    answer = told(entry, lookup(streamed=True), NOW, "req_1")
    assert answer is not None
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert dict(answer.head)[b"content-type"].startswith(b"text/event-stream")
    odd = made("fast", NOW, HEAD, (b"application/json", b"{}"), None)
    assert told(odd, lookup(streamed=True), NOW, "req_1") is None
    typed = made("fast", NOW, HEAD, (b"text/event-stream", b"data: 1\n\n"), None)
    same = told(typed, lookup(Shape.RESPONSES, True), NOW, "req_1")
    assert same is not None
    assert same.body == b"data: 1\n\n"


def test_the_head_of_a_shared_answer_keeps_its_coding():
    head = dict(shared_head(HEAD, "req_2"))
    assert head[b"content-encoding"] == b"gzip"
    assert head[b"x-request-id"] == b"req_2"
    assert b"x-ratelimit-remaining-tokens" not in head
