"""Every kind of fault as a client meets it, and callers that leave."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.config import LimitRule
from tests.sim.rig import simulated

DIALECTS = ("groq", "cerebras", "openai", "deepinfra")


@pytest.mark.parametrize("mode", [None, "eof"])
async def test_down(mode):
    async with simulated("groq") as rig:
        await rig.fault(kind="down", count=1, **({"mode": mode} if mode else {}))
        with pytest.raises(aiohttp.ClientConnectionError):
            await rig.chat()
        assert (await rig.chat()).status == 200
        total = rig.sim.stats.total
        assert (total.faulted, total.served, total.aborted, total.in_flight) == ({"down": 1}, 1, 0, 0)


async def test_down_resets_rather_than_closes():
    async with simulated("groq") as rig:
        await rig.fault(kind="down")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.root.rpartition(":")[2]))
        writer.write(b"GET /openai/v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_refusing_connections_ends_by_the_clock():
    async with simulated("groq") as rig:
        assert (await rig.fault(kind="down", mode="refuse", seconds=3)).status == 200
        await rig.until(lambda: rig.clock.pending == 1)
        with pytest.raises(aiohttp.ClientConnectionError):
            await rig.chat()  # perhaps on the connection that was open
        with pytest.raises(aiohttp.ClientConnectorError):
            await rig.chat()
        rig.clock.advance(3 * SECOND)
        await rig.until(lambda: "open" in repr(rig.sim))
        assert (await rig.chat()).status == 200


async def test_refusing_drops_what_is_being_played():
    async with simulated("groq", latency_ns=SECOND) as rig:
        task = asyncio.create_task(rig.chat())
        await rig.until(lambda: rig.sim.stats.total.in_flight == 1)
        await rig.sim.refuse()
        with pytest.raises(aiohttp.ClientConnectionError):
            await task
        assert (rig.sim.stats.total.aborted, rig.sim.stats.total.in_flight) == (0, 0)
        await rig.sim.accept()
        await rig.sim.accept()
        assert (await rig.call("GET", "/_sim/stats")).status == 200


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_status(dialect):
    async with simulated(dialect) as rig:
        await rig.fault(kind="status", status=500, count=1)
        assert (await rig.chat()).status == 500
        await rig.fault(kind="status", status=503, headers={"Retry-After": "7"}, body="oops")
        got = await rig.chat()
        assert (got.status, got.headers["retry-after"], got.body) == (503, "7", b"oops")
        assert rig.sim.stats.total.input_tokens == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_stall_before_headers_until_the_caller_leaves(stream):
    async with simulated("groq", LimitRule(rpm=1)) as rig:
        await rig.fault(kind="stall_before_headers", count=1)
        task = asyncio.create_task(rig.chat(stream=stream))
        await rig.until(lambda: rig.sim.stats.total.in_flight == 1)
        rig.clock.advance(3600 * SECOND)
        assert not task.done()
        task.cancel()
        await rig.until(lambda: rig.sim.stats.total.in_flight == 0)
        assert rig.sim.stats.total.aborted == 1
        assert (await rig.chat()).status == 200  # nothing was charged


@pytest.mark.parametrize("kind", ["stall_before_headers", "slow", "stall_after_headers"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_stall_that_ends(kind, stream):
    async with simulated("groq") as rig:
        await rig.fault(kind=kind, seconds=5)
        task = asyncio.create_task(rig.chat(stream=stream))
        await rig.until(lambda: rig.clock.pending == 1)
        assert rig.clock.next_ns == rig.clock.now_ns() + 5 * SECOND
        rig.clock.advance(5 * SECOND)
        assert (await task).status == 200
        assert rig.sim.stats.total.served == 1


async def test_slow_between_chunks():
    async with simulated("groq", chunk_count=1) as rig:
        await rig.fault(kind="slow", chunk_seconds=2)
        task = asyncio.create_task(rig.chat(stream=True))
        for _ in range(3):
            await rig.until(lambda: rig.clock.pending == 1)
            rig.clock.advance(2 * SECOND)
        assert len((await task).events) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_stall_after_headers(stream):
    async with simulated("openai") as rig:
        await rig.fault(kind="stall_after_headers", after_chunks=2)
        body = {"model": "m", "messages": [{"content": "x"}], "stream": stream}
        url, headers = rig.sim.base_url + "/chat/completions", {"authorization": "Bearer k1"}
        async with rig.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200
            start = await answer.content.readany()
            assert start
            assert rig.sim.stats.total.in_flight == 1
        await rig.until(lambda: rig.sim.stats.total.in_flight == 0)
        assert rig.sim.stats.total.aborted == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["eof", "rst"])
async def test_B3_cut(stream, mode):
    async with simulated("openai") as rig:
        await rig.fault(kind="cut", after_chunks=2, mode=mode)
        with pytest.raises(aiohttp.ClientError):
            await rig.chat(stream=stream)
        total = rig.sim.stats.total
        assert (total.served, total.aborted, total.in_flight, total.faulted) == (0, 0, 0, {"cut": 1})
        assert total.output_tokens == (4 if stream else 32)  # what it had generated


async def test_B4_a_stream_that_ends_properly_and_too_early():
    async with simulated("openai") as rig:
        await rig.fault(kind="cut", after_chunks=2, mode="end")
        got = await rig.chat(stream=True)
        assert (got.status, len(got.events), b"[DONE]" in got.body) == (200, 2, False)
        assert rig.sim.stats.total.served == 0


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_B5_error_event_inside_a_200(dialect):
    async with simulated(dialect) as rig:
        await rig.fault(kind="error_event", after_chunks=1)
        got = await rig.chat(stream=True)
        assert (got.status, len(got.events), b"[DONE]" in got.body) == (200, 2, False)
        assert ("message" if dialect == "cerebras" else "error") in got.events[-1]
        assert (b"event: error\n" in got.body) is (dialect == "groq")
        whole = await rig.chat()
        assert (whole.status, whole.json) == (200, got.events[-1])


async def test_B5_error_event_first():
    async with simulated("openai") as rig:
        await rig.fault(kind="error_event", after_chunks=0)
        assert list((await rig.chat(stream=True)).events[0]) == ["error"]


@pytest.mark.parametrize(
    ("dialect", "headers", "text"),
    [
        ("groq", {"retry-after": "9"}, "Please try again in 8.5s."),
        ("openai", {"retry-after": "9", "retry-after-ms": "8500"}, "Please try again in 8.5s."),
        ("cerebras", {"retry-after": "9"}, "Requests per minute limit exceeded"),
        ("deepinfra", {}, "Rate limited"),
    ],
)
async def test_rate_limit_with_and_without_headers(dialect, headers, text):
    async with simulated(dialect) as rig:
        await rig.fault(kind="rate_limit", seconds=8.5, count=1)
        got = await rig.chat()
        assert (got.status, got.limits) == (429, headers)
        assert text in got.body.decode()
        await rig.fault(kind="rate_limit_bare", seconds=8.5, count=1)
        bare = await rig.chat()
        assert (bare.status, bare.limits, bare.body) == (429, {}, got.body)
        await rig.fault(kind="rate_limit_bare", count=1)
        silent = await rig.chat(key="k3")
        assert (silent.status, silent.limits, b"again in" in silent.body) == (429, {}, False)
        assert (await rig.chat(key="k3")).status == 200
        assert rig.sim.stats.accounts["org-b"].early == 0
        assert rig.sim.stats.accounts["org-a"].early == (1 if headers else 0)


async def test_a_status_of_its_own_may_announce_a_wait():
    async with simulated("groq") as rig:
        await rig.fault(kind="status", status=503, headers={"retry-after": "30"}, count=1)
        await rig.chat()
        await rig.chat()
        assert rig.sim.stats.total.early == 1


@pytest.mark.parametrize(
    ("kind", "dialect", "status"),
    [
        ("insufficient_quota", "openai", 429),
        ("insufficient_quota", "groq", 402),
        ("busy", "groq", 498),
        ("busy", "cerebras", 429),
        ("busy", "openai", 503),
        ("busy", "deepinfra", 429),
    ],
)
async def test_money_and_capacity(kind, dialect, status):
    async with simulated(dialect) as rig:
        await rig.fault(kind=kind)
        got = await rig.chat()
        assert (got.status, "retry-after" in got.headers) == (status, False)


async def test_malformed():
    async with simulated("openai") as rig:
        await rig.fault(kind="malformed", after_chunks=1)
        with pytest.raises(json.JSONDecodeError):
            _ = (await rig.chat()).json
        got = await rig.chat(stream=True)
        with pytest.raises(json.JSONDecodeError):
            _ = got.events
        assert got.body.endswith(b"data: [DONE]\n\n")


async def test_empty():
    async with simulated("openai") as rig:
        await rig.fault(kind="empty", count=2)
        for stream in (False, True):
            got = await rig.chat(stream=stream)
            assert (got.status, got.body) == (200, b"")
        await rig.fault(kind="empty", mode="completion")
        whole = (await rig.chat()).json
        assert whole["choices"][0]["message"]["content"] == ""
        assert whole["usage"]["completion_tokens"] == 0
        assert len((await rig.chat(stream=True)).events) == 2


async def test_faults_choose_their_victims():
    async with simulated("groq") as rig:
        await rig.fault(kind="status", status=500, key="k1", model="vendor/*")
        assert (await rig.chat(key="k1", model="vendor/m")).status == 500
        assert (await rig.chat(key="k1")).status == 200
        assert (await rig.chat(key="k2", model="vendor/m")).status == 200


async def test_the_same_seed_draws_the_same_faults():
    async with simulated("groq") as rig:
        runs = []
        for _ in range(2):
            await rig.call("DELETE", "/_sim/faults")
            await rig.fault(kind="status", status=500, probability=0.5, seed=3)
            runs.append([(await rig.chat()).status for _ in range(20)])
        assert runs[0] == runs[1]
        assert set(runs[0]) == {200, 500}


async def test_B1_a_caller_that_leaves_is_seen_and_billed_for_what_it_got():
    async with simulated("groq", LimitRule(tpm=1000), chunk_delay_ns=SECOND, chunk_count=8) as rig:
        body = {"model": "m", "messages": [{"content": "x" * 40}], "stream": True}
        url, headers = rig.sim.base_url + "/chat/completions", {"authorization": "Bearer k1"}
        async with rig.session.post(url, json=body, headers=headers) as answer:
            for _ in range(2):
                await rig.until(lambda: rig.clock.pending == 1)
                rig.clock.advance(SECOND)
                await answer.content.readany()
        await rig.until(lambda: rig.sim.stats.total.in_flight == 0)
        total = rig.sim.stats.total
        assert (total.aborted, total.served, total.input_tokens, rig.clock.pending) == (1, 0, 10, 0)
        assert total.output_tokens in (4, 8)
        left = (await rig.chat()).headers["x-ratelimit-remaining-tokens"]
        assert int(left) >= 1000 - 10 - total.output_tokens - 2  # settled, not held for ever


async def test_stopping_is_not_the_callers_doing():
    async with simulated("groq", latency_ns=SECOND) as rig:
        task = asyncio.create_task(rig.chat())
        await rig.until(lambda: rig.sim.stats.total.in_flight == 1)
        await rig.sim.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await task
        assert (rig.sim.stats.total.aborted, rig.sim.stats.total.in_flight) == (0, 0)
