"""Forms: their model is found and replaced, their files are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.envelope import Envelope
from sidecar.core.errors import Reason, Refusal
from sidecar.core.multipart import boundary, peek, with_model

TYPE = b"multipart/form-data; boundary=XyZ"
FILE = bytes(range(256)) * 3 + b"\r\n--XyZnot\r\n\r\n--Xy"


def form(*parts, edge=b"XyZ", last=b"--\r\n"):
    return b"".join(b"--" + edge + b"\r\n" + head + b"\r\n\r\n" + value + b"\r\n" for head, value in parts) + (
        b"--" + edge + last
    )


def field(name, value):
    return b'Content-Disposition: form-data; name="' + name + b'"', value


UPLOAD = (b'content-disposition: form-data; name="file"; filename="model"\r\nContent-Type: audio/wav', FILE)


def test_envelope_and_splice():
    body = form(UPLOAD, field(b"model", b"whisper-1"), field(b"stream", b"true"))
    assert peek(body, TYPE) == Envelope("whisper-1", True, file_bytes=len(FILE))
    spliced = with_model(body, TYPE, "whisper-large-v3")
    assert spliced == body.replace(b"whisper-1", b"whisper-large-v3")
    assert peek(spliced, TYPE) == Envelope("whisper-large-v3", True, file_bytes=len(FILE))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([field(b"model", b"")], Envelope("")),
        ([field(b"stream", b"False")], Envelope()),
        ([field(b"prompt", b'name="model"'), field(b"model", b"m")], Envelope("m")),
        ([(b"Content-Disposition: form-data; name=model", b"m")], Envelope("m")),
        ([(b'X: y\r\nCONTENT-DISPOSITION:form-data;name="model"', b"m")], Envelope("m")),
        ([(b'Content-Disposition: form-data; name="model"; filename="f"', b"m")], Envelope(file_bytes=1)),
        ([(b"Content-Disposition: form-data; filename*=utf-8''x; name=\"a\"", b"m")], Envelope(file_bytes=1)),
        ([field(b"model", b"\xff")], Envelope()),
        ([field(b"model", b"x" * 2000)], Envelope()),
    ],
)
def test_fields(parts, expected):
    assert peek(form(*parts), TYPE) == expected


def test_two_models_are_refused():
    refusal = peek(form(field(b"model", b"a"), field(b"model", b"b")), TYPE)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.MODEL_DUPLICATE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--XyZ",
        form(field(b"model", b"m"), last=b""),
        form(field(b"model", b"m"), edge=b"other"),
        form((b"X: y", b"m"), field(b"model", b"m")),
        form((b'Content-Disposition: form-data; name="model"\r\nX: ' + b"x" * 9000, b"m")),
        b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\nm\r\n--XyZ--',
        form(*[field(b"a", b"b")] * 200, field(b"model", b"m")),
        form(field(b"model", b"m")).replace(b"\r\n", b"\n"),
        b"--XyZ\r\n--XyZ\r\n--XyZ--",
        b"--XyZ\r\n" + form(field(b"model", b"m")),
    ],
)
def test_a_malformed_form_passes_through_unread(body):
    assert peek(body, TYPE) == Envelope()
    assert with_model(body, TYPE, "n") == body


def test_preamble_padding_and_epilogue():
    body = b"preamble\r\n" + form(field(b"model", b"m")).replace(b"--XyZ\r\n", b"--XyZ \t\r\n") + b"epilogue"
    assert peek(body, TYPE) == Envelope("m")
    assert with_model(body, TYPE, "n") == body.replace(b"\r\n\r\nm", b"\r\n\r\nn")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b"Multipart/Form-Data;charset=x; BOUNDARY=a'b-c_d", b"a'b-c_d"),
        (b'multipart/form-data; boundary="gc0pJq0M:08jU534c0p=/ x"; a=b', b"gc0pJq0M:08jU534c0p=/ x"),
        (b'multipart/form-data; x="; boundary=no"; boundary=yes', b"yes"),
        (b'multipart/form-data; boundary="ends in space "', None),
        (b'multipart/form-data; boundary=""', None),
        (b"multipart/form-data", None),
        (b"multipart/mixed; boundary=abc", None),
        (b"application/json", None),
        (b"", None),
    ],
)
def test_boundary(content_type, expected):
    assert boundary(content_type) == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"prompt", b"file"]), st.binary(max_size=40)), max_size=4),
    st.integers(0, 4),
)
def test_any_form(others, place):
    edge = b"edge-that-no-value-holds"
    parts = [field(name, value) for name, value in others]
    parts.insert(min(place, len(parts)), field(b"model", b"old"))
    body, content_type = form(*parts, edge=edge), b'multipart/form-data; boundary="' + edge + b'"'
    assert peek(body, content_type) == Envelope("old")
    parts[min(place, len(parts) - 1)] = field(b"model", "nëw".encode())
    assert with_model(body, content_type, "nëw") == form(*parts, edge=edge)


@settings(max_examples=150, deadline=None)
@given(st.text('-XyZ\r\n :;="abmodel', max_size=120).map(str.encode))
def test_no_bytes_raise(body):
    peek(body, TYPE)
    with_model(body, TYPE, "m")
    boundary(body)
