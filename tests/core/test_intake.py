"""Messages out of bytes: their boundaries, however the bytes are cut, and what is left for the general lane."""

from __future__ import annotations

import pytest

from sidecar.core.hot_head import Patterns
from sidecar.core.intake import MAX_HOT_BODY_BYTES, Intake, Taken

GET = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello"


def taken(pieces):
    """(target, body) of every request, and what is left, as a connection would read these pieces."""
    intake, requests = Intake(Patterns()), []
    for piece in pieces:
        if intake.missing:
            if not intake.take_body(piece):
                continue
            requests.append((intake.head.target, intake.body()))
            piece = b""
        while intake.take(piece) is Taken.REQUEST and not intake.missing:
            requests.append((intake.head.target, intake.body()))
            piece = b""
    return requests, intake.held


@pytest.mark.parametrize("data", [GET, POST, GET + POST, POST + GET + POST])
def test_requests_whole_cut_anywhere_and_with_a_tail(data):
    expected, held = taken([data])
    assert len(expected) == data.count(b"HTTP/1.1")
    assert held == b""
    for cut in range(1, len(data)):
        requests, held = taken([data[:cut], data[cut:]])
        assert (requests, held) == (expected, b"")
    assert taken([data + b"GET /tail"]) == (expected, b"GET /tail")


def test_what_is_odd_is_held_as_it_came():
    for odd in (b"\x16\x03", b"GET / HTTP/1.0\r\n\r\n", b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\r\nx"):
        intake = Intake(Patterns())
        assert intake.take(odd) is Taken.ODD
        assert intake.held == odd
        assert taken([GET + odd]) == ([(b"/a", b"")], odd)


@pytest.mark.parametrize(
    ("length", "expected"), [(MAX_HOT_BODY_BYTES, Taken.REQUEST), (MAX_HOT_BODY_BYTES + 1, Taken.ODD)]
)
def test_a_body_above_the_cap_is_odd(length, expected):
    intake = Intake(Patterns())
    assert intake.take(POST.replace(b": 5", b": %d" % length)) is expected
    assert intake.missing == (length - 5 if expected is Taken.REQUEST else 0)


def test_a_head_comes_in_four_pieces_at_most():
    intake = Intake(Patterns())
    pieces = [GET[:17], GET[17:20], GET[20:22], GET[22:24], GET[24:26]]
    assert [intake.take(piece) for piece in pieces] == [Taken.PART] * 4 + [Taken.ODD]
    assert intake.held == GET[:26]
    for data in (GET[:17], GET[17:] + GET[:17], GET[17:]):
        assert intake.take(data) in (Taken.PART, Taken.ODD, Taken.REQUEST)


def test_the_count_of_pieces_begins_anew_with_each_request():
    intake = Intake(Patterns())
    for _ in range(5):
        assert intake.take(GET[:20]) is Taken.PART
        assert intake.take(GET[20:]) is Taken.REQUEST


def test_a_body_in_pieces_is_handed_out_once():
    intake = Intake(Patterns())
    assert intake.take(POST[:-3]) is Taken.REQUEST
    assert repr(intake) == "Intake(0 bytes held, 3 missing)"
    assert [intake.take_body(piece) for piece in (b"l", b"", b"loGET")] == [False, False, True]
    assert (intake.body(), intake.body(), intake.held) == (b"hello", b"", b"GET")
