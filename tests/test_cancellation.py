"""A caller that leaves at any await of a request's life, and what is left of it: nothing (style 20, B1, B2, C12).

The gateway is driven without an edge: a scripted reply before it, scripted providers behind it. At the n-th suspension
the task is cancelled the way asyncio does it, either while it waits, or in the turn in which what it awaits has come.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager

import pytest
import trustme
import uvloop

from sidecar.core.breaker import State
from sidecar.core.chunks import content
from sidecar.core.entrance import Entrance, Rules
from sidecar.core.http import Lines
from sidecar.core.limits import SECOND, Cost
from sidecar.core.quota import Quota
from sidecar.core.record import Record
from sidecar.core.roster import Roster
from sidecar.core.snapshot import Snapshot
from sidecar.gateway import Gateway
from sidecar.interfaces import ClientGone
from sidecar.upstream.pool import Pool
from tests.core.house import request_of, snapshot_of
from tests.fakes import LoopClock, settle
from tests.rig import until
from tests.upstream.conftest import Wire, local_resolver, tls_wire
from tests.upstream.scripted import Peer, Scripted, answering

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
RPM = 1000
CONFIG = """
providers:
  - name: one
    base_url: "ONE"
    keys: [{name: a, env: A}]
    limits: [{model: "*", rpm: 1000, concurrency: 1}]
  - name: two
    base_url: "TWO"
    keys: [{name: b, env: B}]
    limits: [{model: "*", rpm: 1000, concurrency: 1}]
models:
  - {name: chain, chain: [one/m, two/m]}
  - {name: alone, chain: [one/m]}
