"""Where a request goes when a provider fails it, through the whole house: every status and every way to fail (B9-B16).

The chain is `fast`: two Groq keys, then one Cerebras key. `alone` and `lonely` are the ends of it with nothing behind.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running

PROVIDERS = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}, {name: b, env: KEY_B}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
  - {name: alone, chain: [groq/openai/gpt-oss-120b]}
  - {name: lonely, chain: [cerebras/gpt-oss-120b]}
"""
SIMS = {"groq": SimConfig("groq", gzip=False), "cerebras": SimConfig("cerebras", gzip=False)}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def house(tmp_path, extra="", clock=None, sims=SIMS):
    return running(tmp_path, PROVIDERS + extra, sims, clock=clock)


def reasons(answer):
    """Target and reason of each failed attempt, as the answer's head tells them; which of equal keys went first is
    not a matter here."""
    steps = answer.headers["x-sidecar-reason"].split(", ")
    return [re.sub(r" \w+: ", ": ", step) for step in steps]


# how many calls the failing provider gets before the request leaves it: once for each key where keys may differ
NEXT = {
    500: 2, 502: 2, 504: 2, 520: 2, 524: 2, 408: 2,
    503: 1, 529: 1, 498: 1,
    401: 2, 402: 2, 403: 2,
    404: 1, 410: 1, 413: 1,
    429: 2,
}  # fmt: skip


@BOTH
@pytest.mark.parametrize(("status", "calls"), NEXT.items())
async def test_B9_every_status_that_another_may_not_answer_goes_to_the_next(tmp_path, status, calls, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=status))
        answer = await rig.post(body=chat("fast", stream=stream))
        assert answer.status == 200, answer
        assert answer.headers["x-sidecar-provider"] == "cerebras"
        assert answer.headers["x-sidecar-attempts"] == str(calls + 1)
        assert len(reasons(answer)) == calls
        assert (rig.row("groq").seen, rig.row("cerebras").served) == (calls, 1)


@BOTH
@pytest.mark.parametrize("status", [400, 422, 409])
async def test_B9_what_is_wrong_with_the_request_is_relayed_at_once(tmp_path, status, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault(
            "groq", Fault("status", status=status, body='{"error":{"message":"no","type":"invalid_request_error"}}')
        )
        answer = await rig.post(body=chat("fast", stream=stream))
        assert (answer.status, answer.body) == (status, b'{"error":{"message":"no","type":"invalid_request_error"}}')
        assert (rig.row("groq").seen, rig.row("cerebras").seen) == (1, 0)
        assert rig.requests[-1]["outcome"] == "bad_request"


MISHAPS = {
    "lost by reset": Fault("down", mode="rst"),
    "lost by close": Fault("down", mode="eof"),
    "busy": Fault("busy"),
    "unpaid": Fault("insufficient_quota"),
    "limited": Fault("rate_limit", seconds=30),
    "limited without a time": Fault("rate_limit_bare"),
}


@BOTH
@pytest.mark.parametrize("name", MISHAPS)
async def test_B9_every_mishap_goes_to_the_next(tmp_path, name, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", MISHAPS[name])
        answer = await rig.post(body=chat("fast", stream=stream))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "cerebras")
        assert rig.requests[-1]["outcome"] == "ok"


@BOTH
async def test_B9_a_refused_connection_goes_to_the_next(tmp_path, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        await rig.sims["groq"].refuse()
        answer = await rig.post(body=chat("fast", stream=stream))
        assert answer.headers["x-sidecar-provider"] == "cerebras"
        assert reasons(answer) == ["groq/openai/gpt-oss-120b: connect_failed"]


@pytest.mark.parametrize(("stream", "after_s"), [(True, 30), (False, 300)])
async def test_B9_B7_no_head_in_time_goes_to_the_next_at_that_moment(tmp_path, stream, after_s):
    clock = DrivenClock()
    async with house(tmp_path, clock=clock) as rig:
        rig.fault("groq", Fault("stall_before_headers"))
        answer = await pump(clock, rig.post(body=chat("fast", stream=stream)))
        assert answer.headers["x-sidecar-provider"] == "cerebras"
        assert reasons(answer) == ["groq/openai/gpt-oss-120b: headers_timeout"]
        assert rig.arrivals("cerebras")[0] - rig.arrivals("groq")[0] == after_s * SECOND


async def test_B9_the_caller_s_own_404_at_the_only_provider_is_relayed_as_it_is(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.post("/v1/completions", {"model": "alone", "prompt": "hello"})
        assert answer.status == 404
        assert answer.json["error"]["code"] == "unknown_url"
        assert answer.headers["x-sidecar-key"] in ("a", "b")
        # nobody's standing changed by it
        assert (await rig.post(body=chat("alone"))).status == 200


async def test_B9_an_endpoint_that_one_provider_lacks_is_found_at_the_next(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.post("/v1/completions", {"model": "fast", "prompt": "hello"})
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "cerebras")


TOO_LONG = '{"error":{"message":"Please reduce the length of the messages","type":"invalid_request_error",' \
    '"code":"context_length_exceeded"}}'  # fmt: skip


async def test_B9_a_prompt_too_long_is_relayed_where_nobody_else_could_take_it(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=400, body=TOO_LONG))
        alone = await rig.post(body=chat("alone"))
        assert (alone.status, alone.body) == (400, TOO_LONG.encode())
        chained = await rig.post(body=chat("fast"))
        assert (chained.status, chained.headers["x-sidecar-provider"]) == (200, "cerebras")
        assert reasons(chained)[0].endswith(": too_large")


async def test_a_lone_provider_that_fails_once_is_asked_again_after_a_pause(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, clock=clock) as rig:
        rig.fault("cerebras", Fault("status", status=500, count=2))
        answer = await pump(clock, rig.post(body=chat("lonely")))
        assert (answer.status, answer.headers["x-sidecar-attempts"]) == (200, "3")
        first, second, third = rig.arrivals("cerebras")
        assert second - first <= SECOND // 4
        assert third - second <= SECOND // 2


async def test_A17_everything_failing_costs_no_more_calls_than_the_operator_allows(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, "retry: {attempts: 5}\n", clock) as rig:
        rig.fault("groq", Fault("status", status=500))
        rig.fault("cerebras", Fault("status", status=500))
        answer = await pump(clock, rig.post(body=chat("fast")))
        assert answer.status == 502
        assert rig.row("groq").seen + rig.row("cerebras").seen == 5
        assert answer.headers["x-sidecar-attempts"] == "5"


async def test_A17_where_waiting_cannot_help_the_caller_is_told_not_to_retry(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=401))
        rig.fault("cerebras", Fault("status", status=401))
        answer = await rig.post(body=chat("fast"))
        assert (answer.status, answer.headers["x-should-retry"]) == (503, "false")
        # and once every key is known to be refused, nobody is called at all
        again = await rig.post(body=chat("fast"))
        assert (again.status, again.headers["x-sidecar-attempts"]) == (503, "0")
        assert rig.row("groq").seen + rig.row("cerebras").seen == 3


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
