"""A stream after its commit, piece by piece: looked at, stripped where that is asked for, and pushed to the caller.

All of it happens in the turn of the loop in which a piece comes (`upstream.response.Response.flow`), without a task
being woken. What it means that a stream ends, breaks or stalls is `relay`'s to say.
"""

from __future__ import annotations

from sidecar.core.sse import Tap
from sidecar.core.usage_strip import UsageStrip
from sidecar.interfaces import ClientGone, Reply
from sidecar.upstream.response import Taker


class Flow(Taker):
    """A stream that flows."""

    __slots__ = ("_push", "_strip", "_tap")

    def __init__(self, tap: Tap, reply: Reply, strip: UsageStrip | None) -> None:
        self._tap = tap
        self._push = reply.push
        self._strip = strip

    def __repr__(self) -> str:
        return f"<Flow {self._tap!r}>"

    def take_chunk(self, data: bytes) -> bool | None:
        """Take input as it came, if it is one whole chunk of which nothing is to be noted or changed, and say whether
        to go on; None: it is not, and was not taken."""
        if self._strip is not None or not self._tap.knows(data):
            return None
        try:
            return self._push(data, True)
        except ClientGone:
            return False  # whoever waits for the next piece is being cancelled, or is told when it writes that

    def take(self, piece: bytes, framed: bytes | None) -> bool:
        """Take a piece of the body, `framed` as whole chunks where it came so; whether to go on."""
        self._tap.feed(piece)
        fitted = piece if self._strip is None else self._strip.feed(piece)
        try:
            if fitted is piece and framed is not None:
                return self._push(framed, True)
            return not fitted or self._push(fitted, False)
        except ClientGone:
            return False  # as above
