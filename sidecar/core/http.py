"""HTTP as values: what both lanes of the edge hand to the gateway, free of any library.

Names of headers are lower-case bytes, values are stripped of surrounding white space, both in the order received.
SDKs repeat their head with every request, but for the length of the body: `Notes` hold what has been made of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

Header = tuple[bytes, bytes]
Lines = list[Header] | bytes
"""The headers of an answer: one by one, or as they stand on the wire, each line with its CR LF."""


class Notes:
    """What was made of one head, for the requests that repeat it. Each note says itself whether it still holds.

    `admission`: what entrance.py decided on it; `heading`: what call.py read in it.
    """

    __slots__ = ("admission", "heading")

    def __init__(self) -> None:
        self.admission: object = None
        self.heading: object = None


class Request:
    """One request as it arrived, its body complete.

    `target` is the origin-form target exactly as received (path, `?`, query), never decoded or normalised.
    `headers` are without content-length, which says no more than `is_measured` and the body do.
    `caller`: the name of the token it came with, None where none is asked for.
    """

    __slots__ = ("body", "caller", "headers", "is_measured", "method", "notes", "target")

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self,
        method: bytes,
        target: bytes,
        headers: list[Header],
        body: bytes,
        caller: str | None = None,
        is_measured: bool = False,
        notes: Notes | None = None,
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        self.headers: Final = headers
        self.body: Final = body
        self.caller: Final = caller
        self.is_measured: Final = is_measured  # it had a content-length
        self.notes: Final = Notes() if notes is None else notes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.method, self.target, self.body))

    def _values(self) -> tuple[object, ...]:
        return self.method, self.target, self.headers, self.body, self.caller, self.is_measured


class Origin(NamedTuple):
    """Scheme, host and port: what a key is bound to (RFC 6454). `host` without brackets; `port` always explicit."""

    scheme: str
    host: str
    port: int


def listed(headers: Lines) -> list[Header]:
    """Headers one by one, names lower-case."""
    if not isinstance(headers, bytes):
        return headers
    fields = (line.partition(b":") for line in headers.split(b"\r\n")[:-1])
    return [(name.lower(), value.strip()) for name, _, value in fields]


def find(headers: list[Header], name: bytes) -> bytes | None:
    """The value of the first header called `name` (lower-case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None
