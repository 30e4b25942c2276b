"""Breakers through the whole house: a target that is down is left alone, probed, and taken back (B12, H3, I4)."""

from __future__ import annotations

import asyncio

from sidecar.core.breaker import IN_A_ROW, OPEN_NS, OVERTAKEN_IN_A_ROW, PROBE_NS
from sidecar.core.limits import SECOND
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.chain import BOTH, house
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, until

pytestmark = BOTH_WAYS

DOWN = Fault("status", status=500)


async def breaker_of(rig, provider="groq"):
    """The breakers of a provider, as the status page tells them."""
    told = next(each for each in (await rig.status())["providers"] if each["name"] == provider)
    return {model: each["state"] for model, each in told.get("breakers", {}).items()}


async def trip(rig, clock):
    """Requests that fail at groq, until it is left alone."""
    for _ in range(IN_A_ROW):
        answer = await pump(clock, rig.post(body=chat("fast")))
        assert answer.headers["x-sidecar-provider"] == "cerebras"


async def ask_and_leave(rig):
    """A caller that hangs up while groq says nothing."""
    seen, aborted = rig.row("groq").seen, rig.row("groq").aborted
    task = asyncio.ensure_future(rig.post(body=chat("fast")))
    await until(lambda: rig.row("groq").seen == seen + 1)
    task.cancel()
    await until(lambda: rig.row("groq").aborted == aborted + 1)


@BOTH
async def test_B12_what_is_down_is_left_alone_then_probed_once_and_taken_back(tmp_path, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", DOWN)
        await trip(rig, clock)
        assert await pump(clock, breaker_of(rig)) == {"openai/gpt-oss-120b": "open"}
        seen = rig.row("groq").seen
        for _ in range(20):
            began_ns = clock.now_ns()
            answer = await rig.post(body=chat("fast", stream=stream))
            assert (answer.status, answer.headers["x-sidecar-attempts"]) == (200, "1")
            assert (clock.now_ns(), rig.row("groq").seen) == (began_ns, seen), "a skip costs no time and no call"
        clock.leap(OPEN_NS)
        await pump(clock, rig.post(body=chat("fast")))  # the probe
        assert rig.row("groq").seen == seen + 1, "it failed, and so no other key was tried"
        assert await pump(clock, breaker_of(rig)) == {"openai/gpt-oss-120b": "open"}
        rig.sims["groq"].provider.faults.clear()
        clock.leap(2 * OPEN_NS)
        for _ in range(3):
            answer = await rig.post(body=chat("fast", stream=stream))
            assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "groq")
        assert await breaker_of(rig) == {}


