"""Requests that wait for quota, through the whole house: in order, paced, bounded, told the truth (A14-A18, A23)."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import openai
import pytest

from sidecar.core.errors import seconds_up
from sidecar.core.limits import HOUR, SECOND
from sidecar.core.snapshot import TRANSIT_NS
from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.faults import Fault
from tests.edge.raw import post
from tests.fakes import settle
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running, until


def limited(rpm, extra="", chain="groq/m"):
    """One Groq key with so many requests a minute, and Cerebras without a limit."""
    return f"""
providers:
  - name: groq
    base_url: "{{groq}}"
    keys: [{{name: a, env: KEY_A}}]
    limits: [{{model: "*", rpm: {rpm}}}]
  - name: cerebras
    base_url: "{{cerebras}}"
    keys: [{{name: c, env: KEY_C}}]
models:
  - {{name: fast, chain: [{chain}]}}
{extra}
"""


ONE = {"groq": SimConfig("groq", limits=(LimitRule(rpm=30),), keep_requests=1000), "cerebras": SimConfig("cerebras")}
SPENT = {"groq": SimConfig("groq"), "cerebras": SimConfig("cerebras")}


def numbered(number):
    return {"model": "fast", "messages": [{"role": "user", "content": str(number)}]}


async def queue_up(rig, count, **headers):
    """So many requests, one after the other, each in its place before the next comes."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(rig.post(body=numbered(number), **headers)))
        await settle()
    return tasks


async def waiting(rig, count):
    """Until so many wait."""
    async with asyncio.timeout(WATCHDOG_S):
        while (await rig.status())["waiting"] != count:
            await settle(1)


async def test_A14_a_burst_of_three_minutes_is_served_in_order_and_paced(tmp_path):
    clock = DrivenClock()
    async with running(tmp_path, limited(30, "wait: {max: 3m}"), ONE, clock=clock) as rig:
        tasks = await queue_up(rig, 90)
        answers = await pump(clock, asyncio.gather(*tasks))
        assert {answer.status for answer in answers} == {200}
        assert rig.row("groq").refused == {}
        sent = [json.loads(arrival.body)["messages"][0]["content"] for _, arrival in rig.sims["groq"].requests]
        assert sent == [str(number) for number in range(90)]
        arrivals = rig.arrivals("groq")
        assert arrivals[29] == arrivals[0], "thirty at once"
        gaps = [later - sooner for sooner, later in pairwise(arrivals[29:])]
        assert gaps == [2 * SECOND + TRANSIT_NS] + [2 * SECOND] * 59
        waits = [int(answer.headers["x-sidecar-wait-ms"]) for answer in answers]
        assert waits == [0] * 30 + [number * 2000 + TRANSIT_NS // 1_000_000 for number in range(1, 61)]


async def test_A14_who_leaves_the_queue_frees_its_place_at_once(tmp_path):
    clock = DrivenClock()
    async with running(tmp_path, limited(1, "wait: {max: 10m}"), SPENT, clock=clock) as rig:
        await rig.post(body=numbered(0))
        leaver = await rig.raw()
        await leaver.send(post(json.dumps(numbered(1)).encode(), b"content-type: application/json"))
        await waiting(rig, 1)
        (second,) = await queue_up(rig, 1)
        await waiting(rig, 2)
        leaver.reset()
        await waiting(rig, 1)
        assert (await pump(clock, second)).status == 200
        assert rig.arrivals("groq")[1] - rig.arrivals("groq")[0] == 60 * SECOND + TRANSIT_NS
        assert [line["outcome"] for line in rig.requests] == ["ok", "client_gone", "ok"]


async def test_A14_a_place_given_back_admits_the_next_at_once(tmp_path):
    config = limited(1000).replace("rpm: 1000", "concurrency: 1")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, SPENT) as rig:
        rig.fault("groq", Fault("stall_before_headers", count=1))
        holder = await rig.raw()
        await holder.send(post(json.dumps(numbered(0)).encode(), b"content-type: application/json"))
        await until(lambda: rig.row("groq").in_flight == 1)
        tasks = await queue_up(rig, 3)
        await waiting(rig, 3)
        holder.reset()
        assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
        assert rig.row("groq").peak == 1


async def test_A15_a_reset_beyond_the_wait_goes_to_the_next_at_once(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, limited(1, chain="groq/m, cerebras/m"), SPENT) as rig:
        rig.fault("cerebras", Fault("rate_limit", seconds=HOUR / SECOND))
        first, second = [await rig.post(body=numbered(number), x_sidecar_max_wait="30s") for number in range(2)]
        # one is spent for a minute, the other for an hour: there is nothing to wait for within half a minute
        assert (first.status, second.status) == (200, 429)
        assert second.headers["x-sidecar-wait-ms"] == "0"
        assert 59 <= int(second.headers["retry-after"]) <= 61
        rig.sims["cerebras"].provider.faults.clear()


