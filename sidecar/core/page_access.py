"""How a browser comes to the status page: what its credentials mean, who may ask from another page, what it may load.

Off loopback a caller token is asked for, which a browser has no header for: it is taken as the password of HTTP Basic
(RFC 7617), under any user name, and the answer to a request without one asks for it. Pages of other sites may not use
the page's own resources (Fetch Metadata, W3C). The page runs exactly the script and style it was shipped with
(Content Security Policy Level 3, hashes). Who is let in after that decides entrance.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from sidecar.core.errors import Reason, Refusal
from sidecar.core.http import Header

CHALLENGE = 'Basic realm="sidecar: any user name, a token of auth.tokens as the password", charset="UTF-8"'
_BASIC = b"basic "
_OWN = frozenset({b"same-origin", b"none"})
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


def as_token(headers: list[Header]) -> list[Header]:
    """The headers, with the password of HTTP Basic as the token it is."""
    return [(b"x-api-key", _password(value)) if _is_basic(name, value) else (name, value) for name, value in headers]


def _is_basic(name: bytes, value: bytes) -> bool:
    return name == b"authorization" and value[: len(_BASIC)].lower() == _BASIC


def _password(value: bytes) -> bytes:
    try:
        decoded = base64.b64decode(value[len(_BASIC) :].strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded.partition(b":")[2]


def from_elsewhere(headers: list[Header]) -> Refusal | None:
    """A refusal for what another site's page loads: a picture of an event stream, say, to take the viewers' places."""
    if all(value in _OWN for name, value in headers if name == b"sec-fetch-site"):
        return None
    return Refusal(Reason.FORBIDDEN_ORIGIN, "this is for the status page alone; open /status")


def security_headers(page: bytes) -> dict[str, str]:
    """What a browser is told about the page: nothing is loaded or run but what stands in it."""
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, content in _INLINE.findall(page):
        hashes[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'")
    policy = (
        "default-src 'none'",
        "script-src " + " ".join(hashes[b"script"]),
        "style-src " + " ".join(hashes[b"style"]),
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        "content-security-policy": "; ".join(policy),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }
