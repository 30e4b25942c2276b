"""Either lane on a real port with a scripted service behind it and a clock that moves only when told."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sidecar.core.config import Address
from sidecar.core.entrance import Entrance, Place, Rules
from sidecar.core.errors import Refusal
from sidecar.core.http import Header, Notes, Request
from sidecar.core.limits import SECOND
from sidecar.edge.connection import EdgeTiming
from sidecar.edge.lanes import DataLanes
from sidecar.interfaces import Clock, Reply, Timer
from tests.edge.raw import RawClient

RULES = Rules(max_body_bytes=64 << 20, max_inflight=100, max_inflight_bytes=256 << 20)
TIMING = EdgeTiming(client_headers_ns=10 * SECOND, client_body_ns=30 * SECOND, client_idle_ns=300 * SECOND)
Script = Callable[[Request, Reply], Awaitable[None]]


class HandTimer:
    """A call waiting for its time."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HandClock(Clock):
    """Implements `Clock`; time passes by `advance` alone."""

    def __init__(self, now_ns: int = 1_700_000_000 * SECOND) -> None:
        self._now_ns = now_ns
        self._order = itertools.count()
        self._timers: list[tuple[int, int, HandTimer]] = []
        self._armed = asyncio.Event()

    def now_ns(self) -> int:
        return self._now_ns

    def call_at(self, when_ns: int, callback: Callable[..., object], *args: object) -> Timer:
        timer = HandTimer(lambda: callback(*args))
        heapq.heappush(self._timers, (when_ns, next(self._order), timer))
        self._armed.set()
        return timer

    def pending(self) -> list[int]:
        """When the timers that still wait are due, in ns from now."""
        return sorted(when - self._now_ns for when, _, timer in self._timers if timer.callback is not None)

    async def until_pending(self, duration_ns: int) -> None:
        """Wait until a timer is due in `duration_ns`."""
        while duration_ns not in self.pending():
            self._armed.clear()
            await self._armed.wait()

    def advance(self, duration_ns: int) -> None:
        end = self._now_ns + duration_ns
        while self._timers and self._timers[0][0] <= end:
            self._now_ns, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()
        self._now_ns = end


async def echo(request: Request, reply: Reply) -> None:
    """Answers 200 with the body that came."""
    await reply.send(200, [(b"content-type", b"application/octet-stream")], request.body)


async def wait_for_ever(request: Request, reply: Reply) -> None:
    """Never answers."""
    await asyncio.get_running_loop().create_future()


class ScriptedService:
    """Implements `Service`: the real entrance, and a script that answers."""

    def __init__(self, script: Script = echo, rules: Rules = RULES) -> None:
        self.entrance = Entrance(rules)
        self.script = script
        self.heads: list[tuple[bytes, bytes, int | None]] = []
        self.requests: list[Request] = []
        self.entered = asyncio.Event()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    def enter(
        self, method: bytes, target: bytes, headers: list[Header], length: int | None, notes: Notes
    ) -> Refusal | Place:
        self.heads.append((method, target, length))
        self.entered.set()
        return self.entrance.enter(headers, length, notes)

    def refused(self, method: bytes, target: bytes, refusal: Refusal) -> Refusal:
        return refusal

    async def handle(self, request: Request, reply: Reply) -> None:
        self.requests.append(request)
        self.started.set()
        try:
            await self.script(request, reply)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Stage:
    """What a test holds: the lanes, where it listens, what is behind it, and its clock."""

    def __init__(self, lane: DataLanes, addresses: list[Address], service: ScriptedService, clock: HandClock) -> None:
        self.lane = lane
        self.addresses = addresses
        self.service = service
        self.clock = clock

    @property
    def address(self) -> Address:
        return self.addresses[0]

    async def all_gone(self) -> None:
        """Wait until every connection and every task has ended by itself."""
        await self.lane._open.emptied(self.clock)


@asynccontextmanager
async def serving(
    script: Script = echo,
    *,
    lane: str,
    rules: Rules = RULES,
    timing: EdgeTiming = TIMING,
    listen: tuple[Address, ...] = (Address("127.0.0.1", 0),),
) -> AsyncIterator[Stage]:
    """The lane of that name ("fast", "general") listens while the block runs, under a watchdog, and leaves nothing."""
    async with asyncio.timeout(10):
        service = ScriptedService(script, rules)
        clock = HandClock()
        typed_clock: Clock = clock
        lanes = DataLanes(service, timing, typed_clock, has_fast_lane=lane == "fast")
        stage = Stage(lanes, await lanes.start(listen), service, clock)
        try:
            yield stage
        finally:
            await lanes.close()
        assert (service.entrance.inflight, service.entrance.inflight_bytes) == (0, 0)
        assert clock.pending() == []


@asynccontextmanager
async def conversing(
    script: Script = echo, *, lane: str, rules: Rules = RULES, timing: EdgeTiming = TIMING
) -> AsyncIterator[tuple[Stage, RawClient]]:
    """`serving`, and one client connected to it."""
    async with (
        serving(script, lane=lane, rules=rules, timing=timing) as stage,
        await RawClient.open(stage.address) as client,
    ):
        yield stage, client