async def test_A15_a_target_that_admits_now_always_beats_waiting(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, limited(1, chain="groq/m, cerebras/m"), SPENT) as rig:
        answers = [await rig.post(body=numbered(number)) for number in range(3)]
        assert [answer.headers["x-sidecar-provider"] for answer in answers] == ["groq", "cerebras", "cerebras"]


async def test_A15_a_full_queue_answers_at_once(tmp_path):
    clock = DrivenClock()
    async with running(tmp_path, limited(1, "wait: {max: 3m, queue: 1}"), SPENT, clock=clock) as rig:
        async with asyncio.timeout(WATCHDOG_S):
            await rig.post(body=numbered(0))
            (waiter,) = await queue_up(rig, 1)
            await waiting(rig, 1)
            refused = await rig.post(body=numbered(2))
        assert (refused.status, refused.json["error"]["code"]) == (429, "queue_full")
        assert refused.json["error"]["type"] == "rate_limit_error"
        # by then, whoever waits now has been served
        assert refused.headers["retry-after"] == "121"
        assert "x-should-retry" not in refused.headers
        assert (await pump(clock, waiter)).status == 200


@pytest.mark.parametrize(("limits", "after_s"), [("rpm: 1", 60), ("rpm: 4", 15), ("rpd: 1", 86400)])
async def test_A16_who_may_not_wait_is_told_the_true_time(tmp_path, limits, after_s):
    clock = DrivenClock()
    config = limited(1).replace("rpm: 1", limits)
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, SPENT, clock=clock) as rig:
        answers = [await rig.post(body=numbered(number), x_sidecar_max_wait="0s") for number in range(5)]
        refused = answers[-1]
        assert refused.status == 429
        told_s = int(refused.headers["retry-after"])
        assert told_s == seconds_up(after_s * SECOND + TRANSIT_NS)
        error = refused.json["error"]
        assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "rate_limit_exceeded", None)
        clock.leap(told_s * SECOND)
        assert (await rig.post(body=numbered(9), x_sidecar_max_wait="0s")).status == 200


async def test_A16_the_openai_sdk_comes_back_when_it_was_told(tmp_path):
    clock = DrivenClock()

    class Punctual(openai.AsyncOpenAI):
        """Sleeps on the clock of the test, as long as it means to."""

        slept: list[float] = []  # noqa: RUF012

        def _calculate_retry_timeout(self, *args, **options):
            self.slept.append(super()._calculate_retry_timeout(*args, **options))
            clock.leap(round(self.slept[-1] * SECOND))
            return 0

    config = limited(1, "wait: {max: 0s}")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, SPENT, clock=clock) as rig:
        await rig.post(body=numbered(0))
        clock.leap(13 * SECOND)
        async with Punctual(base_url=rig.url + "/v1", api_key="none") as client:
            got = await client.chat.completions.create(model="fast", messages=[{"role": "user", "content": "hi"}])
        assert got.choices[0].message.content
        assert client.slept == [seconds_up(47 * SECOND + TRANSIT_NS)]
        assert rig.row("groq").served == 2


async def test_wait_max_is_the_longest_anyone_is_held(tmp_path):
    clock = DrivenClock()
    async with running(tmp_path, limited(6, "wait: {max: 21s}"), SPENT, clock=clock) as rig:
        tasks = await queue_up(rig, 10)
        began_ns = clock.now_ns()
        answers = await pump(clock, asyncio.gather(*tasks))
        # six at once, one after 10.5 s, one after 20.5 s; the others would have to wait longer than they may, and are
        # told so at once
        assert [answer.status for answer in answers] == [200] * 8 + [429] * 2
        assert clock.now_ns() - began_ns == 20 * SECOND + SECOND // 2
        assert {int(answer.headers["retry-after"]) for answer in answers[8:]} == {31}
        assert [answer.headers["x-sidecar-wait-ms"] for answer in answers[7:]] == ["20500", "0", "0"]


@pytest.mark.parametrize(("wish", "status", "waited"), [("3s", 429, "0"), ("61s", 200, "60500"), ("0s", 429, "0")])
async def test_a_caller_says_how_long_it_may_be_held(tmp_path, wish, status, waited):
    clock = DrivenClock()
    async with running(tmp_path, limited(1), SPENT, clock=clock) as rig:
        await rig.post(body=numbered(0))
        answer = await pump(clock, rig.post(body=numbered(1), x_sidecar_max_wait=wish))
        assert (answer.status, answer.headers["x-sidecar-wait-ms"]) == (status, waited)


async def test_a_wish_that_cannot_be_understood_is_refused(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, limited(1), SPENT) as rig:
        answer = await rig.post(body=numbered(0), x_sidecar_max_wait="soon")
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_header")
        assert rig.row("groq").seen == 0


