"""Bytes to answers: each whole, byte by byte, with a tail, and cut anywhere."""

from __future__ import annotations

import asyncio
import gzip
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.hot_answer import Patterns
from sidecar.upstream.reader import MAX_HEAD_BYTES, Reader
from sidecar.upstream.response import Carrier, Response


class NoCarrier(Carrier):
    """The reader never calls it."""

    def expect(self, deadline_ns: int) -> asyncio.Future[None]:
        raise AssertionError

    def resume(self) -> None:
        raise AssertionError

    def abort(self) -> None:
        raise AssertionError


class Ways:
    """Whether what is read was seen before, so that its head may be recognised."""

    is_seen = False


@pytest.fixture(params=[False, True], ids=["new", "seen"], autouse=True, scope="module")
def way(request):
    Ways.is_seen = request.param
    yield
    Ways.is_seen = False


def patterns_of(wire: bytes, skips_body: bool) -> Patterns:
    """What an origin is known by that has sent this three times."""
    patterns = Patterns()
    for _ in range(3 if Ways.is_seen else 0):
        reader = Reader(patterns)
        reader.begin(Response(NoCarrier()), skips_body=skips_body)
        reader.feed(wire)
    return patterns


def read(pieces: list[bytes], skips_body: bool = False) -> tuple[Response, Reader, str | None]:
    reader, response = Reader(patterns_of(b"".join(pieces), skips_body)), Response(NoCarrier())
    reader.begin(response, skips_body=skips_body)
    for piece in pieces:
        wrong = reader.feed(piece)
        if wrong is not None:
            return response, reader, wrong
    return response, reader, None


def each(wire: bytes) -> list[bytes]:
    return [wire[i : i + 1] for i in range(len(wire))]


GZIPPED = gzip.compress(b"hello" * 100, mtime=0)

WHOLE = [
    # wire, status, body, declared length, whether another answer may follow
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", 2, True, id="length"),
    pytest.param(b"HTTP/1.1 200 \r\ncontent-length:0\r\n\r\n", 200, b"", 0, True, id="empty"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n yo\r\n0\r\n\r\n",
        200, b"hi yo", None, True, id="chunked",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nLink: x\r\nX: y\r\n\r\n",
        200, b"hi", None, True, id="trailers",
    ),
    pytest.param(
        b"HTTP/1.1 429 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 429, b"hi", 2, False, id="close"
    ),
    pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", 2, False, id="1.0"),
    pytest.param(b"HTTP/1.1 204 No\r\nX: y\r\n\r\n", 204, b"", None, True, id="204"),
    pytest.param(b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", 304, b"", 9, True, id="304"),
    pytest.param(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        200, b"hi", 2, True, id="interim",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(GZIPPED), GZIPPED),
        200, GZIPPED, len(GZIPPED), True, id="C9-gzip",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
        200, b"hi", 2, True, id="upgrade-offered",
    ),
    pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n", 302, b"", 0, True, id="302"),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "status", "body", "length", "may_reuse"), WHOLE)
def test_C9_whole_and_byte_by_byte(wire, status, body, length, may_reuse):
    for pieces in ([wire], each(wire)):
        response, reader, wrong = read(pieces)
        assert wrong is None
        assert (response.status, b"".join(response.pieces), response.length) == (status, body, length)
        assert response.complete
        assert reader.may_reuse is may_reuse
        assert (b"link", b"x") not in response.headers


@pytest.mark.parametrize(("wire", "status", "body", "length", "may_reuse"), WHOLE)
def test_C11_tail_is_not_taken_for_an_answer(wire, status, body, length, may_reuse):
    tail = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nevil"
    for pieces in ([wire + tail], [wire + b"H"], each(wire + tail)):
        response, reader, wrong = read(pieces)
        assert wrong is not None
        assert (response.status, b"".join(response.pieces)) == (status, body)
        assert response.complete
        assert not reader.may_reuse


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.integers(1, 200), max_size=8))
def test_C10_cut_anywhere(case, cuts):
    wire, status, body, _, _ = case.values
    marks = sorted({0, len(wire), *(min(cut, len(wire)) for cut in cuts)})
    response, _, wrong = read([wire[a:b] for a, b in itertools.pairwise(marks)])
    assert wrong is None
    assert (response.status, b"".join(response.pieces), response.complete) == (status, body, True)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_garbage_never_raises(pieces):
    response, _, wrong = read([b"HTTP/1.1 200 OK\r\n", *pieces])
    assert wrong is not None or not response.complete or response.status == 200


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi",
    ],
)
def test_C11_what_is_not_http(wire):
    for pieces in ([wire], each(wire)):
        response, reader, wrong = read(pieces)
        assert wrong is not None
        assert not response.complete
        assert not reader.may_reuse


def test_G2_header_fields_keep_order_and_case_of_values():
    wire = b"HTTP/1.1 200 OK\r\nSet-Cookie: A \t\r\nX-B:C d\r\nset-cookie: E\r\nEmpty:\r\nContent-Length: 0\r\n\r\n"
    response, _, _ = read([wire])
    assert response.headers == [
        (b"set-cookie", b"A"),
        (b"x-b", b"C d"),
        (b"set-cookie", b"E"),
        (b"empty", b""),
        (b"content-length", b"0"),
    ]


