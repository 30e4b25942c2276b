"""What bounds the way through a chain, and what the caller is told of it, through the whole house (B11-B16)."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.chain import BOTH, MISHAPS, NEXT, PROVIDERS, SIMS, house, reasons
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running

pytestmark = BOTH_WAYS


@BOTH
async def test_B11_every_answer_says_who_gave_it(tmp_path, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=500, key="gsk_a"))
        answers = [await rig.post(body=chat("alone", stream=stream)) for _ in range(2)]
        for answer in answers:
            assert answer.headers["x-sidecar-provider"] == "groq"
            assert answer.headers["x-sidecar-model"] == "openai/gpt-oss-120b"
            assert answer.headers["x-sidecar-key"] == "b"
            assert answer.headers["x-sidecar-wait-ms"] == "0"
            assert answer.headers["x-request-id"].startswith("req_sim")
        failed_over = [answer for answer in answers if answer.headers["x-sidecar-attempts"] == "2"]
        assert failed_over, "one of two went to key a first"
        assert failed_over[0].headers["x-sidecar-reason"] == "groq/openai/gpt-oss-120b a: server_error"


async def test_B11_the_last_word_names_the_first_error_the_trail_and_the_soonest_reset(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, "wait: {max: 0s}\n") as rig:
        rig.fault("groq", Fault("rate_limit", seconds=90, key="gsk_a"))
        rig.fault("groq", Fault("rate_limit", seconds=40, key="gsk_b"))
        rig.fault("cerebras", Fault("rate_limit", seconds=70))
        answer = await rig.post(body=chat("fast"))
        error = answer.json["error"]
        assert answer.status == 429
        assert 38 <= int(answer.headers["retry-after"]) <= 40
        assert "Rate limit reached for model" in error["message"]
        assert {(step["target"], step["key"], step["reason"], step["status"]) for step in error["trail"]} == {
            ("groq/openai/gpt-oss-120b", "a", "rate_limited", 429),
            ("groq/openai/gpt-oss-120b", "b", "rate_limited", 429),
            ("cerebras/gpt-oss-120b", "c", "rate_limited", 429),
        }
        assert len(reasons(answer)) == 3
        assert answer.headers["x-sidecar-attempts"] == "3"
        line = rig.requests[-1]
        assert (line["status"], line["outcome"], len(line["trail"])) == (429, "rate_limit_exceeded", 3)


async def test_B12_every_key_is_asked_once_and_what_is_known_costs_nothing(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("rate_limit", seconds=600))
        rig.fault("cerebras", Fault("insufficient_quota"))
        first = await rig.post(body=chat("fast"), x_sidecar_max_wait="1s")
        assert first.status == 429
        second = await rig.post(body=chat("fast"), x_sidecar_max_wait="1s")
        assert (second.status, second.headers["x-sidecar-attempts"]) == (429, "0")
        assert (rig.row("groq").seen, rig.row("cerebras").seen) == (2, 1)


@BOTH
async def test_B12_one_deadline_covers_all_attempts(tmp_path, stream):
    clock = DrivenClock()
    times = "timeouts: {headers: 4s, answer: 4s, total: 6s}\n"
    async with house(tmp_path, times, clock) as rig:
        for name in SIMS:
            rig.fault(name, Fault("stall_before_headers"))
        began_ns = clock.now_ns()
        answer = await pump(clock, rig.post(body=chat("fast", stream=stream)))
        assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_timeout")
        assert clock.now_ns() - began_ns == 6 * SECOND
        assert rig.arrivals("cerebras")[0] - began_ns == 4 * SECOND


AMBIGUOUS_ENDS = "retry: {ambiguous: fail}\n"


@pytest.mark.parametrize("mode", ["rst", "eof"])
async def test_B13_what_may_have_been_done_is_done_again_only_if_the_operator_allows(tmp_path, mode):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("down", mode=mode))
        answer = await rig.post(body=chat("fast"))
        assert (answer.status, reasons(answer)) == (200, ["groq/openai/gpt-oss-120b: ambiguous"])
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, AMBIGUOUS_ENDS) as rig:
        rig.fault("groq", Fault("down", mode=mode))
        answer = await rig.post(body=chat("fast"))
        assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_failed")
        assert (rig.row("groq").seen, rig.row("cerebras").seen) == (1, 0)
        assert answer.json["error"]["trail"][0]["reason"] == "ambiguous"


async def test_B13_a_connection_that_was_never_made_is_no_ambiguity(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, AMBIGUOUS_ENDS) as rig:
        await rig.sims["groq"].refuse()
        answer = await rig.post(body=chat("fast"))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "cerebras")


SINGLE = {
    **{str(status): Fault("status", status=status) for status in (*NEXT, 400)},
    **MISHAPS,
    "cut": Fault("cut", after_chunks=0),
    "error event": Fault("error_event", after_chunks=0),
    "empty": Fault("empty", mode="completion"),
}


@BOTH
@pytest.mark.parametrize("name", SINGLE)
async def test_B15_without_fallback_there_is_exactly_one_call(tmp_path, name, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", SINGLE[name])
        answer = await rig.post(body=chat("fast", stream=stream), x_sidecar_fallback="off")
        assert answer.status >= 400 or b'"error"' in answer.body or name == "empty", answer
        assert (rig.row("groq").seen, rig.row("cerebras").seen) == (1, 0)


async def test_B15_without_fallback_an_error_is_relayed_as_it_came(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=503, body="not even JSON", headers={"retry-after": "7"}))
        answer = await rig.post(body=chat("fast"), x_sidecar_fallback="off")
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b"not even JSON", "7")


async def test_B16_a_spent_first_choice_is_no_429(tmp_path):
    limits = '    limits: [{model: "*", rpm: 1}]\n  - name: cerebras'
    config = PROVIDERS.replace("  - name: cerebras", limits)
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, SIMS) as rig:
        answers = [await rig.post(body=chat("fast")) for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        served = [answer.headers["x-sidecar-provider"] for answer in answers]
        assert served == ["groq", "groq", "cerebras", "cerebras", "cerebras"]
        assert {answer.headers["x-sidecar-wait-ms"] for answer in answers} == {"0"}


async def test_B12_one_deadline_covers_waiting_backing_off_and_attempts(tmp_path):
    """10 s of waiting for quota, then pauses and attempts of the same target: all of it ends after `total`."""
    clock = DrivenClock()
    extra = "wait: {max: 15s}\nretry: {attempts: 100, base: 2s, cap: 4s}\ntimeouts: {answer: 3s, total: 20s}\n"
    async with house(tmp_path, extra, clock) as rig:
        rig.fault("groq", Fault("rate_limit", seconds=10, count=2))
        rig.fault("groq", Fault("down", mode="eof", count=1))
        rig.fault("groq", Fault("status", status=500))
        began_ns = clock.now_ns()
        answer = await pump(clock, rig.post(body=chat("alone")))
        assert answer.status >= 400
        assert 10 * SECOND < clock.now_ns() - began_ns <= 20 * SECOND
        asked = [(at_ns - began_ns) / SECOND for at_ns in rig.arrivals("groq")]
        assert len(asked) > 3
        assert asked[2] >= 10, "not before the time announced"
        assert max(asked) < 20


async def test_B13_lost_connections_that_may_have_been_served_are_counted(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        assert (await rig.status())["ambiguous"] == 0
        for _ in range(3):
            rig.fault("groq", Fault("down", mode="eof", count=1))
            assert (await rig.post(body=chat("fast"))).status == 200
        rig.fault("groq", Fault("status", status=500, count=1))
        await rig.post(body=chat("fast"))
        assert (await rig.status())["ambiguous"] == 3


@BOTH
async def test_A16_an_sdk_is_told_not_to_repeat_what_waiting_cannot_mend(tmp_path, stream):
    limits = "}]\n    limits: [{model: '*', tpm: 1000}]\n"
    config = PROVIDERS.replace("}]\n  - name: cerebras", limits + "  - name: cerebras")
    config = config.replace("}]\nmodels", limits + "models")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, SIMS) as rig:
        long = {"messages": [{"role": "user", "content": "word " * 10_000}]}
        answer = await rig.post(body=chat("fast", stream=stream) | long)
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
        assert answer.headers["x-should-retry"] == "false"
        answer = await rig.post(body=chat("fast", stream=stream), x_sidecar_key="nobody")
        assert (answer.status, answer.headers["x-should-retry"]) == (400, "false")
        for name in SIMS:
            rig.fault(name, Fault("status", status=401))
        answer = await rig.post(body=chat("fast", stream=stream))
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_usable_key")
        assert (answer.headers["x-should-retry"], "retry-after" in answer.headers) == ("false", False)


async def test_A16_what_waiting_mends_is_not_told_so(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, "wait: {max: 0s}\n") as rig:
        for name in SIMS:
            rig.fault(name, Fault("rate_limit", seconds=40))
        answer = await rig.post(body=chat("fast"))
        assert (answer.status, "x-should-retry" in answer.headers) == (429, False)
