"""The lines of a watch of the Kubernetes API: what changed, how far we have seen, and when to begin anew.

A watch goes on from the last resourceVersion seen; a server that has forgotten that far back says 410, as the status of
the answer or as an event of its own, and then everything is read again. Objects are not taken from events: whoever is
woken reads what is there now, so an event that was lost or came twice does no harm.
"""

from __future__ import annotations

import msgspec

GONE = 410
_MOST_HELD = 8 * 1024 * 1024  # bytes without a line end; no object of ours comes near it


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    code: int = 0
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    object: _Object


class WatchEvent(msgspec.Struct, frozen=True):
    """One line. `version`: seen up to here ("" unknown). `error`: an HTTP status, 0 for none."""

    is_change: bool
    version: str = ""
    error: int = 0
    message: str = ""


_DECODER = msgspec.json.Decoder(_Event)


def read_event(line: bytes) -> WatchEvent:
    """What a line says; one that cannot be read is an error 500, after which the watch is made anew."""
    try:
        event = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return WatchEvent(False, "", 500, f"not a watch event: {error}")
    if event.type == "ERROR":
        return WatchEvent(False, "", event.object.code or 500, event.object.message)
    return WatchEvent(event.type != "BOOKMARK", event.object.metadata.resource_version)


class Lines:
    """Cuts a stream of bytes into lines, however the bytes come."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends; empty ones left out. ValueError for one without end."""
        self._held += piece
        *whole, rest = self._held.split(b"\n")
        if len(rest) > _MOST_HELD:
            raise ValueError("a watch event without end")
        self._held = bytearray(rest)
        return [bytes(line) for line in whole if line.strip()]
