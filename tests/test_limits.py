"""Limits through the whole house: what providers allow is used and not overstepped, what they say is heeded (A1-A24).

Sidecar and simulators share one clock, so that minutes and days are the tests' own.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND
from sidecar.interfaces import sleep_until
from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.faults import Fault
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running, until

PATIENT = "wait: {max: 24h}\ntimeouts: {total: 24h}\n"
CEREBRAS = """
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
"""


def provider(limits="", name="groq", keys="[{name: a, env: KEY_A}]", learn="true"):
    """A configuration with one provider."""
    return f"""
providers:
  - name: {name}
    base_url: "{{{name}}}"
    keys: {keys}
    limits: [{limits}]
    learn: {learn}
"""


CHAIN = provider(keys="[{name: a, env: KEY_A}, {name: b, env: KEY_B}]") + CEREBRAS + """
models:
  - {name: fast, chain: [groq/m, cerebras/m]}
  - {name: other, chain: [groq/n]}
"""  # fmt: skip


def sized(tokens, model="m", **fields):
    """A chat body of so many prompt tokens, as the simulators count them."""
    return {"model": model, "messages": [{"role": "user", "content": "word" * tokens}], **fields}


async def settled(rig, tasks):
    """The answers, all of them good."""
    answers = await asyncio.gather(*tasks)
    assert {answer.status for answer in answers} == {200}, [a for a in answers if a.status != 200][:3]
    return answers


async def test_A1_fifty_at_once_are_never_more_than_the_minute_allows(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq", limits=(LimitRule(tpm=100),), tokens_per_reply=1, keep_requests=100)}
    async with running(tmp_path, provider('{model: "*", tpm: 100}') + PATIENT, sims, clock=clock) as rig:
        sizes = [40 + 13 * at % 50 for at in range(50)]
        await pump(clock, settled(rig, [asyncio.create_task(rig.post(body=sized(size))) for size in sizes]))
        row = rig.row("groq")
        assert (row.refused, row.served) == ({}, 50)
        # and nobody waited longer than the tokens take to come back: what was used less what a full bucket holds
        took_ns = rig.arrivals("groq")[-1] - rig.arrivals("groq")[0]
        assert took_ns <= (row.input_tokens + row.output_tokens) * MINUTE // 100


@pytest.mark.parametrize(("dialect", "status"), [("groq", 413), ("openai", 429)])
async def test_A4_what_can_never_fit_is_learned_and_not_tried_again(tmp_path, dialect, status):
    config = CHAIN.replace("name: groq\n", f"name: groq\n    dialect: {dialect}\n")
    sims = {"groq": SimConfig(dialect, limits=(LimitRule(tpm=100),)), "cerebras": SimConfig("cerebras")}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, sims) as rig:
        first = await rig.post(body=sized(1000, "fast"))
        assert (first.status, first.headers["x-sidecar-provider"]) == (200, "cerebras")
        assert first.headers["x-sidecar-reason"].endswith(": too_large")
        assert rig.row("groq").refused == {"tpm_never": 1}, "no second key, no retry"
        assert rig.requests[0]["trail"][0]["status"] == status
        known = first.headers["x-sidecar-reason"].split()[1].rstrip(":")
        second = await rig.post(body=sized(1000, "fast"), x_sidecar_key=known)
        assert (second.status, second.headers["x-sidecar-attempts"]) == (413, "0")
        assert rig.row("groq").seen == 1
        # a smaller one is welcome there
        assert (await rig.post(body=sized(10, "fast"))).headers["x-sidecar-provider"] == "groq"


async def test_A4_what_fits_nowhere_is_told_the_largest_budget(tmp_path):
    sims = {"groq": SimConfig("groq", limits=(LimitRule(tpm=12000),))}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, provider(), sims) as rig:
        for calls in (1, 0):
            answer = await rig.post(body=sized(40_000))
            assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
            assert "12000" in answer.json["error"]["message"]
            assert answer.headers["x-should-retry"] == "false"
            assert answer.headers["x-sidecar-attempts"] == str(calls)
        assert rig.row("groq").seen == 1


async def test_A5_a_spent_minute_is_over_after_a_minute_and_an_unpaid_bill_is_not(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("openai"), "cerebras": SimConfig("cerebras")}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, CHAIN, sims, clock=clock) as rig:
        rig.fault("groq", Fault("rate_limit_bare", key="gsk_a", count=1))
        rig.fault("groq", Fault("insufficient_quota", key="gsk_b", count=1))
        assert (await rig.post(body=sized(1, "fast"))).headers["x-sidecar-provider"] == "cerebras"
        clock.leap(MINUTE)
        for _ in range(4):
            assert (await rig.post(body=sized(1, "fast"))).headers["x-sidecar-key"] == "a"
        clock.leap(6 * HOUR)
        served = {(await rig.post(body=sized(1, "fast"))).headers["x-sidecar-key"] for _ in range(4)}
        assert served == {"a", "b"}


async def test_A6_equal_keys_share_evenly_and_none_is_overdrawn(tmp_path):
    clock = DrivenClock()
    names = "vwxyz"
    keys = ", ".join(f"{{name: {name}, env: KEY_{name.upper()}}}" for name in names)
    environ = {f"KEY_{name.upper()}": f"gsk_{name}" for name in names}
    sims = {"groq": SimConfig("groq", limits=(LimitRule(rpm=30),), keep_requests=0)}
    config = provider('{model: "*", rpm: 30}', keys=f"[{keys}]")
    count = 1350  # ten minutes at nine tenths of 5 x 30 a minute

    async def load(rig):
        tasks = []
        for _ in range(count):
            tasks.append(asyncio.create_task(rig.post(body=sized(1))))
            await sleep_until(clock, clock.now_ns() + 10 * MINUTE // count)
        await settled(rig, tasks)

    async with running(tmp_path, config, sims, clock=clock, environ=environ) as rig:
        await pump(clock, load(rig))
        stats = rig.sims["groq"].stats
        assert stats.total.refused == {}
        assert all(abs(row.served - count / 5) <= count / 5 * 0.05 for row in stats.keys.values()), stats.keys
        assert len(stats.keys) == 5


async def test_A6_a_key_that_may_do_twice_as_much_does_twice_as_much(tmp_path):
    limits = '{model: "*", account: a, rpm: 60}, {model: "*", account: b, rpm: 30}'
    config = provider(limits, keys="[{name: a, env: KEY_A}, {name: b, env: KEY_B}]")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, {"groq": SimConfig("groq")}) as rig:
        await settled(rig, [rig.post(body=sized(1)) for _ in range(27)])
        keys = rig.sims["groq"].stats.keys
        assert 17 <= keys["gsk_a"].served <= 19
        assert keys["gsk_b"].served == 27 - keys["gsk_a"].served


async def test_A7_keys_of_one_account_share_one_bucket(tmp_path):
    keys = "[{name: a, env: KEY_A, account: org}, {name: b, env: KEY_B, account: org}]"
    groq = SimConfig("groq", keys={"gsk_a": "org", "gsk_b": "org"}, limits=(LimitRule(rpm=4),))
    config = provider('{model: "*", rpm: 4}', keys=keys)
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, {"groq": groq}) as rig:
        answers = [await rig.post(body=sized(1), x_sidecar_max_wait="0s") for _ in range(6)]
        assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
        assert rig.row("groq").refused == {}
        assert {answer.headers["x-sidecar-key"] for answer in answers[:4]} == {"a", "b"}


async def test_A7_keys_whose_errors_name_one_organisation_share_one_quota(tmp_path):
    """Configured as two accounts, limited as one: found out by two refusals, told once, and kept over a reload."""
    clock = DrivenClock()
    config = provider(keys="[{name: a, env: KEY_A}, {name: b, env: KEY_B}]") + "wait: {max: 0s}\n"
    groq = SimConfig("groq", keys={"gsk_a": "org", "gsk_b": "org"}, limits=(LimitRule(rpm=4),))
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, {"groq": groq}, clock=clock) as rig:
        for _ in range(6):
            await rig.post(body=sized(1))
        assert rig.row("groq").refused == {"rpm": 2}, "each key was refused once"
        (event,) = [line for line in rig.lines if line.get("event") == "accounts_merged"]
        assert "of groq are both org_" in event["message"]
        status = await rig.status()
        assert status["accounts_merged"] == 1
        assert status["providers"][0]["merged"] in ({"b": "a"}, {"a": "b"})
        assert rig.reload(config.replace("0s", "1s").replace("{groq}", rig.sims["groq"].base_url))
        clock.leap(MINUTE)
        answers = [await rig.post(body=sized(1), x_sidecar_max_wait="0s") for _ in range(8)]
        assert [answer.status for answer in answers] == [200] * 4 + [429] * 4
        assert {answer.headers["x-sidecar-key"] for answer in answers[:4]} == {"a", "b"}
        assert rig.row("groq").refused == {"rpm": 2}
        assert sum(line.get("event") == "accounts_merged" for line in rig.lines) == 1


async def test_A7_who_waits_for_an_account_that_is_merged_waits_on_at_the_other(tmp_path):
    clock = DrivenClock()
    config = provider('{model: "*", rpm: 1}', keys="[{name: a, env: KEY_A}, {name: b, env: KEY_B}]") + PATIENT
    async with running(tmp_path, config, {"groq": SimConfig("groq")}, clock=clock) as rig:
        async with asyncio.timeout(WATCHDOG_S):
            assert (await rig.post(body=sized(1), x_sidecar_key="b")).status == 200
            waiter = asyncio.create_task(rig.post(body=sized(1), x_sidecar_key="b", x_sidecar_max_wait="2m"))
            await until(lambda: rig.sidecar._gateway.room.waiting == 1)
        gateway, roster = rig.sidecar._gateway, rig.sidecar._roster
        (keys,) = roster._keys.values()
        for candidate in keys.candidates:
            gateway.note_organization(candidate, "org_1")
        answer = await pump(clock, waiter)
        assert answer.headers["x-sidecar-key"] == "b"
        assert int(answer.headers["x-sidecar-wait-ms"]) <= 61_000, "no longer than the quota of both takes"


async def test_A8_cerebras_charges_what_might_come_and_is_never_overdrawn(tmp_path):
    clock = DrivenClock()
    sim = SimConfig("cerebras", limits=(LimitRule(tpm=30000),), tokens_per_reply=4000, latency_ns=SECOND)
    config = provider('{model: "*", tpm: 30000}', name="cerebras", keys="[{name: c, env: KEY_C}]") + PATIENT

    async def caller(rig, end_ns):
        while clock.now_ns() < end_ns:
            assert (await rig.post(body=sized(10))).status == 200

    async with running(tmp_path, config, {"cerebras": sim}, clock=clock) as rig:
        end_ns = clock.now_ns() + 10 * MINUTE
        await pump(clock, asyncio.gather(*(caller(rig, end_ns) for _ in range(8))))
        row = rig.row("cerebras")
        assert (row.refused, row.peak) == ({}, 1)
        # four fit into a minute: with 16384 for the next on top of it the fifth would not
        assert row.served >= 40


@pytest.mark.parametrize("dialect", ["groq", "openai"])
async def test_I3_our_count_is_the_providers_own_after_each_response(tmp_path, dialect):
    clock = DrivenClock()
    sims = {"groq": SimConfig(dialect, limits=(LimitRule(rpm=600, tpm=6000, rpd=5000),), tokens_per_reply=30)}
    config = provider().replace("name: groq\n", f"name: groq\n    dialect: {dialect}\n")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, sims, clock=clock) as rig:
        for at in range(25):
            await rig.post(body=sized(10 + 7 * at, max_tokens=60, stream=at % 2 == 1))
            clock.leap(SECOND // 4)
            (quota,) = (await rig.status())["providers"][0]["accounts"]["a"]
            told = [window["drift"] for window in quota["windows"] if "drift" in window]
            assert told
            assert max(told) < 5, quota
        assert rig.row("groq").refused == {}


async def test_A19_I3_the_gauge_of_usable_keys_goes_down_and_comes_back(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq"), "cerebras": SimConfig("cerebras")}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, CHAIN, sims, clock=clock) as rig:
        rig.fault("groq", Fault("insufficient_quota", key="gsk_a", count=1))
        await rig.post(body=sized(1, "fast"), x_sidecar_key="a")
        assert [each["usable_keys"] for each in (await rig.status())["providers"]] == [1, 1]
        clock.leap(6 * HOUR)
        assert [each["usable_keys"] for each in (await rig.status())["providers"]] == [2, 1]


async def test_A12_a_reset_in_five_days_costs_no_call_until_then(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq"), "cerebras": SimConfig("cerebras")}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, CHAIN, sims, clock=clock) as rig:
        rig.fault("groq", Fault("rate_limit", seconds=5 * DAY // SECOND, key="gsk_a", count=1))
        assert (await rig.post(body=sized(1, "fast"), x_sidecar_key="a")).status == 429
        for _ in range(5):
            for _ in range(4):
                assert (await rig.post(body=sized(1, "fast"))).headers["x-sidecar-key"] == "b"
                clock.leap(6 * HOUR)
        assert rig.sims["groq"].stats.keys["gsk_a"].seen == 1
        served = {(await rig.post(body=sized(1, "fast"))).headers["x-sidecar-key"] for _ in range(4)}
        assert served == {"a", "b"}
        assert rig.row("groq").early == 0


async def test_A13_a_spent_key_at_a_model_takes_nothing_else_with_it(tmp_path):
    sims = {"groq": SimConfig("groq"), "cerebras": SimConfig("cerebras")}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, CHAIN, sims) as rig:
        rig.fault("groq", Fault("rate_limit", seconds=300, key="gsk_a", model="m"))
        served = [await rig.post(body=sized(1, "fast")) for _ in range(4)]
        assert {(each.status, each.headers["x-sidecar-key"]) for each in served} == {(200, "b")}
        assert rig.sims["groq"].stats.keys["gsk_a"].seen == 1
        other = await rig.post(body=sized(1, "other"), x_sidecar_key="a")
        assert (other.status, other.headers["x-sidecar-key"]) == (200, "a")
        same = await rig.post(body=sized(1, "fast"), x_sidecar_key="a", x_sidecar_max_wait="0s")
        assert (same.status, same.headers["x-sidecar-attempts"]) == (429, "0")
        assert 298 <= int(same.headers["retry-after"]) <= 300


@pytest.mark.parametrize(
    ("limits", "after_s"),
    [("rpm: 2", 60), ("tpm: 200", 60), ("rpd: 2", 86400), ("tpd: 200", 86400)],
)
async def test_A24_each_limit_alone_is_enforced(tmp_path, limits, after_s):
    clock = DrivenClock()
    sims = {"deepinfra": SimConfig("deepinfra", tokens_per_reply=20)}
    keys = "[{name: a, env: KEY_A}]"
    config = provider(f'{{model: "*", {limits}}}', name="deepinfra", keys=keys, learn="false")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, sims, clock=clock) as rig:
        answers = [await rig.post(body=sized(80), x_sidecar_max_wait="0s") for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        assert int(answers[2].headers["retry-after"]) <= after_s + after_s // 60  # a sliding window has 64 slots
        clock.leap(after_s * SECOND // 2)
        assert (await rig.post(body=sized(80), x_sidecar_max_wait="0s")).status == 429
        clock.leap(after_s * SECOND * 2 // 3)
        assert (await rig.post(body=sized(80), x_sidecar_max_wait="0s")).status == 200
        assert rig.row("deepinfra").seen == 3


async def test_what_is_settled_is_what_was_used(tmp_path):
    """Reserved by estimate and by what is declared, given back when the provider says how much it was."""
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq", tokens_per_reply=20)}
    async with (
        asyncio.timeout(WATCHDOG_S),
        running(tmp_path, provider('{model: "*", tpm: 1000}'), sims, clock=clock) as rig,
    ):
        for stream in (False, True):
            await rig.post(body=chat("m", max_tokens=700, stream=stream))
        (quota,) = (await rig.status())["providers"][0]["accounts"]["a"]
        assert [(each["counts"], each["remaining"]) for each in quota["windows"]] == [("tokens", 1000 - 2 * 22)]
        assert json.loads(rig.sims["groq"].requests[0][1].body)["max_tokens"] == 700
