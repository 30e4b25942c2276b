"""When rows are saved, and what becomes of requests and rows when they cannot be."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.access import timestamp
from sidecar.core.affinity import Ownership
from sidecar.core.limits import SECOND
from sidecar.core.state import SAVED_AT, SLICE, State
from sidecar.interfaces import CannotKeep, Loaded, NotSaved
from sidecar.persistence import EVERY_NS, Persistence
from sidecar.store.memory import MemoryStore
from tests.core.house import NOW, roster_of, target_of
from tests.fakes import FakeClock, settle


class Disk:
    """A store that fails, or takes its time, when it is told to."""

    def __init__(self, rows=None, warning=None) -> None:
        self.place: str | None = "the disk"
        self.rows = dict(rows or {})
        self.warning = warning
        self.saves = 0
        self.failure = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_saving = False
        self.is_closed = False

    async def load(self):
        if isinstance(self.failure, CannotKeep):
            raise self.failure
        return Loaded(dict(self.rows), self.warning)

    async def save(self, changed, removed):
        assert not self.is_closed
        assert not self.is_saving
        self.saves += 1
        self.is_saving = True
        await self.gate.wait()
        self.is_saving = False
        if self.failure is not None:
            raise self.failure
        self.rows = {name: row for name, row in self.rows.items() if name not in removed} | changed

    async def close(self):
        self.is_closed = True


class Stage:
    """A persistence, what it keeps, and where."""

    def __init__(self, store=None):
        self.clock = FakeClock(NOW)
        self.store = store or Disk()
        self.roster = roster_of()
        self.events: list[tuple[str, str]] = []
        ownership = Ownership()
        state = State(self.roster, ownership)
        self.persistence = Persistence(self.store, state, self.clock, lambda *event: self.events.append(event))

    def bench(self, model="m"):
        self.roster.keys(target_of(self.roster, f"groq/{model}"), NOW).candidates[0].quota.cool(NOW + 60 * SECOND)

    async def pass_time(self, duration_ns=EVERY_NS):
        self.clock.advance(duration_ns)
        await settle()


@pytest.fixture
async def stage():
    async with asyncio.timeout(5):
        stage = Stage()
        await stage.persistence.start()
        yield stage
        stage.store.gate.set()
        stage.store.failure = None
        await stage.persistence.stop()


async def test_A21_what_has_changed_is_saved_every_second(stage):
    stage.bench()
    await stage.pass_time(EVERY_NS - 1)
    assert stage.store.rows == {}
    await stage.pass_time(1)
    assert stage.store.rows.keys() == {"quota groq/org-a m", SAVED_AT}
    assert stage.persistence.status().saved_at == timestamp(NOW + EVERY_NS)
    stage.bench("n")
    await stage.pass_time()
    assert "quota groq/org-a n" in stage.store.rows
    await stage.pass_time()
    assert stage.store.saves == 2


async def test_when_nothing_has_changed_the_disk_rests(stage):
    for second in range(1, 5):
        await stage.pass_time()
        assert stage.persistence.status().saved_at == timestamp(NOW + second * SECOND)
    assert stage.store.saves == 0


async def test_the_end_is_saved_too():
    stage = Stage()
    await stage.persistence.start()
    stage.bench()
    await stage.persistence.stop()
    assert stage.store.is_closed
    assert stage.store.rows.keys() == {"quota groq/org-a m", SAVED_AT}
    assert stage.clock.pending == 0
    await stage.pass_time()
    assert stage.store.saves == 1


async def test_a_failure_is_told_once_and_tried_again(stage):
    stage.bench()
    stage.store.failure = NotSaved("no room")
    for _ in range(3):
        await stage.pass_time()
    assert stage.store.saves == 3
    assert stage.events == [("state_not_saved", "the disk: no room; it is tried again every second")]
    assert stage.persistence.status().problem == "no room"
    assert stage.persistence.status().saved_at is None
    stage.store.failure = None
    await stage.pass_time()
    assert "quota groq/org-a m" in stage.store.rows
    assert stage.events[1:] == [("state_saved", "the disk: saved again")]
    assert stage.persistence.status().problem is None
    await stage.pass_time()
    assert len(stage.events) == 2


async def test_one_save_at_a_time_and_what_changes_meanwhile_is_in_the_next(stage):
    stage.store.gate.clear()
    stage.bench()
    await stage.pass_time()
    stage.bench("n")
    await stage.pass_time(10 * SECOND)
    assert stage.store.saves == 1
    stage.store.gate.set()
    await stage.pass_time(0)
    assert "quota groq/org-a n" not in stage.store.rows
    await stage.pass_time()
    assert "quota groq/org-a n" in stage.store.rows


async def test_the_end_waits_for_a_save_under_way():
    stage = Stage()
    await stage.persistence.start()
    stage.store.gate.clear()
    stage.bench()
    await stage.pass_time()
    stage.bench("n")
    stopping = asyncio.ensure_future(stage.persistence.stop())
    await settle()
    assert not stage.store.is_closed
    stage.store.gate.set()
    async with asyncio.timeout(5):
        await stopping
    assert stage.store.rows.keys() == {"quota groq/org-a m", "quota groq/org-a n", SAVED_AT}
    assert stage.clock.pending == 0


async def test_E1_others_go_on_while_it_looks(stage):
    for n in range(20 * SLICE):
        stage.bench(f"model-{n}")
    stage.clock.advance(EVERY_NS)
    turns = 0
    async with asyncio.timeout(5):
        while stage.store.saves == 0:
            turns += 1
            await asyncio.sleep(0)
    assert turns > 20


async def test_what_was_kept_is_taken_up_with_a_warning_told():
    before = Stage()
    await before.persistence.start()
    before.bench()
    await before.persistence.stop()
    after = Stage(Disk(before.store.rows, "set aside"))
    await after.persistence.start()
    assert after.events == [("warning", "set aside")]
    assert after.roster.ledger.quota("groq/org-a", "m", NOW).cooldown_until == NOW + 60 * SECOND
    await after.persistence.stop()


async def test_a_store_that_cannot_be_opened_ends_the_start():
    stage = Stage()
    stage.store.failure = CannotKeep("no disk")
    with pytest.raises(CannotKeep, match="no disk"):
        await stage.persistence.start()
    assert stage.store.is_closed
    assert stage.clock.pending == 0


async def test_in_memory_there_is_nothing_to_do():
    stage = Stage(MemoryStore())
    await stage.persistence.start()
    stage.bench()
    assert stage.clock.pending == 0
    assert stage.persistence.status().path is None
    await stage.persistence.stop()
    assert (await stage.store.load()).rows == {}


async def test_it_says_what_it_is(stage):
    await stage.pass_time()
    assert repr(stage.persistence).endswith(f"saved at {NOW + EVERY_NS}>")
