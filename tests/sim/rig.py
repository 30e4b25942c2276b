"""A simulator on a real socket, with a clock that stands still, and a client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec

from sidecar.sim.config import DialectName, LimitRule, SimConfig
from sidecar.sim.server import Simulator
from tests.fakes import FakeClock, settle

KEYS = {"k1": "org-a", "k2": "org-a", "k3": "org-b"}


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def limits(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.startswith(("x-ratelimit", "retry-after"))}

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"]


class Rig:
    """One simulator and its client. `root` is its origin, without the base path."""

    def __init__(self, sim: Simulator, clock: FakeClock, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.clock = clock
        self.session = session
        self.root = sim.base_url.removesuffix(sim.provider.dialect.base)

    async def call(self, method, path, key="k1", **options) -> Got:
        url = path if path.startswith("/_sim") else self.sim.provider.dialect.base + path
        headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}
        async with self.session.request(method, self.root + url, headers=headers, **options) as answer:
            received = {name.lower(): value for name, value in answer.headers.items()}
            return Got(answer.status, received, await answer.read())

    async def chat(self, key="k1", content="hello", headers=None, **more) -> Got:
        body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
        return await self.call("POST", "/chat/completions", key, json=body, headers=headers or {})

    async def fault(self, **fields) -> Got:
        return await self.call("POST", "/_sim/faults", json=fields)

    async def until(self, condition) -> None:
        """Wait, turn by turn of the loop, until a condition holds."""
        async with asyncio.timeout(5):
            while not condition():
                await settle()


@asynccontextmanager
async def simulated(dialect: DialectName, *rules: LimitRule, **fields) -> AsyncIterator[Rig]:
    clock = FakeClock()
    given = {"keys": KEYS, "models": ("m", "vendor/m"), **fields}
    config = msgspec.structs.replace(SimConfig(dialect=dialect, limits=rules), **given)
    sim = Simulator(config, clock)
    await sim.start("127.0.0.1", 0)
    try:
        async with asyncio.timeout(10), aiohttp.ClientSession() as session:
            yield Rig(sim, clock, session)
    finally:
        await sim.stop()
