"""What a span says of a request, and of each attempt at it: names and numbers, by the conventions where they have one.

Never a key, a prompt or an answer, and no words of a provider, which may repeat them: labels, counts, outcomes. Follows
OpenTelemetry's semantic conventions for HTTP and for generative AI; what these lack is called `sidecar.*`. Refuses to
know the SDK (tracing.py).
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core.candidate import Candidate
from sidecar.core.faults import CALLER, NONE, fault_of
from sidecar.core.limits import SECOND, Usage
from sidecar.core.outcomes import Outcome
from sidecar.core.record import Record
from sidecar.core.tally import operation
from sidecar.core.trace import End

_MOST_CHARS = 128  # a caller's model name or path may be anything

Attributes = dict[str, str | int | float | bool]


class Span(NamedTuple):
    """What a span is given at its end. `has_failed`: its status is an error; nothing is said where it is not."""

    name: str
    attributes: Attributes
    has_failed: bool


def request_span(record: Record, now_ns: int) -> Span:
    """The span of a request that ended at `now_ns`. What is the caller's own fault is no error of the server's."""
    asked = operation(record.method, record.path)
    found: Attributes = {
        "gen_ai.operation.name": asked,
        "http.request.method": record.method.decode("ascii", "replace"),
        "url.path": record.path.partition(b"?")[0][:_MOST_CHARS].decode("ascii", "replace"),
        "http.response.status_code": record.status,
        "sidecar.request.id": record.id,
        "sidecar.outcome": record.outcome,
        "sidecar.attempts": record.attempts,
        "sidecar.wait.duration": record.wait_ns / SECOND,
        "sidecar.stream": record.is_streamed,
    }
    if record.model:
        found["gen_ai.request.model"] = record.model[:_MOST_CHARS]
    if record.provider is not None:
        found["gen_ai.provider.name"] = record.provider
    _add_texts(found, key=record.key, caller=record.caller, cache=record.cache)
    ours_ns = record.overhead_ns(now_ns)
    if ours_ns is not None:
        found["sidecar.overhead.duration"] = ours_ns / SECOND
    if record.is_streamed and record.content_ns is not None:
        found["gen_ai.response.time_to_first_chunk"] = (record.content_ns - record.arrived_ns) / SECOND
    _add_usage(found, record.usage)
    is_well = record.outcome == Outcome.OK.value
    if not is_well:
        found["error.type"] = record.outcome
    return Span(_name(asked, found), found, fault_of(record.outcome) not in (NONE, CALLER))


class Begun(NamedTuple):
    """An attempt that was about to be sent. `resent`: how many were made before it for the same request."""

    candidate: Candidate
    resent: int


def attempt_span(record: Record, begun: Begun, end: End) -> Span:
    """The span of one attempt."""
    target, key = begun.candidate.target, begun.candidate.key
    asked = operation(record.method, record.path)
    found: Attributes = {
        "gen_ai.operation.name": asked,
        "gen_ai.provider.name": target.provider.name,
        "server.address": target.provider.origin.host,
        "server.port": target.provider.origin.port,
        "http.request.method": record.method.decode("ascii", "replace"),
        "sidecar.key": key.name,
        "sidecar.outcome": end.outcome.value,
    }
    if target.model:
        found["gen_ai.request.model"] = target.model[:_MOST_CHARS]
    if begun.resent:
        found["http.request.resend_count"] = begun.resent
    if end.status is not None:
        found["http.response.status_code"] = end.status
    _add_usage(found, end.usage)
    has_failed = end.outcome not in (Outcome.OK, Outcome.HEDGED, Outcome.CLIENT_GONE)
    if has_failed:
        found["error.type"] = end.outcome.value
    return Span(_name(asked, found), found, has_failed)


def _name(asked: str, found: Attributes) -> str:
    """`{operation} {model}`, as the conventions for generative AI have it."""
    model = found.get("gen_ai.request.model")
    return asked if model is None else f"{asked} {model}"


def _add_texts(found: Attributes, **texts: str | None) -> None:
    for name, text in texts.items():
        if text is not None:
            found[f"sidecar.{name}"] = text


def _add_usage(found: Attributes, usage: Usage | None) -> None:
    if usage is not None:
        found["gen_ai.usage.input_tokens"] = usage.input_tokens
        found["gen_ai.usage.output_tokens"] = usage.output_tokens
