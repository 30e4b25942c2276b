"""Bytes of a provider in, the parts of an answer out, without I/O (RFC 9112, 6.3).

A head like one that was seen before is recognised (core/hot_answer.py), a body of known length is a matter of
counting, and input that is nothing but whole chunks is read without llhttp (core/chunks.py), which never hears of them;
everything else is llhttp's. Both say the same of the same bytes.

It decides where an answer ends, whether another may follow on the same connection, and how much may come without
being body. It knows no socket and no time. Bodies are passed on as llhttp gives them: chunk framing removed, content
coding untouched. No line is ever assembled, so no line is too long.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpResponseParser

from sidecar.core.chunks import content as chunks_content
from sidecar.core.hot_answer import Patterns
from sidecar.core.http import Header, find
from sidecar.upstream.response import Response

# llhttp sets no limits. A head this long is an attack or a mistake: nginx stops at 32 KiB, Envoy at 60 KiB.
# Whatever is not body counts: 1xx answers, chunk extensions and trailers too.
MAX_HEAD_BYTES: Final = 64 * 1024
# what llhttp is told of a chunked answer whose head was recognised
_CHUNKED: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Reader:
    """Fills one Response after the other from the bytes of one connection."""

    __slots__ = ("_has_chunk_ended", "_headers", "_is_fresh", "_left", "_parser", "_patterns",
                 "_skips_body", "is_between", "may_reuse", "response", "unheard")  # fmt: skip

    def __init__(self, patterns: Patterns | None = None) -> None:
        """`patterns`: of the heads that the same origin was seen to send."""
        self._patterns = patterns or Patterns()
        self._is_fresh = True  # no byte of the answer has come
        self._left = 0  # bytes still owed of a body that is counted here
        self._has_chunk_ended = False  # it was the last that llhttp told of a chunked body, or its head was
        self.is_between = False  # llhttp waits for the first byte of a chunk
        self.may_reuse = False  # another answer may follow, as far as the head of this one says
        self.unheard = 0  # bytes since the last byte of a body
        self.response: Response | None = None  # the one being filled
        self._headers: list[Header] = []
        self._skips_body = False
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def begin(self, response: Response, *, skips_body: bool) -> None:
        """The next bytes are the answer to a request just sent; `skips_body` when that was a HEAD."""
        self.response = response
        self._skips_body = skips_body
        self._is_fresh = True
        self._left = 0
        self._has_chunk_ended = self.is_between = False
        self.unheard = 0

    def close(self) -> None:
        """No more bytes: let go of the parser, which holds our methods, so that no cycle waits for the collector."""
        self._parser = None
        self.response = None

    def feed(self, data: bytes) -> str | None:
        """Parse what came; what is wrong with it, or None. An answer that is complete stays so whatever follows it."""
        if self.is_between:
            content = self.whole_chunks(data)
            if content is not None:
                self.response.pieces.append(content)  # type: ignore[union-attr]  # set while an answer is read
                return None
        elif self._left:
            return self._count(data)
        if self._is_fresh:
            self._is_fresh = False
            if not self._skips_body:
                return self._begin(data)
        return self._parse(data)

    def whole_chunks(self, data: bytes) -> bytes | None:
        """What came of a body, where that is whole chunks and nothing else: it is read then. Else None, and nothing has
        happened."""
        content = chunks_content(data) if self.is_between else None
        if content is not None:
            self.unheard = 0
        return content

    def _begin(self, data: bytes) -> str | None:
        """The first bytes of an answer: its whole head as a rule."""
        response = self.response
        known = self._patterns.match(data)
        if known is None:
            wrong = self._parse(data)
            if wrong is None and response is not None and response.status == 200:
                self._patterns.learn(data)
            return wrong
        length, start = known.length, known.end
        more = len(data) - start
        if response is None or (length is None) is not known.pattern.is_chunked or more > (length or more):
            return self._parse(data)
        response.known, response.status, response.length = known, 200, length
        self.may_reuse = True
        if length is None:
            return self._parse(_CHUNKED + data[start:])
        if more:
            response.pieces.append(data[start:])
        self._left = length - more
        response.complete = not self._left
        return None

    def _count(self, data: bytes) -> str | None:
        """More of a body whose length is known."""
        self._left -= len(data)
        response = self.response
        if response is None or self._left < 0:
            self.may_reuse = False
            if response is not None:
                response.pieces.append(data[: self._left])
                response.complete = True
            self._left = 0
            return "bytes behind the answer"
        response.pieces.append(data)
        response.complete = not self._left
        return None

    def _parse(self, data: bytes) -> str | None:
        self.unheard += len(data)
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]  # never fed once closed
        except HttpParserError as error:
            self.may_reuse = False
            self.is_between = False
            return f"not HTTP: {error.__context__ or error}"
        # a size that has begun does not end in a line feed, or it has been told
        self.is_between = self._has_chunk_ended and data.endswith(b"\n")
        return "head or trailers too long" if self.unheard > MAX_HEAD_BYTES else None

    def ends_with_connection(self) -> bool:
        """Whether a body is delimited by the end of the connection: no length, and chunked is not the last coding."""
        response = self.response
        if response is None or not response.status or response.length is not None:
            return False
        coding = find(response.headers, b"transfer-encoding") or b""
        return not coding.lower().endswith(b"chunked")

    # === llhttp's callbacks; what they raise ends up as the context of the parser's error ===

    def on_message_begin(self) -> None:
        """Another head begins: the first, or one after a 1xx; behind a complete answer it is one nobody asked for."""
        if self.response is None or self.response.complete:
            raise HttpParserError("bytes behind the answer")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field. llhttp leaves trailing white space, which is not part of the value (RFC 9110, 5.5)."""
        self._headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        """The head, unless it is interim."""
        parser, response, headers = self._parser, self.response, self._headers
        assert parser is not None
        assert response is not None
        status = parser.get_status_code()
        if status < 200:
            _check_interim(status)
            return
        if self.unheard > MAX_HEAD_BYTES and sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
            raise HttpParserError("head too long")
        self.unheard = 0
        self.may_reuse = parser.should_keep_alive()
        self._headers = []  # trailers go there and are forgotten
        if response.known is not None:
            self._has_chunk_ended = True
            return  # this is what stands for it
        length = find(headers, b"content-length")
        response.length = None if length is None else int(length)
        response.headers = headers
        response.status = status
        self._has_chunk_ended = length is None and find(headers, b"transfer-encoding") == b"chunked"
        if self._skips_body:
            # llhttp cannot be told that no body follows: stop it here and give the connection up
            response.complete = True
            raise HttpParserError("answer to HEAD")

    def on_body(self, content: bytes) -> None:
        """A piece of the body."""
        self.unheard = 0
        self.response.pieces.append(content)  # type: ignore[union-attr]  # set while an answer is read

    def on_chunk_header(self) -> None:
        """A size has come."""
        self._has_chunk_ended = False

    def on_chunk_complete(self) -> None:
        """A chunk has ended, with its line end."""
        self._has_chunk_ended = True

    def on_message_complete(self) -> None:
        """The end of the answer, or of an interim one."""
        self._has_chunk_ended = False
        if self.response.status:  # type: ignore[union-attr]
            self.response.complete = True  # type: ignore[union-attr]


def _check_interim(status: int) -> None:
    """100 to 199 are skipped; 101 would hand the connection to a protocol we did not ask for."""
    if status < 100 or status == 101:
        raise HttpParserError(f"status {status}")
