"""What a sidecar's process holds while others misbehave (acceptance E4, E5): its resident memory, files and counts.

A real process on its own event loop, before a scripted provider, in the clear and behind TLS. The only pace is that of
calls to its admin port: whatever can go on has gone on when many of them have been answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from sidecar.core.config import Address
from tests.both_ways import BOTH_WAYS
from tests.edge.raw import RawClient, post, request
from tests.processes import Serving
from tests.rig import KEYS
from tests.upstream.scripted import Peer, Script, Scripted
from tests.wire import COMPLETION, EVENTS, LAST_CHUNK, chunk, delta, providers, says, scripted

pytestmark = [BOTH_WAYS, pytest.mark.alone]

MIB = 1 << 20
STREAM = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
PLAIN = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
EVENT = chunk(b"data: " + delta("x" * 65_000).encode() + b"\n\n")
END = chunk(b"data: " + delta("", finish_reason="stop").encode() + b"\n\ndata: [DONE]\n\n") + LAST_CHUNK
_LIMITS = '    limits: [{model: "*", rpm: 1000000, tpm: 1000000000, concurrency: 4000}]\n'


class Holding(NamedTuple):
    """What a process holds: bytes in memory, and open files."""

    resident: int
    files: int


class Subject:
    """A sidecar's process, looked at from outside."""

    def __init__(self, sidecar: Serving, session: aiohttp.ClientSession) -> None:
        self._sidecar = sidecar
        self._session = session
        self._proc = Path(f"/proc/{sidecar.process.pid}")
        host, _, port = sidecar.url.removeprefix("http://").rpartition(":")
        self.address = Address(host, int(port))

    async def call(self) -> RawClient:
        """A connection to it."""
        return await RawClient.open(self.address)

    async def status(self) -> Any:
        """`/status.json`."""
        async with self._session.get(self._sidecar.admin + "/status.json") as answer:
            return await answer.json()

    async def turns(self, count: int = 50) -> None:
        """Let it do what it can."""
        for _ in range(count):
            await self.status()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let it do what it can until that holds."""
        while not condition():
            await self.turns(1)

    async def rest(self) -> None:
        """Wait until nothing is in flight: no request, no connection, no charge."""
        while True:
            status = await self.status()
            quotas = [each for one in status["providers"] for account in one["accounts"].values() for each in account]
            busy = [status["in_flight"], status["waiting"], status["connections"]["leased"]]
            if not any([*busy, *(quota["in_flight"] for quota in quotas)]):
                return

    def holding(self) -> Holding:
        """What it holds now."""
        return Holding(self._field("VmRSS"), len(os.listdir(self._proc / "fd")))

    def forget_peak(self) -> None:
        """Begin the peak anew (proc(5), clear_refs)."""
        (self._proc / "clear_refs").write_text("5")

    @property
    def peak(self) -> int:
        """The most memory it has held since."""
        return self._field("VmHWM")

    def _field(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", (self._proc / "status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


@contextlib.asynccontextmanager
async def subject(tmp_path: Path, script: Script, more: str = "") -> AsyncIterator[tuple[Subject, Scripted]]:
    """A sidecar before that provider, warm: it has served one request of each kind."""
    async with asyncio.timeout(60), scripted(script) as server, aiohttp.ClientSession() as session:
        environ = dict(KEYS) | {name: os.environ[name] for name in ("SSL_CERT_FILE",) if name in os.environ}
        config = providers(server) + _LIMITS + more
        sidecar = await asyncio.to_thread(Serving, tmp_path / "sidecar.yaml", config, environ)
        try:
            yield Subject(sidecar, session), server
        finally:
            await asyncio.to_thread(sidecar.stop)


async def read_stream(client: RawClient) -> int:
    """Ask for a stream and read all of it; its length."""
    await client.send(post(STREAM))
    return len((await client.answer()).body)


async def test_E4_a_caller_that_never_reads_costs_next_to_nothing(tmp_path):
    most = 200 * MIB

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(EVENTS + EVENT * 200 + END)  # to warm up
        await peer.request()
        peer.send(EVENTS)
        while peer.sent < most and not peer.is_gone:
            if peer.transport.get_write_buffer_size() < MIB:
                peer.send(EVENT)
            await asyncio.sleep(0)

    async with subject(tmp_path, script) as (sidecar, server):
        async with await sidecar.call() as client:
            assert await read_stream(client) > 12 * MIB
        await sidecar.rest()
        await sidecar.turns()
        before = sidecar.holding()
        async with await sidecar.call() as client:
            client.pause()
            await client.send(post(STREAM))
            await sidecar.until(lambda: len(server.requests) == 2)
            peer, moved = server.peers[-1], -1
            while moved != peer.accepted:
                moved = peer.accepted
                await sidecar.turns()
            assert peer.sent < most / 3, "its reading has paused"
            grown = sidecar.holding().resident - before.resident
            assert grown < 2 * MIB
            client.reset()
        await sidecar.rest()


@pytest.mark.parametrize(("name", "is_chunked"), [(b"m", False), (b"renamed", True)], ids=["as it is", "rewritten"])
async def test_E4_a_body_of_32_mib_costs_less_than_two_and_a_half_times_its_size(tmp_path, name, is_chunked):
    image = b"data:image/png;base64," + b"iVBORw0K" * (4 * MIB)
    content = b'[{"type":"image_url","image_url":{"url":"%b"}}]' % image
    body = b'{"messages":[{"role":"user","content":%b}],"model":"%b"}' % (content, name)

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            peer.send(says(COMPLETION))

    names = "models:\n  - {name: renamed, chain: [own/m]}\n"
    async with subject(tmp_path, script, names) as (sidecar, server), await sidecar.call() as client:
        await client.send(post(PLAIN))
        assert (await client.answer()).status == 200
        before = sidecar.holding()
        sidecar.forget_peak()
        if is_chunked:
            await client.send(request(b"/v1/chat/completions", b"transfer-encoding: chunked", method=b"POST"))
            for at in range(0, len(body), 65_536):
                await client.send(chunk(body[at : at + 65_536]))
            await client.send(LAST_CHUNK)
        else:
            await client.send(post(body))
        assert (await client.answer()).status == 200
        grown = sidecar.peak - before.resident
        assert len(body) > 32 * MIB
        assert len(server.requests[1]) >= len(body) - 10
        assert grown < 2.5 * len(body)


async def test_E4_a_thousand_streams_given_up_leave_nothing(tmp_path):
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(EVENTS)
            for _ in range(20):
                peer.send(chunk(b"data: " + delta("x" * 100).encode() + b"\n\n"))
                await asyncio.sleep(0)
            peer.send(END)

    draws = random.Random(4)

    async def give_up(sidecar: Subject) -> None:
        client = await sidecar.call()
        await client.send(post(STREAM))
        if draws.random() < 0.8:
            await client.head()
            for _ in range(draws.randrange(15)):
                if not await client.chunk():
                    break
        client.reset()

    async with subject(tmp_path, script) as (sidecar, _):
        held = []
        for count in (400, 1000):
            for _ in range(count // 50):
                await asyncio.gather(*(give_up(sidecar) for _ in range(50)))
            await sidecar.rest()
            held.append(sidecar.holding())
        # 6 kB each is malloc's fragmentation, less each time; one connection alone has a buffer of 256 KiB
        assert held[1].resident - held[0].resident < 6 * MIB
        async with await sidecar.call() as client:
            assert await read_stream(client) > 2000
        status = await sidecar.status()
        assert held[1].files <= held[0].files + status["connections"]["open"]


async def test_E5_a_provider_that_is_frozen_costs_no_more_than_the_cap_and_is_served_again(tmp_path):
    thawed = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await thawed.wait()
            peer.send(says(COMPLETION))

    async def ask(sidecar: Subject) -> tuple[int, list[bytes]]:
        async with await sidecar.call() as client:
            await client.send(post(PLAIN))
            answer = await client.answer()
            return answer.status, answer.values(b"retry-after")

    async with subject(tmp_path, script, "inflight: {max: 200}\n") as (sidecar, server):
        before = sidecar.holding()
        held = [asyncio.ensure_future(ask(sidecar)) for _ in range(200)]
        await sidecar.until(lambda: len(server.requests) == 200)
        for _ in range(20):
            refused = await asyncio.gather(*(ask(sidecar) for _ in range(100)))
            assert set(map(str, refused)) == {"(503, [b'1'])"}
        grown = sidecar.holding().resident - before.resident
        assert len(server.requests) == 200
        assert grown < 16 * MIB
        thawed.set()
        assert {status for status, _ in await asyncio.gather(*held)} == {200}
        await sidecar.rest()
        assert await ask(sidecar) == (200, [])