async def test_A18_when_a_cooldown_ends_one_goes_first(tmp_path):
    clock = DrivenClock()
    groq = SimConfig("groq", limits=(LimitRule(rpm=6000),), latency_ns=SECOND, keep_requests=1000)
    sims = SPENT | {"groq": groq}
    async with running(tmp_path, limited(6000, "wait: {max: 2m}"), sims, clock=clock) as rig:
        rig.fault("groq", Fault("rate_limit", seconds=30, count=2))
        tasks = await queue_up(rig, 1)
        await until(lambda: rig.row("groq").faulted != {})
        tasks += [asyncio.create_task(rig.post(body=numbered(number))) for number in range(1, 200)]
        await waiting(rig, 200)
        assert rig.row("groq").seen == 1
        first_ns = rig.arrivals("groq")[0]
        answers = await pump(clock, asyncio.gather(*tasks))
        assert {answer.status for answer in answers} == {200}
        assert rig.row("groq").early == 0
        arrivals = [at_ns - first_ns for at_ns in rig.arrivals("groq")]
        # a probe at the end of the cooldown, which fails; another at the end of the next, which passes after a second
        assert arrivals[:4] == [0, 30 * SECOND, 60 * SECOND, 61 * SECOND]
        assert len(arrivals) == 202


async def test_A23_a_raised_limit_admits_at_once_who_waits_and_who_comes(tmp_path):
    config = limited(1, "wait: {max: 10m}")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, SPENT, clock=DrivenClock()) as rig:
        await rig.post(body=numbered(0))
        tasks = await queue_up(rig, 3)
        await waiting(rig, 3)
        assert rig.reload(config.replace("rpm: 1", "rpm: 100"))
        # no time passes: the clock stands still
        assert [answer.status for answer in await asyncio.gather(*tasks)] == [200] * 3
        assert (await rig.post(body=numbered(4))).headers["x-sidecar-wait-ms"] == "0"


async def test_A23_refused_requests_cost_nothing(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, limited(2), SPENT, clock=clock) as rig:
        for _ in range(20):
            last = await rig.post(body=numbered(0), x_sidecar_max_wait="0s")
        assert (last.status, last.headers["retry-after"]) == (429, "31")
        clock.leap(31 * SECOND)
        assert (await rig.post(body=numbered(0), x_sidecar_max_wait="0s")).status == 200
        assert rig.row("groq").seen == 3


async def test_draining_serves_who_waits_and_takes_no_new_connection(tmp_path):
    clock = DrivenClock()
    async with running(tmp_path, limited(1), SPENT, clock=clock) as rig:
        await rig.post(body=numbered(0))
        (waiter,) = await queue_up(rig, 1, x_sidecar_max_wait="2m")
        await waiting(rig, 1)
        stopping = asyncio.create_task(rig.sidecar.stop())
        await settle()
        with pytest.raises(ConnectionRefusedError):
            await rig.raw()
        answer = await pump(clock, waiter)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await pump(clock, stopping)
        assert [line["event"] for line in rig.lines if "event" in line][-2:] == ["draining", "stopped"]


async def test_draining_lets_a_stream_finish(tmp_path):
    clock = DrivenClock()
    async with running(tmp_path, limited(100), SPENT, clock=clock) as rig:
        rig.fault("groq", Fault("slow", seconds=0, chunk_seconds=2))
        stream = asyncio.create_task(rig.post(body=chat("fast", stream=True)))
        await until(lambda: rig.row("groq").in_flight == 1)
        stopping = asyncio.create_task(rig.sidecar.stop())
        answer = await pump(clock, stream)
        assert answer.body.endswith(b"data: [DONE]\n\n")
        await pump(clock, stopping)


async def test_A14_who_was_refused_upstream_goes_before_all_who_came_later(tmp_path):
    """The provider refuses the one at the head of the line: it waits again, where it stood."""
    clock = DrivenClock()
    async with running(tmp_path, limited(6), SPENT, clock=clock) as rig:
        for _ in range(6):
            assert (await pump(clock, rig.post(body=numbered(0)))).status == 200
        tasks = await queue_up(rig, 4, x_sidecar_max_wait="120s")
        await waiting(rig, 4)
        rig.fault("groq", Fault("rate_limit", seconds=20, count=1))
        answers = await pump(clock, asyncio.gather(*tasks))
        assert [answer.status for answer in answers] == [200] * 4
        asked = [json.loads(each.body)["messages"][0]["content"] for _, each in rig.sims["groq"].requests]
        assert asked[-5:] == ["0", "0", "1", "2", "3"]
        assert [answer.headers["x-sidecar-attempts"] for answer in answers] == ["2", "1", "1", "1"]
