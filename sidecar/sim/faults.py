"""Faults on demand: what a simulated provider does wrong, to which requests, and how it spoils an act.

A plan is pure: `decide` takes the facts of a request and a random draw; `spoil` turns a good act into a bad one. The
shell draws and performs. Which bytes an error has is in refusals.py and statuses.py.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple

import msgspec

Kind = Literal[
    "down", "status", "stall_before_headers", "stall_after_headers", "cut", "error_event", "rate_limit_bare",
    "rate_limit", "insufficient_quota", "busy", "malformed", "empty", "slow",
]  # fmt: skip

# Played instead of an answer: the request is neither metered nor billed.
INSTEAD = frozenset(
    {"down", "status", "stall_before_headers", "rate_limit", "rate_limit_bare", "insufficient_quota", "busy"}
)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault of a plan.

    `after_chunks`: how many events of a stream are sent before it strikes (0 = the head alone); of an answer that is
    not streamed, half the body where it is not 0. `count`: how many requests it strikes, None = until cleared.
    `probability`: the share of matching requests. `model`, `key`, `path`: patterns (fnmatch) a request must match.
    `seconds`: how long a stall lasts (None = until the caller leaves), the pause before a slow answer, the wait a
    429 announces. `chunk_seconds`: the pause between the events of a slow answer. `mode`: how a connection ends:
    `rst`, `eof` (closed without the end of the body), `end` (the body ended properly, too early); for `empty`:
    `body` (no byte) or `completion` (a completion without a word); for `down`: `refuse` stops listening for
    `seconds`. `status`, `headers` and `body` replace the provider's own.
    """

    kind: Kind
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    after_chunks: Annotated[int, msgspec.Meta(ge=0)] = 1
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    seed: int | None = None
    model: str = "*"
    key: str = "*"
    path: str = "*"
    seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    chunk_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    mode: Literal["rst", "eof", "end", "refuse", "body", "completion"] | None = None
    headers: dict[str, str] = {}
    body: str | None = None


_MODES = {
    "down": ("rst", "eof", "refuse"),
    "cut": ("eof", "rst", "end"),
    "empty": ("body", "completion"),
}


def problem(fault: Fault) -> str | None:
    """What makes a fault meaningless, in words for the person who sent it; None = nothing."""
    allowed = _MODES.get(fault.kind, ())
    if fault.mode is not None and fault.mode not in allowed:
        return f"mode {fault.mode!r} is not one of {fault.kind}: {', '.join(allowed) or 'it has none'}"
    if fault.mode == "refuse" and not fault.seconds:
        return "mode 'refuse' needs `seconds` > 0: while nothing listens, nothing can be cleared over HTTP"
    if fault.kind == "status" and fault.status is None:
        return "kind 'status' needs `status`"
    return None


class Facts(NamedTuple):
    """What a plan may look at."""

    key: str
    model: str
    path: str


class FaultPlan:
    """Faults in the order they were asked for. Of several that match, each takes its own share of the draws."""

    def __init__(self) -> None:
        self._faults: list[tuple[Fault, int | None]] = []

    def __repr__(self) -> str:
        return f"<FaultPlan {[fault.kind for fault, _ in self._faults]}>"

    def add(self, fault: Fault) -> None:
        """Append a fault."""
        self._faults.append((fault, fault.count))

    def clear(self) -> None:
        """Behave from now on."""
        self._faults.clear()

    @property
    def faults(self) -> list[Fault]:
        """Those still in force."""
        return [fault for fault, _ in self._faults]

    def decide(self, facts: Facts, draw: float) -> Fault | None:
        """The fault that strikes this request, if any; `draw` is uniform in [0, 1)."""
        share = 0.0
        for place, (fault, left) in enumerate(self._faults):
            if not _matches(fault, facts):
                continue
            share += fault.probability
            if draw < share:
                self._used(place, fault, left)
                return fault
        return None

    def _used(self, place: int, fault: Fault, left: int | None) -> None:
        if left == 1:
            del self._faults[place]
        elif left is not None:
            self._faults[place] = (fault, left - 1)


def _matches(fault: Fault, facts: Facts) -> bool:
    return (
        fnmatchcase(facts.model, fault.model)
        and fnmatchcase(facts.key, fault.key)
        and fnmatchcase(facts.path, fault.path)
    )


def replaces(fault: Fault) -> bool:
    """Whether it is played instead of an answer."""
    return fault.kind in INSTEAD and not (fault.kind == "stall_before_headers" and fault.seconds is not None)


class Ending(enum.Enum):
    """How an act ends."""

    WHOLE = "whole"
    END = "end"  # the body is ended properly, though it is not complete
    EOF = "eof"  # the connection is closed within the body
    RST = "rst"  # the connection is reset
    STALL = "stall"  # nothing more comes


class Frame(NamedTuple):
    """One event of a stream, and the output tokens it delivers."""

    data: bytes
    tokens: int = 0


BROKEN_JSON = b'{"id":"chatcmpl-sim","choices":[{"index":0,"delta":{"content":"half a'


def spoiled_frames(fault: Fault, frames: Sequence[Frame], error: Frame) -> tuple[list[Frame], Ending]:
    """What is left of a stream, and how it then ends; `error` is the event by which that provider fails."""
    sent = list(frames[: fault.after_chunks])
    match fault.kind:
        case "cut":
            return sent, Ending(fault.mode or "eof")
        case "error_event":
            return [*sent, error], Ending.END
        case "malformed":
            return [*sent, Frame(b"data: " + BROKEN_JSON + b"\n\n"), *frames[fault.after_chunks + 1 :]], Ending.WHOLE
        case "stall_after_headers" if fault.seconds is None:
            return sent, Ending.STALL
        case "empty" if fault.mode != "completion":
            return [], Ending.END
        case _:
            return list(frames), Ending.WHOLE


def spoiled_body(fault: Fault, body: bytes, error: bytes) -> tuple[bytes, Ending]:
    """The same for a body sent whole. What is shorter than the body breaks off after its head told the full length."""
    part = body[: len(body) // 2] if fault.after_chunks else b""
    match fault.kind:
        case "cut":
            return part, Ending(fault.mode or "eof")
        case "error_event":
            return error, Ending.WHOLE
        case "malformed":
            return BROKEN_JSON, Ending.WHOLE
        case "stall_after_headers" if fault.seconds is None:
            return part, Ending.STALL
        case "empty" if fault.mode != "completion":
            return b"", Ending.WHOLE
        case _:
            return body, Ending.WHOLE
