"""The one JSON line that a request leaves.

Never a key, a prompt or an answer: labels, names, numbers and the trail of attempts only.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from sidecar.core.errors import Step
from sidecar.core.limits import SECOND
from sidecar.core.record import Record

_MILLISECOND = 1_000_000  # ns
_NAME_CHARS = 128  # a caller's model name or path may be anything; the line stays short


class Line(msgspec.Struct, omit_defaults=True):
    """The access line. Durations in milliseconds; `trail` holds the attempts that failed."""

    time: str
    id: str
    method: str
    path: str
    status: int
    outcome: str
    duration_ms: float
    model: str | None = None
    stream: bool = False
    provider: str | None = None
    target_model: str | None = None
    key: str | None = None
    attempts: int = 0
    wait_ms: float = 0
    overhead_ms: float | None = None
    first_content_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    dropped: tuple[str, ...] = ()
    trail: tuple[Step, ...] = ()
    caller: str | None = None
    cache: str | None = None


def line_of(record: Record, now_ns: int) -> Line:
    """The line of a request that ended at `now_ns`."""
    usage = record.usage
    content_ns = record.content_ns
    ours_ns = record.overhead_ns(now_ns)
    return Line(
        time=timestamp(record.arrived_ns),
        id=record.id,
        method=record.method.decode("ascii", "replace"),
        path=record.path.partition(b"?")[0][:_NAME_CHARS].decode("ascii", "replace"),
        status=record.status,
        outcome=record.outcome,
        duration_ms=_milliseconds(now_ns - record.arrived_ns),
        model=record.model[:_NAME_CHARS] if record.model else None,
        stream=record.is_streamed,
        provider=record.provider,
        target_model=record.target_model[:_NAME_CHARS] if record.target_model else None,
        key=record.key,
        attempts=record.attempts,
        wait_ms=_milliseconds(record.wait_ns),
        overhead_ms=None if ours_ns is None else _milliseconds(ours_ns),
        first_content_ms=None if content_ns is None else _milliseconds(content_ns - record.arrived_ns),
        tokens_in=None if usage is None else usage.input_tokens,
        tokens_out=None if usage is None else usage.output_tokens,
        dropped=record.dropped,
        trail=record.trail,
        caller=record.caller,
        cache=record.cache,
    )


def _milliseconds(duration_ns: int) -> float:
    return round(duration_ns / _MILLISECOND, 3)


def timestamp(unix_ns: int) -> str:
    whole, rest = divmod(unix_ns, SECOND)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest // _MILLISECOND:03d}Z"
