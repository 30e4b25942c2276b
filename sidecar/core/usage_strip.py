"""Usage that is asked for on our own account: how a request asks, and how the answer gets rid of what that adds (B14).

Some providers report the usage of a stream only when `stream_options.include_usage` asks for it. Then the last event is
one without choices, and at OpenAI every other one has `"usage":null`. A caller that did not ask gets neither: what is
left is byte for byte what it would have got, comments, line ends and all. Whatever has another shape passes. Holds back
one unfinished event, never more than a MiB of it. providers.md sections 8, 9, 14 and 17; WHATWG HTML, 9.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from sidecar.core.outline import outline
from sidecar.core.spans import inside, members, rewritten, spliced
from sidecar.core.sse import MAX_EVENT_BYTES

_ASKING = b'{"include_usage":true}'
_FIRST_MEMBER = b'"stream_options":' + _ASKING + b","
_UNASKED = (b"false", b"null")

_MARK = b'usage"'
_NULL = b',"usage":null'
# an empty line after a line; the first `?>` keeps a CRLF from being read as two line ends
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_DATA_LINE = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?+|(?<=[\r\n]))data:([^\r\n]*+)(?:\r\n|\n|\r|\Z)")
_BLANK = (b"", b"\n", b"\r\n", b"\r")


class _Chunk(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET


_decode = msgspec.json.Decoder(_Chunk).decode


def asking(body: bytes) -> bytes:
    """A body that names a model, with `stream_options.include_usage: true`; the very same where that is not to be had.

    For callers that did not ask; what else is in their `stream_options` stays.
    """
    if b'"stream_options"' not in outline(body):
        start = inside(body)
        return body if start is None else spliced(body, start, start, _FIRST_MEMBER)
    for member in members(body):
        if member.name == "stream_options":
            value = _asking_options(body[member.value : member.end])
            return body if value is None else spliced(body, member.value, member.end, value)
    return body


def _asking_options(options: bytes) -> bytes | None:
    """The value of `stream_options`, asking; None where it is of no known shape."""
    start = inside(options)
    if start is None:
        return _ASKING if options == b"null" else None
    found = list(members(options))
    for member in found:
        if member.name == "include_usage":
            is_unasked = options[member.value : member.end] in _UNASKED
            return spliced(options, member.value, member.end, b"true") if is_unasked else None
    return spliced(options, start, start, b'"include_usage":true' + (b"," if found else b""))


class UsageStrip:
    """Takes out of one stream of chat or completions what asking for its usage put in. Bytes in, bytes out."""

    __slots__ = ("_is_passing", "_line_feed", "_pending")

    def __init__(self) -> None:
        self._pending = bytearray()  # of the unfinished event; while it passes, its last byte, which is sent
        self._is_passing = False  # within an event that is too long to be held
        self._line_feed: bytes | None = None  # after an end in CR: what becomes of a LF that belongs to it

    def __repr__(self) -> str:
        return f"<UsageStrip {len(self._pending)} bytes pending>"

    def feed(self, chunk: bytes) -> bytes:
        """The next bytes of the stream, however they are cut; what may go on now of all that came so far."""
        if not self._pending and self._line_feed is None and chunk.endswith(b"\n\n"):
            if _MARK not in chunk:
                return chunk
            if _is_line(chunk):
                return _stripped(chunk)
        return b"".join(self._split(chunk))

    def feed_eof(self) -> bytes:
        """The stream is over: what is left of it."""
        rest = b"" if self._is_passing else bytes(self._pending)
        self._pending.clear()
        return _stripped(rest)

    def _split(self, chunk: bytes) -> Iterator[bytes]:
        if self._line_feed is not None and chunk:
            if chunk.startswith(b"\n"):
                yield self._line_feed
                chunk = chunk[1:]
            self._line_feed = None
        pending = self._pending
        known = len(pending)
        pending += chunk
        done = 0
        for end in [match.end() for match in _END.finditer(pending, max(0, known - 2))]:
            kept = bytes(pending[known:end]) if self._is_passing else _stripped(bytes(pending[done:end]))
            self._is_passing = False
            yield kept
            done = end
        if done == len(pending) and pending.endswith(b"\r"):
            self._line_feed = b"\n" if kept.endswith(b"\r") else b""
        del pending[:done]
        yield self._passed(known)

    def _passed(self, known: int) -> bytes:
        """What goes on of an event that has not ended, because it is too long to be held."""
        pending = self._pending
        if self._is_passing:
            more = bytes(pending[known:])
        elif len(pending) > MAX_EVENT_BYTES:
            self._is_passing = True
            more = bytes(pending)
        else:
            return b""
        del pending[:-1]
        return more


def _stripped(event: bytes) -> bytes:
    """One event with its empty line, less what asking for usage put into it."""
    if _MARK not in event:
        return event
    place = _data_in(event)
    if place is None:
        return event
    start, end = place
    data = event[start:end]
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return event
    if chunk.choices is None or chunk.usage is msgspec.UNSET:
        return event
    if chunk.usage is None:
        return event[:start] + _without_null(data) + event[end:]
    return event if chunk.choices else _without_data(event)


def _is_line(text: bytes) -> bool:
    """Whether it is one event of one line of data, which nearly all are."""
    return (
        text.startswith(b"data:")
        and text.endswith(b"\n\n")
        and text.find(b"\n") == len(text) - 2
        and text.find(b"\r") < 0
    )


def _data_in(event: bytes) -> tuple[int, int] | None:
    """Where the data of an event stands; None where it has none or it is spread over several lines."""
    if _is_line(event):
        return 5, len(event) - 2
    found = list(_DATA_LINE.finditer(event))
    return found[0].span(1) if len(found) == 1 else None


def _without_data(event: bytes) -> bytes:
    """What is left of an event without its line of data: comments, or nothing."""
    line = _DATA_LINE.search(event)
    if line is None:
        return event
    before, after = event[: line.start()], event[line.end() :]
    return before + after if before.strip(b"\r\n") or after not in _BLANK else before


def _without_null(data: bytes) -> bytes:
    """The data of an event without its member `usage`."""
    if data.count(b'"usage"') == 1 and _NULL in data:
        return data.replace(_NULL, b"")
    found = list(members(data))
    pieces, _ = rewritten(data, found, ("usage",), {})
    return b"".join((data[: found[0].start], *pieces, data[found[-1].end :]))
