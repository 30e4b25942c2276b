"""The head of a request as aiohttp parsed it, turned into our values, or refused for its framing (RFC 9112).

aiohttp's parser has already refused two lengths, a length beside chunks, and HTTP/1.1 without Host. What is refused
here on top is what it takes and what an attacker may use to make two readers see two messages. Nothing is decoded or
normalised; the one rewrite is that of an absolute-form target, whose authority stands in for Host (9112 3.2.2).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aiohttp import web

from sidecar.core.errors import Reason, Refusal
from sidecar.core.http import Header, Notes

MAX_HEAD_BYTES = 64 * 1024  # request line and headers together; SDKs send 2 KiB, long agent histories belong in bodies
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_LINE_BYTES = 4  # colon, space, CR, LF


class Head(NamedTuple):
    """All that is known of a request before its body. `length`: content-length, which `headers` are without; None where
    it declares none."""

    method: bytes
    target: bytes
    headers: list[Header]
    length: int | None
    expects_continue: bool
    notes: Notes


def read_head(request: web.BaseRequest) -> Head | Refusal:
    """The head of a parsed request, or why a message framed like that is not taken."""
    version = tuple(request.version)
    if version not in ((1, 0), (1, 1)):
        return Refusal(Reason.INVALID_HTTP, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if request.method == "CONNECT":
        return Refusal(Reason.METHOD_NOT_ALLOWED, "this is no forward proxy; CONNECT is not served", allow="GET, POST")
    target = request.raw_path.encode("utf-8", "surrogateescape")
    headers = [(name.lower(), value) for name, value in request.raw_headers]
    if len(target) + sum(len(name) + len(value) + _LINE_BYTES for name, value in headers) > MAX_HEAD_BYTES:
        return HEAD_TOO_LARGE
    framing = _framing(headers, is_http_1_0=version == (1, 0))
    if isinstance(framing, Refusal):
        return framing
    target, headers = _origin_form(target, [header for header in headers if header[0] != b"content-length"])
    return Head(request.method.encode(), target, headers, *framing, Notes())


def _framing(headers: list[Header], *, is_http_1_0: bool) -> tuple[int | None, bool] | Refusal:
    """(content-length, whether `100 Continue` is waited for)."""
    length = None
    expects_continue = False
    for name, value in headers:
        if name == b"content-length":
            length = int(value)  # digits only, as the parser made sure
        elif name == b"transfer-encoding" and (is_http_1_0 or value.lower() != b"chunked"):
            # other codings would have to be undone here, and HTTP/1.0 knows none (RFC 9112 6.1)
            return Refusal(Reason.INVALID_HTTP, "the only transfer coding taken is `chunked`, in HTTP/1.1")
        elif name == b"expect" and not is_http_1_0:
            if value.lower() != b"100-continue":
                return Refusal(Reason.EXPECTATION_FAILED, "the only expectation met is `100-continue`")
            expects_continue = True
    return length, expects_continue


def _origin_form(target: bytes, headers: list[Header]) -> tuple[bytes, list[Header]]:
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return target, headers
    rest = match[2] if match[2].startswith(b"/") else b"/" + match[2]
    return rest, [(b"host", match[1]), *(header for header in headers if header[0] != b"host")]


HEAD_TOO_LARGE = Refusal(
    Reason.HEADERS_TOO_LARGE, f"request line and headers together may have {MAX_HEAD_BYTES} bytes, and have more"
)
