"""Large bodies in the fast lane, on either event loop: whole, in pieces, given up, late, and what comes behind them."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
import uvloop

from sidecar.core.intake import MAX_HOT_BODY_BYTES
from sidecar.edge.fastlane import FastConnection
from sidecar.edge.inflow import Inflow
from tests.edge.raw import post
from tests.edge.stage import TIMING, conversing
from tests.fakes import settle

LARGE = bytes(range(256)) * (MAX_HOT_BODY_BYTES // 256)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on that loop."""

    def on_loop(work):
        async def guarded():
            async with asyncio.timeout(20):
                await work

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(guarded())

    return on_loop


async def reading(stage):
    """Wait until the only connection reads a large body."""
    while not stage.lane._open._connections:
        await settle()
    (only,) = stage.lane._open._connections
    while only._inflow is None:
        await settle()
    return only


@pytest.mark.parametrize("cut", [400, 100_000, len(LARGE)])
@pytest.mark.parametrize("behind", [b"", post(b"behind"), post(LARGE[::-1])[:-1]], ids=["nothing", "small", "large"])
def test_a_large_body_is_whole_and_what_follows_is_another(run, cut, behind):
    async def work():
        async with conversing(lane="fast") as (stage, client):
            data = post(LARGE) + behind
            await client.send(data[:cut])
            await settle()
            await client.send(data[cut:])
            assert (await client.answer()).body == LARGE
            if behind:
                await client.send(post(LARGE[::-1])[-1:] if len(behind) > 1000 else b"")
                assert (await client.answer()).body == (LARGE[::-1] if len(behind) > 1000 else b"behind")
            await client.send(post(b"after"))
            assert (await client.answer()).body == b"after"
            (only,) = stage.lane._open._connections
            assert isinstance(only, FastConnection)

    run(work())


def test_B1_a_caller_that_leaves_inside_a_large_body_gives_its_place_back(run):
    async def work():
        async with conversing(lane="fast") as (stage, client):
            await client.send(post(LARGE)[:500])
            connection = await reading(stage)
            assert stage.service.entrance.inflight == 1
            client.reset()
            await stage.all_gone()
            assert stage.service.entrance.inflight == 0
            assert connection._inflow is None

    run(work())


def test_a_large_body_that_is_late_is_408(run):
    async def work():
        async with conversing(lane="fast") as (stage, client):
            await client.send(post(LARGE)[:500])
            connection = await reading(stage)
            assert repr(connection._inflow).startswith("Inflow(")
            stage.clock.advance(TIMING.client_body_ns + 1)
            assert (await client.answer()).status == 408
            assert stage.service.entrance.inflight == 0
            assert connection._inflow is None

    run(work())


class Parted:
    """A transport and a receiver at once, which note what is done to them."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *args: self.told.append((name, *args))


def inflow_of(parted, begun) -> Inflow:
    return Inflow(cast(asyncio.Transport, parted), parted, begun, 4)


async def test_who_ended_it_is_told_of_no_body():
    parted = Parted()
    inflow = inflow_of(parted, b"ab")
    inflow.get_buffer(-1)[:] = b"cd"
    inflow.buffer_updated(2)
    inflow.end()
    await settle()
    assert "body_received" not in [name for name, *_ in parted.told]


async def test_the_receiver_hears_of_the_connection():
    parted = Parted()
    inflow = inflow_of(parted, b"")
    parted.told.clear()
    inflow.pause_writing()
    inflow.resume_writing()
    inflow.eof_received()
    inflow.connection_lost(None)
    inflow.end()
    names = [name for name, *_ in parted.told]
    assert names == ["pause_writing", "resume_writing", "eof_received", "connection_lost"]
