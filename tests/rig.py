"""A whole sidecar in front of simulated providers, in one process on real sockets.

`config` is YAML in which `{groq}` stands for the base URL of the simulator called `groq`; keys come from `environ`.
With a `DrivenClock` hours pass in no time: sidecar and simulators share it, and `pump` lets it run until an answer is
there. Sockets stay real, so a moment begins only when everything that can go on without time has gone on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from sidecar.admin.log import LineLog
from sidecar.app import Prepared, Sidecar, Source, prepare
from sidecar.catalog_file import read_catalog
from sidecar.interfaces import Clock
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from sidecar.sim.server import Simulator
from sidecar.sim.tally import Row
from tests.both_ways import current
from tests.edge.raw import RawClient
from tests.fakes import FakeClock, LoopClock, settle

CATALOG = read_catalog()
CHAT = "/v1/chat/completions"
KEYS = {"KEY_A": "gsk_a", "KEY_B": "gsk_b", "KEY_C": "csk_c"}
LISTEN = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"
WATCHDOG_S = 20  # the failure of a test, never its pace: several run at once
_TURNS = 40  # of the loop, in which a request goes from caller to provider and back several times

T = TypeVar("T")


class DrivenClock(FakeClock):
    """A clock for hours and days: `leap` runs what has become due once, at its end, instead of second by second."""

    def leap(self, duration_ns: int) -> None:
        """Be later at once."""
        self._now_ns += duration_ns
        self.advance(0)


async def pump(clock: FakeClock, awaited: Awaitable[T]) -> T:
    """Await it, and let time pass from timer to timer whenever nothing else can go on."""
    task = asyncio.ensure_future(awaited)
    try:
        async with asyncio.timeout(WATCHDOG_S):
            while not task.done():
                await settle(_TURNS)
                next_ns = clock.next_ns
                if not task.done() and next_ns is not None:
                    clock.advance(max(0, next_ns - clock.now_ns()))
            return await task
    finally:
        task.cancel()


async def until(condition: Callable[[], bool], watchdog_s: float = WATCHDOG_S) -> None:
    """Wait, turn by turn of the loop, until the condition holds."""
    async with asyncio.timeout(watchdog_s):
        while not condition():
            await settle(1)


def chat(model: str = "openai/gpt-oss-120b", **fields: object) -> dict[str, object]:
    """The body of a small chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}


class Answer(msgspec.Struct):
    """An answer as a client without any cleverness sees it: nothing decoded, nothing retried."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


class Rig:
    """One running sidecar, its simulators, and a client."""

    def __init__(
        self, sidecar: Sidecar, sims: Mapping[str, Simulator], path: Path, lines: list[bytes], *, is_driven: bool
    ) -> None:
        self.sidecar = sidecar
        self.sims = sims
        self.path = path
        self._lines = lines
        # where hours pass in no time, a connection that was kept is past `client_idle` before anyone could notice
        # whose certificate a simulator has is the sidecar's to verify; this client asks one directly at most
        connector = aiohttp.TCPConnector(limit=0, force_close=is_driven, ssl=current() is None)
        self.client = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(30), connector=connector
        )

    @property
    def url(self) -> str:
        """The origin of the data port."""
        return f"http://{self.sidecar.listening[0]}"

    @property
    def admin(self) -> str:
        """The origin of the admin port."""
        return f"http://127.0.0.1:{self.sidecar.admin_port}"

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line logged so far, events and requests."""
        return [msgspec.json.decode(line) for line in b"".join(self._lines).splitlines()]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The access lines."""
        return [line for line in self.lines if "method" in line]

    async def post(self, path: str = CHAT, body: object = None, **headers: str) -> Answer:
        """POST `body` (JSON; bytes as they are; None: a small chat request). `x_sidecar_key=...` sets a header."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(chat() if body is None else body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("POST", path, content, {"content-type": "application/json"} | named)

    async def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return await self.send("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def row(self, name: str) -> Row:
        """All counts of one simulator."""
        return self.sims[name].stats.total

    def arrivals(self, name: str) -> list[int]:
        """When its last requests came (Unix ns)."""
        return [at_ns for at_ns, _ in self.sims[name].requests]

    def fault(self, name: str, fault: Fault) -> None:
        """Have a simulator misbehave from now on."""
        self.sims[name].provider.faults.add(fault)

    def reload(self, config: str) -> bool:
        """Put another configuration in the place of the one it was started with, and have it read."""
        self.path.write_text(configuration(config, self.sims))
        return self.sidecar.reload()

    async def raw(self) -> RawClient:
        """A connection to the data port, for callers that do what no library does."""
        return await RawClient.open(self.sidecar.listening[0])

    async def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Any request; the path is sent as it is."""
        url = URL(self.url + path, encoded=True)
        async with self.client.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            return Answer(
                answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()
            )

    async def status(self) -> Any:
        """`/status.json`."""
        async with self.client.get(self.admin + "/status.json") as answer:
            return msgspec.json.decode(await answer.read())


def configuration(config: str, sims: Mapping[str, Simulator]) -> str:
    """The whole text: with ports, and with the addresses of the simulators."""
    for name, simulator in sims.items():
        config = config.replace("{" + name + "}", simulator.base_url)
    return LISTEN + config


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path,
    config: str,
    sims: Mapping[str, SimConfig],
    *,
    clock: Clock | None = None,
    environ: Mapping[str, str] = KEYS,
) -> AsyncIterator[Rig]:
    """A sidecar of `config` (without `listen` and `admin`) before simulators of `sims`, until the block ends."""
    clock = clock or LoopClock()
    async with contextlib.AsyncExitStack() as stack:
        simulators: dict[str, Simulator] = {}
        for name, sim in sims.items():
            simulator = simulators[name] = Simulator(sim, clock)
            await simulator.start("127.0.0.1", 0, current())
            stack.push_async_callback(simulator.stop)
        path = tmp_path / "sidecar.yaml"
        path.write_text(configuration(config, simulators))
        lines: list[bytes] = []
        source = Source(str(path), environ)
        prepared = prepare(source, CATALOG, clock.now_ns())
        assert isinstance(prepared, Prepared), prepared
        sidecar = Sidecar(source, prepared, CATALOG, clock, LineLog(lines.append))
        await sidecar.start()
        rig = Rig(sidecar, simulators, path, lines, is_driven=not isinstance(clock, LoopClock))
        stack.push_async_callback(_stop, rig)
        yield rig


async def _stop(rig: Rig) -> None:
    await rig.client.close()
    stopping = asyncio.ensure_future(rig.sidecar.stop())
    await asyncio.sleep(0)
    await stopping