async def test_B12_one_probe_is_out_and_the_others_go_elsewhere(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", DOWN)
        await trip(rig, clock)
        rig.sims["groq"].provider.faults.clear()
        rig.fault("groq", Fault("stall_before_headers", seconds=PROBE_NS / SECOND / 2))
        clock.leap(OPEN_NS)
        seen = rig.row("groq").seen
        probe = asyncio.ensure_future(rig.post(body=chat("fast")))
        await until(lambda: rig.row("groq").seen == seen + 1)
        answers = await asyncio.gather(*(rig.post(body=chat("fast")) for _ in range(10)))
        assert {answer.headers["x-sidecar-provider"] for answer in answers} == {"cerebras"}
        assert (await pump(clock, probe)).headers["x-sidecar-provider"] == "groq"


async def test_I4_a_probe_whose_caller_leaves_frees_the_place(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", DOWN)
        await trip(rig, clock)
        rig.sims["groq"].provider.faults.clear()
        rig.fault("groq", Fault("stall_before_headers", count=1))
        clock.leap(OPEN_NS)
        await ask_and_leave(rig)
        assert (await rig.post(body=chat("fast"))).headers["x-sidecar-provider"] == "groq"
        assert await breaker_of(rig) == {}


async def test_B12_who_has_nowhere_else_to_go_waits_for_it_or_is_told_when(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", DOWN)
        await trip(rig, clock)
        answer = await rig.post(body=chat("alone"), x_sidecar_max_wait="0s")
        assert (answer.status, answer.json["error"]["code"]) == (503, "provider_unavailable")
        assert (answer.headers["retry-after"], answer.headers["x-sidecar-attempts"]) == ("1", "0")
        assert "x-should-retry" not in answer.headers, "waiting mends it"
        rig.sims["groq"].provider.faults.clear()
        began_ns = clock.now_ns()
        answers = await pump(clock, asyncio.gather(*(rig.post(body=chat("alone")) for _ in range(5))))
        assert [answer.status for answer in answers] == [200] * 5
        assert OPEN_NS * 3 // 4 <= clock.now_ns() - began_ns <= OPEN_NS + PROBE_NS + SECOND


async def test_B12_who_waits_for_a_probe_goes_as_soon_as_it_passes(tmp_path):
    """Not when the time is over that the probe keeps others away, nor all at once."""
    clock = DrivenClock()
    slow_ns = PROBE_NS // 4
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", DOWN)
        await trip(rig, clock)
        rig.sims["groq"].provider.faults.clear()
        rig.fault("groq", Fault("stall_before_headers", seconds=slow_ns / SECOND, count=1))
        clock.leap(OPEN_NS)
        began_ns, seen = clock.now_ns(), rig.row("groq").seen
        probe = asyncio.ensure_future(rig.post(body=chat("alone")))
        await until(lambda: rig.row("groq").seen == seen + 1)
        others = [asyncio.ensure_future(rig.post(body=chat("alone"))) for _ in range(20)]
        await until(lambda: sum(map(len, rig.sidecar._gateway.room.asleep.values())) == 20)
        answers = await pump(clock, asyncio.gather(probe, *others))
        assert {answer.status for answer in answers} == {200}
        assert clock.now_ns() - began_ns == slow_ns, "no time passes but the probe's"
        assert not rig.sidecar._gateway.room.asleep


async def test_B12_who_waits_for_a_probe_whose_caller_leaves_is_the_next(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", DOWN)
        await trip(rig, clock)
        rig.sims["groq"].provider.faults.clear()
        rig.fault("groq", Fault("stall_before_headers", count=1))
        clock.leap(OPEN_NS)
        began_ns, seen = clock.now_ns(), rig.row("groq").seen
        probe = asyncio.ensure_future(rig.post(body=chat("alone")))
        await until(lambda: rig.row("groq").seen == seen + 1)
        other = asyncio.ensure_future(rig.post(body=chat("alone")))
        await until(lambda: bool(rig.sidecar._gateway.room.asleep))
        probe.cancel()
        assert (await other).status == 200
        assert clock.now_ns() == began_ns


@BOTH
async def test_B9_one_busy_answer_without_a_time_keeps_nobody_away(tmp_path, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", Fault("status", status=503, count=1))
        began_ns = clock.now_ns()
        assert (await rig.post(body=chat("fast", stream=stream))).headers["x-sidecar-provider"] == "cerebras"
        answer = await rig.post(body=chat("alone", stream=stream))
        assert (answer.status, answer.headers["x-sidecar-wait-ms"], clock.now_ns()) == (200, "0", began_ns)


async def test_B12_a_target_that_is_busy_time_and_again_is_left_alone(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, clock=clock) as rig:
        rig.fault("groq", Fault("busy"))
        await trip(rig, clock)
        assert await pump(clock, breaker_of(rig)) == {"openai/gpt-oss-120b": "open"}
        seen = rig.row("groq").seen
        assert seen == IN_A_ROW
        assert (await rig.post(body=chat("fast"))).headers["x-sidecar-attempts"] == "1"
        assert rig.row("groq").seen == seen


async def test_B12_a_target_that_is_always_overtaken_is_left_alone_for_a_while(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, "hedge: {after: 2s}\n", clock) as rig:
        rig.fault("groq", Fault("stall_before_headers"))
        for count in range(OVERTAKEN_IN_A_ROW):
            assert rig.row("groq").seen == count
            answer = await pump(clock, rig.post(body=chat("fast")))
            assert (answer.headers["x-sidecar-provider"], answer.headers["x-sidecar-attempts"]) == ("cerebras", "2")
        told = (await pump(clock, rig.status()))["providers"][0]["breakers"]["openai/gpt-oss-120b"]
        assert (told["state"], told["reason"]) == ("open", "hedged")
        answer = await pump(clock, rig.post(body=chat("fast")))
        assert (answer.headers["x-sidecar-attempts"], rig.row("groq").seen) == ("1", OVERTAKEN_IN_A_ROW)


async def test_H3_a_request_that_fails_everywhere_opens_one_breaker_at_most(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, "retry: {attempts: 3}\n", clock) as rig:
        for name in ("groq", "cerebras"):
            rig.fault(name, DOWN)
        for _ in range(IN_A_ROW):
            answer = await pump(clock, rig.post(body=chat("fast"), x_sidecar_max_wait="0s"))
            assert answer.status == 502
        assert await pump(clock, breaker_of(rig)) == {"openai/gpt-oss-120b": "open"}
        assert await pump(clock, breaker_of(rig, "cerebras")) == {}


async def test_I4_callers_that_leave_open_nothing(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("stall_before_headers", count=3 * IN_A_ROW))
        for _ in range(3 * IN_A_ROW):
            await ask_and_leave(rig)
        assert await breaker_of(rig) == {}
        assert (await rig.post(body=chat("fast"))).headers["x-sidecar-provider"] == "groq"
