"""Silence on a stream, and the comments that fill it where an operator asks for them (B8)."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.http import Lines
from sidecar.core.limits import SECOND
from sidecar.delivery import Waits
from sidecar.relay import PING, Relay
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from sidecar.upstream.pool import Pool
from tests.both_ways import BOTH_WAYS
from tests.chain import PROVIDERS, house
from tests.fakes import FakeClock, LoopClock, settle
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running, until
from tests.upstream.conftest import local_resolver
from tests.upstream.scripted import Peer, Scripted
from tests.upstream.scripted import ask as ask_for

pytestmark = BOTH_WAYS

PINGS = "timeouts: {ping: 15s, first_content: 5m, idle: 5m, headers: 5m}\n"


async def ask(rig, clock, **fields):
    return await pump(clock, rig.post(body=chat("fast", stream=True, **fields), accept_encoding="identity"))


@pytest.mark.parametrize("after", [0, 1, 3], ids=["after the head", "after the role", "after content"])
async def test_B8_ninety_seconds_of_silence_are_filled(tmp_path, after):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, PINGS, clock) as rig:
        untouched = (await ask(rig, clock)).body
        rig.fault("groq", Fault("stall_after_headers", after_chunks=after, seconds=91))
        answer = await ask(rig, clock)
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "groq")
        assert answer.body.count(PING) == 6
        assert answer.body.replace(PING, b"").count(b"data: ") == untouched.count(b"data: ")
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (rig.requests[-1]["outcome"], rig.requests[-1]["tokens_out"]) == ("ok", 32)


async def test_B8_off_by_default(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, PINGS.replace("ping: 15s, ", ""), clock) as rig:
        rig.fault("groq", Fault("stall_after_headers", after_chunks=3, seconds=91))
        assert PING not in (await ask(rig, clock)).body


class Caller:
    """A Reply that remembers what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def send(self, status: int, headers: Lines, body: bytes) -> None:
        self.written.append(body)

    async def start(self, status: int, headers: Lines, length: int | None) -> None:
        self.written.append(b"start")

    async def write(self, chunk: bytes) -> None:
        self.written.append(chunk)

    def push(self, piece: bytes, is_framed: bool) -> bool:
        self.written.append(piece)
        return True

    async def drained(self) -> None:
        """It takes all there is."""

    async def finish(self) -> None:
        self.written.append(b"end")

    def abort(self) -> None:
        self.written.append(b"abort")


async def test_B8_no_ping_into_the_middle_of_an_event():
    clock, caller, peers = FakeClock(), Caller(), []
    half, rest = b'data: {"choices":[{"delta":', b'{"content":"hi"}}]}\n\n'

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await peer.request()
        peer.send(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n" + half)
        await peer.gone()

    pool = Pool(clock, local_resolver(LoopClock()), connect_timeout_ns=SECOND)
    async with asyncio.timeout(WATCHDOG_S), Scripted(script) as provider:
        response = await pool.exchange(provider.origin, *ask_for(), clock.now_ns() + SECOND)
        relay = Relay(
            clock, response, caller, Waits(clock.now_ns() + 99 * SECOND, 99 * SECOND, 1 << 62, 5 * SECOND), "openai"
        )
        assert not relay.open(b"POST", True, False, clock.now_ns())
        holding = asyncio.ensure_future(relay.hold())
        await settle(50)
        clock.advance(5 * SECOND)
        await holding
        assert relay.flaw is None
        passing = asyncio.ensure_future(relay.pass_on([]))
        for _ in range(3):
            await settle(50)
            clock.advance(5 * SECOND)
        await settle(50)
        assert caller.written == [b"start", half]
        peers[0].send(rest)
        await until(lambda: caller.written[2:] == [rest])
        for _ in range(2):
            await settle(50)
            clock.advance(5 * SECOND)
        await until(lambda: caller.written[3:] == [PING, PING])
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)
        assert pool.leased == 0
        await pool.close()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("cut", after_chunks=0, mode="rst", seconds=0), None),
        (Fault("stall_after_headers", after_chunks=1), "upstream_timeout"),
    ],
)
async def test_B8_the_price_what_fails_after_a_ping_is_told_in_the_stream(tmp_path, fault, code):
    """A failure before any ping still goes to the next target; after one, the caller has this one's status."""
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, PINGS, clock) as rig:
        rig.fault("groq", fault)
        answer = await ask(rig, clock)
        if code is None:
            assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "cerebras")
            assert PING not in answer.body
            return
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "groq")
        assert answer.body.count(PING) == 19, "every 15 s, until first_content ends it"
        assert code.encode() in answer.body
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (rig.requests[-1]["status"], rig.requests[-1]["outcome"]) == (200, "broken")
        assert rig.row("cerebras").seen == 0


async def test_B8_a_plain_answer_is_never_pinged(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, PINGS, clock) as rig:
        rig.fault("groq", Fault("stall_before_headers", seconds=100))
        answer = await pump(clock, rig.post(body=chat("fast")))
        assert answer.status == 200
        assert PING not in answer.body


async def test_B8_a_caller_that_leaves_a_pinged_stream_stops_the_provider(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq", gzip=False), "cerebras": SimConfig("cerebras")}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, PROVIDERS + PINGS, sims, clock=clock) as rig:
        rig.fault("groq", Fault("stall_after_headers", after_chunks=0))
        task = asyncio.ensure_future(rig.post(body=chat("fast", stream=True)))
        await until(lambda: rig.row("groq").in_flight == 1)
        for _ in range(3):
            await settle(100)
            clock.advance(15 * SECOND)
        task.cancel()
        await until(lambda: rig.row("groq").aborted == 1)
        assert rig.row("groq").in_flight == 0
