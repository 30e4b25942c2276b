"""One answer that several callers read while it comes, each at its own pace (acceptance J3).

As long as it is kept from its first byte, whoever comes may join and gets all of it. When it grows too large for that,
nobody joins any more, and only what somebody still has to read is held: the fastest reader sets the pace of the source,
and one that is more than a MiB behind the newest piece is cut off, so that no reader holds back another and the memory
is bounded. Pure: it says when the source has to wait, and waits for nothing.
"""

from __future__ import annotations

WINDOW_BYTES = 256 * 1024  # that the source may be ahead of the fastest reader
LAG_BYTES = 1 << 20  # that a reader may be behind the source
_TAKEN_BYTES = 256 * 1024  # at once


class Reader:
    """One caller's place in the answer. `is_cut`: it fell too far behind."""

    __slots__ = ("at", "is_cut", "read_bytes")

    def __init__(self) -> None:
        self.at = 0  # the number of the next piece
        self.read_bytes = 0
        self.is_cut = False


class SharedAnswer:
    """The pieces of an answer, and who reads them. `held_bytes`: of the pieces that are held now."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._first = 0  # the number of the first piece held
        self._readers: set[Reader] = set()
        self.is_whole_so_far = True
        self.total_bytes = 0
        self.held_bytes = 0

    def __repr__(self) -> str:
        return f"<SharedAnswer {self.held_bytes} of {self.total_bytes} bytes, {len(self._readers)} readers>"

    @property
    def readers(self) -> int:
        """How many read it."""
        return len(self._readers)

    @property
    def must_wait(self) -> bool:
        """Whether the source is to give nothing more until somebody has read."""
        if self.is_whole_so_far or not self._readers:
            return False
        return self.total_bytes - max(reader.read_bytes for reader in self._readers) > WINDOW_BYTES

    def join(self) -> Reader:
        """One reader more, from the first byte. Only while `is_whole_so_far`."""
        reader = Reader()
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """One reader less."""
        self._readers.discard(reader)
        self._forget()

    def append(self, piece: bytes) -> None:
        """The next piece."""
        self._pieces.append(piece)
        self.total_bytes += len(piece)
        self.held_bytes += len(piece)
        self._forget()

    def keep_no_more(self) -> None:
        """It is too large to be kept from its first byte."""
        self.is_whole_so_far = False
        self._forget()

    def take(self, reader: Reader) -> bytes:
        """What is there for a reader, up to 256 KiB; nothing when it has read all there is, or is cut off."""
        start = reader.at - self._first
        if reader.is_cut or start >= len(self._pieces):
            return b""
        end, length = start, 0
        while end < len(self._pieces) and (end == start or length + len(self._pieces[end]) <= _TAKEN_BYTES):
            length += len(self._pieces[end])
            end += 1
        taken = self._pieces[start] if end == start + 1 else b"".join(self._pieces[start:end])
        reader.at += end - start
        reader.read_bytes += length
        self._forget()
        return taken

    def body(self) -> bytes:
        """All of it. Only while `is_whole_so_far`."""
        return b"".join(self._pieces)

    def _forget(self) -> None:
        """Let go of what nobody will read."""
        if self.is_whole_so_far:
            return
        for reader in self._readers:
            reader.is_cut = reader.is_cut or self.total_bytes - reader.read_bytes > self._lag()
        needed = [reader.at for reader in self._readers if not reader.is_cut]
        gone = min(needed, default=self._first + len(self._pieces)) - self._first
        if gone > 0:
            self.held_bytes -= sum(map(len, self._pieces[:gone]))
            del self._pieces[:gone]
            self._first += gone

    def _lag(self) -> int:
        """The fastest reader is never cut off: the source waits for it."""
        fastest = max(reader.read_bytes for reader in self._readers)
        return max(LAG_BYTES, self.total_bytes - fastest)