retry: {base: 1ms}
hedge: {after: HEDGE}
timeouts: {ping: PING}
"""


def whole(status: int, body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)


SAID = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
OK = whole(200, SAID)
FAILED = whole(500, b'{"error":{"message":"boom"}}')
REFUSED = whole(400, b'{"error":{"message":"no"}}')
HIDDEN = whole(200, b'data: {"error":{"message":"boom"}}\n\n', b"text/event-stream")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
)


async def streaming(peer: Peer) -> None:
    """A stream whose pieces come one by one."""
    while True:
        await peer.request()
        peer.send(HEAD)
        for event in (*EVENTS, b""):
            await settle(4)
            if peer.is_gone:
                return
            peer.send(b"%x\r\n%b\r\n" % (len(event), event))


async def silent(peer: Peer) -> None:
    """Takes requests and never answers."""
    while True:
        await peer.request()


class Scenario:
    """What the providers do to a request for `model`."""

    def __init__(self, first, model="chain", stream=False, hedge="null", ping="null", waits=False):
        self.first = first
        self.model = model
        self.body = b'{"model":"%b","stream":%b,"messages":[]}' % (model.encode(), b"true" if stream else b"false")
        self.hedge = hedge
        self.ping = ping
        self.waits = waits


SCENARIOS = {
    "plain": Scenario(answering(OK)),
    "stream": Scenario(streaming, stream=True),
    "pinged stream": Scenario(streaming, stream=True, ping="1ms"),
    "fallback": Scenario(answering(FAILED)),
    "hidden error": Scenario(answering(HIDDEN), stream=True),
    "backoff": Scenario(answering(FAILED, OK), "alone"),
    "refused": Scenario(answering(REFUSED)),
    "given up": Scenario(answering(FAILED), "alone"),
    "hedged": Scenario(silent, hedge="1ms"),
    "waiting": Scenario(answering(OK), "alone", waits=True),
}


class Caller:
    """A Reply that takes everything, with a suspension at each step; `leaves_at`: the call in which it is gone."""

    def __init__(self, leaves_at: int | None = None) -> None:
        self._leaves_at = leaves_at
        self._calls = 0
        self.body = b""
        self.status = 0
        self.is_done = False

    async def _step(self) -> None:
        self._calls += 1
        await asyncio.sleep(0)
        if self._calls == self._leaves_at:
            raise ClientGone

    async def send(self, status: int, headers: Lines, body: bytes) -> None:
        await self._step()
        self.status, self.body, self.is_done = status, body, True

    async def start(self, status: int, headers: Lines, length: int | None) -> None:
        self.status = status
        await self._step()

    async def write(self, chunk: bytes) -> None:
        self.body += chunk
        await self._step()

    def push(self, piece: bytes, is_framed: bool) -> bool:
        self.body += (content(piece) or b"") if is_framed else piece
        return False

    async def drained(self) -> None:
        await self._step()

    async def finish(self) -> None:
        await self._step()
        self.is_done = True

    def abort(self) -> None:
        self.is_done = True


class Step:
    """At which suspension the task is cancelled, and how. `was_connecting`: whether a connection was being made."""

    def __init__(self, at: int, is_late: bool) -> None:
        self.at = at
        self.is_late = is_late
        self.was_reached = False
        self.was_connecting = False


@types.coroutine
def stepped(work: Coroutine[None, None, None], step: Step, pool: Pool) -> Generator[object, None, None]:
    """Do the work, and be cancelled at that step of it."""
    task = asyncio.current_task()
    assert task is not None
    inner = work.__await__()
    count, error = 0, None
    while True:
        try:
            awaited = inner.send(None) if error is None else inner.throw(error)
        except StopIteration:
            return
        count, error = count + 1, None
        if count == step.at:
            step.was_reached, step.was_connecting = True, pool.connecting > 0
            if step.is_late and isinstance(awaited, asyncio.Future):
                awaited.add_done_callback(lambda _: task.cancel())
            else:
                task.cancel()
        try:
            yield awaited
        except BaseException as caught:  # the cancellation itself among them
            error = caught


class House:
    """A gateway before two scripted providers."""

    def __init__(self, scenario: Scenario, wire: Wire, providers: Sequence[Scripted], snapshot: Snapshot) -> None:
        clock = LoopClock()
        self.scenario = scenario
        self.providers = providers
        self.roster = Roster(snapshot, clock.now_ns())
        self.pool = Pool(clock, local_resolver(clock), tls=wire.client, connect_timeout_ns=5 * SECOND)
        entrance = Entrance(Rules(1 << 20, 100, 1 << 20))
        self.records: list[Record | None] = []
        self.gateway = Gateway(
            self.roster, entrance, self.pool, clock, lambda record, now_ns: self.records.append(record)
        )

    @property
    def quotas(self) -> list[Quota]:
        return list(self.roster.ledger)

    @property
    def outcome(self) -> str:
        (record,) = self.records
        return record.outcome if record is not None else ""

    async def handle(self, reply: Caller, step: Step | None = None) -> None:
        """One request, cancelled at that step."""
        freeing = asyncio.ensure_future(self._free()) if self.scenario.waits else None
        work = self.gateway.handle(request_of("/v1/chat/completions", self.scenario.body), reply)
        try:
            await (work if step is None else asyncio.ensure_future(_run(work, step, self.pool)))
        finally:
            if freeing is not None:
                await freeing

    async def _free(self) -> None:
        """Occupy the only place until somebody waits for it."""
        quota = self.roster.ledger.quota("one/a", "m", LoopClock().now_ns())
        charge = quota.try_admit(Cost(1, 0), LoopClock().now_ns())
        assert charge is not None
        for _ in range(60):
            await asyncio.sleep(0)
        quota.cancel(charge, LoopClock().now_ns())
        self.gateway.room.poke(quota)

    def used(self, at: int) -> int:
        """How many requests a provider's account has been charged for."""
        (view,) = self.quotas[at].views(LoopClock().now_ns())
        return RPM - view.remaining

    async def assert_nothing_is_left(self) -> None:
        assert (self.pool.leased, self.pool.connecting) == (0, 0)
        assert self.gateway.room.waiting == 0
        for quota in self.quotas:
            assert (quota.inflight, quota.line.waiting) == (0, 0), quota
            assert [budget.reserved for budget in quota.budgets] == [0], quota
        assert all(breaker.state is State.CLOSED for _, breaker in self.roster.health.breakers.items())
        known = {asyncio.current_task(), *(task for each in self.providers for task in each._tasks)}
        await until(lambda: not asyncio.all_tasks() - known)
        assert len(self.records) == 1


