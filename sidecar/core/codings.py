"""Content codings (RFC 9110, 8.4): a body without its gzip or deflate, within bounds.

Decides what can be read of a packed body and what cannot: br and zstd are no part of the standard library, and several
codings on top of each other are not looked into. Refuses to know whose body it is and what follows.
"""

from __future__ import annotations

import enum
import zlib

_GZIP_OR_ZLIB = 47  # window bits: 15, and 32 to read the header (zlib manual, inflateInit2)
_RAW = -15  # `deflate` as some send it, without the zlib header


class Sealed(enum.Enum):
    """Why a body cannot be read."""

    UNKNOWN = "a coding that is not known here"
    BROKEN = "not what its coding says"
    TOO_LARGE = "too large when unpacked"


def undone(body: bytes, coding: bytes, most_bytes: int) -> bytes | Sealed:
    """The body without its coding, if that has at most so many bytes."""
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name in (b"gzip", b"x-gzip"):
        return _members(body, most_bytes)
    if name == b"deflate":
        plain, _ = _inflated(body, _GZIP_OR_ZLIB, most_bytes)
        return _inflated(body, _RAW, most_bytes)[0] if plain is Sealed.BROKEN else plain
    return Sealed.UNKNOWN


def _members(body: bytes, most_bytes: int) -> bytes | Sealed:
    """All members of a gzip file (RFC 1952, 2.2): whoever reads it next reads them all."""
    pieces: list[bytes] = []
    while body or not pieces:
        plain, body = _inflated(body, _GZIP_OR_ZLIB, most_bytes)
        if isinstance(plain, Sealed):
            return plain
        pieces.append(plain)
        most_bytes -= len(plain)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _inflated(body: bytes, window_bits: int, most_bytes: int) -> tuple[bytes | Sealed, bytes]:
    """What is packed there, and what follows it."""
    inflate = zlib.decompressobj(window_bits)
    try:
        plain = inflate.decompress(body, most_bytes + 1)  # 0 would be no bound at all
    except zlib.error:
        return Sealed.BROKEN, b""
    if len(plain) > most_bytes:
        return Sealed.TOO_LARGE, b""
    return (plain if inflate.eof else Sealed.BROKEN), inflate.unused_data
