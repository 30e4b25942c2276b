"""Whole chunks of a chunked body, as nearly every provider sends them: a size, the bytes, nothing else (RFC 9112, 7.1).

A piece of input that is nothing but such chunks may be passed on as it came, since it is a chunked body on the other
side as well. Everything else (a chunk that is cut, the last one, extensions, trailers, a size with leading zeros, what
is no chunk at all) is not for here: whoever asks has a parser for it. Knows nothing of what the bytes say.
"""

from __future__ import annotations

import re
from typing import Final

# one read is a few hundred KiB at most; no zero in front, so that the last chunk is never taken for one of these
_SIZE: Final = re.compile(rb"([1-9a-fA-F][0-9a-fA-F]{0,6})\r\n")
_FRAMING: Final = 4  # bytes of two line ends
# How a whole chunk begins that is so many bytes long with its framing. Where no chunk has that length, it is a line
# longer than any of them, with which none begins.
SIZE_LINES: Final = [b"\n" * 2048] * 2048
for _size in range(1, 2048 - _FRAMING - 3):
    SIZE_LINES[_size + _FRAMING + len(f"{_size:x}")] = b"%x\r\n" % _size


def content(data: bytes) -> bytes | None:
    """What the chunks hold, where the input is one or more whole chunks and not a byte more; else None."""
    if len(data) < len(SIZE_LINES) and data.startswith(line := SIZE_LINES[len(data)]) and data.endswith(b"\r\n"):
        return data[len(line) : -2]
    digits = data.find(b"\r\n", 0, 8)
    size = len(data) - digits - _FRAMING
    if digits < 1 or size < 1:
        return None
    # compared as text: a size that says anything else, or says it otherwise, does not begin the input
    if data.startswith(b"%x\r\n" % size) and data.endswith(b"\r\n"):
        return data[digits + 2 : -2]
    return _several(data)


def _several(data: bytes) -> bytes | None:
    pieces = []
    place = 0
    while place < len(data):
        match = _SIZE.match(data, place)
        if match is None:
            return None
        start = match.end()
        end = start + int(match[1], 16)
        if data[end : end + 2] != b"\r\n":
            return None
        pieces.append(data[start:end])
        place = end + 2
    return b"".join(pieces)
