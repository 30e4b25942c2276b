"""Asks the shared ledger in the background: a timer for each lease, a sign of life each second, all back at the end.

Requests never wait here: they spend what their lease holds, and are woken when a reply brings more. A call is given up
after 50 ms; then all count alone until a sign of life is answered again. What to ask and what a reply means is decided
in core (lease.py, sharing.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol

import msgspec

from sidecar.core.lease import FOREVER_NS, Lease
from sidecar.core.lease_call import decode, encode
from sidecar.core.limits import SECOND
from sidecar.core.quota import Quota
from sidecar.core.roster import Roster
from sidecar.core.shared_standings import SharedStandings
from sidecar.core.sharing import News, Sharing
from sidecar.interfaces import CannotKeep, Clock, NotSaved, Timer
from sidecar.store.redis import RedisStore, StoreFailed

GIVE_UP_S = 0.05  # of a call that a request may wait for
_ALIVE_S = 1.0  # of a sign of life, for which nobody waits
_ALIVE_NS = SECOND  # between two of them
_AGAIN_NS = SECOND // 4  # between two while the store is out of reach; less at first:
_SOON_NS = SECOND // 64  # one late reply is no outage
_LATE_NS = SECOND // 200  # a loop that is so much late itself says nothing of the store
_AT_ONCE = 16  # calls under way
_BUSY_NS = SECOND // 100  # until the next look when there are more
_STOP_S = 1.0  # for giving everything back

Tell = Callable[[str, str], None]  # an event's name, and its message


class Room(Protocol):
    """Where requests wait for quota."""

    def poke(self, quota: Quota) -> None:
        """More of it can be had."""


class Leasing:
    """Runs all leases of a process over one store. `tell` takes events."""

    def __init__(self, roster: Roster, store: RedisStore, replicas: int, clock: Clock, tell: Tell) -> None:
        self._roster = roster
        self._store = store
        self._clock = clock
        self._tell = tell
        self._room: Room | None = None
        self.sharing = Sharing(replicas, str(store.place), self._arm)
        self._standings = SharedStandings(roster.health)
        self._revision = -1
        self._timers: dict[Lease, tuple[int, Timer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive_timer: Timer | None = None
        self._is_signing = False
        self._is_stopped = False
        self._again_ns = _SOON_NS
        roster.ledger.opened = self._opened

    def start(self, room: Room) -> None:
        """Meet the store, and begin; nobody waits for it. `room`: whom to tell when more can be had."""
        self._room = room
        self._sign_again()

    def know(self, password: str | None) -> None:
        """The store's password as it is now; for connections that are made from here on."""
        self._store.password = password

    async def stop(self) -> None:
        """Give back everything that is held, and leave."""
        self._is_stopped = True
        if self._alive_timer is not None:
            self._alive_timer.cancel()
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if not self.sharing.is_static:
            try:
                async with asyncio.timeout(_STOP_S):
                    await self._leave()
            except (StoreFailed, TimeoutError) as error:
                self._tell("share_lost", f"{self.sharing.place}: {error or 'no answer'}; leases end by themselves")
        await self._store.close()

    async def _leave(self) -> None:
        for lease in list(self.sharing.leases.values()):
            if lease.is_known:
                call = lease.call(self._store.member, self._store.channels, self._clock.now_ns(), is_last=True)
                await self._store.ask(lease.quota.account, lease.quota.model, encode(call))
        await self._store.alive(is_leaving=True)

    def _opened(self, quota: Quota) -> None:
        self._arm(self.sharing.open(quota, self._clock.now_ns()))

    def _arm(self, lease: Lease) -> None:
        """See that the lease calls when it wants to."""
        now_ns = self._clock.now_ns()
        due_ns = lease.due_ns(now_ns)
        armed = self._timers.get(lease)
        if self._is_stopped or (armed is not None and armed[0] <= due_ns):
            return
        if armed is not None:
            armed[1].cancel()
            del self._timers[lease]
        if due_ns < FOREVER_NS:
            due_ns = max(due_ns, now_ns)
            self._timers[lease] = (due_ns, self._clock.call_at(due_ns, self._begin, lease))

    def _begin(self, lease: Lease) -> None:
        del self._timers[lease]
        now_ns = self._clock.now_ns()
        if lease.quota not in self._roster.ledger:
            return self.sharing.drop(lease.quota)
        self.sharing.bind(lease, now_ns)
        due_ns = lease.due_ns(now_ns)
        if due_ns > now_ns:
            self._arm(lease)
        elif len(self._tasks) >= _AT_ONCE:
            self._timers[lease] = (now_ns, self._clock.call_at(now_ns + _BUSY_NS, self._begin, lease))
        else:
            self._run(self._ask(lease))

    async def _ask(self, lease: Lease) -> None:
        sent_ns = self._clock.now_ns()
        call = encode(lease.call(self._store.member, self._store.channels, sent_ns))
        try:
            answer = decode(await self._reply(lease.quota, call))
        except (StoreFailed, msgspec.DecodeError) as error:
            lease.miss(sent_ns)
            self._fail(error)
            return
        now_ns = self._clock.now_ns()
        if self.sharing.is_static:
            return lease.miss(sent_ns)  # another call has failed meanwhile: what this one brought ends by itself
        if lease.take(answer, sent_ns, now_ns):
            self._say(self.sharing.forgot(lease.quota))
        self._arm(lease)
        if lease.quota.has_waiters:
            self._poke(lease.quota)

    async def _reply(self, quota: Quota, call: bytes) -> bytes:
        """Ask once; once more where it was this process that was late, not the store."""
        began_ns = self._clock.now_ns()
        try:
            return await self._ask_once(quota, call)
        except StoreFailed as error:
            took_ns = self._clock.now_ns() - began_ns
            if error.reason != "timeout" or took_ns < int(GIVE_UP_S * SECOND) + _LATE_NS:
                raise
        return await self._ask_once(quota, call)

    async def _ask_once(self, quota: Quota, call: bytes) -> bytes:
        self.sharing.counters.calls += 1
        try:
            async with asyncio.timeout(GIVE_UP_S):
                return await self._store.ask(quota.account, quota.model, call)
        except TimeoutError as error:
            raise StoreFailed("timeout", f"no answer within {GIVE_UP_S * 1000:.0f} ms") from error

    async def _give_sign(self) -> None:
        """Tell that this sidecar lives, hear who else does and what they know."""
        try:
            async with asyncio.timeout(_ALIVE_S):
                self.sharing.counters.calls += 1
                count, revision = await self._store.alive()
        except (StoreFailed, TimeoutError) as error:
            await self._store.forget()
            self._fail(error)
        else:
            self.sharing.note_members(count)
            self._recover()
            await self._exchange(revision)
        finally:
            self._is_signing = False
            self._sign_in(self._soon() if self.sharing.is_static else _ALIVE_NS)

    def _sign_in(self, pause_ns: int) -> None:
        """The next sign of life; of one that is under way the end decides."""
        if self._alive_timer is not None:
            self._alive_timer.cancel()
        if not self._is_stopped and not self._is_signing:
            self._alive_timer = self._clock.call_at(self._clock.now_ns() + pause_ns, self._sign_again)

    def _sign_again(self) -> None:
        self._is_signing = True
        self._run(self._give_sign())

    async def _exchange(self, revision: int) -> None:
        """Tell what stands against keys here, and hear what stands elsewhere."""
        try:
            over: list[str] = []
            if revision != self._revision:
                rows = (await self._store.load()).rows
                self._revision = revision
                over = self._standings.take(rows, self._clock.now_ns())
            fresh = self._standings.fresh(self._clock.now_ns())
            if fresh or over:
                await self._store.save(fresh, over)
                self._standings.confirm(fresh)
        except (CannotKeep, NotSaved) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, StoreFailed) else "timeout"
        was_static = self.sharing.is_static
        self._say(self.sharing.fail(reason, str(error) or "no answer", self._clock.now_ns()))
        if not was_static:
            self._again_ns = _SOON_NS
            self._poke_all()
            self._sign_in(self._soon())

    def _soon(self) -> int:
        """Until the next sign of life while the store is out of reach."""
        pause_ns, self._again_ns = self._again_ns, min(2 * self._again_ns, _AGAIN_NS)
        return pause_ns

    def _recover(self) -> None:
        news = self.sharing.recover(self._clock.now_ns())
        if news is not None:
            self._say(news)
            self._standings.forget()
            for lease in self.sharing.leases.values():
                self._arm(lease)
            self._poke_all()

    def _poke_all(self) -> None:
        for quota in list(self.sharing.leases):
            if quota.has_waiters:
                self._poke(quota)

    def _poke(self, quota: Quota) -> None:
        if self._room is not None:
            self._room.poke(quota)

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, news: News | None) -> None:
        if news is not None:
            self._tell(*news)

    def __repr__(self) -> str:
        return f"<Leasing {self.sharing!r} over {self._store!r}>"
