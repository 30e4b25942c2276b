"""The answers that are kept, within a cap in bytes: the one that was not asked for the longest goes first (J6).

What counts is what the process really holds for an entry: its row, its key, and the places of both in the table, as the
allocators round them. Answers under way count as well (`reserved`), so that the cap is one for all. What has changed
since it was last saved is known, and nothing that was dropped before it was saved is ever told to the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

# By measurement (bench/cache.py): the key, its node and slot in the table, the row's header, the rounding of both, and
# what lies idle between blocks of different sizes after a million of them.
ENTRY_BYTES = 360
_LARGEST_PART = 8  # of the cap: one entry must not drive out all others
MAX_ENTRY_BYTES = 4 << 20  # what is larger is not read whole anywhere (core.usage)

Dropped = Callable[[bytes], None]


def size_of(row: bytes) -> int:
    """The bytes of memory that an entry takes."""
    return len(row) + ENTRY_BYTES


class Entries:
    """Rows by key, the one asked for last at the end. `dropped` is told each row that leaves to make room.

    `is_tracked`: there is a store, so that what it lacks is to be known.
    """

    def __init__(self, max_bytes: int, dropped: Dropped) -> None:
        self._rows: OrderedDict[bytes, bytes] = OrderedDict()
        self._dropped = dropped
        self._max_bytes = max_bytes
        self._reserved = 0
        self.is_tracked = False
        self.total_bytes = 0
        self._saved: set[bytes] = set()
        self._unsaved: dict[bytes, None] = {}
        self._gone: set[bytes] = set()

    def __repr__(self) -> str:
        return f"<Entries {len(self)}: {self.total_bytes} + {self._reserved} of {self._max_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def reserved(self) -> int:
        """Bytes of answers under way."""
        return self._reserved

    @property
    def max_bytes(self) -> int:
        """The cap."""
        return self._max_bytes

    @property
    def max_entry_bytes(self) -> int:
        """The largest answer that is kept."""
        return min(MAX_ENTRY_BYTES, self._max_bytes // _LARGEST_PART)

    def resize(self, max_bytes: int) -> None:
        """Another cap from now on."""
        self._max_bytes = max_bytes
        self._trim()

    def reserve(self, more: int) -> None:
        """So many bytes more (or less) are held by answers under way."""
        self._reserved += more
        if more > 0:
            self._trim()

    def get(self, key: bytes) -> bytes | None:
        """The row, which is now the last to go."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def has(self, key: bytes, row: bytes) -> bool:
        """Whether it is this very row that is kept."""
        return self._rows.get(key) is row

    def put(self, key: bytes, row: bytes) -> bool:
        """Keep a row; whether it was kept: one that is too large is not."""
        if size_of(row) > self.max_entry_bytes:
            return False
        self.remove(key)
        self._rows[key] = row
        self.total_bytes += size_of(row)
        if self.is_tracked:
            self._unsaved[key] = None
        self._trim()
        return key in self._rows

    def remove(self, key: bytes) -> bytes | None:
        """Keep it no longer; the row, where there was one."""
        row = self._rows.pop(key, None)
        if row is not None:
            self.total_bytes -= size_of(row)
            self._unsaved.pop(key, None)
            if key in self._saved:
                self._saved.discard(key)
                self._gone.add(key)
        return row

    def clear(self) -> None:
        """Keep nothing of all this."""
        for key in list(self._rows):
            self.remove(key)

    def restore(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Take up what a process before this one saved, the newest last. What has come since then is newer."""
        for key, row in reversed(rows):
            if key in self._rows:
                self._saved.add(key)  # the next save replaces it
            elif self.total_bytes + self._reserved + size_of(row) > self._max_bytes:
                self._gone.add(key)
            else:
                self._rows[key] = row
                self._rows.move_to_end(key, last=False)
                self.total_bytes += size_of(row)
                self._saved.add(key)

    def changes(self, max_bytes: int) -> tuple[dict[bytes, bytes], list[bytes]]:
        """What the store lacks, of about `max_bytes` at most, and what it has too much."""
        changed: dict[bytes, bytes] = {}
        for key in self._unsaved:
            changed[key] = self._rows[key]
            max_bytes -= len(changed[key])
            if max_bytes <= 0:
                break
        return changed, [key for key in self._gone if key not in changed]

    def confirm(self, changed: dict[bytes, bytes], removed: list[bytes]) -> None:
        """The store has taken these changes. What happened to them in the meantime is for the next time."""
        for key, row in changed.items():
            self._gone.discard(key)
            if self._rows.get(key) is row:
                self._unsaved.pop(key, None)
                self._saved.add(key)
            elif key in self._rows:
                self._saved.add(key)
            else:
                self._gone.add(key)
        self._gone.difference_update(removed)

    def _trim(self) -> None:
        rows = self._rows
        while rows and self.total_bytes + self._reserved > self._max_bytes:
            key, row = next(iter(rows.items()))
            self.remove(key)
            self._dropped(row)
