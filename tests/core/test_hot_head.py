"""Heads of the hot shape: which are, what is read of them, and that a head recognised is the head read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.hot_head import END, MAX_HOT_HEAD_BYTES, Pattern, Patterns, may_become_hot, read_hot_head

SDK = b"\r\n".join(
    [
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: 127.0.0.1:8787",
        b"Connection: keep-alive",
        b"Content-Length: 250",
        b"X-Stainless-OS: Linux",
        b"Authorization: Bearer placeholder",
    ]
)


def head(*lines, method=b"GET", target=b"/", version=b"HTTP/1.1"):
    return b"\r\n".join([b" ".join([method, target, version]), b"host: h", *lines])


def told(read):
    """What was read of a head, as plain values."""
    hot, length = read
    return hot.method, hot.target, hot.headers, hot.is_measured, hot.keeps_alive, length


def test_what_is_read_of_a_head():
    assert told(read_hot_head(SDK)) == (
        b"POST",
        b"/v1/chat/completions",
        [
            (b"host", b"127.0.0.1:8787"),
            (b"connection", b"keep-alive"),
            (b"x-stainless-os", b"Linux"),
            (b"authorization", b"Bearer placeholder"),
        ],
        True,
        True,
        250,
    )


@pytest.mark.parametrize(
    ("raw", "length", "keeps_alive"),
    [
        (head(), None, True),
        (head(b"Content-Length:0"), 0, True),
        (head(b"content-length: \t0042\t "), 42, True),
        (head(b"Connection: Keep-Alive"), None, True),
        (head(b"connection: CLOSE"), None, False),
        (head(target=b"//x/%zz?a=b#c"), None, True),
        (head(b"x:", b"y: a\tb  c "), None, True),
        (head(b"x: " + b"a" * 30_000), None, True),
    ],
)
def test_hot(raw, length, keeps_alive):
    read = read_hot_head(raw)
    assert read is not None
    assert (read[0].is_measured, read[1], read[0].keeps_alive) == (length is not None, length or 0, keeps_alive)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nx: y",
        *(head(method=method) for method in (b"CONNECT", b"get", b"FETCH", b"")),
        *(head(target=target) for target in (b"*", b"x", b"http://h/", b"")),
        *(head(target=target) for target in (b"/ x", b"/\t", b"/\xe9", b"/\x00", b"/\x7f")),
        *(head(version=version) for version in (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"")),
        head(b"expect: 100-continue"),
        head(b"Transfer-Encoding: chunked"),
        head(b"transfer-encoding:"),
        head(b"upgrade: h2c"),
        head(b"proxy-connection: close"),
        head(b"Sec-WebSocket-Key1: x"),
        head(b"connection: close, x"),
        head(b"connection:"),
        head(b"connection: close", b"connection: close"),
        head(b"Host: h"),
        head(b"x: 1", b"X: 2"),
        head(b"content-length: 3", b"content-length: 3"),
        *(head(b"content-length: " + value) for value in (b"", b"+3", b"-3", b"3 3", b"3,3", b"0x3")),
        *(head(b"content-length: " + value) for value in (b"1" * 11, b"\xb2")),
        head(b"x : y"),
        head(b" folded"),
        head(b"x"),
        head(b""),
        head(b": y"),
        head(b"x\x00: y"),
        *(head(b"x: a" + byte + b"b") for byte in (b"\r", b"\n", b"\x00", b"\x7f", b"\x80", b"\x0b")),
        head(b"x: " + b"a" * MAX_HOT_HEAD_BYTES),
    ],
)  # fmt: skip
def test_odd(raw):
    assert read_hot_head(raw) is None


@pytest.mark.parametrize("raw", [SDK, head(), head(b"x:")])
def test_the_beginning_of_a_hot_head_may_become_one_from_the_end_of_its_first_line(raw):
    whole = raw + b"\r\n\r\n"
    first = whole.index(b"\r\n") + 2
    assert [may_become_hot(whole[:end]) for end in range(len(whole))] == [end >= first for end in range(len(whole))]


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.0\r\n",
        b"\x16\x03\x01\r\n",
        b"GET / HTTP/1.1\r\n folded",
        b"GET / HTTP/1.1\r\nx y",
        b"GET / HTTP/1.1\r\n:",
        b"GET / HTTP/1.1\r\nx: \x00",
        b"GET / HTTP/1.1\r\nx: y\rz",
        b"GET / HTTP/1.1\r\nexpect: 100-continue\r\n",
        b"GET / HTTP/1.1\r\nx: y\r\nx: z\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * MAX_HOT_HEAD_BYTES,
    ],
)
def test_a_beginning_that_is_odd_already(start):
    assert not may_become_hot(start)


def pattern(raw):
    read = read_hot_head(raw)
    assert read is not None
    return Pattern(raw, read[0])


def matched(seen, raw):
    """What a pattern of `seen` recognises `raw` as, or None."""
    recognises = pattern(seen)
    found = recognises.match(raw + END + b"body" + END)
    assert recognises.match(raw) is None, "its blank line is not here yet"
    if found is None:
        return None
    end, length = found
    assert end == len(raw) + len(END)
    return told((recognises.head, length))


@pytest.mark.parametrize("raw", [SDK, head(), head(b"content-length:  7 \t"), head(b"CONTENT-LENGTH:7", b"x: y")])
def test_a_head_that_comes_again_is_recognised(raw):
    assert matched(raw, raw) == told(read_hot_head(raw))


@pytest.mark.parametrize("digits", [b"0", b"1048576", b"007"])
def test_with_another_length_too(digits):
    other = SDK.replace(b"250", digits)
    assert matched(SDK, other) == told(read_hot_head(other))


@pytest.mark.parametrize(
    "raw",
    [
        SDK.replace(b"250", b""),
        SDK.replace(b"250", b"+5"),
        SDK.replace(b"250", b"2 5"),
        SDK.replace(b"250", b"25\r\ncontent-length: 0"),
        SDK.replace(b"250", b"1" * 11),
        SDK.replace(b"POST", b"PUT"),
        SDK + b"\r\nx: y",
        SDK[:-1],
        SDK[:20],
        b"",
    ],
)
def test_what_differs_elsewhere_is_not_recognised(raw):
    assert matched(SDK, raw) is None


def test_a_pattern_without_a_length_is_that_head_alone():
    assert matched(head(), head(b"content-length: 3")) is None
    assert matched(head(), head()[:-1]) is None
    assert repr(pattern(head())) == "Pattern(23+0 bytes)"
    assert "Bearer" not in repr(pattern(SDK))


LINES = st.sampled_from(
    [b"content-length: 1", b"Content-Length:23 ", b"x: content-length: 4", b"x-content-length: 5", b"x:", b"y: 6"]
)


@given(st.lists(LINES, max_size=4), st.lists(LINES, max_size=4))
def test_a_match_is_what_reading_says(before, after):
    first, second = head(*before), head(*after)
    if read_hot_head(first) is not None:
        found = matched(first, second)
        assert found is None or found == told(read_hot_head(second))
        assert first != second or found is not None


def noted(patterns, raw):
    read = read_hot_head(raw)
    assert read is not None
    return patterns.of(raw, read[0])


def test_connections_share_the_pattern_of_one_head_and_what_was_noted_of_it():
    patterns = Patterns()
    first = noted(patterns, SDK)
    first.head.notes.heading = "read"
    again = noted(patterns, SDK.replace(b"250", b"7"))
    assert again is first
    assert again.head.notes.heading == "read"
    assert noted(patterns, SDK.replace(b"placeholder", b"another")) is not first
    assert repr(patterns) == "<Patterns 2 of 64>"


def test_patterns_are_bounded_and_the_one_seen_longest_ago_goes_first():
    patterns = Patterns(most=2)
    one, two = noted(patterns, head(b"x: 1")), noted(patterns, head(b"x: 2"))
    assert noted(patterns, head(b"x: 1")) is one
    noted(patterns, head(b"x: 3"))
    assert len(patterns) == 2
    assert noted(patterns, head(b"x: 1")) is one
    assert noted(patterns, head(b"x: 2")) is not two


def test_a_long_head_is_recognised_on_its_own_connection_alone():
    patterns = Patterns()
    raw = head(b"x: " + b"a" * 5000)
    assert noted(patterns, raw).match(raw + END) == (len(raw) + len(END), 0)
    assert len(patterns) == 0
