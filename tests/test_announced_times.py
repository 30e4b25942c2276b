"""When a provider says not to call before a time, nobody does, through the whole house (A9-A11)."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

import pytest

from sidecar.core.limits import MINUTE, SECOND
from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.faults import Fault
from tests.fakes import START_NS, settle
from tests.rig import WATCHDOG_S, DrivenClock, pump, running, until

CONFIG = """
providers:
  - {name: groq, base_url: "{groq}", keys: [{name: a, env: KEY_A}]}
wait: {max: 24h}
timeouts: {total: 24h}
"""
BODY = {"model": "m", "messages": [{"role": "user", "content": "w" * 40}]}


# header -> the wait it announces; 0, negative and nonsense announce none, so the default stands
FORMS = {
    "int": ({"retry-after": "7"}, 7),
    "float": ({"retry-after": "2.5"}, 2.5),
    "date": ({"retry-after": formatdate(START_NS // SECOND + 90, usegmt=True)}, 90),
    "milliseconds": ({"retry-after": "1", "retry-after-ms": "1750"}, 1.75),
    "three hours": ({"retry-after": "10800"}, 10800),
    "zero": ({"retry-after": "0"}, None),
    "negative": ({"retry-after": "-5"}, None),
    "not a number": ({"retry-after": "NaN"}, None),
}


@pytest.mark.parametrize("form", FORMS)
async def test_A9_nobody_calls_before_the_announced_time(tmp_path, form):
    headers, seconds = FORMS[form]
    clock = DrivenClock()
    body = '{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}'
    async with running(tmp_path, CONFIG, {"groq": SimConfig("groq")}, clock=clock) as rig:
        rig.fault("groq", Fault("rate_limit", count=1, headers=headers, body=body))
        waiter = asyncio.create_task(rig.post(body=BODY))
        await until(lambda: rig.row("groq").faulted != {})
        await settle()
        clock.leap(round((seconds or 1) * SECOND) - 1)
        await settle()
        assert len(rig.arrivals("groq")) == 1
        assert (await pump(clock, waiter)).status == 200
        first, second = rig.arrivals("groq")
        if seconds is None:
            assert second - first >= SECOND
        else:
            assert second - first == round(seconds * SECOND)


# What is believed: a header before the body's structure before its text before a default, and never 0.
TEXT = "Rate limit reached. Please try again in 1m0.363142857s."
STRUCTURE = '{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"52s"}'
ORDER = {
    "header": ({"retry-after": "7"}, f'{{"error":{{"message":"{TEXT}","details":[{STRUCTURE}]}}}}', 7),
    "structure": ({}, f'{{"error":{{"message":"{TEXT}","details":[{STRUCTURE}]}}}}', 52),
    "text": ({}, f'{{"error":{{"message":"{TEXT}"}}}}', 60.363142857),
}


@pytest.mark.parametrize("source", ORDER)
async def test_A10_a_time_is_found_wherever_it_stands(tmp_path, source):
    headers, body, seconds = ORDER[source]
    clock = DrivenClock()
    async with running(tmp_path, CONFIG, {"groq": SimConfig("openai")}, clock=clock) as rig:
        rig.fault("groq", Fault("status", status=429, count=1, headers=headers, body=body))
        assert (await pump(clock, rig.post(body=BODY))).status == 200
        first, second = rig.arrivals("groq")
        assert second - first == round(seconds * SECOND)


async def test_A10_without_a_time_a_default_stands(tmp_path):
    clock = DrivenClock()
    async with running(tmp_path, CONFIG, {"groq": SimConfig("groq")}, clock=clock) as rig:
        rig.fault("groq", Fault("status", status=429, count=1, body='{"error":{"message":"no"}}'))
        assert (await pump(clock, rig.post(body=BODY))).status == 200
        first, second = rig.arrivals("groq")
        assert SECOND <= second - first <= MINUTE


async def test_A11_groq_means_the_day_by_requests_and_the_minute_by_tokens(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq", limits=(LimitRule(rpd=1000, tpm=6000),), tokens_per_reply=90)}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, CONFIG, sims, clock=clock) as rig:
        answer = await rig.post(body=BODY)
        assert answer.headers["x-ratelimit-reset-requests"] == "1m26.4s"
        windows = (await rig.status())["providers"][0]["accounts"]["a"][0]["windows"]
        told = {each["counts"]: (each["per_s"], each["limit"], each["source"]) for each in windows}
        assert told == {"requests": (86400, 1000, "header"), "tokens": (60, 6000, "header")}
        (requests,) = (each for each in windows if each["counts"] == "requests")
        assert (requests["remaining"], requests["resets_in_s"]) == (999, 86.4)
