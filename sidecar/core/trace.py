"""The context of a trace on the wire, in both directions: what a caller sent, and what its providers get instead.

W3C Trace Context, sections 3.2 and 3.3. The caller's own line never goes on beside ours: two would be none. Works on
heads as they are sent, so that what is kept of a head (outgoing.py) holds no trace. Refuses to know the SDK.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sidecar.core.candidate import Candidate
from sidecar.core.http import Header
from sidecar.core.limits import Usage
from sidecar.core.outcomes import Outcome

_PARENT, _STATE = b"traceparent", b"tracestate"


class End(NamedTuple):
    """How an attempt ended, at `at_ns`. `status`: None when none came; `usage`: as it was reported, if it was."""

    at_ns: int
    outcome: Outcome
    status: int | None
    usage: Usage | None


class Trace(Protocol):
    """What a request's record holds while requests are traced. `attempt` is whatever names one: the same at its end."""

    def attempt_began(self, attempt: object, candidate: Candidate, head: bytes, now_ns: int) -> bytes:
        """It is about to be sent, with this head; the head it is to be sent with."""

    def attempt_ended(self, attempt: object, end: End) -> None:
        """It is over; harmless when it never began."""


def carrier(headers: list[Header]) -> dict[str, str]:
    """The context that a caller sent, for a propagator; empty without one. Two parents are none (section 3.2.2)."""
    parents = [value for name, value in headers if name == _PARENT]
    if len(parents) != 1:
        return {}
    states = [value.decode("latin-1") for name, value in headers if name == _STATE]
    found = {"traceparent": parents[0].decode("latin-1")}
    return found | {"tracestate": ",".join(states)} if states else found


def context_lines(trace_id: int, span_id: int, flags: int, state: str) -> bytes:
    """A context as lines of a head. `state`: the value of tracestate, empty for none."""
    lines = f"traceparent: 00-{trace_id:032x}-{span_id:016x}-{flags:02x}\r\n"
    return (lines + f"tracestate: {state}\r\n" if state else lines).encode("ascii")


def carrying(head: bytes, lines: bytes) -> bytes:
    """A head, which ends with its empty line, with these lines in the place of the context it may hold."""
    if b"\r\ntrace" in head:
        kept = [
            line for line in head[:-2].splitlines(keepends=True) if line.partition(b":")[0] not in (_PARENT, _STATE)
        ]
        head = b"".join(kept) + b"\r\n"
    return head[:-2] + lines + b"\r\n"
