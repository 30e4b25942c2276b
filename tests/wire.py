"""A whole sidecar before one provider that follows a script: what the provider saw, byte by byte, and what it said.

Used where a simulator is too well behaved. When a block of `before` ends in good order, nothing may be left in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.core.http import Header
from sidecar.interfaces import Clock
from tests.both_ways import current
from tests.edge.raw import Received
from tests.fakes import settle
from tests.rig import KEYS, WATCHDOG_S, Rig, running
from tests.upstream.scripted import Script, Scripted

COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
JSON = b"application/json"


class Seen(NamedTuple):
    """One request as the provider got it; names of headers in lower case."""

    method: bytes
    target: bytes
    headers: list[Header]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of that header."""
        return [value for key, value in self.headers if key == name]


def seen(server: Scripted) -> list[Seen]:
    """Everything the provider has been asked."""
    return [_read(request) for request in server.requests]


def _read(request: bytes) -> Seen:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    pairs = (line.split(b": ", 1) for line in lines)
    return Seen(method, target, [(name.lower(), value) for name, value in pairs], body)


def says(body: bytes, *lines: bytes, status: bytes = b"200 OK", kind: bytes | None = JSON) -> bytes:
    """An answer with a length."""
    head = [b"HTTP/1.1 " + status, *lines, b"content-length: %d" % len(body)]
    if kind is not None:
        head.append(b"content-type: " + kind)
    return b"\r\n".join(head) + b"\r\n\r\n" + body


EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def delta(text: str, **more: str) -> str:
    """The data of one event of a chat stream."""
    fields = "".join(f',"{name}":"{value}"' for name, value in more.items())
    return f'{{"id":"c1","choices":[{{"index":0,"delta":{{"content":"{text}"}}{fields}}}]}}'


def scripted(script: Script) -> Scripted:
    """A scripted provider, in the clear or behind TLS as the test is run."""
    return Scripted(script, current(), name="127.0.0.1")


def providers(server: Scripted, name: str = "own", base: str = "/v1", keys: str = "KEY_A", fields: str = "") -> str:
    """The configuration of one provider at that server; each key is called by its variable, in lower case."""
    url = f"{server.origin.scheme}://{server.origin.host}:{server.origin.port}{base}"
    listed = ", ".join(f"{{name: {key.lower().replace('_', '-')}, env: {key}}}" for key in keys.split())
    return f'providers:\n  - name: {name}\n    base_url: "{url}"\n    keys: [{listed}]\n{fields}'


@contextlib.asynccontextmanager
async def before(
    tmp_path: Path,
    script: Script,
    config: str = "",
    *,
    clock: Clock | None = None,
    environ: Mapping[str, str] = KEYS,
    **provider: str,
) -> AsyncIterator[tuple[Rig, Scripted]]:
    """A sidecar before a scripted provider (see `providers`), under a watchdog."""
    async with asyncio.timeout(2 * WATCHDOG_S), scripted(script) as server:
        text = providers(server, **provider) + config
        async with running(tmp_path, text, {}, clock=clock, environ=environ) as rig:
            yield rig, server
            await at_rest(rig)


async def at_rest(rig: Rig) -> Any:
    """Wait until nothing is in flight anywhere: no request, no body, no connection, no charge; the status then."""
    ends = time.monotonic() + WATCHDOG_S
    while True:
        status = await rig.status()
        quotas = [quota for each in status["providers"] for quotas in each["accounts"].values() for quota in quotas]
        busy = (
            status["in_flight"],
            status["waiting"],
            status["connections"]["leased"],
            *(quota["in_flight"] for quota in quotas),
        )
        if not any(busy):
            return status
        assert time.monotonic() < ends, status
        await settle()


def error(answer: Any) -> Any:
    """The error an answer tells, of whichever client it came through."""
    import json

    content_type = answer.values(b"content-type")[0] if isinstance(answer, Received) else None
    if content_type is None:
        content_type = answer.headers["content-type"].encode()
    assert content_type == JSON
    return json.loads(answer.body)["error"]
