"""Heads of answers that come again: what is recognised, what a caller may see of it, and what makes no pattern."""

from __future__ import annotations

import pytest

from sidecar.core.hot_answer import Patterns

GROQ = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 16:24:00 GMT\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: 12\r\nConnection: keep-alive\r\nX-RateLimit-Limit-Tokens: 6000\r\nset-cookie: a=b\r\n"
    b"x-ratelimit-remaining-tokens: 17\r\nset-cookie: c=d\r\nvia: 1.1 x\r\n\r\n"
)


def known(seen, head=None, times=2):
    """What a head is recognised as by who has seen another one so often."""
    patterns = Patterns()
    for _ in range(times):
        patterns.learn(seen)
    data = (seen if head is None else head) + b"the body"
    return patterns.match(data)


def test_what_is_known_of_a_head():
    found = known(GROQ, GROQ.replace(b"12", b"34").replace(b"17", b"5 "))
    assert found is not None
    assert found.length == 34
    pattern = found.pattern
    assert (pattern.content_type, pattern.encoding) == (b"application/json; charset=utf-8", None)
    assert (pattern.has_date, pattern.has_request_id, pattern.is_chunked) == (True, False, False)
    assert found.match[pattern.at[b"x-ratelimit-remaining-tokens"]].strip() == b"5"
    assert found.lines == (
        b"Date: Sun, 22 Nov 2026 16:24:00 GMT\r\nContent-Type: application/json; charset=utf-8\r\n"
        b"X-RateLimit-Limit-Tokens: 6000\r\nx-ratelimit-remaining-tokens: 5 \r\nvia: 1.1 x\r\n"
    )
    assert found.headers[0] == (b"date", b"Sun, 22 Nov 2026 16:24:00 GMT")
    assert found.headers.count((b"set-cookie", b"c=d")) == 1


def test_the_second_of_a_kind_makes_a_pattern():
    assert known(GROQ, times=1) is None
    assert known(GROQ, times=2) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"200 OK", b"201 OK"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"application/json", b"text/event-stream"),
        (b"keep-alive", b"close"),
        (b"via", b"x-other"),
        (b"via: 1.1 x\r\n", b""),
        (b"via: 1.1 x", b"via: 1.1 x\r\nx: y"),
        (b"a=b", b"a\nb"),
        (b"a=b", b"a\0b"),
    ],
)
def test_another_head_is_not_recognised(old, new):
    assert old in GROQ
    assert known(GROQ, GROQ.replace(old, new)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"200 OK", b"404 No"),
        (b"keep-alive", b"close"),
        (b"Content-Length: 12\r\n", b""),
        (b"Content-Length: 12", b"Content-Length: 12\r\nTransfer-Encoding: chunked"),
        (b"Content-Length: 12", b"Content-Length: 12\r\ncontent-length: 12"),
        (b"Content-Length: 12", b"Transfer-Encoding: gzip, chunked"),
        (b"via", b"trailer"),
        (b"via", b"upgrade"),
        (b"via", b"date"),
        (b"via: ", b"via : "),
        (b"via: 1.1 x", b"via: 1.1\r\n x"),
        (b"via: 1.1 x", b"via: " + b"x" * 9000),
    ],
)
def test_a_head_without_a_plain_meaning_makes_no_pattern(old, new):
    assert old in GROQ
    assert known(GROQ.replace(old, new, 1)) is None


@pytest.mark.parametrize("length", [b"-1", b"1 2", b"0x1", b"9" * 16, b""])
def test_a_length_that_is_none_is_not_recognised(length):
    assert known(GROQ, GROQ.replace(b"Length: 12", b"Length: " + length)) is None


def test_a_head_that_is_not_whole_is_not_recognised():
    patterns = Patterns()
    for _ in range(2):
        patterns.learn(GROQ)
    for end in range(len(GROQ)):
        assert patterns.match(GROQ[:end]) is None
    found = patterns.match(GROQ)
    assert found is not None
    assert (found.end, found.length) == (len(GROQ), 12)


def test_E1_patterns_are_few_whatever_an_origin_sends():
    patterns = Patterns()
    heads = [GROQ.replace(b"via", b"x-%d" % at) for at in range(400)]
    for head in heads:
        patterns.learn(head)
        patterns.learn(head)
    assert sum(patterns.match(head) is not None for head in heads) == 8
    assert repr(patterns).count("<Pattern of application/json") == 8
    fresh = GROQ.replace(b"via", b"x-fresh")
    for _ in range(3):
        patterns.learn(fresh)
    assert patterns.match(fresh) is None, "whoever sends other names each time is read the long way"
