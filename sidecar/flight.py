"""One call that several identical requests share: made in a task of its own, read by each at its own pace (J3).

The one who asked first may leave without hurting the others; when nobody is left, the call is cancelled. What became of
it is told to the first one still there, so that the log and the counts have it once. Decides nothing: what is shared
and what is kept is core's (shared_answer, cache_entry).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from sidecar.core.chunks import content
from sidecar.core.http import Header, Lines, listed
from sidecar.core.record import Record
from sidecar.core.shared_answer import Reader, SharedAnswer
from sidecar.interfaces import Reply

# an error of the request itself: everyone who asks the same gets it, and nobody asks again
_SHARED_ERRORS = frozenset({400, 404, 413, 415, 422})
Grew = Callable[[int], bool]  # so many bytes more are held, or less; whether there is room for more


class Head(NamedTuple):
    """The head of an answer, as `interfaces.Reply` gets it. `length` None: chunked."""

    status: int
    headers: list[Header]
    length: int | None


class Flight:
    """One call under way. Implements `interfaces.Reply`, which its source writes to and which never says ClientGone."""

    def __init__(self, record: Record, max_bytes: int, grew: Grew) -> None:
        self.record = record  # of the call
        self.head: Head | None = None
        self.is_over = False
        self.is_broken = False  # ended without its end
        self.shared = SharedAnswer()
        self.owner: Reader | None = self.shared.join()
        self.task: asyncio.Task[None] | None = None
        self._max_bytes = max_bytes
        self._grew = grew
        self._is_told = False  # what became of it
        self._waiting: list[asyncio.Future[None]] = []
        self._source: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "over" if self.is_over else "waiting" if self.head is None else f"{self.head.status}"
        return f"<Flight {state} {self.shared!r}>"

    # what the source calls

    async def send(self, status: int, headers: Lines, body: bytes) -> None:
        self.head = Head(status, listed(headers), len(body))
        self._append(body)
        self._end()

    async def start(self, status: int, headers: Lines, length: int | None) -> None:
        self.head = Head(status, listed(headers), length)
        self._wake()

    async def write(self, chunk: bytes) -> None:
        if chunk:
            self.push(chunk, False)
            await self.drained()

    def push(self, piece: bytes, is_framed: bool) -> bool:
        self._append((content(piece) or b"") if is_framed else piece)
        self._wake()
        return not self.shared.must_wait

    async def drained(self) -> None:
        while self.shared.must_wait:
            self._source = asyncio.get_running_loop().create_future()
            await self._source

    async def finish(self) -> None:
        self._end()

    def abort(self) -> None:
        self.is_broken = True
        self._end()

    def fail(self) -> None:
        """The source ended without an answer, or in the middle of one."""
        if not self.is_over:
            self.abort()

    # what readers call

    @property
    def may_join(self) -> bool:
        """Whether one more may have all of it."""
        shared = self.shared  # one that nobody reads is being cancelled
        return shared.is_whole_so_far and shared.readers > 0 and not self.is_over and not self.is_private

    @property
    def is_private(self) -> bool:
        """Whether what came is for its owner alone: an error that the next one may be spared."""
        status = None if self.head is None else self.head.status
        return self.is_over if status is None else status != 200 and status not in _SHARED_ERRORS

    async def opened(self) -> None:
        """Wait for the head, or for an end without one."""
        while self.head is None and not self.is_over:
            await self._change()

    async def relay(self, reader: Reader, reply: Reply) -> None:
        """Pass on the body to one whose head has been sent. Raises ClientGone."""
        shared = self.shared
        while True:
            held = shared.held_bytes
            taken = shared.take(reader)
            if taken:
                self._release(held)
                await reply.write(taken)
            elif reader.is_cut or (self.is_over and self.is_broken):
                return reply.abort()
            elif self.is_over:
                return await reply.finish()
            else:
                await self._change()

    async def leave(self, reader: Reader, record: Record | None) -> None:
        """One reader less. The last one ends the call, and waits for that; `record`: of who may be told what became of
        it: its owner, or who outlasts that one."""
        shared, task = self.shared, self.task
        held = shared.held_bytes
        shared.leave(reader)
        self._release(held)
        if shared.readers == 0:
            self._grew(-shared.held_bytes)
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        is_owner = reader is self.owner
        if is_owner:
            self.owner = None
        is_heir = is_owner or self.owner is None
        if record is not None and is_heir and not self._is_told and (self.is_over or shared.readers == 0):
            self._is_told = True
            record.tell_of(self.record)

    def _append(self, piece: bytes) -> None:
        shared = self.shared
        held = shared.held_bytes
        shared.append(piece)
        has_room = self._grew(shared.held_bytes - held)
        if shared.is_whole_so_far and (shared.total_bytes > self._max_bytes or not has_room):
            held = shared.held_bytes
            shared.keep_no_more()
            self._release(held)

    def _release(self, before: int) -> None:
        now = self.shared.held_bytes
        if now != before:
            self._grew(now - before)
        if self._source is not None and not self.shared.must_wait:
            source, self._source = self._source, None
            if not source.done():
                source.set_result(None)

    def _end(self) -> None:
        self.is_over = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future


class Marked:
    """A Reply whose head says one thing more."""

    __slots__ = ("_mark", "_reply", "abort", "drained", "finish", "push", "write")

    def __init__(self, reply: Reply, mark: Header) -> None:
        self._reply = reply
        self._mark = mark
        self.write = reply.write
        self.push = reply.push
        self.drained = reply.drained
        self.finish = reply.finish
        self.abort = reply.abort

    async def send(self, status: int, headers: Lines, body: bytes) -> None:
        await self._reply.send(status, [*listed(headers), self._mark], body)

    async def start(self, status: int, headers: Lines, length: int | None) -> None:
        await self._reply.start(status, [*listed(headers), self._mark], length)
