"""Spans of requests and attempts, sent to a collector over OTLP/HTTP; loaded only where one is configured.

What they say is core.spans_of's, what of the context is passed on core.trace's. The SDK batches in a thread of its own
and drops what is too much for its queue: a collector that is slow or away costs spans, and no request anything. Which
headers, timeout, batch and resource it uses is the SDK's to read from OTEL_*; whether and how often to trace is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sidecar import __version__
from sidecar.core import spans_of
from sidecar.core.candidate import Candidate
from sidecar.core.config import Traces
from sidecar.core.config_traces import collector
from sidecar.core.http import Header
from sidecar.core.record import Record
from sidecar.core.trace import End, carrier, carrying, context_lines

_PATIENCE_S = 2  # for the last spans, when a process ends
_MOST_CHARS = 200  # of what the SDK says went wrong
_CONTEXTS = TraceContextTextMapPropagator()

Tell = Callable[[str, str], None]  # an event's name, and its message
Finished = Callable[[Record, int], None]


class Tracing:
    """Implements `interfaces.Traces`. Made inside a running event loop; `tell` takes events, in that loop."""

    def __init__(self, traces: Traces, tell: Tell) -> None:
        assert traces.endpoint is not None
        self._words = _Words()
        self._exporter = _Exporter(collector(traces.endpoint), self._words, tell)
        self._provider = TracerProvider(ParentBasedTraceIdRatio(traces.sample), _resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("sidecar", __version__)

    def begin(self, headers: list[Header], at_ns: int) -> RequestTrace:
        """The trace of a request that came with these headers: its caller's, or a new one."""
        context = _CONTEXTS.extract(carrier(headers), Context())
        return RequestTrace(
            self._tracer, self._tracer.start_span("request", context, SpanKind.SERVER, start_time=at_ns)
        )

    def finishing(self, finished: Finished) -> Finished:
        """The same, and the spans of the request end."""

        def both(record: Record, now_ns: int) -> None:
            finished(record, now_ns)
            trace, record.trace = record.trace, None
            if not isinstance(trace, RequestTrace):  # it was refused by its head
                trace = self.begin([], record.arrived_ns)
            trace.ended(record, now_ns)

        return both

    async def stop(self) -> None:
        """Send what is left, for as long as that is worth waiting for."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # not a thread of a pool: those are waited for when a process ends
        threading.Thread(target=shut, name="last spans", daemon=True).start()
        if not await _within(_PATIENCE_S, done):
            self._exporter.shutdown()  # it stops trying again
            await _within(_PATIENCE_S, done)
        self._words.forget()

    def __repr__(self) -> str:
        return f"<Tracing to {self._exporter.url}>"


async def _within(seconds: float, done: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
    return done.is_set()


class RequestTrace:
    """The spans of one request. Implements `core.trace.Trace`."""

    __slots__ = ("_begun", "_ended", "_made", "_record", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._begun: dict[object, tuple[Span, spans_of.Begun]] = {}
        self._ended: list[tuple[Span, spans_of.Begun, End]] = []
        self._made = 0  # attempts
        self._record: Record | None = None  # once the request is over

    def attempt_began(self, attempt: object, candidate: Candidate, head: bytes, now_ns: int) -> bytes:
        """It is about to be sent, with this head; the head that names its span as the parent of what the provider
        does."""
        context = set_span_in_context(self._span, Context())
        span = self._tracer.start_span("attempt", context, SpanKind.CLIENT, start_time=now_ns)
        self._begun[attempt] = span, spans_of.Begun(candidate, self._made)
        self._made += 1
        named = span.get_span_context()
        if not named.is_valid:  # OTEL_SDK_DISABLED
            return head
        lines = context_lines(named.trace_id, named.span_id, named.trace_flags, named.trace_state.to_header())
        return carrying(head, lines)

    def attempt_ended(self, attempt: object, end: End) -> None:
        """It is over; harmless when it never began."""
        begun = self._begun.pop(attempt, None)
        if begun is not None:
            self._ended.append((*begun, end))
        if self._record is not None:  # the call went on for others who wait for its answer
            self._end_attempts(self._record)

    def ended(self, record: Record, now_ns: int) -> None:
        """The request is over, and its attempts with it."""
        self._record = record
        self._end_attempts(record)
        if self._span.is_recording():
            _finish(self._span, spans_of.request_span(record, now_ns), now_ns)

    def _end_attempts(self, record: Record) -> None:
        for span, begun, end in self._ended:
            if span.is_recording():
                _finish(span, spans_of.attempt_span(record, begun, end), end.at_ns)
        self._ended.clear()


def _finish(span: Span, says: spans_of.Span, at_ns: int) -> None:
    span.update_name(says.name)
    span.set_attributes(says.attributes)
    if says.has_failed:
        span.set_status(Status(StatusCode.ERROR))
    span.end(at_ns)


def _resource() -> Resource:
    """Who sends them; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    ours = Resource({"service.name": "sidecar", "service.version": __version__})
    return Resource.get_empty().merge(ours).merge(OTELResourceDetector().detect())


class _Words(logging.Handler):
    """Keeps what the SDK said last, instead of standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Something went wrong."""
        self.last = record.getMessage()[:_MOST_CHARS]

    def forget(self) -> None:
        """Listen no more."""
        self._logger.removeHandler(self)
        self._logger.propagate = True


class _Exporter(SpanExporter):
    """Sends spans, and tells when that begins to fail and when it works again. Called by the SDK's thread."""

    def __init__(self, url: str, words: _Words, tell: Tell) -> None:
        self.url = url
        self._otlp = OTLPSpanExporter(url)
        self._words = words
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Post them, trying again as often as the SDK's timeout allows."""
        result = self._otlp.export(spans)
        if (result is SpanExportResult.FAILURE) != self._is_failing:
            self._is_failing = not self._is_failing
            if self._is_failing:
                self._say(
                    "traces_not_sent", f"{self.url}: {self._words.last or 'failed'}; spans are dropped until it answers"
                )
            else:
                self._say("traces_sent", f"{self.url}: takes spans again")
        return result

    def shutdown(self) -> None:
        """Give up."""
        self._otlp.shutdown()  # type: ignore[no-untyped-call]  # the SDK's own

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True

    def _say(self, event: str, message: str) -> None:
        with contextlib.suppress(RuntimeError):  # the process has ended
            self._loop.call_soon_threadsafe(self._tell, event, message)
