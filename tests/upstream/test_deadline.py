"""A block with an end, on a clock that tests drive."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.upstream.deadline import until
from tests.fakes import FakeClock, settle


async def limited(clock: FakeClock, when_ns: int) -> str:
    async with until(clock, when_ns):
        await asyncio.get_running_loop().create_future()
    return "never"


async def test_late():
    clock = FakeClock()
    task = asyncio.ensure_future(limited(clock, clock.now_ns() + 10))
    await settle()
    clock.advance(9)
    await settle()
    assert not task.done()
    clock.advance(1)
    with pytest.raises(TimeoutError):
        await task


async def test_in_time_leaves_no_timer():
    clock = FakeClock()
    async with until(clock, clock.now_ns() + 10):
        assert clock.pending == 1
    assert clock.pending == 0


async def test_cancelled_from_outside_is_not_late():
    clock = FakeClock()
    task = asyncio.ensure_future(limited(clock, clock.now_ns() + 10))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.pending == 0
