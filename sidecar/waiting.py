"""The room where requests wait for quota: core's lines decide who goes next, this wakes them.

One timer per quota that has waiters, set to the moment its first can be admitted; a slot given back early pokes the
line. No polling, no herd: each release wakes exactly the requests it admitted, and of those that wait for a breaker
each answer that shows it closed wakes two. A caller who leaves frees its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from sidecar.core.backlog import Backlog
from sidecar.core.breaker import Breaker, State
from sidecar.core.keys import Candidate
from sidecar.core.limits import Cost
from sidecar.core.line import Lines, Place, Release, Ticket
from sidecar.core.quota import BLOCKED_NS, Charge, Quota
from sidecar.interfaces import Clock, Timer

# How many an answer lets go of those who wait for its target's breaker: twice as many each round trip, as TCP begins
_PER_ANSWER: Final = 2


class WaitingRoom:
    """All requests of a process that wait for quota."""

    def __init__(self, clock: Clock, backlog: Backlog | None = None) -> None:
        """`backlog`: where it is told what waits, for whoever decides on newcomers."""
        self._clock = clock
        self._lines = Lines(backlog)
        self._timers: dict[Quota, Timer] = {}
        self._wakers: dict[Ticket, asyncio.Future[None]] = {}
        self.asleep: dict[Breaker, dict[asyncio.Future[None], None]] = {}  # who waits for it to close, in order

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        return self._lines.waiting

    def tickets(self) -> Iterable[Ticket]:
        """Who waits now, in no order; for the status page."""
        return tuple(self._wakers)

    async def wait(
        self, places: Sequence[tuple[Candidate, Cost]], until_ns: int, number: int, breakers: Sequence[Breaker] = ()
    ) -> tuple[Candidate, Charge] | None:
        """Stand in the line of every place's quota, by `number` in order of arrival; the first to admit wins. None when
        none did by `until_ns`, or one of `breakers` lets calls pass, or the one that did may not be called any more."""
        entries = [Place(candidate.quota, cost, candidate) for candidate, cost in places]
        ticket, release = self._lines.enlist(entries, number, self._clock.now_ns())
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wakers[ticket] = waker
        self._take(release)
        try:
            await self._sleep(waker, until_ns, breakers)
        except BaseException:
            self._give_back(ticket)
            raise
        finally:
            del self._wakers[ticket]
            self._take(self._lines.leave(ticket, self._clock.now_ns()))
        granted = _granted(ticket)
        if granted is None:
            return None
        candidate, charge = granted
        now_ns = self._clock.now_ns()
        if candidate.standing().until_ns > now_ns:
            self._give_back(ticket)  # its key or its target was benched while the request stood in line
            return None
        candidate.breaker.enter(charge, now_ns)
        return granted

    async def pause(self, until_ns: int, breakers: Sequence[Breaker] = ()) -> None:
        """Wait until then, or until one of `breakers` lets calls pass."""
        await self._sleep(asyncio.get_running_loop().create_future(), until_ns, breakers)

    def rouse(self, breaker: Breaker) -> None:
        """A call to its target has been answered, or is over: some of those who wait for it may go."""
        asleep = self.asleep.get(breaker)
        if asleep is None:
            return
        count = _PER_ANSWER if breaker.state is State.CLOSED else int(breaker.until_ns <= self._clock.now_ns())
        for waker in list(islice((waker for waker in asleep if not waker.done()), count)):
            _wake(waker)

    async def _sleep(self, waker: asyncio.Future[None], until_ns: int, breakers: Sequence[Breaker]) -> None:
        timer = self._clock.call_at(until_ns, _wake, waker)
        for breaker in breakers:
            self.asleep.setdefault(breaker, {})[waker] = None
        try:
            await waker
        finally:
            timer.cancel()
            for breaker in breakers:
                del self.asleep[breaker][waker]
                if not self.asleep[breaker]:
                    del self.asleep[breaker]

    def poke(self, quota: Quota) -> None:
        """Something about `quota` changed, or its time has come: admit who can be admitted now."""
        self._take(self._lines.release((quota,), self._clock.now_ns()))

    def dissolve(self, quota: Quota) -> None:
        """Nobody is served at `quota` any more: who stands there alone is to ask again."""
        self._take(self._lines.dissolve(quota, self._clock.now_ns()))

    def _take(self, release: Release) -> None:
        for ticket in (*release.granted, *release.stranded):
            _wake(self._wakers[ticket])
        for quota, next_ns in release.wakes.items():
            timer = self._timers.pop(quota, None)
            if timer is not None:
                timer.cancel()
            if next_ns is not None and next_ns < BLOCKED_NS:
                self._timers[quota] = self._clock.call_at(next_ns, self.poke, quota)

    def _give_back(self, ticket: Ticket) -> None:
        """Admitted in vain: its caller left in the same turn, say. The charge returns, and may admit the next."""
        granted = _granted(ticket)
        if granted is not None:
            candidate, charge = granted
            candidate.quota.cancel(charge, self._clock.now_ns())
            self.poke(candidate.quota)


def _granted(ticket: Ticket) -> tuple[Candidate, Charge] | None:
    if ticket.granted is None or ticket.charge is None:
        return None
    candidate = ticket.granted.token
    assert isinstance(candidate, Candidate)
    return candidate, ticket.charge


def _wake(waker: asyncio.Future[None]) -> None:
    if not waker.done():
        waker.set_result(None)
