"""Packed bodies: what is read of them, and within which bounds."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.codings import Sealed, undone

PLAIN = b'{"model":"m","messages":[]}'


def raw_deflate(plain):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(plain) + packer.flush()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (PLAIN, b""),
        (PLAIN, b"Identity"),
        (gzip.compress(PLAIN, mtime=0), b"gzip"),
        (gzip.compress(PLAIN, mtime=0), b" X-GZIP "),
        (gzip.compress(PLAIN[:9], mtime=0) + gzip.compress(PLAIN[9:], mtime=0), b"gzip"),
        (zlib.compress(PLAIN), b"deflate"),
        (raw_deflate(PLAIN), b"deflate"),
    ],
)
def test_C9_what_can_be_read(body, coding):
    assert undone(body, coding, len(PLAIN)) == PLAIN
    if coding.strip().lower() not in (b"", b"identity"):
        assert undone(body, coding, len(PLAIN) - 1) is Sealed.TOO_LARGE


@pytest.mark.parametrize(
    ("body", "coding", "why"),
    [
        (PLAIN, b"br", Sealed.UNKNOWN),
        (PLAIN, b"zstd", Sealed.UNKNOWN),
        (gzip.compress(gzip.compress(PLAIN, mtime=0), mtime=0), b"gzip, gzip", Sealed.UNKNOWN),
        (PLAIN, b"gzip", Sealed.BROKEN),
        (gzip.compress(PLAIN, mtime=0)[:-1], b"gzip", Sealed.BROKEN),
        (gzip.compress(PLAIN, mtime=0) + b"more", b"gzip", Sealed.BROKEN),
        (b"", b"gzip", Sealed.BROKEN),
        (b"", b"deflate", Sealed.BROKEN),
        (gzip.compress(bytes(100_000_000), mtime=0), b"gzip", Sealed.TOO_LARGE),
        (gzip.compress(b"", mtime=0) * 3 + gzip.compress(bytes(2000), mtime=0), b"gzip", Sealed.TOO_LARGE),
    ],
)
def test_C9_what_cannot(body, coding, why):
    assert undone(body, coding, 1000) is why


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate", b"br", b""]), st.integers(0, 300))
def test_C9_no_body_breaks_it_and_none_grows_beyond_its_bound(body, coding, most):
    plain = undone(body, coding, most)
    assert isinstance(plain, Sealed) or not coding or len(plain) <= most
