"""The end of connections: idle ones first, several who wait, a deadline."""

from __future__ import annotations

import asyncio

from sidecar.core.limits import SECOND
from sidecar.edge.open_connections import OpenConnections
from tests.edge.stage import HandClock


class Line:
    """A connection that remembers what was done to it."""

    def __init__(self, registry, is_idle):
        self.is_idle = is_idle
        self.end = ""
        self._registry = registry
        registry.add(self)

    def force_close(self):
        self.end = "closed"
        self._registry.remove(self)

    def abort(self):
        self.end = "aborted"
        self._registry.remove(self)


async def test_nothing_open_is_empty_at_once():
    assert await OpenConnections().emptied(HandClock(), 0) is True


async def test_idle_ones_close_and_busy_ones_stay_until_they_are_cut_off():
    registry = OpenConnections()
    idle, busy = Line(registry, True), Line(registry, False)
    registry.close_idle()
    assert (idle.end, busy.end, len(registry), registry.is_draining) == ("closed", "", 1, True)
    registry.abort_all()
    assert (busy.end, len(registry)) == ("aborted", 0)


async def test_everyone_who_waits_is_told_and_a_deadline_holds_for_one():
    registry, clock = OpenConnections(), HandClock()
    line = Line(registry, False)
    task = asyncio.ensure_future(asyncio.sleep(0))
    registry.add(line, task)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        patient = group.create_task(registry.emptied(clock))
        hasty = group.create_task(registry.emptied(clock, clock.now_ns() + SECOND))
        await clock.until_pending(SECOND)
        clock.advance(SECOND)
        assert await hasty is False
        await task
        assert not patient.done(), "the task has ended, the connection is open"
        line.abort()
        assert await patient is True
    assert clock.pending() == []
    assert repr(registry) == "OpenConnections(open, 0 connections, 0 tasks)"
