"""The room where requests wait: who is woken, when, and what leaving costs."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.breaker import IN_A_ROW, OPEN_NS
from sidecar.core.limits import MINUTE, SECOND, Cost
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.waiting import WaitingRoom
from tests.core.house import NOW, roster_of, target_of
from tests.fakes import FakeClock, settle

ONE = Cost(1, 0)
TEXT = """
providers:
  - name: groq
    keys: [{name: a, env: A}, {name: b, env: B}]
    limits: [{model: "*", rpm: 6, tpm: 1000}]
"""
CROWDED = TEXT.replace("rpm: 6, tpm: 1000", "concurrency: 1")


class House:
    """A room with a clock, the candidates of one target, their quotas spent, and the order of what happens."""

    def __init__(self, text=TEXT):
        self.clock = FakeClock(NOW)
        self.room = WaitingRoom(self.clock)
        self.roster = roster_of(text)
        self.keys = self.roster.keys(target_of(self.roster, "groq/m"), NOW)
        self.order = []
        self.charges = []
        self.tasks = []
        for candidate in self.keys.candidates:
            while charge := candidate.quota.try_admit(ONE, NOW):
                self.charges.append((candidate, charge))

    def arrive(self, name, keys="a", patience_ns=10 * MINUTE, cost=ONE):
        """One more request that waits, for as long as it has patience."""
        places = [(each, cost) for each in self.keys.candidates if each.key.name in keys]
        until_ns = self.clock.now_ns() + patience_ns
        task = asyncio.ensure_future(self._wait(name, places, until_ns))
        self.tasks.append(task)
        return task

    async def _wait(self, name, places, until_ns):
        granted = await self.room.wait(places, until_ns, len(self.tasks))
        self.order.append((name, granted and granted[0].key.name, (self.clock.now_ns() - NOW) / SECOND))
        return granted

    def finish(self, at=0):
        """An attempt ends: its place is free for the next."""
        candidate, charge = self.charges.pop(at)
        candidate.quota.settle(charge, None, self.clock.now_ns())
        self.room.poke(candidate.quota)

    def quota(self, name="a"):
        """The quota of a key."""
        return next(each.quota for each in self.keys.candidates if each.key.name == name)

    def free_s(self, name="a"):
        """When the next request fits, in seconds from the start."""
        free_ns = self.quota(name).free_at(ONE, self.clock.now_ns())
        assert free_ns is not None
        return (free_ns - NOW) / SECOND

    async def go(self, seconds):
        """Let time pass, and everyone do what they can."""
        end_ns = self.clock.now_ns() + round(seconds * SECOND)
        await settle()
        while (next_ns := self.clock.next_ns) is not None and next_ns <= end_ns:
            self.clock.advance(next_ns - self.clock.now_ns())
            await settle()
        self.clock.advance(end_ns - self.clock.now_ns())
        await settle()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_error):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_A14_first_in_first_out_paced_by_the_quota_and_woken_by_timer_alone():
    async with asyncio.timeout(5), House() as house:
        first_s = house.free_s()
        for number in range(5):
            house.arrive(number)
        await house.go(0)
        assert (house.room.waiting, house.quota().line.waiting) == (5, 5)
        await house.go(first_s - 0.001)
        assert house.order == []
        await house.go(60)
        assert house.order == [(n, "a", pytest.approx(first_s + 10 * n)) for n in range(5)]
        assert house.room.waiting == 0
        await house.go(0)
        assert house.clock.pending == 0, "no timer is left behind"


async def test_A18_each_release_wakes_exactly_whom_it_admits():
    async with asyncio.timeout(5), House() as house:
        for number in range(50):
            house.arrive(number, patience_ns=1000 * MINUTE)
        await house.go(house.free_s())
        assert len(house.order) == 1
        before = house.clock.calls
        await house.go(10)
        assert len(house.order) == 2
        assert house.clock.calls - before == 1, "one timer for the next in line, none for the rest"
        assert house.room.waiting == 48


async def test_A14_who_leaves_frees_its_place_at_once():
    async with asyncio.timeout(5), House() as house:
        tasks = [house.arrive(number) for number in range(3)]
        await house.go(0)
        tasks[0].cancel()
        tasks[1].cancel()
        await settle()
        assert house.room.waiting == 1
        await house.go(house.free_s())
        assert [name for name, _, _ in house.order] == [2]


async def test_A14_patience_ends_with_nothing_and_costs_nothing():
    async with asyncio.timeout(5), House() as house:
        house.arrive("short", patience_ns=2 * SECOND)
        house.arrive("long")
        await house.go(2)
        assert house.order == [("short", None, 2.0)]
        assert house.room.waiting == 1
        inflight = house.quota().inflight
        await house.go(house.free_s() - 2)
        assert [name for name, _, _ in house.order] == ["short", "long"]
        assert house.quota().inflight == inflight + 1


async def test_what_fits_already_is_granted_without_a_timer_firing():
    async with asyncio.timeout(5), House(CROWDED) as house:
        candidate, charge = house.charges[0]
        candidate.quota.cancel(charge, NOW)
        task = house.arrive("now")
        assert await task is not None
        assert house.order == [("now", "a", 0.0)]


async def test_a_freed_place_is_told_and_taken_in_order():
    async with asyncio.timeout(5), House(CROWDED) as house:
        for number in range(3):
            house.arrive(number)
        await house.go(0)
        assert house.clock.pending == 3, "three patiences; nobody knows when a place comes free"
        house.finish()
        await settle()
        assert house.order == [(0, "a", 0.0)]
        house.room.poke(house.quota())
        await settle()
        assert len(house.order) == 1, "poked without a cause"


async def test_B16_the_first_of_several_places_that_admits_takes_the_request_out_of_all():
    async with asyncio.timeout(5), House(CROWDED) as house:
        house.arrive("either", keys="ab")
        house.arrive("a only", keys="a")
        await house.go(0)
        assert (house.quota("a").line.waiting, house.quota("b").line.waiting) == (2, 1)
        house.finish(at=1)
        await settle()
        assert house.order == [("either", "b", 0.0)]
        assert (house.quota("a").line.waiting, house.quota("b").line.waiting) == (1, 0)
        house.finish()
        await settle()
        assert house.order[1] == ("a only", "a", 0.0)


async def test_B2_who_leaves_in_the_turn_in_which_it_was_admitted_gives_everything_back():
    async with asyncio.timeout(5), House(CROWDED) as house:
        leaving, staying = house.arrive("leaving"), house.arrive("staying")
        await house.go(0)
        house.finish()  # admits `leaving`, whose task has not run yet
        assert house.quota().inflight == 1
        leaving.cancel()
        await settle()
        assert leaving.cancelled()
        assert house.order == [("staying", "a", 0.0)]
        assert house.quota().inflight == 1
        granted = await staying
        assert granted is not None
        candidate, charge = granted
        candidate.quota.cancel(charge, NOW)
        assert house.quota().inflight == 0


async def test_B2_cancelled_at_any_time_nothing_leaks():
    async with asyncio.timeout(5), House(CROWDED) as house:
        for turn in range(60):
            tasks = [house.arrive(number, keys="ab") for number in range(4)]
            await settle(turn % 4)
            if house.charges:
                house.finish()
            for task in tasks[turn % 3 :: 2]:
                task.cancel()
            await settle()
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, tuple):
                    house.charges.append(outcome)
        while house.charges:
            house.finish()
        assert [each.quota.inflight for each in house.keys.candidates] == [0, 0]
        assert house.room.waiting == 0
        await settle()
        assert house.clock.pending == 0


async def test_a_grant_in_the_turn_in_which_patience_ends_counts():
    async with asyncio.timeout(5), House(CROWDED) as house:
        task = house.arrive("late", patience_ns=SECOND)
        await settle()
        house.clock.advance(SECOND)  # wakes it with nothing
        house.finish()
        assert await task is not None


@pytest.mark.parametrize("scope", [Scope.KEY, Scope.KEY_MODEL, Scope.TARGET])
async def test_H2_nobody_in_line_is_sent_with_a_key_that_is_off_by_now(scope):
    async with asyncio.timeout(5), House(CROWDED) as house:
        tasks = [house.arrive(number) for number in range(5)]
        await house.go(0)
        candidate = house.keys.candidates[0]
        candidate.apply(Feedback(Outcome.KEY_UNPAID, scope, NOW + 600 * MINUTE), NOW)
        house.finish()
        await settle()
        assert await asyncio.gather(*tasks) == [None] * 5, "each asks again what else there is"
        assert house.quota().inflight == 0


async def test_A4_what_fits_no_more_is_let_go():
    async with asyncio.timeout(5), House() as house:
        house.arrive("large", cost=Cost(900, 0))
        house.arrive("small")
        await house.go(0)
        house.roster.reload(roster_of(TEXT.replace("tpm: 1000", "tpm: 100")).snapshot, NOW)
        house.room.poke(house.quota())
        await settle()
        assert house.order == [("large", None, 0.0)]
        assert house.room.waiting == 1


async def test_A23_a_raised_limit_admits_at_once():
    async with asyncio.timeout(5), House() as house:
        for number in range(3):
            house.arrive(number)
        await house.go(0)
        house.roster.reload(roster_of(TEXT.replace("rpm: 6,", "rpm: 8,")).snapshot, NOW)
        house.room.poke(house.quota())
        await settle()
        assert [name for name, _, _ in house.order] == [0, 1]


async def test_H2_a_bench_that_is_over_at_that_very_instant_bars_nobody():
    async with asyncio.timeout(5), House(CROWDED) as house:
        task = house.arrive("one")
        await house.go(0)
        house.keys.candidates[0].apply(Feedback(Outcome.BUSY, Scope.TARGET, NOW + SECOND), NOW)
        await house.go(1)
        house.finish()
        assert await task is not None


@pytest.mark.parametrize(("is_due", "name"), [(True, "a"), (False, None)])
async def test_B12_who_is_let_go_after_an_open_time_is_the_probe(is_due, name):
    """A target's breaker opens while requests stand in line for its quota."""
    async with asyncio.timeout(5), House(CROWDED) as house:
        task = house.arrive("waits")
        await house.go(0)
        candidate, charge = house.charges[0]
        for _ in range(IN_A_ROW):
            candidate.breaker.ended(charge, Outcome.CONNECT_FAILED, NOW, 0.0)
        await house.go(OPEN_NS / SECOND if is_due else 0)
        house.finish()
        granted = await task
        assert [who for _, who, _ in house.order] == [name]
        if granted is not None:
            assert candidate.breaker.is_probe(granted[1])
        else:
            assert house.quota().inflight == 0, "given back"
