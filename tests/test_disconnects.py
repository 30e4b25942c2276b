"""Callers that leave, through the whole house: what was done for them stops, and costs the next one nothing (B1, B2).

On both event loops, to providers in the clear and behind TLS, since each combination closes its sockets differently.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.edge.raw import RawClient, post
from tests.fakes import settle
from tests.rig import WATCHDOG_S, chat, running, until

pytestmark = BOTH_WAYS

CONFIG = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}]
    limits: [{model: "*", concurrency: 1, rpm: 30000, tpm: 1000000}]
"""
SIMS = {"groq": SimConfig("groq", tokens_per_reply=32, chunk_count=8)}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Scenario = Callable[[], Coroutine[None, None, None]]


@pytest.fixture(params=LOOPS)
def play(request):
    """Runs a scenario on one of the loops, under a watchdog."""

    async def guarded(scenario: Scenario) -> None:
        async with asyncio.timeout(2 * WATCHDOG_S):
            await scenario()

    def run(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(guarded(scenario))

    return run


def request(**fields):
    return post(json.dumps(chat(**fields)).encode(), b"content-type: application/json")


async def nothing_is_left(rig):
    """The provider has seen the caller leave, and no place, charge or connection is held for it."""
    await until(lambda: rig.row("groq").in_flight == 0 and rig.row("groq").aborted == 1)
    status = await rig.status()
    assert status["in_flight"] == 0
    assert status["connections"]["leased"] == 0
    assert [quota["in_flight"] for quota in status["providers"][0]["accounts"]["a"]] == [0]


# where the provider stalls, whether in a stream, and how many events the caller has read when it leaves
POINTS = {
    "before the head": (Fault("stall_before_headers", count=1), True, 0),
    "before the first token": (Fault("stall_after_headers", after_chunks=1, count=1), True, 0),
    "mid-stream": (Fault("stall_after_headers", after_chunks=3, count=1), True, 2),
    "plain": (Fault("stall_before_headers", count=1), False, 0),
    "plain, half-way": (Fault("stall_after_headers", count=1), False, 0),
}


@pytest.mark.parametrize("how", [RawClient.close, RawClient.reset, RawClient.half_close])
@pytest.mark.parametrize("point", POINTS)
def test_B1_a_caller_that_leaves_stops_the_provider(tmp_path, play, point, how):
    fault, stream, read = POINTS[point]

    async def scenario():
        async with running(tmp_path, CONFIG, SIMS) as rig:
            rig.fault("groq", fault)
            client = await rig.raw()
            await client.send(request(stream=stream))
            await until(lambda: rig.row("groq").in_flight == 1)
            if read:
                await client.head()
                text = b""
                while text.count(b"\n\n") < read:
                    text += await client.chunk()
            left = how(client)
            if left is not None:
                await left
            await nothing_is_left(rig)
            line = rig.requests[-1]
            assert (line["status"], line["outcome"]) == (499, "client_gone")
            # the only place there is, is free for the next
            assert (await rig.post(body=chat())).status == 200
            await client.close()

    play(scenario)


async def narrow(rig):
    """A caller whose buffers hold next to nothing."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    address = rig.sidecar.listening[0]
    await asyncio.get_running_loop().sock_connect(plug, (address.host, address.port))
    return RawClient(*await asyncio.open_connection(sock=plug))


def test_B1_a_caller_that_reads_no_more_and_then_leaves_stops_the_provider(tmp_path, play):
    async def scenario():
        big = SimConfig("groq", tokens_per_reply=900_000, chunk_count=50)  # 5 MB, more than kernels hold
        async with running(tmp_path, CONFIG, {"groq": big}) as rig, await narrow(rig) as client:
            rig.fault("groq", Fault("stall_after_headers", after_chunks=45, count=1))
            await client.send(request(stream=True))
            await client.head()
            client.pause()
            await settle(300)  # until nothing moves any more
            assert rig.row("groq").in_flight == 1
            client.reset()
            await nothing_is_left(rig)

    play(scenario)


def test_B2_many_callers_that_leave_at_any_time_leave_nothing_behind(tmp_path, play):
    config = CONFIG.replace("concurrency: 1,", "concurrency: 20,")
    draws = random.Random(7)

    async def call(rig, stream):
        client = await rig.raw()
        await client.send(request(stream=stream))
        for _ in range(draws.randrange(60)):
            await settle(1)
        client.reset()

    async def scenario():
        sims = {"groq": SimConfig("groq", chunk_delay_ns=1_000_000, latency_ns=2_000_000)}
        async with running(tmp_path, config, sims) as rig:
            for _ in range(5):
                await asyncio.gather(*(call(rig, draws.random() < 0.5) for _ in range(40)))
            await until(lambda: rig.row("groq").in_flight == 0)
            while (status := await rig.status())["in_flight"]:
                await settle(1)
            assert (status["waiting"], status["connections"]["leased"]) == (0, 0)
            quota = status["providers"][0]["accounts"]["a"][0]
            assert (quota["in_flight"], quota["waiting"]) == (0, 0)
            # every place is there for the next twenty at once
            answers = await asyncio.gather(*(rig.post(body=chat()) for _ in range(20)))
            assert {(answer.status, answer.headers["x-sidecar-wait-ms"]) for answer in answers} == {(200, "0")}

    play(scenario)


async def test_B2_what_a_caller_that_left_had_reserved_comes_back_or_stays_as_the_provider_charges_it(tmp_path):
    config = CONFIG.replace("concurrency: 1, rpm: 30000, tpm: 1000000", "rpm: 2, tpm: 1000")
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, SIMS) as rig:
        rig.fault("groq", Fault("stall_after_headers", after_chunks=0, count=1))
        client = await rig.raw()
        await client.send(request(stream=True, max_tokens=600))
        await until(lambda: rig.row("groq").in_flight == 1)
        client.reset()
        await nothing_is_left(rig)
        windows = {each["counts"]: each for each in (await rig.status())["providers"][0]["accounts"]["a"][0]["windows"]}
        # the provider took it up, so it stays charged as estimated: the strict side
        assert windows["requests"]["remaining"] == 1
        assert windows["tokens"]["remaining"] < 400 + 10


# a stream whose connection is not ended after its last event, as some providers leave it for a while
LINGERING = Fault("stall_after_headers", after_chunks=11)


@pytest.mark.parametrize(("stream", "faults"), [(False, []), (True, []), (True, [LINGERING])])
def test_B1_whoever_hangs_up_right_after_the_last_word_has_had_it_all(tmp_path, play, stream, faults):
    async def scenario():
        async with running(tmp_path, CONFIG, SIMS) as rig:
            for fault in faults:
                rig.fault("groq", fault)
            client = await rig.raw()
            await client.send(request(stream=stream))
            if stream:
                await client.head()
                text = b""
                while b"data: [DONE]\n\n" not in text:
                    text += await client.chunk()
            else:
                await client.answer()
            client.reset()
            await until(lambda: len(rig.requests) == 1)
            line = rig.requests[0]
            assert (line["status"], line["outcome"]) == (200, "ok")
            assert (line["tokens_in"], line["tokens_out"]) == (2, 32)
            await until(lambda: rig.row("groq").in_flight == 0)
            row = rig.row("groq")
            assert (row.aborted, row.input_tokens, row.output_tokens) == (len(faults), 2, 32)

    play(scenario)
