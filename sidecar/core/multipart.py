"""The envelope of a form with files (`multipart/form-data`), and the splice of its model.

Reads the heads of the parts and the values of two short fields; what a file holds is never looked at, only skipped.
A form that cannot be read passes through as one that names no model: the provider will say what is wrong with it.
RFC 2046 section 5.1 (boundaries), RFC 7578 (forms).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.core.envelope import Envelope
from sidecar.core.errors import Reason, Refusal
from sidecar.core.spans import spliced

# bounds of what is read, far above any form of the OpenAI API: a form of a thousand parts or a part with a head of
# 9 KiB is passed on unread
_MAX_PARTS = 128
_MAX_HEAD_BYTES = 8192
_MAX_FIELD_BYTES = 1024

_BOUNDARY = re.compile(
    rb""";\s*+boundary\s*+=\s*+(?:"([0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?])"|([^\s;"]{1,70}))""",
    re.IGNORECASE,
)
_QUOTED_PARAMETER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_DISPOSITION = re.compile(rb"^content-disposition\s*+:\s*+form-data\s*+(;[^\r\n]*+)", re.IGNORECASE | re.MULTILINE)
_NAME = re.compile(rb';\s*+name\s*+=\s*+(?:"([^"]*+)"|([^\s;"]++))', re.IGNORECASE)
_FILE = re.compile(rb";\s*+filename\*?\s*+=", re.IGNORECASE)
_LINE_END = re.compile(rb"[ \t]*+\r\n")

_DUPLICATE = Refusal(Reason.MODEL_DUPLICATE, "The form has more than one field 'model'.", param="model")
_UNREAD = Envelope()


class _Part(NamedTuple):
    name: bytes
    is_file: bool
    head: int  # where its head begins
    start: int
    end: int


def peek(body: bytes, content_type: bytes) -> Envelope | Refusal:
    """Model and stream as the form's fields say; `file_bytes` is the length of all its files together.

    MODEL_DUPLICATE for a form with two models; a malformed form has an empty envelope.
    """
    parts = _parts(body, content_type)
    if parts is None:
        return _UNREAD
    models = [_text(body, part) for part in parts if part.name == b"model" and not part.is_file]
    if len(models) > 1:
        return _DUPLICATE
    streams = [_text(body, part) for part in parts if part.name == b"stream" and not part.is_file]
    return Envelope(
        model=models[0] if models else None,
        stream=(streams[-1] or "").lower() in ("true", "1") if streams else False,
        file_bytes=sum(part.end - part.start for part in parts if part.is_file),
    )


def with_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """The form with another value of its field `model`; unchanged where it has none or cannot be read."""
    for part in _parts(body, content_type) or ():
        if part.name == b"model" and not part.is_file:
            return spliced(body, part.start, part.end, model.encode())
    return body


def fields(body: bytes, content_type: bytes) -> list[tuple[bytes, bytes, bytes]] | None:
    """Name, head and content of each part, in order; None for a form that cannot be read."""
    parts = _parts(body, content_type)
    if parts is None:
        return None
    return [(part.name, body[part.head : part.start - 4], body[part.start : part.end]) for part in parts]


def boundary(content_type: bytes) -> bytes | None:
    """The boundary a content type names, or None: not a form, no boundary, or one RFC 2046 does not allow."""
    if not content_type.lower().startswith(b"multipart/form-data"):
        return None
    for match in _BOUNDARY.finditer(content_type):
        if not _is_within_quotes(content_type, match.start()):
            return match[1] or match[2]
    return None


def _is_within_quotes(text: bytes, at: int) -> bool:
    return any(quotes.start() < at < quotes.end() for quotes in _QUOTED_PARAMETER.finditer(text))


def _text(body: bytes, part: _Part) -> str | None:
    if part.end - part.start > _MAX_FIELD_BYTES:
        return None
    try:
        return body[part.start : part.end].decode()
    except UnicodeDecodeError:
        return None


def _parts(body: bytes, content_type: bytes) -> list[_Part] | None:
    name = boundary(content_type)
    if name is None:
        return None
    parts: list[_Part] = []
    start: int | None = None
    for delimiter, following in _delimiters(body, b"--" + name):
        if start is not None:
            part = _part(body, start, delimiter)
            if part is None or len(parts) == _MAX_PARTS:
                return None
            parts.append(part)
        start = following
        if following is None:
            return parts
    return None


def _delimiters(body: bytes, dash_boundary: bytes) -> Iterator[tuple[int, int | None]]:
    """Where each delimiter begins, its line break included, and where the next part does; None after the last."""
    line = b"\r\n" + dash_boundary
    at = 0 if body.startswith(dash_boundary) else body.find(line)
    while at >= 0:
        after = at + len(dash_boundary) + (2 if body.startswith(b"\r\n", at) else 0)
        if body.startswith(b"--", after):
            yield at, None
            return
        end = _LINE_END.match(body, after)
        if end:
            yield at, end.end()
            after = end.end() - 2  # the line break may belong to the next delimiter: an empty part
        at = body.find(line, after)


def _part(body: bytes, start: int, end: int) -> _Part | None:
    blank = body.find(b"\r\n\r\n", start, min(end, start + _MAX_HEAD_BYTES))
    if blank < 0:
        return None
    disposition = _DISPOSITION.search(body[start : blank + 2])
    name = _NAME.search(disposition[1]) if disposition else None
    if disposition is None or name is None:
        return None
    value = name[1] if name[1] is not None else name[2]
    return _Part(value, _FILE.search(disposition[1]) is not None, start, blank + 4, end)
