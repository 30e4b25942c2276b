"""A provider behind TLS: a private CA is taken from SSL_CERT_FILE, any other is refused; callers who leave are felt."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import trustme

from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from sidecar.sim.server import Simulator
from tests.e2e.house import HELLO, MARK, async_openai_client
from tests.fakes import LoopClock
from tests.processes import Serving

KEY = f"sk-tls-{MARK}"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@contextlib.asynccontextmanager
async def _provider(authority: trustme.CA) -> AsyncIterator[Simulator]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    simulator = Simulator(SimConfig("openai", keys={KEY: "org-1"}), LoopClock())
    await simulator.start("127.0.0.1", 0, context)
    try:
        yield simulator
    finally:
        await simulator.stop()


@contextlib.asynccontextmanager
async def _before(simulator: Simulator, trusted: trustme.CA, folder: Path, loop: str) -> AsyncIterator[Serving]:
    """A sidecar that trusts one authority alone."""
    bundle = folder / "ca.pem"
    trusted.cert_pem.write_to_path(str(bundle))
    config = f"""
providers:
  - name: openai
    base_url: {simulator.base_url.replace("127.0.0.1", "localhost")}
    keys: [{{name: main, env: KEY}}]
retry: {{attempts: 1}}
"""
    environ = {"KEY": KEY, "SSL_CERT_FILE": str(bundle), "SSL_CERT_DIR": str(folder / "none")}
    words = ("--loop", loop)
    sidecar = await asyncio.to_thread(Serving, folder / "tls.yaml", config, environ, words=words)
    try:
        yield sidecar
    finally:
        await asyncio.to_thread(sidecar.stop)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_private_authority_and_B1_callers_who_leave(tmp_path, authority, loop):
    async with (
        asyncio.timeout(30),
        _provider(authority) as simulator,
        _before(simulator, authority, tmp_path, loop) as sidecar,
        async_openai_client(sidecar.url) as sdk,
    ):
        answer = await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert answer.choices[0].finish_reason == "stop"
        async with await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True) as stream:
            assert len([chunk async for chunk in stream]) > 3
        assert simulator.stats.total.aborted == 0
        for turn, (fault, fields, heard) in enumerate(_SILENCES, 1):
            simulator.provider.faults.add(fault)
            await _call_and_leave(sidecar, simulator, fields, heard)
            await _aborted(simulator, turn)
        assert simulator.stats.total.in_flight == 0
        answer = await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert answer.choices, "what was left behind does not stand in the way"
    outcomes = [line["outcome"] for line in sidecar.requests]
    assert outcomes == ["ok", "ok", *["client_gone"] * len(_SILENCES), "ok"]


# (a) before the headers, (b) before the first content, (c) within the stream, (d) a plain answer that does not come:
# what the provider does, what is asked, and what the caller waits to hear
_SILENCES = [
    (Fault("stall_before_headers", count=1), '"stream": true', b""),
    (Fault("stall_after_headers", count=1, after_chunks=1), '"stream": true', b""),
    (Fault("stall_after_headers", count=1, after_chunks=5), '"stream": true', b"data:"),
    (Fault("stall_before_headers", count=1), '"n": 1', b""),
    (Fault("stall_after_headers", count=1), '"n": 1', b""),
]


async def _call_and_leave(sidecar: Serving, simulator: Simulator, fields: str, heard: bytes) -> None:
    """A caller that is gone as soon as the provider has begun on its request, and something of it has come."""
    body = f'{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "hello"}}], {fields}}}'.encode()
    seen = simulator.stats.total.seen
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sidecar.url.rpartition(":")[2]))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write(head + body)
    async with asyncio.timeout(5):
        while simulator.stats.total.seen == seen:  # noqa: ASYNC110  # its counters tell nobody when they change
            await asyncio.sleep(0)
    if heard:
        await reader.readuntil(heard)
    writer.transport.abort()


async def _aborted(simulator: Simulator, count: int) -> None:
    async with asyncio.timeout(5):
        while simulator.stats.total.aborted < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_an_authority_that_is_not_trusted_is_a_502(tmp_path, authority):
    async with (
        asyncio.timeout(30),
        _provider(authority) as simulator,
        _before(simulator, trustme.CA(), tmp_path, "uvloop") as sidecar,
        async_openai_client(sidecar.url) as sdk,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert caught.value.status_code == 502
    assert caught.value.code == "upstream_failed"
    assert caught.value.type == "api_error"
    assert "certificate" in caught.value.message
    assert simulator.stats.total.seen == 0
