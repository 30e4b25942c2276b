"""Bytes of one connection in, requests of the hot shape out, one at a time; without I/O (RFC 9112, 6 and 9.3.2).

Decides where a message ends and what of the bytes belongs to the next one. What is odd stays in `held`, untouched, for
somebody else to read. Refuses to know what follows from it, and how long it may take.
"""

from __future__ import annotations

import enum

from sidecar.core.hot_head import HotHead, Pattern, may_become_hot, read_hot_head

# A larger one costs so much anyway that the share of the general lane does not show, and its flow control is better.
MAX_HOT_BODY_BYTES = 1024 * 1024
# A head of 4 KiB comes in three packets where frames have 1500 bytes. One in more pieces is not in a hurry.
_MAX_HEAD_PIECES = 4
_MAX_PATTERN_BYTES = 4 * 1024  # kept for each connection, a few times over


class Taken(enum.Enum):
    """What came of taking the next request."""

    REQUEST = enum.auto()  # its head is here; `missing` bytes of its body are not
    PART = enum.auto()  # of a head that may still become a hot one
    ODD = enum.auto()


class Intake:
    """Reads one connection. `held`: what has come and is not taken; `head`: of the request taken last."""

    __slots__ = ("_head_pieces", "_pattern", "_pieces", "head", "held", "missing")

    head: HotHead

    def __init__(self) -> None:
        self.held = b""
        self.missing = 0
        self._head_pieces = 0  # in which the head came that is not complete
        self._pattern: Pattern | None = None
        self._pieces: list[bytes] = []

    def __repr__(self) -> str:
        return f"Intake({len(self.held)} bytes held, {self.missing} missing)"

    def take(self, data: bytes) -> Taken:
        """Take the next head, and what is here of its body, from what is held and `data` behind it."""
        if self.held:
            data = self.held + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.held = data
            self._head_pieces += 1
            return Taken.PART if self._head_pieces <= _MAX_HEAD_PIECES and may_become_hot(data) else Taken.ODD
        head = self._read(data[:end])
        length = MAX_HOT_BODY_BYTES + 1 if head is None else head.length or 0
        if head is None or length > MAX_HOT_BODY_BYTES:
            self.held = data
            return Taken.ODD
        self.head = head
        self._head_pieces = 0
        start = end + 4
        end = start + length
        self._pieces = [data[start:end]]
        self.held = data[end:]
        self.missing = max(0, end - len(data))
        return Taken.REQUEST

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

    def body(self) -> bytes:
        """The body of the request taken last, once: it is not kept here any longer."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, raw: bytes) -> HotHead | None:
        head = None if self._pattern is None else self._pattern.match(raw)
        if head is None:
            head = read_hot_head(raw)
            if head is not None and len(raw) <= _MAX_PATTERN_BYTES:
                self._pattern = Pattern(raw, head)
        return head
