"""Bytes of one connection in, requests of the hot shape out, one at a time; without I/O (RFC 9112, 6 and 9.3.2).

Decides where a message ends and what of the bytes belongs to the next one. What is odd stays in `held`, untouched, for
somebody else to read. Refuses to know what follows from it, and how long it may take.
"""

from __future__ import annotations

import enum
from typing import Final

from sidecar.core.hot_head import END, HotHead, Pattern, Patterns, Read, may_become_hot, read_hot_head

# A larger one costs so much anyway that the share of the general lane does not show, and its flow control is better.
MAX_HOT_BODY_BYTES: Final = 1024 * 1024
# A head of 4 KiB comes in three packets where frames have 1500 bytes. One in more pieces is not in a hurry.
_MAX_HEAD_PIECES: Final = 4


class Taken(enum.Enum):
    """What came of taking the next request."""

    REQUEST = enum.auto()  # its head is here; `missing` bytes of its body are not
    PART = enum.auto()  # of a head that may still become a hot one
    ODD = enum.auto()


# an enum's member costs a look-up through its metaclass
_REQUEST: Final = Taken.REQUEST
_PART: Final = Taken.PART
_ODD: Final = Taken.ODD


class Intake:
    """Reads one connection. `held`: what has come and is not taken; `head`: of the request taken last, and `length` of
    its body, 0 where it declares none. `patterns`: of heads seen on all connections."""

    __slots__ = ("_head_pieces", "_pattern", "_patterns", "_pieces", "head", "held", "length", "missing")

    head: HotHead

    def __init__(self, patterns: Patterns) -> None:
        self.held = b""
        self.length = 0
        self.missing = 0
        self._head_pieces = 0  # in which the head came that is not complete
        self._pattern: Pattern | None = None
        self._patterns = patterns
        self._pieces: list[bytes] = []

    def __repr__(self) -> str:
        return f"Intake({len(self.held)} bytes held, {self.missing} missing)"

    def take(self, data: bytes) -> Taken:
        """Take the next head, and what is here of its body, from what is held and `data` behind it."""
        if self.held:
            data = self.held + data
        pattern = self._pattern
        found = None if pattern is None else pattern.match(data)
        if found is None or pattern is None:
            end = data.find(END)  # which takes longer than all the rest
            if end < 0:
                self.held = data
                self._head_pieces += 1
                return _PART if self._head_pieces <= _MAX_HEAD_PIECES and may_become_hot(data) else _ODD
            raw = data[:end]
            read = read_hot_head(raw)
            if read is None:
                self.held = data
                return _ODD
            found = end + len(END), self._note(raw, read)
        else:
            self.head = pattern.head
        start, length = found
        if length > MAX_HOT_BODY_BYTES:
            self.held = data
            return _ODD
        self._head_pieces = 0
        self.length = length
        end = start + length
        have = len(data)
        self._pieces = [data[start:end]]
        self.held = data[end:] if have > end else b""
        self.missing = end - have if have < end else 0
        return _REQUEST

    def take_body(self, data: bytes) -> bool:
        """Take more of the body; whether that is all of it."""
        missing = self.missing
        if len(data) <= missing:
            self._pieces.append(data)
            self.missing = missing - len(data)
        else:
            self._pieces.append(data[:missing])
            self.held = data[missing:]
            self.missing = 0
        return not self.missing

    def begun(self) -> bytes:
        """What is here of the body, for who takes the rest of it elsewhere and then calls `complete`."""
        return b"".join(self._pieces)

    def complete(self, body: bytes) -> None:
        """That is the whole body."""
        self._pieces = [body]
        self.missing = 0

    def body(self) -> bytes:
        """The body of the request taken last, once: it is not kept here any longer."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _note(self, raw: bytes, read: Read) -> int:
        """A head that this connection has not seen: it may come again. Its content-length."""
        head, length = read
        self._pattern = self._patterns.of(raw, head)
        self.head = self._pattern.head
        return length
