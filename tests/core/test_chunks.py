"""Whole chunks, held against llhttp; and everything else, which is not for this."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.core.chunks import SIZE_LINES, content
from tests.upstream.test_reader import read

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def by_llhttp(wire: bytes) -> bytes | None:
    """What llhttp reads byte by byte, if the wire ends where a chunk does and is nothing else."""
    response, _, wrong = read([HEAD[:-1], HEAD[-1:], *(wire[at : at + 1] for at in range(len(wire)))])
    if wrong is not None or response.complete:
        return None
    got = b"".join(response.pieces)
    response, _, wrong = read(
        [HEAD[:-1], HEAD[-1:], *((wire + b"0\r\n\r\n")[at : at + 1] for at in range(len(wire) + 5))]
    )
    return got if wrong is None and response.complete else None


@pytest.mark.parametrize("size", [1, 9, 15, 16, 17, 230, 255, 256, 2041, 2047, 4095, 4096, 70_000])
def test_one_chunk_of_any_size(size):
    assert content(framed(b"x" * size)) == b"x" * size
    assert content(framed(b"x" * size) * 2) == b"x" * size * 2


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\r\n", b"0\r\n\r\n", b"00\r\n\r\n", b"2\r\nhi", b"2\r\nhi\r", b"2\r\nhi\n", b"3\r\nhi\r\n",
        b"1\r\nhi\r\n", b"\n\0\r\n", b"\nhihi\r\n",
        b"2;a=b\r\nhi\r\n", b"2 \r\nhi\r\n", b" 2\r\nhi\r\n", b"02\r\nhi\r\n", b"+2\r\nhi\r\n", b"0x2\r\nhi\r\n",
        b"2\r\nhi\r\n0\r\n\r\n", b"2\r\nhi\r\n5", b"2\r\nhi\r\n5\r\n", b"2\r\nhi\r\nx", b"-2\r\nhi\r\n",
        b"1_0\r\nhihihihihihihihi\r\n",
        b"2\nhi\r\n",
    ],
)  # fmt: skip
def test_anything_else_is_left_to_the_parser(data):
    assert content(data) is None


def test_large_digits_are_digits():
    assert content(b"1A\r\n%b\r\n" % (b"x" * 26)) == b"x" * 26


def test_lines_of_all_lengths_say_the_length():
    for length, line in enumerate(SIZE_LINES):
        assert len(line) > length or len(line) + int(line, 16) + 2 == length


PIECES = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(PIECES, st.data())
def test_differential_what_is_taken_is_what_llhttp_reads(pieces, data):
    wire = bytearray(b"".join(framed(piece) for piece in pieces))
    assert content(bytes(wire)) == b"".join(pieces)
    if data.draw(st.booleans()):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.sampled_from(b"0123456789abcdefABCDEF\r\n;x _+"))
    cut = data.draw(st.integers(0, len(wire)))
    for part in (bytes(wire), bytes(wire[:cut]), bytes(wire[cut:])):
        taken = content(part)
        assert taken is None or taken == by_llhttp(part)


@settings(max_examples=80, deadline=None)
@example([b"a", b"b"], [3, 6], b"0\r\n\r\n")
@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    st.lists(st.integers(0, 2000), max_size=12),
    st.sampled_from(
        [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"2;x=y\r\nhi\r\n0\r\n\r\n", b"x", b"2\r\nhi", b"-1\r\n", b""]
    ),
)
def test_C10_a_reader_says_the_same_however_its_input_is_cut(pieces, cuts, end):
    wire = HEAD + b"".join(framed(piece) for piece in pieces) + end
    places = sorted({0, len(HEAD), len(wire), *(cut for cut in cuts if cut < len(wire))})
    parts = [wire[start:stop] for start, stop in itertools.pairwise(places)]
    response, reader, wrong = read(parts)
    apart, other, fault = read([wire[at : at + 1] for at in range(len(wire))])
    assert b"".join(response.pieces) == b"".join(apart.pieces)
    assert (response.complete, wrong is None, reader.may_reuse) == (apart.complete, fault is None, other.may_reuse)
