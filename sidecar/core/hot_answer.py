"""Heads of answers that come again and again: the same names in the same order, with other values (RFC 9112, 4 and 5).

A provider sends one such head with nearly every answer. The first one is read by llhttp and becomes a pattern, one
regular expression, that takes the next one apart in a single step: the lines a caller may see stay as they came, and
only what somebody asks for is looked at. What is framing, or has no plain meaning, makes no pattern: such answers are
read the long way. Knows no provider; which values count is ratelimit_headers.py's to say.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.headers import is_withheld
from sidecar.core.http import Header

_MAX_HEAD_BYTES: Final = 8 * 1024  # providers behind the largest CDN send 2 KiB
_MAX_PATTERNS: Final = 8  # of one origin: its surfaces, with and without a cookie, plain and packed
_MOST_MADE: Final = 256  # whoever sends other names each time is read the long way
_STATUS: Final = re.compile(rb"HTTP/1\.1 200 [ -~]*")
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[\t ]*+([\t -~\x80-\xff]*+)")
_VALUE: Final = rb"[\t ]*+([\t -~\x80-\xff]*+)\r\n"
_LENGTH: Final = rb"[\t ]*+([0-9]{1,15}+)[\t ]*+\r\n"  # one that is to be believed
_UNSEEN: Final = rb"[\t -~\x80-\xff]*+\r\n"
# the same in every answer of the pattern: they decide how the body is to be read
_FIXED: Final = frozenset({b"content-type", b"content-encoding", b"connection"})
_ODD: Final = frozenset({b"trailer", b"upgrade"})


class Pattern:
    """One head, as a regular expression. `content_type`, `encoding`: as all these answers have them; `is_chunked`: how
    the body is framed, else by its length; `at`: which group of a match holds the value of a header."""

    __slots__ = ("_expression", "_kept", "at", "content_type", "encoding", "has_date", "has_request_id", "is_chunked",
                 "plans")  # fmt: skip

    def __init__(self, lines: list[tuple[bytes, bytes]], is_chunked: bool) -> None:
        """`lines`: name and value as sent."""
        named = {name.lower(): value for name, value in lines}
        self.content_type = named.get(b"content-type", b"").rstrip()
        encoding = named.get(b"content-encoding")
        self.encoding = None if encoding is None else encoding.rstrip()
        self.has_date = b"date" in named
        self.has_request_id = b"x-request-id" in named
        self.is_chunked = is_chunked
        self.at: dict[bytes, int] = {}
        self.plans: dict[str, object] = {}  # ratelimit_headers.py's, by dialect
        self._kept: tuple[int, ...] = ()
        self._expression = self._compiled(lines)

    def _compiled(self, lines: list[tuple[bytes, bytes]]) -> re.Pattern[bytes]:
        pieces = [rb"HTTP/1\.1 200 [ -~]*+\r\n"]
        groups, is_open = 0, False
        for raw, value in lines:
            name = raw.lower()
            is_kept = not is_withheld(name)
            if is_kept and not is_open:
                groups += 1
                self._kept += (groups,)
            pieces.append(b"(" if is_kept and not is_open else b")" if is_open and not is_kept else b"")
            is_open = is_kept
            pieces.append(re.escape(raw) + b":")
            if name in _FIXED or name == b"transfer-encoding":
                pieces.append(rb"[\t ]*+" + re.escape(value) + rb"\r\n")
            elif b"limit" in name or name == b"content-length":
                groups += 1
                self.at[name] = groups
                pieces.append(_LENGTH if name == b"content-length" else _VALUE)
            else:
                pieces.append(_UNSEEN)
        pieces.append(b")" if is_open else b"")
        return re.compile(b"".join(pieces) + rb"(?=\r\n)")

    def match(self, data: bytes) -> Known | None:
        """The head that the bytes begin with, if it is whole and of this kind."""
        match = self._expression.match(data)
        return None if match is None else Known(self, match)

    def __repr__(self) -> str:
        return f"<Pattern of {self.content_type.decode('latin-1')}, {len(self.at)} values>"


class Known:
    """A head that was recognised."""

    __slots__ = ("match", "pattern")

    def __init__(self, pattern: Pattern, match: re.Match[bytes]) -> None:
        self.pattern: Final = pattern
        self.match: Final = match

    @property
    def length(self) -> int | None:
        """content-length; None: it declares none."""
        at = self.pattern.at.get(b"content-length")
        return None if at is None else int(self.match[at])

    @property
    def end(self) -> int:
        """Where the body begins."""
        return self.match.end() + 2

    @property
    def lines(self) -> bytes:
        """The lines that a caller may see, as they came."""
        kept = self.pattern._kept
        return self.match[kept[0]] if len(kept) == 1 else b"".join([self.match[group] for group in kept])

    @property
    def headers(self) -> list[Header]:
        """All headers, as if they had been read the long way."""
        return [(name.lower(), value.rstrip()) for name, value in _LINE.findall(self.match[0])]


class Patterns:
    """The heads that one origin was seen to send."""

    __slots__ = ("_known", "_made", "_seen")

    def __init__(self) -> None:
        self._known: list[Pattern] = []
        self._seen: list[int] = []  # what was seen once, as hashes
        self._made = 0

    def match(self, data: bytes) -> Known | None:
        """The head that the bytes begin with, if it is whole and one like it was seen."""
        for at, pattern in enumerate(self._known):
            known = pattern.match(data)
            if known is not None:
                if at:
                    self._known.insert(0, self._known.pop(at))
                return known
        return None

    def learn(self, data: bytes) -> None:
        """Bytes whose head none matched, and that proved to be a good one: the second of its kind makes a pattern,
        which costs as much as a hundred such heads. One of no plain meaning makes none."""
        end = data.find(b"\r\n\r\n", 0, _MAX_HEAD_BYTES)
        lines = None if end < 0 else _plain(data[:end].split(b"\r\n"))
        if lines is None or self._made >= _MOST_MADE:
            return
        seen = hash(tuple((name, value if name.lower() in _FIXED else b"") for name, value in lines))
        if seen not in self._seen:
            self._seen = [seen, *self._seen[: _MAX_PATTERNS - 1]]
            return
        self._made += 1
        is_chunked = any(name.lower() == b"transfer-encoding" for name, _ in lines)
        self._known = [Pattern(lines, is_chunked), *self._known[: _MAX_PATTERNS - 1]]

    def __repr__(self) -> str:
        return f"<Patterns {self._known}>"


def _plain(lines: list[bytes]) -> list[tuple[bytes, bytes]] | None:
    """The fields of a head whose body is framed in one certain way, none of them twice but for cookies."""
    if not _STATUS.fullmatch(lines[0]):
        return None
    fields: list[tuple[bytes, bytes]] = []
    named: dict[bytes, bytes] = {}
    for line in lines[1:]:
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        name, value = match[1].lower(), match[2].rstrip().lower()
        if name in _ODD or (name in named and name != b"set-cookie"):
            return None
        named[name] = value
        fields.append((match[1], match[2]))
    coding, length = named.get(b"transfer-encoding"), named.get(b"content-length")
    is_framed = coding == b"chunked" if length is None else coding is None
    return fields if is_framed and named.get(b"connection", b"keep-alive") == b"keep-alive" else None
