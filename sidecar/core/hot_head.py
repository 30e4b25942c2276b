"""Heads of the hot shape, read without any doubt; every other head is left to the general lane (RFC 9112, 2 to 6).

HTTP/1.1 in origin form, at most a content-length, no name twice, visible ASCII alone. What two readers could take in
two ways is not judged but passed by: an odd head costs time, never safety. SDKs repeat their head with every request,
but for the length of the body; a head that comes again so is recognised as a whole instead of being read again.
Refuses to know which errors there are: a head is hot, or it is None.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from sidecar.core.http import Header, Notes

# SDKs send 2 KiB. Half of what the general lane takes, so that no way of counting makes such a head too large there.
MAX_HOT_HEAD_BYTES: Final = 32 * 1024
_METHODS: Final = frozenset({b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS"})
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # RFC 9110, 5.6.2
_TEXT: Final = b"\t" + bytes(range(0x20, 0x7F))
# Framing, or meaning to the connection, beyond what is read here; llhttp takes proxy-connection for connection.
_ODD_NAMES: Final = frozenset(
    {b"", b"transfer-encoding", b"expect", b"upgrade", b"proxy-connection", b"sec-websocket-key1"}
)
_KEEPS_ALIVE: Final = {None: True, b"keep-alive": True, b"close": False}
_MAX_LENGTH_DIGITS: Final = 10
_ZERO: Final = 0x30
_NINE: Final = 0x39
END: Final = b"\r\n\r\n"  # of every head
_MAX_PATTERNS: Final = 64  # applications have a few; tenants of one application one each
_MAX_PATTERN_BYTES: Final = 4 * 1024  # of a head; what is made of it is a few times as large
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*", re.IGNORECASE)
# The last line of a head that is on its way: a name, perhaps its value, perhaps the first half of the line's end.
_BEGUN_LINE: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+(?::[\t -~]*)?)?\r?")


class HotHead:
    """A head of the hot shape, without its content-length (see `HotHeads.read`). `is_measured`: it has one."""

    __slots__ = ("headers", "is_measured", "keeps_alive", "method", "notes", "target")

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self, method: bytes, target: bytes, headers: list[Header], is_measured: bool, keeps_alive: bool, notes: Notes
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        self.headers: Final = headers
        self.is_measured: Final = is_measured
        self.keeps_alive: Final = keeps_alive
        self.notes: Final = notes


Read = tuple[HotHead, int]
"""A head and its content-length, 0 where it declares none. Plain, for one is made for each request."""


def read_hot_head(head: bytes) -> Read | None:
    """The head that ends before `CR LF CR LF`, or None when it is not of the hot shape."""
    return _read(head.split(b"\r\n"), is_whole=True) if len(head) <= MAX_HOT_HEAD_BYTES else None


def may_become_hot(start: bytes) -> bool:
    """Whether the beginning of a head can still become a hot one; if not, there is nothing to wait for."""
    *lines, last = start.split(b"\r\n")
    if not lines or len(start) > MAX_HOT_HEAD_BYTES or not _BEGUN_LINE.fullmatch(last):
        return False
    return _read(lines, is_whole=False) is not None


def _read(lines: list[bytes], *, is_whole: bool) -> Read | None:
    request = lines[0].split(b" ")
    # bare CR and LF are no text either
    if len(request) != 3 or b"".join(lines).translate(None, _TEXT):
        return None
    method, target, version = request
    if method not in _METHODS or version != b"HTTP/1.1" or target[:1] != b"/" or b"\t" in target:
        return None
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        headers.append((name.lower(), value.strip()))
    return _accept(method, target, headers, is_whole=is_whole)


def _accept(method: bytes, target: bytes, headers: list[Header], *, is_whole: bool) -> Read | None:
    fields = dict(headers)
    # a name twice can be a list (RFC 9110, 5.3), but is an attack when it is that of a length or a host
    if len(fields) != len(headers) or b"".join(fields).translate(None, _TOKEN):
        return None
    if not fields.keys().isdisjoint(_ODD_NAMES) or (is_whole and b"host" not in fields):
        return None
    connection: bytes | None = fields.get(b"connection")
    length = fields.get(b"content-length")
    keeps_alive = _KEEPS_ALIVE.get(connection if connection is None else connection.lower())
    if keeps_alive is None or (length is not None and not _is_length(length)):
        return None
    kept = [header for header in headers if header[0] != b"content-length"]
    return HotHead(method, target, kept, length is not None, keeps_alive, Notes()), int(length or 0)


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS


class Pattern:
    """A hot head, to be recognised when it comes again, with the same length of the body or another."""

    __slots__ = ("_after", "_before", "_before_bytes", "_rest", "_rest_bytes", "head")

    def __init__(self, raw: bytes, head: HotHead) -> None:
        self.head = head
        self._before, self._after = raw, b""  # around the digits of the length
        length = _LENGTH.search(raw) if head.is_measured else None
        if length is not None:
            end = raw.find(b"\r\n", length.end())
            value_bytes = len(raw[length.end() : end if end >= 0 else None].rstrip())
            self._before, self._after = raw[: length.end()], raw[length.end() + value_bytes :]
        self._before_bytes = len(self._before)
        self._rest = self._after + END
        self._rest_bytes = len(self._rest)

    def __repr__(self) -> str:
        return f"Pattern({self._before_bytes}+{len(self._after)} bytes)"

    @property
    def name(self) -> tuple[bytes, bytes]:
        """What it recognises: two of one name are one."""
        return self._before, self._after

    def match(self, data: bytes) -> tuple[int, int] | None:
        """Of bytes that begin with the head that was seen, and its blank line: how many these are, and its
        content-length (0: none). None says nothing about them."""
        if not data.startswith(self._before):
            return None
        at = start = self._before_bytes
        length = 0
        if self.head.is_measured:
            most = min(len(data), start + _MAX_LENGTH_DIGITS)
            while at < most and _ZERO <= (digit := data[at]) <= _NINE:
                length = length * 10 + digit - _ZERO
                at += 1
            if at == start:
                return None
        end = at + self._rest_bytes
        return (end, length) if data[at:end] == self._rest else None


class Patterns:
    """The heads seen lately, on whichever connection: connections of one SDK share what was made of its head."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int = _MAX_PATTERNS) -> None:
        self._most = most
        self._known: OrderedDict[tuple[bytes, bytes], Pattern] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, raw: bytes, head: HotHead) -> Pattern:
        """The pattern of a head that was just read: one known already, or a new one."""
        pattern = Pattern(raw, head)
        if len(raw) > _MAX_PATTERN_BYTES:
            return pattern
        known = self._known.setdefault(pattern.name, pattern)
        self._known.move_to_end(pattern.name)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return known

    def __repr__(self) -> str:
        return f"<Patterns {len(self._known)} of {self._most}>"
