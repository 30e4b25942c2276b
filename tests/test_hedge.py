"""Hedging through the whole house: a second target beside one that is slow, and one answer (`hedge.after`)."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.chain import BOTH, PROVIDERS, SIMS, house, reasons
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running, until

pytestmark = BOTH_WAYS

HEDGE = "hedge: {after: 2s}\n"
MUTE = Fault("stall_before_headers")
SLOW = Fault("slow", seconds=5)


def counts(rig, name):
    """Of a provider: requests seen, given up, and in flight."""
    row = rig.row(name)
    return row.seen, row.aborted, row.in_flight


async def quotas(rig):
    """What each account is charged for and has in flight, as the status page tells it."""
    return {
        provider["name"]: [quota["in_flight"] for account in provider["accounts"].values() for quota in account]
        for provider in (await rig.status())["providers"]
    }


@BOTH
async def test_the_first_to_speak_is_kept_and_the_other_given_up(tmp_path, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, HEDGE, clock) as rig:
        rig.fault("groq", MUTE)
        began_ns = clock.now_ns()
        answer = await pump(clock, rig.post(body=chat("fast", stream=stream)))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "cerebras")
        assert (answer.headers["x-sidecar-attempts"], reasons(answer)) == ("2", ["groq/openai/gpt-oss-120b: hedged"])
        assert clock.now_ns() - began_ns == 2 * SECOND
        await until(lambda: counts(rig, "groq") == (1, 1, 0))
        line = rig.requests[-1]
        assert (line["provider"], line["outcome"], line["attempts"]) == ("cerebras", "ok", 2)
        assert [(step["reason"], step.get("status")) for step in line["trail"]] == [("hedged", None)]
        assert {count for counted in (await pump(clock, quotas(rig))).values() for count in counted} == {0}


@BOTH
async def test_the_first_target_may_still_win(tmp_path, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, HEDGE, clock) as rig:
        rig.fault("groq", Fault("stall_before_headers", seconds=3))
        rig.fault("cerebras", MUTE)
        answer = await pump(clock, rig.post(body=chat("fast", stream=stream)))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "groq")
        assert (answer.headers["x-sidecar-attempts"], reasons(answer)) == ("2", ["cerebras/gpt-oss-120b: hedged"])
        await until(lambda: counts(rig, "cerebras") == (1, 1, 0))
        line = rig.requests[-1]
        assert (line["provider"], line["target_model"], line["attempts"]) == ("groq", "openai/gpt-oss-120b", 2)


async def test_both_are_charged_for_what_they_will_charge(tmp_path):
    limits = "}]\n    limits: [{model: '*', rph: 100, tph: 10000}]\n"
    config = PROVIDERS.replace("}]\n  - name: cerebras", limits + "  - name: cerebras")
    config = config.replace("}]\nmodels", limits + "models")
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config + HEDGE, SIMS, clock=clock) as rig:
        rig.fault("groq", MUTE)
        answer = await pump(clock, rig.post(body=chat("fast", max_tokens=600)))
        assert answer.headers["x-sidecar-provider"] == "cerebras"
        left = {}
        for provider in (await pump(clock, rig.status()))["providers"]:
            views = [
                each for account in provider["accounts"].values() for quota in account for each in quota["windows"]
            ]
            for axis in ("requests", "tokens"):
                left[provider["name"], axis] = min(each["remaining"] for each in views if each["counts"] == axis)
        assert left["groq", "requests"] == left["cerebras", "requests"] == 99
        assert left["groq", "tokens"] < 9400, "given up half-way: the estimate stays charged"
        assert left["cerebras", "tokens"] > 9400, "settled by what it reports"


@BOTH
@pytest.mark.parametrize("why", ["fast enough", "fallback off", "nobody beside", "not asked for"])
async def test_no_second_target_is_asked_without_need_or_leave(tmp_path, why, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, "" if why == "not asked for" else HEDGE, clock) as rig:
        rig.fault("groq", Fault("stall_before_headers", seconds=1 if why == "fast enough" else 5))
        name = "alone" if why == "nobody beside" else "fast"
        headers = {"x_sidecar_fallback": "off"} if why == "fallback off" else {}
        answer = await pump(clock, rig.post(body=chat(name, stream=stream), **headers))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "groq")
        assert answer.headers["x-sidecar-attempts"] == "1"
        assert (counts(rig, "groq"), counts(rig, "cerebras")) == ((1, 0, 0), (0, 0, 0))


async def test_B3_nothing_is_hedged_after_the_first_content(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, HEDGE, clock) as rig:
        rig.fault("groq", Fault("stall_after_headers", after_chunks=3, seconds=30))
        answer = await pump(clock, rig.post(body=chat("fast", stream=True)))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "groq")
        assert rig.row("cerebras").seen == 0


@BOTH
async def test_a_hedge_that_fails_leaves_the_first_to_answer(tmp_path, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, HEDGE, clock) as rig:
        rig.fault("groq", Fault("stall_before_headers", seconds=4))
        rig.fault("cerebras", Fault("status", status=500))
        answer = await pump(clock, rig.post(body=chat("fast", stream=stream)))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "groq")
        assert reasons(answer) == ["cerebras/gpt-oss-120b: server_error"]


@BOTH
async def test_when_both_fail_the_request_goes_on_as_ever(tmp_path, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, HEDGE, clock) as rig:
        rig.fault("groq", Fault("stall_before_headers", seconds=3, key="gsk_a"))
        rig.fault("groq", Fault("stall_before_headers", seconds=3, key="gsk_b"))
        rig.fault("cerebras", Fault("status", status=500, count=1))
        timeouts = await pump(clock, rig.post(body=chat("fast", stream=stream)))
        assert timeouts.status == 200
        assert {count for counted in (await pump(clock, quotas(rig))).values() for count in counted} == {0}


async def test_the_callers_own_fault_ends_the_race(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, HEDGE, clock) as rig:
        rig.fault("groq", MUTE)
        rig.fault("cerebras", Fault("status", status=400, body='{"error": {"message": "no"}}'))
        answer = await pump(clock, rig.post(body=chat("fast")))
        assert (answer.status, answer.body) == (400, b'{"error": {"message": "no"}}')
        await until(lambda: counts(rig, "groq") == (1, 1, 0))


@BOTH
async def test_B1_a_caller_that_leaves_stops_both(tmp_path, stream):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, HEDGE, clock) as rig:
        for name in ("groq", "cerebras"):
            rig.fault(name, MUTE)
        task = asyncio.ensure_future(rig.post(body=chat("fast", stream=stream)))
        await until(lambda: rig.row("groq").in_flight == 1)
        clock.advance(2 * SECOND)
        await until(lambda: rig.row("cerebras").in_flight == 1)
        task.cancel()
        await until(lambda: [counts(rig, name) for name in ("groq", "cerebras")] == [(1, 1, 0)] * 2)
        await until(lambda: len(rig.requests) == 1)
        assert (rig.requests[0]["status"], rig.requests[0].get("trail")) == (499, None)
        assert {count for counted in (await quotas(rig)).values() for count in counted} == {0}
