"""aiohttp's request parser with two things it lacks: a cap on a head as a whole, and word to a body that broke off.

aiohttp bounds each line but not their sum, nor what surrounds the chunks of a body; and when a body's framing breaks,
whoever waits for the rest is not told. Decides about bytes alone: what is answered is for connection.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import http_exceptions
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader

from sidecar.edge.head import MAX_HEAD_BYTES

# Room for the framing of chunks beside a body (its trailer too, which the parser keeps in memory).
_FRAMING_SPARE_BYTES = 1024 * 1024
_FRAMING_FACTOR = 4


class HeadTooLarge(http_exceptions.HttpProcessingError):
    """The bytes of one head exceed the cap, wherever in it they are."""


class WatchedParser:
    """aiohttp's request parser, counting the bytes of the head in progress and telling a body when it broke."""

    def __init__(self, parser: HttpRequestParser) -> None:
        self._parser = parser
        self._body: StreamReader | None = None
        self._framing_bytes = 0
        self.head_bytes = 0  # of a head that is not complete
        self.pause_reading = parser.pause_reading
        self.message_consumed = parser.message_consumed
        self.set_upgraded = parser.set_upgraded
        self.feed_eof = parser.feed_eof

    def feed_data(self, piece: bytes) -> tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        """Parse some more; raises HttpProcessingError."""
        body = self._body if self._body is not None and not self._body.is_eof() else None
        before = body.total_bytes if body is not None else 0
        try:
            messages, upgraded, tail = self._parser.feed_data(piece)
            if messages:
                self._body = messages[-1][1]
                self.head_bytes = self._framing_bytes = 0
            elif body is None:
                self.head_bytes += len(piece)
                if self.head_bytes > MAX_HEAD_BYTES:
                    raise HeadTooLarge(code=431)
            else:
                self._framing_bytes += len(piece) - (body.total_bytes - before)
                if self._framing_bytes > _FRAMING_SPARE_BYTES + _FRAMING_FACTOR * body.total_bytes:
                    raise http_exceptions.TransferEncodingError("more framing than body")
        except http_exceptions.HttpProcessingError as error:
            if body is not None:
                body.set_exception(error)
            raise
        return messages, upgraded, tail
