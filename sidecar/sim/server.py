"""The simulator's sockets: aiohttp's low-level server in front of a provider, and the control calls under `/_sim/`.

It reads a request, lets the provider decide, and has the act played (stage.py). A caller that leaves is seen at once:
its handler is cancelled when the connection is lost. What control calls mean is in control.py.
"""

from __future__ import annotations

import asyncio
import random
import ssl as ssl_module
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from aiohttp import web

from sidecar.core.limits import SECOND
from sidecar.interfaces import Clock, sleep_until
from sidecar.sim.config import SimConfig
from sidecar.sim.control import PREFIX, BadControl, read_fault, read_limits, shown
from sidecar.sim.intake import Arrival
from sidecar.sim.provider import Played, Provider
from sidecar.sim.stage import Stage
from sidecar.sim.tally import Stats

_encode = msgspec.json.Encoder().encode


class Simulator:
    """One simulated provider on a port of its own.

    `requests`: the last that came, each with its time of arrival (Unix ns), headers lower-cased, in order, complete.
    """

    def __init__(self, config: SimConfig, clock: Clock) -> None:
        self.provider = Provider(config)
        self.requests: deque[tuple[int, Arrival]] = deque(maxlen=config.keep_requests)
        self._clock = clock
        self._draws = random.Random(config.seed)
        self._playing: dict[asyncio.Task[object], Stage] = {}
        self._absence: asyncio.Task[None] | None = None
        self._web: web.Server | None = None
        self._door: asyncio.Server | None = None
        self._host = ""
        self._port = 0
        self._ssl: ssl_module.SSLContext | None = None

    def __repr__(self) -> str:
        state = "open" if self._door is not None else "closed"
        return f"<Simulator {self._host}:{self._port} {state} {self.provider!r}>"

    @property
    def stats(self) -> Stats:
        """A copy of all counts."""
        return self.provider.stats

    @property
    def base_url(self) -> str:
        """What a client is given as the base URL of this provider."""
        scheme = "http" if self._ssl is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}{self.provider.dialect.base}"

    async def start(self, host: str, port: int, ssl: ssl_module.SSLContext | None = None) -> int:
        """Listen; returns the port, chosen by the system where 0 was asked for."""
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._host, self._port, self._ssl = host, port, ssl
        await self.accept()
        return self._port

    async def stop(self) -> None:
        """Close the port and every connection, and wait until nothing is being played."""
        if self._absence is not None:
            self._absence.cancel()
            await asyncio.gather(self._absence, return_exceptions=True)
        await self.refuse()
        if self._web is not None:
            await self._web.shutdown(0)

    async def refuse(self) -> None:
        """Stop listening and drop every connection, as a process does that dies."""
        door, self._door = self._door, None
        if door is not None:
            door.close()
        playing = dict(self._playing)
        for task, stage in playing.items():
            stage.closed_by_us = True
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        for connection in self._web.connections if self._web is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def accept(self) -> None:
        """Listen, on the same port again after `refuse`; harmless when listening."""
        if self._door is None and self._web is not None:
            loop = asyncio.get_running_loop()
            self._door = await loop.create_server(self._web, self._host, self._port, ssl=self._ssl, backlog=1024)
            self._port = self._door.sockets[0].getsockname()[1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        headers = [(name.lower(), value) for name, value in request.raw_headers]
        arrival = Arrival(request.method, request.raw_path, headers, body)
        if arrival.target.startswith(PREFIX):
            return await self._control(request, arrival)
        now = self._clock.now_ns()
        self.requests.append((now, arrival))
        act = self.provider.begin(arrival, now, self._draws.random())
        stage = Stage(request, self._clock, self.provider.told)
        task = asyncio.current_task()
        assert task is not None
        self._playing[task] = stage
        played = Played.ABANDONED
        try:
            response = await stage.play(act)
            played = Played.TO_ITS_END
            return response
        finally:
            del self._playing[task]
            if stage.closed_by_us:
                played = Played.STOPPED
            self.provider.end(act, stage.tokens_sent, self._clock.now_ns(), played)

    async def _control(self, request: web.BaseRequest, arrival: Arrival) -> web.StreamResponse:
        action = (arrival.method, arrival.target.partition("?")[0].removeprefix(PREFIX))
        try:
            value = self._steer(action, arrival.body)
        except BadControl as error:
            return _json(error.status, {"error": str(error)})
        response = _json(200, value)
        if self._absence is not None and not self._absence.done():
            # answered before the door closes behind the caller
            await response.prepare(request)
            await response.write_eof()
        return response

    def _steer(self, action: tuple[str, str], body: bytes) -> object:
        match action:
            case ("GET", "stats"):
                return self.stats
            case ("GET", "requests"):
                return shown(self.requests)
            case ("GET", "faults"):
                return self.provider.faults.faults
            case ("POST", "faults"):
                return self._misbehave(body)
            case ("DELETE", "faults"):
                self.provider.faults.clear()
            case ("POST", "limits"):
                self.provider.set_limits(read_limits(body), self._clock.now_ns())
            case ("POST", "reset"):
                self.provider.reset()
                self.requests.clear()
            case _:
                raise BadControl(f"no control call {action[0]} {PREFIX}{action[1]}", 404)
        return {"ok": True}

    def _misbehave(self, body: bytes) -> object:
        fault = read_fault(body)
        if fault.seed is not None:
            self._draws.seed(fault.seed)
        if fault.mode == "refuse":
            if self._absence is not None and not self._absence.done():
                raise BadControl("already refusing connections", 409)
            self._absence = asyncio.get_running_loop().create_task(self._be_away(round((fault.seconds or 0) * SECOND)))
        else:
            self.provider.faults.add(fault)
        return {"ok": True, "faults": self.provider.faults.faults}

    async def _be_away(self, duration_ns: int) -> None:
        await self.refuse()
        await sleep_until(self._clock, self._clock.now_ns() + duration_ns)
        await self.accept()


class Listen(NamedTuple):
    """A simulator to run: what it is, and where."""

    config: SimConfig
    host: str = "127.0.0.1"
    port: int = 0
    ssl: ssl_module.SSLContext | None = None


async def run(listens: Sequence[Listen], clock: Clock, ready: Callable[[list[Simulator]], object]) -> None:
    """Run simulators until cancelled; `ready` is called once, when all of them listen. OSError when one cannot."""
    simulators: list[Simulator] = []
    try:
        for listen in listens:
            simulator = Simulator(listen.config, clock)
            simulators.append(simulator)
            await simulator.start(listen.host, listen.port, listen.ssl)
        ready(simulators)
        await asyncio.get_running_loop().create_future()
    finally:
        for simulator in simulators:
            await simulator.stop()


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, headers={"content-type": "application/json"}, body=_encode(value))
