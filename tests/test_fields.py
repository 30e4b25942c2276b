"""Fields that a target does not take, through the whole house: left out, renamed, remembered, or given up (B10)."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.core.limits import DAY
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.chain import BOTH
from tests.rig import WATCHDOG_S, DrivenClock, chat, pump, running

pytestmark = BOTH_WAYS

# names that the catalog does not know, so that it leaves nothing out by itself
CONFIG = """
providers:
  - name: mine
    base_url: "{groq}"
    dialect: groq
    keys: [{name: a, env: KEY_A}, {name: b, env: KEY_B}]
  - name: yours
    base_url: "{cerebras}"
    dialect: cerebras
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [mine/m, yours/m]}
  - {name: alone, chain: [mine/m]}
  - {name: lonely, chain: [yours/m]}
  - {name: other, chain: [mine/n]}
"""
SIMS = {"groq": SimConfig("groq", gzip=False), "cerebras": SimConfig("cerebras", gzip=False)}
MESSAGES = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi", "reasoning_content": "hm"},
    {"role": "user", "content": "go on"},
]
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
NO_TOOLS = '{"error":{"message":"`tool calling` is not supported with this model","type":"invalid_request_error"}}'


def house(tmp_path, extra="", clock=None):
    return running(tmp_path, CONFIG + extra, SIMS, clock=clock)


def told(answer):
    """How many calls it took, and which fields were left out."""
    return answer.headers["x-sidecar-attempts"], answer.headers.get("x-sidecar-dropped")


def arrived(rig, name, at=-1):
    """The body of a request as the provider got it."""
    return rig.sims[name].requests[at][1].body


def refusing(message, code, param):
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Fault("status", status=400, count=1, body=json.dumps({"error": error}))


RENAMED = refusing(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "unsupported_parameter",
    "max_tokens",
)
FORBIDDEN = '{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","%s"],"msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error","param":null,"code":null}'  # noqa: E501


@BOTH
async def test_B10_a_rejected_field_is_left_out_at_once_and_from_then_on(tmp_path, stream):
    clock = DrivenClock()
    async with house(tmp_path, clock=clock) as rig:
        answer = await pump(clock, rig.post(body=chat("alone", stream=stream, store=True, seed=1)))
        assert (answer.status, *told(answer)) == (200, "2", "store")
        assert answer.headers["x-sidecar-reason"].endswith(": field_rejected")
        first, second = rig.arrivals("groq")
        assert first == second, "without a pause"
        assert b'"store":true,' in arrived(rig, "groq", 0)
        assert arrived(rig, "groq", 1) == arrived(rig, "groq", 0).replace(b',"store":true', b"")
        again = await pump(clock, rig.post(body=chat("alone", stream=stream, store=False)))
        assert (again.status, *told(again)) == (200, "1", "store")
        assert "x-sidecar-reason" not in again.headers
        unconcerned = await pump(clock, rig.post(body=chat("alone", stream=stream)))
        assert told(unconcerned) == ("1", None)
        assert [line["outcome"] for line in rig.requests] == ["ok"] * 3
        assert [line.get("dropped") for line in rig.requests] == [["store"], ["store"], None]


@pytest.mark.parametrize(("model", "sim"), [("alone", "groq"), ("lonely", "cerebras")])
async def test_B10_a_field_of_messages_too_and_each_in_its_turn(tmp_path, model, sim):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        body = {"model": model, "messages": MESSAGES, "store": True, "metadata": {"a": "b"}}
        answer = await rig.post(body=body)
        assert (answer.status, *told(answer)) == (200, "4", "store, metadata, messages[].reasoning_content")
        kept = [{name: message[name] for name in ("role", "content")} for message in MESSAGES]
        assert json.loads(arrived(rig, sim)) == {"model": "m", "messages": kept}
        assert told(await rig.post(body=body))[0] == "1"
        assert rig.row(sim).seen == 5


async def test_B10_it_is_remembered_for_that_model_and_that_endpoint_alone(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        await rig.post(body=chat("alone", store=True))
        assert told(await rig.post(body=chat("other", store=True))) == ("2", "store"), "another model"
        assert told(await rig.post(body=chat("lonely", store=True))) == ("2", "store"), "another provider"
        response = await rig.post("/v1/responses", {"model": "alone", "input": "hello", "store": True})
        assert (response.status, *told(response)) == (200, "1", None)
        assert b'"store":true' in arrived(rig, "groq")


async def test_B10_for_a_day_or_until_the_configuration_is_read_again(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, clock=clock) as rig:
        for calls in ("2", "1"):
            assert told(await pump(clock, rig.post(body=chat("alone", store=True))))[0] == calls
        clock.leap(DAY)
        for calls in ("2", "1"):
            assert told(await pump(clock, rig.post(body=chat("alone", store=True))))[0] == calls
        assert rig.reload(CONFIG)
        assert told(await pump(clock, rig.post(body=chat("alone", store=True))))[0] == "2"


@BOTH
async def test_B10_a_field_gets_the_name_that_the_provider_gives_instead(tmp_path, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", RENAMED)
        for calls in ("2", "1"):
            answer = await rig.post(body=chat("alone", stream=stream, max_tokens=3))
            assert (answer.status, *told(answer)) == (200, calls, None)
            assert b'"max_completion_tokens":3' in arrived(rig, "groq")
            assert b'"max_tokens"' not in arrived(rig, "groq")
        assert rig.requests[-1]["tokens_out"] == 3
        back = await rig.post(body=chat("alone", max_tokens=3, max_completion_tokens=4))
        assert told(back) == ("1", "max_tokens"), "two of one name would contradict each other"


async def test_B10_the_most_tokens_are_never_lost(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        for name in ("max_completion_tokens", "max_tokens"):
            rig.fault("groq", Fault("status", status=422, count=1, body=FORBIDDEN % name))
        answer = await rig.post(body=chat("fast", max_completion_tokens=3))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "yours")
        assert (told(answer), rig.requests[-1]["tokens_out"]) == (("3", None), 3)
        reasons = [step["reason"] for step in rig.requests[-1]["trail"]]
        assert reasons == ["field_rejected", "field_needed"]


@BOTH
async def test_B10_a_field_that_the_answer_depends_on_is_never_left_out(tmp_path, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=400, body=NO_TOOLS))
        answer = await rig.post(body=chat("fast", stream=stream, tools=TOOLS))
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, "yours")
        assert b"tool_calls" in answer.body
        assert told(answer) == ("2", None)
        assert rig.row("groq").seen == 1, "with another key it would be the same"
        # where nobody else could be asked, the provider's own words
        alone = await rig.post(body=chat("alone", stream=stream, tools=TOOLS))
        assert (alone.status, alone.body) == (400, NO_TOOLS.encode())
        assert rig.requests[-1]["outcome"] == "field_needed"
        # nothing stands against the model
        rig.sims["groq"].provider.faults.clear()
        assert (await rig.post(body=chat("fast"))).headers["x-sidecar-provider"] == "mine"


@BOTH
async def test_B10_strictly_every_field_is_sent_and_every_refusal_relayed(tmp_path, stream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, "retry: {strict: true}\n") as rig:
        for _ in range(2):
            answer = await rig.post(body=chat("fast", stream=stream, store=True))
            assert (answer.status, *told(answer)) == (400, "1", None)
            assert answer.json["error"]["message"] == "property 'store' is unsupported"
        rig.fault("groq", Fault("status", status=400, body=NO_TOOLS))
        assert (await rig.post(body=chat("fast", tools=TOOLS))).status == 400
        assert (rig.row("groq").seen, rig.row("cerebras").seen) == (3, 0)


async def test_B10_B15_without_fallback_there_is_one_call_and_the_next_one_knows(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.post(body=chat("fast", store=True), x_sidecar_fallback="off")
        assert (answer.status, *told(answer)) == (400, "1", None)
        assert rig.row("groq").seen == 1
        answer = await rig.post(body=chat("fast", store=True), x_sidecar_fallback="off")
        assert (answer.status, *told(answer)) == (200, "1", "store")


async def test_B10_A17_it_counts_as_a_call_and_not_as_a_retry(tmp_path):
    clock = DrivenClock()
    async with house(tmp_path, "retry: {attempts: 2, budget: 0}\n", clock) as rig:
        for at in range(15):  # more than the ten retries a minute that are always allowed
            rig.fault("groq", refusing(f"Unknown parameter: 'x{at}'.", "unknown_parameter", f"x{at}"))
            answer = await pump(clock, rig.post(body=chat("alone", **{f"x{at}": 1})))
            assert (answer.status, *told(answer)) == (200, "2", f"x{at}")
        both = {"metadata": {}, "logprobs": True}
        answer = await pump(clock, rig.post(body=chat("other", **both)))
        assert (answer.status, *told(answer)) == (400, "2", "metadata"), "no call is left: the provider's own words"


async def test_B10_a_native_surface_is_the_provider_s_own(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.post("/p/mine/openai/v1/chat/completions", chat("m", store=True))
        assert (answer.status, *told(answer)) == (400, "1", None)


async def test_B10_B14_what_we_asked_for_ourselves_is_not_told_as_dropped(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        rig.fault("groq", Fault("status", status=422, count=1, body=FORBIDDEN % "stream_options"))
        for calls in ("2", "1"):
            answer = await rig.post(body=chat("alone", stream=True))
            assert (answer.status, *told(answer)) == (200, calls, None)
            assert b"stream_options" not in arrived(rig, "groq")
        asked = await rig.post(body=chat("alone", stream=True, stream_options={"include_usage": True}))
        assert told(asked) == ("1", "stream_options")


async def test_B10_many_at_once_teach_it_once_and_all_are_served(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answers = await asyncio.gather(*(rig.post(body=chat("alone", store=True, user=str(at))) for at in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert {answer.headers["x-sidecar-dropped"] for answer in answers} == {"store"}
        assert {told(answer)[0] for answer in answers} <= {"1", "2"}
        status = await rig.status()
        quotas = [quota for provider in status["providers"] for each in provider["accounts"].values() for quota in each]
        assert [quota["in_flight"] for quota in quotas] == [0] * len(quotas)
