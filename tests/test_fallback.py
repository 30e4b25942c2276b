"""Where a request goes when a provider fails it, through the whole house: every status and every way to fail (B9)."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.chain import BOTH, MISHAPS, NEXT, house, reasons
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump

pytestmark = BOTH_WAYS


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
