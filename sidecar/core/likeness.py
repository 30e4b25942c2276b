"""Events of a stream that differ in their text alone: what one of them amounts to, the others do as well.

Most events of a stream are the same bytes but for one string, the piece of content. One that was read in full makes a
pattern of what stands before that string and behind it; the next one is compared with it, which costs a third of
reading it. Only a text that cannot end its string or its line may differ: no quote, backslash or line break, so that
all other members are the same, byte for byte. Does not know what an event means, nor which members matter: the strings
that may differ are those that nobody decides anything by. RFC 8259, 7; WHATWG HTML, 9.2.5.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.chunks import SIZE_LINES

_QUOTE, _BACKSLASH, _LF, _CR = b'"\\\n\r'  # as numbers: to look for bytes in bytes costs ten times as much
_MAX_BYTES: Final = 4096  # of an event that is kept as a pattern
# A quote before a letter opens a string, so this is a member of the event and never a part of some text: there, each
# quote would have a backslash before it.
_TEXT: Final = re.compile(rb'"(?:content|reasoning|reasoning_content|text)":"([^"\\\r\n]*+)"')


class Likeness:
    """`before` and `behind` the text that may differ; `tail`: the same as the end of a chunk."""

    __slots__ = ("before", "behind", "tail")

    def __init__(self, before: bytes, behind: bytes) -> None:
        self.before: Final = before
        self.behind: Final = behind
        self.tail: Final = behind + b"\r\n"

    def __repr__(self) -> str:
        return f"<Likeness {self.before!r} ... {self.behind!r}>"

    def has(self, event: bytes) -> bool:
        """Whether it is the same but for its text."""
        return event.startswith(self.before) and event.endswith(self.behind) and self._has_text(event, 0, self.behind)

    def has_chunk(self, data: bytes) -> bool:
        """Whether it is one whole chunk, framing and all, that holds the same but for its text."""
        length = len(data)
        if length >= len(SIZE_LINES):
            return False
        line = SIZE_LINES[length]
        start = len(line)
        if not (data.startswith(line) and data.startswith(self.before, start) and data.endswith(self.tail)):
            return False
        return self._has_text(data, start, self.tail)

    def _has_text(self, event: bytes, start: int, end: bytes) -> bool:
        begin, ends_at = start + len(self.before), len(event) - len(end)
        if ends_at < begin:
            return False  # what stands before and behind the text overlaps
        text = event[begin:ends_at]
        return _QUOTE not in text and _BACKSLASH not in text and _LF not in text and _CR not in text


def likeness(event: bytes) -> Likeness | None:
    """That of a whole event of one line of data, with its empty line; None: others are not to be known by it."""
    if len(event) > _MAX_BYTES or not event.startswith(b"data: ") or event.find(b"\n") != len(event) - 2:
        return None
    found = _TEXT.search(event)
    return None if found is None else Likeness(event[: found.start(1)], event[found.end(1) :])