async def _run(work: Coroutine[None, None, None], step: Step, pool: Pool) -> None:
    await stepped(work, step, pool)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(params=["plain", "tls"])
def wire(request, authority):
    return Wire(None, None) if request.param == "plain" else tls_wire(authority, "localhost")


@pytest.fixture(params=LOOPS)
def play(request):
    """Runs a coroutine on one of the loops, under a watchdog."""

    async def guarded(work: Coroutine[None, None, None]) -> None:
        async with asyncio.timeout(20):
            await work

    def run(work: Coroutine[None, None, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(guarded(work))

    return run


@asynccontextmanager
async def street(scenario: Scenario, wire: Wire) -> AsyncIterator[Callable[[], House]]:
    """Two providers that stay, and as many new houses before them as are asked for."""
    second = streaming if b'"stream":true' in scenario.body else answering(OK)
    async with wire.provider(scenario.first) as one, wire.provider(second) as two:
        urls = [f"{origin.scheme}://{origin.host}:{origin.port}/v1" for origin in (one.origin, two.origin)]
        text = CONFIG.replace("ONE", urls[0]).replace("TWO", urls[1])
        snapshot = snapshot_of(text.replace("HEDGE", scenario.hedge).replace("PING", scenario.ping))
        yield lambda: House(scenario, wire, (one, two), snapshot)


@pytest.mark.parametrize("is_late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_B1_B2_C12_cancelled_at_every_await(play, wire, name, is_late):
    scenario = SCENARIOS[name]

    async def everywhere() -> None:
        async with street(scenario, wire) as build:
            step = Step(0, is_late)
            while step.at == 0 or step.was_reached:
                step = Step(step.at + 1, is_late)
                house = build()
                reply = Caller()
                seen = len(house.providers[0].requests)
                try:
                    await house.handle(reply, step)
                    assert reply.is_done
                except asyncio.CancelledError:
                    assert step.was_reached
                    assert house.outcome in ("client_gone", "ok"), step.at
                await house.assert_nothing_is_left()
                if step.was_connecting and name in ("plain", "stream", "waiting"):
                    assert house.used(0) == 0, f"step {step.at}: charged for what was never sent"
                elif name in ("plain", "stream") and len(house.providers[0].requests) > seen:
                    assert house.used(0) == 1
                await house.pool.close()
            assert step.at > 4, "the steps were not counted"

    play(everywhere())


@pytest.mark.parametrize("name", ["plain", "stream", "pinged stream", "fallback", "refused", "hedged"])
def test_B2_gone_at_every_call_of_the_reply(play, wire, name):
    scenario = SCENARIOS[name]

    async def everywhere() -> None:
        async with street(scenario, wire) as build:
            for leaves_at in range(1, 20):
                house = build()
                reply = Caller(leaves_at)
                is_gone = False
                try:
                    await house.handle(reply)
                except ClientGone:
                    is_gone = True
                await house.assert_nothing_is_left()
                await house.pool.close()
                if not is_gone:
                    assert leaves_at > 1
                    return

    play(everywhere())


@pytest.mark.parametrize("name", ["hedged", "waiting", "stream"])
def test_B2_cancelled_after_any_number_of_turns(play, name):
    """The lanes of a hedge suspend by themselves: what counts there is the turn of the loop."""
    scenario, wire = SCENARIOS[name], Wire(None, None)

    async def everywhere() -> None:
        async with street(scenario, wire) as build:
            for turns in range(0, 120, 3):
                house = build()
                task = asyncio.ensure_future(house.handle(Caller()))
                await settle(turns)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                house.records += [None] * (turns == 0)  # it never began
                await house.assert_nothing_is_left()
                await house.pool.close()

    play(everywhere())
