"""Whoever leaves a shared call, and whenever: the others have all of it, and nothing is left behind (J3, style 20)."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.caching import Caching, Sought
from sidecar.core.affinity import Ownership
from sidecar.core.call import Call, understand
from sidecar.core.config import Cache
from sidecar.core.http import Request
from sidecar.core.limits import Usage
from sidecar.core.record import Record
from sidecar.flight import Flight
from sidecar.interfaces import ClientGone
from tests.core.house import snapshot_of
from tests.fakes import FakeClock, settle
from tests.values import record as record_of
from tests.wire import COMPLETION, delta

SNAPSHOT = snapshot_of("providers:\n  - name: groq\n    keys: [{name: a, env: A}]\n")
CONFIG = Cache(enabled=True)
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
PIECES = [b"data: " + delta(f"w{n}").encode() + b"\n\n" for n in range(4)]
PIECES += [b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"]
TURNS = range(24)  # of the loop, from before the call to after its end


class Caller:
    """A Reply that suspends at each step and may be gone at the n-th."""

    def __init__(self, gone_at: int = -1) -> None:
        self.status = 0
        self.got = b""
        self.is_whole = False
        self._left = gone_at

    async def _step(self) -> None:
        if self._left == 0:
            raise ClientGone
        self._left -= 1
        await asyncio.sleep(0)

    async def send(self, status, headers, body):
        await self._step()
        self.status, self.got, self.is_whole = status, body, True

    async def start(self, status, headers, length):
        await self._step()
        self.status = status

    async def write(self, chunk):
        await self._step()
        self.got += chunk

    def push(self, piece, is_framed):
        self.got += piece
        return False

    async def drained(self):
        await self._step()

    async def finish(self):
        await self._step()
        self.is_whole = True

    def abort(self):
        self._left = 0


class House:
    """A cache before a call that is scripted: how it answers, how often it was made, how often cancelled."""

    def __init__(self, streams: bool = True, fails: int = 0, outcome: str = "ok") -> None:
        self.caching = Caching(CONFIG, FakeClock())
        self.caching.configure(CONFIG, {})
        self.streams = streams
        self.fails = fails
        self.outcome = outcome
        self.made = self.cancelled = self.errors = 0
        self.records: list[Record] = []

    async def onward(self, snapshot, request, reply, record, call):
        self.made += 1
        number = self.made
        try:
            await asyncio.sleep(0)
            record.attempts = 1
            if number <= self.fails:
                raise RuntimeError("a fault of ours")
            if not self.streams:
                await reply.send(200, JSON, COMPLETION)
            else:
                await reply.start(200, EVENTS, None)
                for piece in PIECES:
                    await asyncio.sleep(0)
                    await reply.write(piece)
                await reply.finish()
            record.status, record.outcome, record.usage = 200, self.outcome, Usage(1, 2)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def ask(self, caller):
        body = b'{"model":"m","messages":[],"temperature":0,"stream":%b}' % (b"true" if self.streams else b"false")
        request = Request(b"POST", b"/v1/chat/completions", [], body)
        call = understand(SNAPSHOT, request, Ownership())
        assert isinstance(call, Call)
        record = record_of(f"req_{len(self.records)}", 0, b"POST", request.target, model="m")
        self.records.append(record)
        await self.caching.serve(Sought(SNAPSHOT, request, caller, record, call), self.onward)

    async def at_rest(self):
        """Nothing is left: no call, no byte held for one, no task."""
        await settle(40)
        caching = self.caching
        assert (caching.entries.reserved, caching._flights, caching._tasks) == (0, {}, set())
        assert len(asyncio.all_tasks()) == 1

    def expected(self, caller):
        return caller.is_whole and caller.got == (b"".join(PIECES) if self.streams else COMPLETION)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("who", [0, 1])
async def test_J3_one_of_two_is_cancelled_at_any_turn(who, turns, streams):
    async with asyncio.timeout(5):
        house = House(streams)
        callers = [Caller(), Caller()]
        tasks = [asyncio.ensure_future(house.ask(caller)) for caller in callers]
        await settle(turns)
        tasks[who].cancel()
        await asyncio.wait(tasks)
        assert house.expected(callers[1 - who])
        assert tasks[1 - who].exception() is None
        await house.at_rest()
        # cancelled before its first turn, it has asked for nothing
        assert house.made == 1
        assert len(house.caching.entries) == 1
        assert sum(record.usage is not None for record in house.records) == 1


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("turns", TURNS)
async def test_J3_all_leave_at_any_turn(turns, streams):
    async with asyncio.timeout(5):
        house = House(streams)
        tasks = [asyncio.ensure_future(house.ask(Caller())) for _ in range(3)]
        await settle(turns)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await house.at_rest()
        assert house.made <= 1
        assert house.cancelled + len(house.caching.entries) >= house.made - (turns == 1)
        last = Caller()
        await house.ask(last)
        assert last.is_whole
        assert last.status == 200


@pytest.mark.parametrize("gone_at", range(9))
@pytest.mark.parametrize("who", [0, 1])
async def test_J3_one_is_gone_at_any_step(who, gone_at):
    async with asyncio.timeout(5):
        house = House()
        callers = [Caller(), Caller()]
        callers[who] = Caller(gone_at)
        results = await asyncio.gather(*map(house.ask, callers), return_exceptions=True)
        assert house.expected(callers[1 - who])
        assert results[1 - who] is None
        assert isinstance(results[who], ClientGone) or house.expected(callers[who])
        await house.at_rest()
        assert house.made == 1


async def test_J3_a_fault_of_ours_is_the_leaders_alone():
    async with asyncio.timeout(5):
        house = House(fails=1)
        callers = [Caller() for _ in range(5)]
        results = await asyncio.gather(*map(house.ask, callers), return_exceptions=True)
        assert [type(result) for result in results] == [RuntimeError, *[type(None)] * 4]
        assert all(map(house.expected, callers[1:]))
        assert house.made == 2
        await house.at_rest()


@pytest.mark.parametrize("later", range(5))
async def test_J3_who_comes_when_all_have_left_does_not_join_what_is_being_cancelled(later):
    async with asyncio.timeout(5):
        house = House()
        task = asyncio.ensure_future(house.ask(Caller()))
        await settle(6)
        task.cancel()
        await settle(later)
        last = Caller()
        await house.ask(last)
        assert house.expected(last)
        # at once, the one who leaves has not yet heard of it, and both read the same call
        assert (house.made, house.cancelled) == ((2, 1) if later else (1, 0))
        await house.at_rest()


async def test_J5_what_did_not_end_well_is_not_kept_whatever_it_looks_like():
    async with asyncio.timeout(5):
        house = House(outcome="broken")
        for _ in range(2):
            await house.ask(Caller())
        assert (house.made, len(house.caching.entries)) == (2, 0)
        await house.at_rest()


async def test_closing_ends_what_is_under_way():
    async with asyncio.timeout(5):
        house = House()
        task = asyncio.ensure_future(house.ask(Caller()))
        await settle(3)
        assert "1 under way" in repr(house.caching)
        await house.caching.close()
        await asyncio.wait([task])
        assert house.cancelled == 1
        await house.at_rest()


class NoTrace:
    """Stands for a trace; nothing is begun in it."""

    def attempt_began(self, attempt, candidate, head, now_ns):
        return head

    def attempt_ended(self, attempt, end):
        return None


async def test_whoever_is_told_what_became_of_a_call_keeps_its_own_trace():
    theirs, own = NoTrace(), NoTrace()
    call = record_of("call", 1, b"POST", b"/v1/chat/completions", outcome="ok", status=200, trace=theirs)
    flight = Flight(call, 1 << 20, lambda more: True)
    owner, late = flight.owner, flight.shared.join()
    assert owner is not None
    heir = record_of("heir", 2, b"POST", b"/v1/chat/completions", trace=own)
    async with asyncio.timeout(5):
        await flight.leave(owner, None)
        await flight.leave(late, heir)
    assert (heir.outcome, heir.status, heir.id) == ("ok", 200, "heir")
    assert heir.trace is own