@pytest.mark.parametrize("tail", [b"", b"a body that must not be there"])
def test_C9_head_has_no_body(tail):
    response, reader, _ = read([b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n" + tail], skips_body=True)
    assert (response.status, response.length, response.pieces, response.complete) == (200, 29, [], True)
    assert not reader.may_reuse


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", True),
        (b"Transfer-Encoding: identity\r\n", True),
        (b"Transfer-Encoding: Chunked\r\n", False),
        (b"Content-Length: 9\r\n", False),
        (b"Content-Length: 9\r\nConnection: close\r\n", False),
    ],
)
def test_body_that_ends_with_the_connection(fields, expected):
    response, reader, _ = read([b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n"])
    assert not response.complete
    assert reader.ends_with_connection() is expected


def test_no_body_ends_with_the_connection_before_a_head():
    _, reader, _ = read([b"HTTP/1.1 200 OK\r\n"])
    assert not reader.ends_with_connection()


@pytest.mark.parametrize("step", [1 << 30, 4096])
def test_head_is_bounded(step):
    fields = b"".join(b"X-%05d: %b\r\n" % (i, b"v" * 100) for i in range(MAX_HEAD_BYTES // 100))
    wire = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 1\r\n\r\nx"
    response, _, wrong = read([wire[i : i + step] for i in range(0, len(wire), step)])
    assert wrong is not None
    assert not response.complete


def test_a_large_first_piece_is_not_a_large_head():
    content = b"x" * (4 * MAX_HEAD_BYTES)
    response, _, wrong = read([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)])
    assert wrong is None
    assert b"".join(response.pieces) == content


@pytest.mark.parametrize(
    "endless", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"]
)
def test_interim_answers_and_trailers_are_bounded(endless):
    more = b"X: y\r\n" if endless.endswith(b"0\r\n") else endless
    _, _, wrong = read([endless] + [more * 100] * (MAX_HEAD_BYTES // 100))
    assert wrong == "head or trailers too long"


def test_C6_many_small_pieces_are_no_overhead():
    chunk = b"1\r\nx\r\n"
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    response, _, wrong = read([wire] + [chunk] * (MAX_HEAD_BYTES // 4))
    assert wrong is None
    assert len(response.pieces) == MAX_HEAD_BYTES // 4


def test_one_reader_reads_many_answers():
    reader = Reader()
    for number in range(3):
        response = Response(NoCarrier())
        reader.begin(response, skips_body=False)
        assert (
            reader.feed(b"HTTP/1.1 20%d OK\r\nN: %d\r\nContent-Length: 1\r\n\r\n%d" % (number, number, number)) is None
        )
        assert (response.status, response.headers[0], response.pieces) == (
            200 + number,
            (b"n", b"%d" % number),
            [b"%d" % number],
        )


NAMES = [b"Date", b"server", b"X-RateLimit-Remaining-Tokens", b"set-cookie", b"x-request-id", b"Keep-Alive", b"via"]
VALUES = st.binary(max_size=12).map(lambda value: value.translate(None, bytes(range(32)) + b"\x7f").strip())
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6, unique_by=lambda field: field[0])
FRAMES = st.sampled_from(
    [
        (b"Content-Length: 5\r\n\r\n", b"hello"),
        (b"content-length:0\r\n\r\n", b""),
        (b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\n", b"hi"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nhi\r\n3\r\n yo\r\n0\r\n\r\n"),
    ]
)


@settings(max_examples=200, deadline=None)
@given(FIELDS, st.lists(VALUES, min_size=6, max_size=6), FRAMES, st.lists(st.integers(1, 300), max_size=4))
def test_a_head_like_one_that_was_seen_is_read_as_if_it_were_new(fields, others, frame, cuts):
    def wire(values):
        lines = b"".join(b"%b: %b\r\n" % (name, value) for (name, _), value in zip(fields, values, strict=False))
        return b"HTTP/1.1 200 OK\r\n" + lines + frame[0] + frame[1]

    first, second = wire([value for _, value in fields]), wire(others)
    patterns = Patterns()
    for _ in range(3):
        warm = Reader(patterns)
        warm.begin(Response(NoCarrier()), skips_body=False)
        assert warm.feed(first) is None
    marks = sorted({0, len(second), *(min(cut, len(second)) for cut in cuts)})
    told = []
    for reader in (Reader(), Reader(patterns)):
        response = Response(NoCarrier())
        reader.begin(response, skips_body=False)
        wrong = [reader.feed(second[a:b]) for a, b in itertools.pairwise(marks)]
        body = b"".join(response.pieces)
        told.append((wrong, response.status, response.headers, response.length, body, response.complete))
        assert reader.may_reuse
    assert told[0] == told[1]


def test_one_that_was_seen_is_recognised():
    """Else all that is above would say nothing."""
    wire = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nhi"
    response, _, _ = read([wire])
    assert (response.known is not None) is Ways.is_seen
