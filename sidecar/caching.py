"""The cache between a request understood and the call it would make: answered by what is kept, or shared, or passed on.

Knows three ends: a hit is replayed; one of several identical requests calls and all are answered; anything else goes
on as if there were no cache, marked `bypass`. What is looked up, kept and told is core's to decide (cache_key,
cache_shapes, cache_entry). Refuses to know how a call is made: it is handed the way on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from sidecar.core.cache_counts import CacheCounts, CacheStatus, ModelCounts
from sidecar.core.cache_entries import Entries, size_of
from sidecar.core.cache_entry import BYPASS, MISS, Entry, Told, asked_of, entry_of, made, row_of, shared_head, told
from sidecar.core.cache_key import Lookup, lookup, owner_of
from sidecar.core.cache_shapes import keepable
from sidecar.core.call import Call
from sidecar.core.config import Cache
from sidecar.core.heading import Heading
from sidecar.core.http import Request
from sidecar.core.limits import Usage
from sidecar.core.outcomes import Outcome
from sidecar.core.record import Record
from sidecar.core.shared_answer import Reader
from sidecar.core.snapshot import Snapshot
from sidecar.flight import Flight, Marked
from sidecar.interfaces import Clock, Reply

_MOST_OWNERS = 4096  # route texts that are remembered; callers can name any model
_MOST_KNOWN = 512  # requests whose key is remembered: looking it up costs a tenth of making it anew
_KNOWN_BYTES = 2048  # of a body; all of them are a megabyte at the most


class Sought(NamedTuple):
    """A request understood, and where its answer goes."""

    snapshot: Snapshot
    request: Request
    reply: Reply
    record: Record
    call: Call


Onward = Callable[[Snapshot, Request, Reply, Record, Call], Awaitable[None]]  # the way without a cache


class Caching:
    """Answers kept and answers under way. `counts` may be read at any time; `entries` are saved by who owns a file."""

    def __init__(self, config: Cache, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self.counts = CacheCounts()
        self.entries = Entries(config.max_bytes, self._dropped)
        self._flights: dict[object, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._owners: dict[tuple[str | None, str | None, str, str | None], bytes] = {}
        self._tenants: Mapping[str, bytes] = {}
        self._known: dict[tuple[Heading, bytes, bytes], Lookup | None] = {}

    def __repr__(self) -> str:
        return f"<Caching {self.entries!r}, {len(self._flights)} under way>"

    def configure(self, config: Cache, tenants: Mapping[str, bytes]) -> None:
        """Go on by this configuration. `tenants`: the digest of each caller's token, by the name it is known under."""
        self._config, self._tenants = config, tenants
        self._owners.clear()  # chains may be others now
        self._known.clear()
        self.entries.resize(config.max_bytes)
        if not config.enabled:
            self.forget()

    def forget(self) -> None:
        """Keep nothing of what is kept."""
        self.entries.clear()
        for counts in self.counts.models.values():
            counts.entries = counts.bytes = 0

    def take_up(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Take up what a process before this one kept, the newest last."""
        known = [(key, row) for key, row in rows if entry_of(row) is not None]
        self.entries.restore(known)
        for key, row in known:
            if self.entries.has(key, row):
                counts = self.counts.of(asked_of(row))
                counts.entries += 1
                counts.bytes += size_of(row)

    async def close(self) -> None:
        """End what is still under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def status(self) -> CacheStatus:
        """How it stands."""
        entries = self.entries
        return CacheStatus(
            self._config.enabled,
            len(entries),
            entries.total_bytes,
            entries.reserved,
            entries.max_bytes,
            self.counts.models,
        )

    async def serve(self, sought: Sought, onward: Onward) -> None:
        """Answer a request, by a call or without. Raises ClientGone."""
        snapshot, request, reply, record, call = sought
        owner = self._owner(call, request.caller)
        asked = None if owner is None else self._asked(call, request, owner)
        if asked is None:
            record.cache = "bypass"
            self.counts.of(call.model).bypasses += 1
            return await onward(snapshot, request, Marked(reply, BYPASS), record, call)
        while True:
            kept = self._find(asked, record) if asked.may_read else None
            if kept is not None:
                return await self._replay(sought, *kept)
            flight = self._flights.get(asked.flight) if asked.may_read else None
            if flight is None or not flight.may_join:
                return await self._lead(sought, asked, onward)
            if await self._follow(sought, flight):
                return None

    def _asked(self, call: Call, request: Request, owner: bytes) -> Lookup | None:
        """What the request asks of the cache; of one that comes again, head and body, that is known."""
        name = (call.heading, owner, request.body)
        if name in self._known:
            return self._known[name]
        asked = lookup(call, request, owner, self._config.only_deterministic)
        if len(request.body) <= _KNOWN_BYTES:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[name] = asked
        return asked

    # === what is kept ===

    def _find(self, asked: Lookup, record: Record) -> tuple[Entry, Told] | None:
        """The answer that is kept, if it is young enough and can be told as asked."""
        row = self.entries.get(asked.key)
        entry = None if row is None else entry_of(row)
        if row is None or entry is None:
            return None
        now_ns = self._clock.now_ns()
        age_ns = now_ns - entry.stored_ns
        if age_ns >= self._config.ttl:
            self.entries.remove(asked.key)
            counts = self._left(row)
            counts.expired += 1
            return None
        if asked.max_age_ns is not None and age_ns > asked.max_age_ns:
            return None
        answer = told(entry, asked, now_ns, record.id)
        return None if answer is None else (entry, answer)

    async def _replay(self, sought: Sought, entry: Entry, answer: Told) -> None:
        record = sought.record
        record.cache = "hit"
        record.status, record.outcome = 200, Outcome.OK.value
        counts = self.counts.of(sought.call.model)
        counts.hits += 1
        counts.save(entry.input_tokens, entry.output_tokens)
        await sought.reply.send(200, answer.head, answer.body)

    def _keep(self, asked: Lookup, flight: Flight) -> None:
        """Keep the answer of a call, if it is one to keep."""
        head, record = flight.head, flight.record
        if head is None or head.status != 200 or not flight.shared.is_whole_so_far or not self._config.enabled:
            return
        if flight.is_broken or record.outcome != Outcome.OK.value or self._is_altered(record):
            return
        kept = keepable(asked.shape, head.headers, flight.shared.body(), record.usage)
        if kept is None:
            return
        entry = made(record.model, self._clock.now_ns(), head.headers, kept, record.usage)
        row = row_of(entry)
        before = self.entries.remove(asked.key)
        if before is not None:
            self._left(before)
        counts = self.counts.of(entry.asked)
        counts.entries += 1
        counts.bytes += size_of(row)
        counts.stored += 1
        if not self.entries.put(asked.key, row):
            self._left(row)
            counts.stored -= 1

    def _is_altered(self, record: Record) -> bool:
        """Whether the call was made without what makes its answer the same each time."""
        return self._config.only_deterministic and "temperature" in record.dropped

    def _dropped(self, row: bytes) -> None:
        self._left(row).evictions += 1

    def _left(self, row: bytes) -> ModelCounts:
        """One row less, in the counts of its model."""
        counts = self.counts.of(asked_of(row))
        counts.entries -= 1
        counts.bytes -= size_of(row)
        return counts

    # === answers under way ===

    async def _lead(self, sought: Sought, asked: Lookup, onward: Onward) -> None:
        """Make the call that this request asks for, and read its answer like any other reader."""
        record = sought.record
        record.cache = "miss"
        self.counts.of(sought.call.model).misses += 1
        flight = Flight(record.twin(), self.entries.max_entry_bytes, self._grew)
        under_way = self._flights.get(asked.flight)
        if under_way is None or not under_way.may_join:
            self._flights[asked.flight] = flight
        reader = flight.owner
        assert reader is not None
        flight.task = task = asyncio.ensure_future(self._call(sought, flight, asked, onward))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._pass_on(flight, reader, Marked(sought.reply, MISS), None)
            if flight.head is None or flight.is_broken:
                await task  # what it raised is the edge's to answer
        finally:
            await flight.leave(reader, record)
            self._land(flight, asked)
            if reader.is_cut:
                record.outcome = Outcome.BROKEN.value  # whatever became of the call, this caller did not get all of it

    async def _call(self, sought: Sought, flight: Flight, asked: Lookup, onward: Onward) -> None:
        try:
            await onward(sought.snapshot, sought.request, flight, flight.record, sought.call)
        finally:
            self._land(flight, asked)
            self._keep(asked, flight)
            flight.fail()

    async def _follow(self, sought: Sought, flight: Flight) -> bool:
        """Read the answer to another one's call; False when that has failed, and the next one is to make its own."""
        record = sought.record
        reader = flight.shared.join()
        heir: Record | None = None
        try:
            await flight.opened()
            head = flight.head
            if head is None or flight.is_private:
                return False
            heir = record
            record.cache, record.status = "hit", head.status
            counts = self.counts.of(sought.call.model)
            counts.coalesced += 1
            await self._pass_on(flight, reader, sought.reply, record.id)
            usage = flight.record.usage or Usage(0, 0)
            counts.save(usage.input_tokens, usage.output_tokens)
            record.outcome = flight.record.outcome or Outcome.BROKEN.value
            if reader.is_cut:
                record.outcome = Outcome.BROKEN.value
            return True
        finally:
            await flight.leave(reader, heir)

    async def _pass_on(self, flight: Flight, reader: Reader, reply: Reply, request_id: str | None) -> None:
        """The answer of a call to one of its readers. `request_id`: of one who did not ask first."""
        await flight.opened()
        head = flight.head
        if head is None:
            return
        headers = head.headers if request_id is None else shared_head(head.headers, request_id)
        if flight.is_over and not flight.is_broken and head.length is not None and flight.shared.is_whole_so_far:
            return await reply.send(head.status, headers, flight.shared.body())
        await reply.start(head.status, headers, head.length)
        await flight.relay(reader, reply)

    def _grew(self, more: int) -> bool:
        """So many bytes more are held for answers under way; whether there is room for more of them."""
        self.entries.reserve(more)
        return self.entries.reserved <= self.entries.max_bytes // 2

    def _land(self, flight: Flight, asked: Lookup) -> None:
        """Nobody joins this call any more."""
        if self._flights.get(asked.flight) is flight:
            del self._flights[asked.flight]

    def _owner(self, call: Call, caller: str | None) -> bytes | None:
        """Whose the request is and where it may go; None for one whose token is no more."""
        key = call.route.key
        name = (caller, call.model, call.surface.provider, None if key is None else key.ident)
        owner = self._owners.get(name)
        if owner is None:
            tenant = b"" if caller is None else self._tenants.get(caller)
            if tenant is None:
                return None
            if len(self._owners) >= _MOST_OWNERS:
                self._owners.clear()
            owner = self._owners[name] = owner_of(tenant, call.route)
        return owner
