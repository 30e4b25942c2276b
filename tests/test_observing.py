"""What an operator sees of a running sidecar: its metrics and its log, through the whole house (acceptance I)."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from sidecar.core.breaker import IN_A_ROW
from sidecar.core.limits import SECOND
from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.faults import Fault
from tests.edge.raw import post
from tests.fakes import settle
from tests.rig import CHAT, WATCHDOG_S, DrivenClock, chat, pump, running, until
from tests.scraping import scrape

HOUSE = """
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
"""
SIMS = {"groq": SimConfig("groq"), "cerebras": SimConfig("cerebras")}
_ROOM = (LimitRule(rpm=1000, tpm=60_000),)
ROOMY = {"groq": SimConfig("groq", limits=_ROOM), "cerebras": SimConfig("cerebras", limits=_ROOM)}
PROMPT = "a prompt that nobody but the provider may see"
REFUSAL = msgspec.json.encode({"error": {"message": PROMPT, "code": "model_not_found"}}).decode()


def events(rig, name):
    return [line for line in rig.lines if line.get("event") == name]


async def later(clock):
    """A second later, with all that was due then written."""
    clock.leap(SECOND)
    await settle()


async def test_I1_random_paths_models_and_users_add_no_series(tmp_path):
    draws = random.Random(1)

    def word():
        return "".join(draws.choices('abcdefghijklmnop/"\\{}é', k=12))

    async with asyncio.timeout(4 * WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:

        async def strange():
            body = msgspec.json.encode(chat(word(), user=word(), stream=draws.random() < 0.5))
            path = draws.choice([CHAT, "/v1/embeddings", f"/v1/{draws.getrandbits(40):x}"])
            wishes = {"x_sidecar_key": "abc"[draws.randrange(3)], "authorization": f"Bearer {draws.getrandbits(60)}"}
            await rig.post(path, body, **wishes)
            await rig.post(path, body)

        for _ in range(40):
            await strange()
        before = await scrape(rig)
        await asyncio.gather(*(strange() for _ in range(200)))
        after = await scrape(rig)
        assert after.sum("sidecar_requests_total") - before.sum("sidecar_requests_total") == 400
        assert {(each.name, *each.labels.values()) for each in after.samples if "_bucket" not in each.name} == {
            (each.name, *each.labels.values()) for each in before.samples if "_bucket" not in each.name
        }
        assert len(after) == len(before)
        assert set(after.by("route", "sidecar_requests_total")) <= {"other", "none"}


async def test_I2_the_tokens_told_are_the_bill(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:
        rig.fault("groq", Fault("status", status=500, probability=0.2))
        asked = [rig.post(body=chat("fast", stream=number % 2 == 0, user=str(number))) for number in range(60)]
        asked += [rig.post("/v1/audio/speech", {"model": "tts-1", "input": "hello", "voice": "x"}) for _ in range(3)]
        await asyncio.gather(*asked)
        await until(lambda: len(rig.requests) == len(asked))
        told = await scrape(rig)
        rows = [rig.row(name) for name in SIMS]
        delivered = {
            kind: sum(line[f"tokens_{end}"] for line in rig.requests if f"tokens_{end}" in line)
            for kind, end in (("input", "in"), ("output", "out"))
        }
        assert told.by("gen_ai_token_type", "gen_ai_client_token_usage_sum") == delivered
        assert told.by("type", "sidecar_tokens_total") == delivered, "no answer was paid for and not delivered"
        assert delivered["output"] == sum(row.served_output_tokens for row in rows)
        assert told.sum("sidecar_answers_without_usage_total") == 3
        assert told.sum("gen_ai_client_token_usage_count", gen_ai_operation_name="speech") == 0, "unknown is not 0"


async def test_I3_the_gauges_are_what_the_status_says(tmp_path):
    limits = HOUSE.replace('"{groq}"', '"{groq}"\n    limits: [{model: "*", rpm: 20}]')
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, limits, ROOMY) as rig:
        for _ in range(8):
            await rig.post(body=chat("fast"))
            told, status = await scrape(rig), await rig.status()
            for provider in status["providers"]:
                for account, quotas in provider["accounts"].items():
                    for quota in quotas:
                        for window in quota["windows"]:
                            where = {"provider": provider["name"], "account": account, "model": quota["model"]}
                            where |= {"counts": window["counts"], "window": {60: "1m", 86400: "1d"}[window["per_s"]]}
                            ((labels, limit),) = told.of("sidecar_quota_limit", **where)
                            assert (limit, labels["source"]) == (window["limit"], window["source"])
                            left = told.sum("sidecar_quota_remaining", **where)
                            assert left == pytest.approx(window["remaining"], abs=max(1, limit / 100))
                            drift = told.sum("sidecar_quota_drift_ratio", **where)
                            assert drift == window.get("drift", 0) / 100
                            assert drift < 0.05
        sources = {labels["source"] for labels, _ in told.of("sidecar_quota_limit")}
        assert sources == {"config", "header"}


async def test_I4_aborts_leave_a_providers_error_rate_as_it_is(tmp_path):
    aborts = 200
    async with asyncio.timeout(2 * WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:
        rig.fault("groq", Fault("stall_before_headers", count=aborts))

        async def leave():
            async with await rig.raw() as client:
                await client.send(post(msgspec.json.encode(chat("alone"))))
                arrived.append(None)
                await until(lambda: rig.row("groq").seen >= len(arrived))

        arrived: list[None] = []
        for _ in range(aborts // 20):
            await asyncio.gather(*(leave() for _ in range(20)))
        await until(lambda: len(rig.requests) == aborts)
        assert (await rig.post(body=chat("alone"))).status == 200
        told = await scrape(rig)
        assert told.by("outcome", "sidecar_requests_total") == {"client_gone": aborts, "ok": 1}
        assert told.by("fault", "sidecar_attempts_total", provider="groq") == {"caller": aborts, "none": 1}
        assert told.by("state", "sidecar_breaker_state", provider="groq") == {"closed": 1, "open": 0, "half_open": 0}


async def test_I5_wait_first_token_duration_and_overhead_are_told_apart(tmp_path):
    clock = DrivenClock()
    sims = {"groq": SimConfig("groq", limits=(LimitRule(rpm=1),)), "cerebras": SimConfig("cerebras")}
    slow = HOUSE.replace("KEY_B}]", 'KEY_B}]\n    limits: [{model: "*", rpm: 1}]').replace("20s", "5m")
    async with asyncio.timeout(2 * WATCHDOG_S), running(tmp_path, slow + "wait: {max: 5m}\n", sims, clock=clock) as rig:
        for _ in range(3):
            answer = await pump(clock, rig.post(body=chat("alone", stream=True), x_sidecar_key="a"))
            assert answer.status == 200
        waited = sum(line["wait_ms"] for line in rig.requests) / 1000
        assert waited > 100
        told = await pump(clock, scrape(rig))
        assert told.sum("sidecar_wait_seconds_sum", route="alone") == pytest.approx(waited)
        assert told.sum("sidecar_wait_seconds_count", route="alone") == 3
        assert told.sum("sidecar_wait_seconds_bucket", route="alone", le="0.001") == 1
        first = told.sum("gen_ai_client_operation_time_to_first_chunk_seconds_sum", gen_ai_request_model="alone")
        whole = told.sum("gen_ai_client_operation_duration_seconds_sum", gen_ai_request_model="alone")
        assert waited <= first <= whole
        assert told.sum("sidecar_overhead_seconds_count", route="alone") == 3
        assert told.sum("sidecar_overhead_seconds_sum", route="alone") < 0.001, "the clock stands still while we work"
        for line in rig.requests:
            assert {"time", "id", "model", "wait_ms", "overhead_ms", "first_content_ms", "tokens_in", "status"} <= set(
                line
            )


async def test_I5_a_failed_attempt_is_in_the_trail_and_in_the_counts(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:
        rig.fault("groq", Fault("status", status=401))
        assert (await rig.post(body=chat("fast"))).status == 200
        (line,) = rig.requests
        assert sorted((step["key"], step["reason"]) for step in line["trail"]) == [
            ("a", "key_invalid"),
            ("b", "key_invalid"),
        ]
        told = await scrape(rig)
        counts = {tuple(labels.values()): value for labels, value in told.of("sidecar_attempts_total")}
        assert counts == {
            ("groq", "a", "key_invalid", "key"): 1,
            ("groq", "b", "key_invalid", "key"): 1,
            ("cerebras", "c", "ok", "none"): 1,
        }
        assert told.of("sidecar_keys_usable", provider="groq") == [({"provider": "groq"}, 0)]
        assert [labels["reason"] for labels, _ in told.of("sidecar_key_benched_seconds")] == ["key_invalid"] * 2


async def test_I5_events_have_lines_of_their_own(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(2 * WATCHDOG_S), running(tmp_path, HOUSE, ROOMY, clock=clock) as rig:
        rig.fault("groq", Fault("status", status=500))
        for _ in range(2 * IN_A_ROW):
            await pump(clock, rig.post(body=chat("fast")))
        await later(clock)
        (opened,) = events(rig, "breaker_opened")
        assert (opened["subject"], opened["reason"]) == ("groq/openai/gpt-oss-120b", "server_error")
        assert opened["message"].startswith("server_error: not called before 2023-11-14T22:13:2")
        assert opened["until"] > "2023-11-14T22:13:20.000Z"
        rig.sims["groq"].provider.faults.clear()
        clock.leap(30 * SECOND)
        assert (await pump(clock, rig.post(body=chat("fast")))).headers["x-sidecar-provider"] == "groq"
        await later(clock)
        assert [line["subject"] for line in events(rig, "breaker_closed")] == ["groq/openai/gpt-oss-120b"]
        learned = events(rig, "limit_learned")[0]
        assert learned["message"] == "1000 requests in 1m, 60000 tokens in 1m"
        assert learned["reason"] == "header"
        assert rig.reload(HOUSE)
        await settle()
        assert len(events(rig, "reloaded")) == 1
        told = await pump(clock, scrape(rig))
        counted = told.by("event", "sidecar_events_total")
        assert (counted["breaker_opened"], counted["breaker_closed"], counted["reloaded"]) == (1, 1, 1)
        assert counted["reload_refused"] == 0


async def test_H1_the_configuration_in_force_has_a_hash_that_changes_with_it(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:
        before = (await scrape(rig)).of("sidecar_config_info")
        assert rig.reload(HOUSE + "wait: {max: 7s}\n")
        after = (await scrape(rig)).of("sidecar_config_info")
        assert len(before) == len(after) == 1
        assert before != after
        assert not rig.reload("nonsense: 1\n")
        told = await scrape(rig)
        assert told.of("sidecar_config_info") == after
        assert told.sum("sidecar_events_total", event="reload_refused") == len(events(rig, "reload_refused")) > 0


async def test_H4_a_scrape_asks_no_provider_and_needs_no_token(tmp_path):
    guarded = HOUSE + "auth: {tokens: [{env: KEY_A}]}\n"
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, guarded, SIMS) as rig:
        for _ in range(3):
            assert (await scrape(rig, host="metrics.example.org")).sum("sidecar_ready") == 1
        assert rig.row("groq").seen == rig.row("cerebras").seen == 0
        assert (await scrape(rig)).sum("sidecar_connections") == 0


async def test_G3_neither_a_key_nor_a_prompt_nor_an_answer_is_told(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:
        rig.fault("groq", Fault("status", status=401, count=1))
        rig.fault("groq", Fault("status", status=404, count=1, body=REFUSAL))
        answers = []
        for stream in (False, True):
            said = {"messages": [{"role": "user", "content": PROMPT}], "stream": stream}
            answers.append(
                await rig.post(
                    body=chat("fast") | said, authorization="Bearer sk-of-the-caller", accept_encoding="identity"
                )
            )
        assert [answer.status for answer in answers] == [200, 200]
        rig.sidecar._observer.look()
        await settle()
        told = (await scrape(rig)).text + msgspec.json.encode(rig.lines).decode()
        words = answers[0].json["choices"][0]["message"]["content"]
        for secret in ("gsk_a", "gsk_b", "csk_c", "sk-of-the-caller", PROMPT, words):
            assert secret not in told


async def test_I5_a_sample_leaves_out_ordinary_requests_alone(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, HOUSE + "log: {sample: 0.25}\n", SIMS) as rig:
        for _ in range(40):
            await rig.post(body=chat("fast"))
        told = len(rig.requests)
        assert told in (9, 10, 11)
        assert (await rig.post("/v1/nowhere/..")).status == 400
        assert rig.requests[-1]["outcome"] == "invalid_path"
        assert (await scrape(rig)).sum("sidecar_requests_total") == 41
        assert rig.reload(HOUSE + "log: {sample: 0, slow: 0s}\n")
        await rig.post(body=chat("fast"))
        assert rig.requests[-1]["outcome"] == "ok"
        assert rig.reload(HOUSE + "log: {sample: 0}\n")
        await rig.post(body=chat("fast"))
        assert len(rig.requests) == told + 2


async def test_I5_a_failure_is_looked_into_soon(tmp_path):
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, HOUSE, SIMS, clock=clock) as rig:
        rig.fault("groq", Fault("status", status=401, count=1))
        assert (await rig.post(body=chat("fast"))).status == 200
        await settle()
        assert not events(rig, "key_benched")
        clock.advance(SECOND // 4)
        await settle()
        (benched,) = events(rig, "key_benched")
        assert (benched["reason"], benched["message"]) == ("key_invalid", "key_invalid: not used until it changes")
        assert "until" not in benched


async def test_what_was_learned_before_a_restart_is_no_event(tmp_path):
    kept = HOUSE + f"state: {{path: {tmp_path}/state.db}}\n"
    for life in range(2):
        async with asyncio.timeout(WATCHDOG_S), running(tmp_path, kept, ROOMY) as rig:
            if life == 0:
                await rig.post(body=chat("fast"))
            rig.sidecar._observer.look()
            await settle()
            assert len(events(rig, "limit_learned")) == 1 - life
            assert (await scrape(rig)).of("sidecar_quota_limit", source="header")


async def test_what_is_left_is_told_at_the_end(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:
        rig.fault("groq", Fault("status", status=401, count=1))
        await rig.post(body=chat("fast"))
        assert not events(rig, "key_benched")
        assert repr(rig.sidecar._observer) == "<Observer <Tally of 1 requests in 1 series>, 1 events>"
    assert [line["event"] for line in rig.lines[-3:]] == ["draining", "key_benched", "stopped"]


async def test_a_request_that_never_came_in_is_counted(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, HOUSE, SIMS) as rig:
        assert (await rig.get("/v1/models", host="rebound.example.org")).status == 403
        told = await scrape(rig)
        assert told.of("sidecar_requests_total") == [
            ({"route": "none", "provider": "", "key": "", "outcome": "forbidden_host", "fault": "caller"}, 1)
        ]
