"""An OpenTelemetry collector for tests: a real server that takes OTLP/HTTP, and keeps the spans as they came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Span(NamedTuple):
    """One span. Ids in hexadecimal, empty for none; `kind` and `status` by their numbers in the protocol."""

    name: str
    trace: str
    id: str
    parent: str
    state: str
    kind: int
    status: int
    attributes: dict[str, Any]
    began_ns: int
    ended_ns: int


class Collector:
    """What came. `raw`: every byte; `resource`: who sent it last; `headers`: of the last post."""

    def __init__(self) -> None:
        self.url = ""
        self.raw = b""
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self.posts = 0
        self.is_deaf = False  # it takes what comes, and never answers
        self.opened = asyncio.Event()

    def of(self, kind: int) -> list[Span]:
        """Those of one kind, in the order in which they began."""
        return sorted((span for span in self.spans if span.kind == kind), key=lambda span: span.began_ns)

    async def take(self, request: web.Request) -> web.Response:
        """One post."""
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        self.posts += 1
        if self.is_deaf:
            await self.opened.wait()
        self.raw += body
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = _plain(each.resource.attributes)
            self.spans += [_read(span) for scope in each.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port, until the block ends."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        collector.opened.set()
        await runner.cleanup()


def _read(span: Any) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.kind,
        span.status.code,
        _plain(span.attributes),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
