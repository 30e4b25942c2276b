"""What a stream of events tells in passing: first content, errors, the end, usage. Bytes in, nothing changed.

A stream is *committed* by its first content, reasoning, tool or finish delta: until then another provider may still
answer instead. What precedes content (comments, pings, a role, ids, filters) does not commit; what is of no known shape
and no error does. Once committed, a chunk that is one more piece of content is known by a glance; and one that differs
from it in the text alone (core/likeness.py) by less than that. Knows no socket and buffers one unfinished event, never
more than a MiB of it.
WHATWG HTML, "Server-sent events"; providers.md sections 2.7, 3, 8, 10, 11, 13.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.events import FAILURE, Meaning, identity, is_plain, meaning, read
from sidecar.core.likeness import Likeness, likeness
from sidecar.core.limits import Usage
from sidecar.core.usage import from_event

# an event above this (an image in base64) is content, and is passed on unread
MAX_EVENT_BYTES: Final = 1 << 20
_MAX_LESSONS: Final = 16  # for whoever puts something else into each event, it is not worth trying on
_LINE_BREAKS: Final = 4  # that may stand at the end of an event not known to have ended

# two line ends in a row, whichever of LF, CR and CRLF they are; a LF that is left over reads as one more empty line
_BLANK_LINES: Final = (b"\n\n", b"\n\r", b"\r\r")
_WHOLE_ENDS: Final = (b"\n\n", b"\n\r\n", b"\r\r")


class Tap:
    """Watches one stream.

    `committed`: content was seen. `error`: the data of the first event that told of an error. `finished`: a reason to
    finish or an end marker was seen; `done`: the end marker itself. `usage`: as last reported. `malformed`: an event
    before the commit was not JSON. `response_id`: the first id told. `is_known`: its shape is one whose end is known.
    """

    __slots__ = (
        "_has_reason",
        "_is_skipping",
        "_lessons",
        "_like",
        "_pending",
        "committed",
        "done",
        "error",
        "finished",
        "is_known",
        "malformed",
        "response_id",
        "usage",
    )

    def __init__(self) -> None:
        self.committed = False
        self.error: bytes | None = None
        self.finished = False
        self.done = False
        self.usage: Usage | None = None
        self.malformed = False
        self.response_id: str | None = None
        self.is_known = False
        self._pending = bytearray()
        self._is_skipping = False
        self._has_reason = False
        self._like: Likeness | None = None  # the event that was glanced at last
        self._lessons = _MAX_LESSONS

    def __repr__(self) -> str:
        names = ("committed", "finished", "done", "malformed")
        said = [name for name in names if getattr(self, name)] + (["error"] if self.error is not None else [])
        return f"<Tap {' '.join(said) or 'nothing yet'}, {len(self._pending)} bytes pending>"

    @property
    def empty(self) -> bool:
        """Whether it ended without content and without a reason, or with `stop` and no output: no answer, a failure."""
        return self.finished and not self.committed and (not self._has_reason or self.usage is not None)

    @property
    def is_between_events(self) -> bool:
        """Whether the last event has ended, so that something may be put in before the next."""
        return not self._pending and not self._is_skipping

    @property
    def ends_ill(self) -> bool:
        """Whether the stream would end without a word, were it to end here: SDKs take no flat error for one."""
        return not self.finished if self.error is None else b'"error"' not in self.error

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the stream, however they are cut."""
        if not self._pending:
            if self._like is not None and self._like.has(chunk):
                return
            if not chunk.endswith(_WHOLE_ENDS):
                chunk = self._whole_events(chunk)
        else:
            chunk = self._whole_events(chunk)
        if self._is_skipping or not (self.committed and is_plain(chunk)):
            self._inspect(chunk)
        elif self._lessons:
            self._lessons -= 1
            self._like = likeness(chunk)

    def knows(self, data: bytes) -> bool:
        """Whether it is one whole chunk of a chunked body with one more piece of content, of which nothing is to be
        noted; else it is to be fed without its framing."""
        return self._like is not None and not self._pending and self._like.has_chunk(data)

    def feed_eof(self) -> None:
        """The stream is over: an event without its empty line counts as well."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._inspect(rest)

    def _whole_events(self, chunk: bytes) -> bytes:
        """The events that have ended; the one that has not is kept for the next call."""
        pending = self._pending
        start = max(0, len(pending) - 1)
        pending += chunk
        end = max(pending.rfind(blank, start) for blank in _BLANK_LINES) + 2
        if end < 2:
            self._bound_pending()
            return b""
        if pending.startswith(b"\n", end):
            end += 1
        whole = bytes(pending[:end])
        del pending[:end]
        self._bound_pending()
        return whole

    def _bound_pending(self) -> None:
        if len(self._pending) > MAX_EVENT_BYTES + _LINE_BREAKS:
            self.committed = True
            self._is_skipping = True
            del self._pending[:-1]  # the last byte may be half an empty line

    def _inspect(self, block: bytes) -> None:
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = block.split(b"\n\n")
        if self._is_skipping and block:
            del events[0]
            self._is_skipping = False
        for event in events:
            if event and not (self.committed and is_plain(event)):
                self._look(event)

    def _look(self, event: bytes) -> None:
        if len(event) > MAX_EVENT_BYTES:
            self.committed = True
            return
        name, data = _name_and_data(event)
        if not data:
            return
        if data == b"[DONE]":
            self._end()
            return
        said = read(data)
        if said is None and name != b"error":
            self.malformed = self.malformed or not self.committed
            return
        if b'usage"' in data or b"usageMetadata" in data:
            self.usage = _merged(self.usage, from_event(data))
        if said is not None and self.response_id is None:
            self.response_id = identity(said)
        self._note(FAILURE if said is None or name == b"error" else meaning(said), data)

    def _note(self, said: Meaning, data: bytes) -> None:
        self.is_known = self.is_known or said.is_known
        self.finished = self.finished or said.finishes
        self._has_reason = self._has_reason or said.finishes
        self.done = self.done or said.is_last
        if said.fails:
            self.error = data if self.error is None else self.error
        elif said.commits or (self._stopped_bare() and self.usage is not None and self.usage.output_tokens > 0):
            self.committed = True

    def _end(self) -> None:
        self.is_known = self.finished = self.done = True
        # no usage came that says otherwise
        if self._stopped_bare() and self.usage is None:
            self.committed = True

    def _stopped_bare(self) -> bool:
        """Whether it finished without content so far: an answer only if its usage, or nothing, says otherwise."""
        return self._has_reason and self.error is None


def _name_and_data(event: bytes) -> tuple[bytes, bytes]:
    """The fields `event` and `data` of one event, its lines ended by LF; comments and other fields are left out."""
    if event.startswith(b"data:") and b"\n" not in event:
        return b"", event[5:].strip()
    name = b""
    data: list[bytes] = []
    for line in event.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.strip()
    return name, b"\n".join(data).strip()


def _merged(before: Usage | None, now: Usage | None) -> Usage | None:
    """Counts only grow along a stream, and Anthropic tells input and output in different events."""
    if before is None or now is None:
        return now or before
    return now.at_least(before)
