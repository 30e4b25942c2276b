"""One answer as the cache keeps it: a row of bytes, the same in memory and in a file, and the head it is sent with
again.

A row holds what the caller needs and nothing else: the answer, its content type, who gave it, and when. Headers that
spoke of that moment (rate limits, request ids, dates) are not kept. No secret and no request is in it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sidecar.core.cache_key import Lookup
from sidecar.core.cache_shapes import is_convertible
from sidecar.core.chat_stream import replayed
from sidecar.core.http import Header
from sidecar.core.limits import SECOND, Usage

CONTENT_TYPE = b"content-type"
EVENTS = b"text/event-stream; charset=utf-8"
# what tells who answered, of the head of an answer that is kept or shared
_SERVED_BY = frozenset({b"x-sidecar-provider", b"x-sidecar-model", b"x-sidecar-key", b"x-sidecar-dropped"})
_FRAMING = frozenset({CONTENT_TYPE, b"content-encoding", b"content-language", b"vary"})
MISS: Header = (b"x-sidecar-cache", b"miss")
BYPASS: Header = (b"x-sidecar-cache", b"bypass")
_HIT: list[Header] = [(b"x-sidecar-attempts", b"0"), (b"x-sidecar-wait-ms", b"0"), (b"x-sidecar-cache", b"hit")]


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An answer. `asked`: the model as the caller named it; `served_by`: the headers that tell who answered."""

    asked: str
    stored_ns: int
    input_tokens: int
    output_tokens: int
    content_type: bytes
    served_by: list[tuple[bytes, bytes]]
    body: bytes


class _Asked(msgspec.Struct, array_like=True, gc=False):
    """The beginning of a row, which is all that accounting needs."""

    asked: str


class Told(NamedTuple):
    """An answer as a caller gets it."""

    head: list[Header]
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode
_decode_asked = msgspec.msgpack.Decoder(_Asked).decode


def row_of(entry: Entry) -> bytes:
    """The row of an entry."""
    return bytes(memoryview(_encode(entry)))  # a copy of exactly its size: the first is the rest of a larger buffer


def entry_of(row: bytes) -> Entry | None:
    """The entry of a row; None where it is none."""
    try:
        return _decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def asked_of(row: bytes) -> str:
    """The model that the row's request named, '' where it named none."""
    return _decode_asked(row).asked


def made(model: str | None, now_ns: int, head: list[Header], kept: tuple[bytes, bytes], usage: Usage | None) -> Entry:
    """An entry of an answer that came now. `head`: as its caller got it; `kept`: content type and body."""
    spent = usage or Usage(0, 0)
    tells = [header for header in head if header[0] in _SERVED_BY]
    return Entry(model or "", now_ns, spent.input_tokens, spent.output_tokens, kept[0], tells, kept[1])


def told(entry: Entry, asked: Lookup, now_ns: int, request_id: str) -> Told | None:
    """The answer to a request that asks for what is kept; None where it cannot be told in the way that is asked."""
    content_type, body = entry.content_type, entry.body
    if asked.is_streamed and is_convertible(asked.shape):
        stream = replayed(body, asked.includes_usage)
        if stream is None:
            return None
        content_type, body = EVENTS, stream
    age_s = max(0, now_ns - entry.stored_ns) // SECOND
    return Told([(CONTENT_TYPE, content_type), *entry.served_by, *_hit(age_s, request_id)], body)


def shared_head(head: list[Header], request_id: str) -> list[Header]:
    """The head of an answer under way, for one who did not ask first: less what is about the first one's request."""
    kept = [header for header in head if header[0] in _FRAMING or header[0] in _SERVED_BY]
    return kept + _hit(0, request_id)


def _hit(age_s: int, request_id: str) -> list[Header]:
    return [*_HIT, (b"age", b"%d" % age_s), (b"x-request-id", request_id.encode("ascii"))]
