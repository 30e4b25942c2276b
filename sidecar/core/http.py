"""HTTP as values: what both lanes of the edge hand to the gateway, free of any library.

Names of headers are lower-case bytes, values are stripped of surrounding white space, both in the order received.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

Header = tuple[bytes, bytes]


class Request(msgspec.Struct, frozen=True):
    """One request as it arrived, its body complete.

    `target` is the origin-form target exactly as received (path, `?`, query), never decoded or normalised.
    `caller`: the name of the token it came with, None where none is asked for.
    """

    method: bytes
    target: bytes
    headers: list[Header]
    body: bytes
    caller: str | None = None


class Origin(NamedTuple):
    """Scheme, host and port: what a key is bound to (RFC 6454). `host` without brackets; `port` always explicit."""

    scheme: str
    host: str
    port: int


def find(headers: list[Header], name: bytes) -> bytes | None:
    """The value of the first header called `name` (lower-case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None
