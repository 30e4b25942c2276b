"""Each dialect on a real socket: headers, refusals, endpoints, what is counted."""

from __future__ import annotations

import asyncio

import pytest
from yarl import URL

from sidecar.core.limits import SECOND
from sidecar.sim.config import LimitRule
from tests.sim.rig import simulated

LIMITS = LimitRule(rpm=30, rpd=1000, tpm=12000)
DIALECTS = ("groq", "cerebras", "openai", "deepinfra")


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (
            "groq",
            {
                "x-ratelimit-limit-requests": "1000",
                "x-ratelimit-limit-tokens": "12000",
                "x-ratelimit-remaining-requests": "999",
                "x-ratelimit-remaining-tokens": "11900",
                "x-ratelimit-reset-requests": "1m26.4s",
                "x-ratelimit-reset-tokens": "500ms",
            },
        ),
        (
            "cerebras",
            {
                "x-ratelimit-limit-requests-minute": "30",
                "x-ratelimit-limit-requests-day": "1000",
                "x-ratelimit-limit-tokens-minute": "12000",
                "x-ratelimit-remaining-requests-minute": "30",
                "x-ratelimit-remaining-requests-day": "1000",
                "x-ratelimit-remaining-tokens-minute": "12000",
                "x-ratelimit-reset-requests-minute": "40.0",
                "x-ratelimit-reset-requests-day": "6400.0",
                "x-ratelimit-reset-tokens-minute": "40.0",
            },
        ),
        (
            "openai",
            {
                "x-ratelimit-limit-requests": "30",
                "x-ratelimit-limit-tokens": "12000",
                "x-ratelimit-remaining-requests": "29",
                "x-ratelimit-remaining-tokens": "11998",  # the prompt alone
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-reset-tokens": "10ms",
            },
        ),
        ("deepinfra", {}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_headers_of_an_answer(dialect, expected, stream):
    async with simulated(dialect, LIMITS) as rig:
        got = await rig.chat(max_completion_tokens=98, stream=stream)
        assert (got.status, got.limits) == (200, expected)
        assert got.headers["x-request-id"].startswith("req_")
        assert ("x-groq-region" in got.headers) is (dialect == "groq")


async def test_A4_groq_refuses_with_its_own_numbers():
    async with simulated("groq", LimitRule(tpm=12000), tokens_per_reply=2500) as rig:
        await rig.chat(content="x" * 4 * 42)  # 42 + 2500 used in the end
        got = await rig.chat(content="x" * 4 * 855, max_tokens=9000)
        assert got.status == 429
        assert got.json["error"]["message"].startswith(
            "Rate limit reached for model `m` in organization `org_a` service tier `on_demand` on tokens per minute "
            "(TPM): Limit 12000, Used 2542, Requested 9855. Please try again in 1.984999999s. "
        )
        assert got.limits == {
            "x-ratelimit-limit-tokens": "12000",
            "x-ratelimit-remaining-tokens": "9458",
            "x-ratelimit-reset-tokens": "12.71s",
            "retry-after": "2",
        }
        rig.clock.advance(1_984_999_999)
        assert (await rig.chat(content="x" * 4 * 855, max_tokens=9000)).status == 200


@pytest.mark.parametrize(("dialect", "status"), [("groq", 413), ("openai", 429), ("cerebras", 429)])
async def test_A4_one_request_larger_than_the_minute(dialect, status):
    async with simulated(dialect, LimitRule(tpm=100)) as rig:
        got = await rig.chat(content="x" * 404)
        assert (got.status, "retry-after" in got.headers) == (status, False)
        assert (await rig.chat(content="x" * 4, max_completion_tokens=5)).status == 200
        assert rig.sim.stats.total.refused == {"tpm_never": 1}
        assert rig.sim.stats.total.early == 0


async def test_cerebras_opens_with_the_minute():
    async with simulated("cerebras", LimitRule(rpm=1)) as rig:
        await rig.chat()
        got = await rig.chat()
        assert (got.status, got.headers["retry-after"]) == (429, "40")
        assert got.json["code"] == "request_quota_exceeded"
        rig.clock.advance(40 * SECOND)
        assert (await rig.chat()).status == 200


async def test_cerebras_reserves_what_was_not_declared_and_gives_it_back():
    async with simulated("cerebras", LimitRule(tpm=20000)) as rig:
        first = await rig.chat(key="k1")
        second = await rig.chat(key="k2")
        assert first.headers["x-ratelimit-remaining-tokens-minute"] == "20000"
        assert second.headers["x-ratelimit-remaining-tokens-minute"] == str(20000 - 2 - 32)
        third = await rig.chat(key="k3", max_completion_tokens=20000)
        assert (third.status, third.json["code"]) == (429, "token_quota_exceeded")


@pytest.mark.parametrize(
    ("dialect", "code"),
    [("groq", ["error", "code"]), ("openai", ["error", "code"]), ("cerebras", ["code"]), ("deepinfra", ["detail"])],
)
async def test_an_unknown_key(dialect, code):
    async with simulated(dialect, LIMITS) as rig:
        got = await rig.chat(key="nobody")
        value = got.json
        for name in code:
            value = value[name]
        assert (got.status, got.limits) == (401, {})
        assert value in ("invalid_api_key", "wrong_api_key", "User is not authenticated")
        assert rig.sim.stats.total.refused == {"invalid_api_key": 1}
        assert rig.sim.stats.keys == {}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_is_not_there(dialect):
    async with simulated(dialect) as rig:
        assert (await rig.chat(model="ghost")).status == 404
        assert (await rig.call("GET", "/nothing")).status == 404
        assert (await rig.call("PUT", "/models")).status == 404
        assert (await rig.chat(model="")).status in (400, 422)
        assert (await rig.call("POST", "/chat/completions", data=b"{")).status in (400, 422)
        assert rig.sim.stats.total.served == 0


async def test_surfaces_a_provider_does_not_have():
    async with simulated("groq") as rig:
        assert (await rig.call("POST", "/completions", json={"model": "m", "prompt": "x"})).json["error"]["code"] == (
            "unknown_url"
        )
    async with simulated("cerebras") as rig:
        assert (await rig.call("POST", "/embeddings", json={"model": "m", "input": "x"})).status == 404


async def test_deepinfra_serves_so_many_at_once():
    async with simulated("deepinfra", LimitRule(concurrency=1), latency_ns=SECOND) as rig:
        first = asyncio.create_task(rig.chat(key="k1"))
        await rig.until(lambda: rig.clock.pending == 1)
        got = await rig.chat(key="k2")
        assert (got.status, got.json["error"]["message"]) == (429, "Rate limited")
        rig.clock.advance(SECOND)
        assert (await first).status == 200
        assert rig.sim.stats.total.peak == 2
        assert rig.sim.stats.keys["k2"].refused == {"concurrency": 1}


async def test_models():
    async with simulated("groq") as rig:
        assert [entry["id"] for entry in (await rig.call("GET", "/models")).json["data"]] == ["m", "vendor/m"]
        url = rig.root + "/openai/v1/models/vendor%2Fm"
        async with rig.session.get(URL(url, encoded=True), headers={"authorization": "Bearer k1"}) as answer:
            assert (await answer.json())["id"] == "vendor/m"
        assert (await rig.call("GET", "/models/vendor/m")).json["id"] == "vendor/m"
        assert (await rig.call("GET", "/models/ghost")).status == 404


async def test_json_is_compressed_where_it_is_accepted_and_streams_are_not():
    async with simulated("groq") as rig:
        assert (await rig.chat()).headers["content-encoding"] == "gzip"
        assert "content-encoding" not in (await rig.chat(stream=True)).headers
        plain = await rig.chat(stream=False)
        url = rig.root + "/openai/v1/models"
        headers = {"authorization": "Bearer k1", "accept-encoding": "identity"}
        async with rig.session.get(url, headers=headers) as answer:
            assert "content-encoding" not in answer.headers
        assert plain.json["object"] == "chat.completion"
    async with simulated("groq", gzip=False) as rig:
        assert "content-encoding" not in (await rig.chat()).headers


async def test_the_same_request_gets_the_same_words_and_another_gets_others():
    async with simulated("openai") as rig:
        texts = [(await rig.chat(content=text)).json["choices"][0]["message"]["content"] for text in "aab"]
        assert texts[0] == texts[1] != texts[2]


async def test_the_bill_is_the_sum_of_what_was_reported():
    async with simulated("groq", LIMITS) as rig:
        usages = [(await rig.chat(key=key, content="x" * size)).json["usage"] for key, size in (("k1", 9), ("k3", 40))]
        streamed = await rig.chat(key="k2", stream=True)
        usages.append(streamed.events[-1]["usage"])
        total = rig.sim.stats.total
        assert total.input_tokens == sum(usage["prompt_tokens"] for usage in usages) == 3 + 10 + 2
        assert total.output_tokens == sum(usage["completion_tokens"] for usage in usages) == 96
        assert {name: row.served for name, row in rig.sim.stats.keys.items()} == {"k1": 1, "k2": 1, "k3": 1}
        assert {name: row.input_tokens for name, row in rig.sim.stats.accounts.items()} == {"org-a": 5, "org-b": 10}
        assert rig.sim.stats.quotas["org-a/m"].served == 2


async def test_A9_calls_before_an_announced_time_are_counted():
    async with simulated("groq", LimitRule(rpm=1)) as rig:
        await rig.chat()
        refused = await rig.chat()
        assert refused.headers["retry-after"] == "60"
        await rig.chat(key="k2")  # the same account
        await rig.chat(key="k3")  # another
        await rig.chat(model="vendor/m")  # another model
        assert rig.sim.stats.total.early == 1
        rig.clock.advance(60 * SECOND - 1)
        assert (await rig.chat()).status == 200  # within the slack of a printed wait, yet early by the header
        assert rig.sim.stats.keys["k1"].early == 1
        rig.clock.advance(120 * SECOND)
        await rig.chat()
        assert rig.sim.stats.quotas["org-a/m"].early == 2


async def test_a_call_already_on_its_way_is_not_early():
    async with simulated("groq", LimitRule(rpm=1), grace_ns=SECOND) as rig:
        for _ in range(3):
            await rig.chat()
        assert rig.sim.stats.total.early == 0
        rig.clock.advance(SECOND)
        await rig.chat()
        assert rig.sim.stats.total.early == 1


async def test_requests_are_kept_as_they_came():
    async with simulated("groq", keep_requests=2) as rig:
        for text in "abc":
            await rig.chat(content=text, headers={"X-Mine": text})
        at_ns, arrival = rig.sim.requests[-1]
        assert (len(rig.sim.requests), at_ns) == (2, rig.clock.now_ns())
        assert (b"authorization", b"Bearer k1") in arrival.headers
        assert (b"x-mine", b"c") in arrival.headers
        assert b'"content": "c"' in arrival.body


async def test_any_key_is_an_account_where_none_is_named():
    async with simulated("groq", LimitRule(rpm=1), keys={}, models=()) as rig:
        assert [(await rig.chat(key=key)).status for key in ("x", "y", "x")] == [200, 200, 429]
        async with rig.session.get(rig.root + "/openai/v1/models") as answer:
            assert answer.status == 401
