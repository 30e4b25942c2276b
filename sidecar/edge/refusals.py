"""What both lanes refuse in the same words, and which refusals end a connection.

Decides nothing about bytes; whoever holds the connection writes the answer.
"""

from __future__ import annotations

from sidecar.core.errors import Reason, Refusal
from sidecar.core.limits import SECOND
from sidecar.edge.reply import HttpReply

# What follows such a head is not to be trusted to be the next one (after CONNECT it is not even HTTP).
ENDS_CONNECTION = frozenset({Reason.INVALID_HTTP, Reason.HEADERS_TOO_LARGE, Reason.METHOD_NOT_ALLOWED})
INTERNAL = Refusal(Reason.INTERNAL, "the proxy failed on this request; its log says how")


def late_body(allowed_ns: int) -> Refusal:
    """The body was not complete in time."""
    seconds = allowed_ns / SECOND
    return Refusal(Reason.BODY_TIMEOUT, f"the body was not complete within {seconds:g} s (timeouts.client_body)")


def unfinished(reply: HttpReply) -> Refusal | None:
    """What becomes of an answer that the service left as it is: none is made up, and none is left hanging."""
    if reply.is_fresh:
        return INTERNAL
    if not reply.is_finished:
        reply.abort()
    return None
