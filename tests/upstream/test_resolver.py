"""Whom to ask, whom to believe, how long to remember: with made-up lookups and a clock that stands still."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Fault, Outcome
from sidecar.upstream.lookup import Answer, Lookup
from sidecar.upstream.resolver import MAX_TTL_NS, PATIENCE_NS, STALE_AFTER_NS, STALE_TTL_NS, Resolver, make_resolver
from tests.fakes import FakeClock, LoopClock, settle

HOST = "api.groq.com"
OLD = [(2, "192.0.2.1")]
NEW = [(10, "2001:db8::2"), (2, "192.0.2.2")]


class Names:
    """A lookup that answers when told: `says` at once, or what `answer` and `fail` decide later."""

    def __init__(self, says: Answer | OSError | None = None) -> None:
        self.says = says
        self.asked: list[str] = []
        self.cancelled = 0
        self._waiting: list[asyncio.Future[Answer]] = []

    async def __call__(self, name: str) -> Answer:
        self.asked.append(name)
        if isinstance(self.says, OSError):
            raise self.says
        if self.says is not None:
            return self.says
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def answer(self, answer: Answer | OSError) -> None:
        for future in self._waiting:
            if isinstance(answer, OSError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._waiting.clear()


class Desk:
    """A resolver with both lookups recorded."""

    def __init__(self, first: Answer | OSError | None = None, second: Answer | OSError | None = None) -> None:
        self.clock = FakeClock()
        self.first = Names(first)
        self.second = Names(second)
        self.resolver = Resolver(self.clock, self.first, self.second)

    async def resolve(self, host: str = HOST) -> list[tuple[int, str]]:
        async with asyncio.timeout(5):
            return await self.resolver.resolve(host)

    def start(self, host: str = HOST) -> asyncio.Task[list[tuple[int, str]]]:
        return asyncio.ensure_future(self.resolve(host))


FAILED = OSError("SERVFAIL")


async def test_C2_the_name_is_absolute_and_asked_once():
    desk = Desk(Answer(NEW, 60 * SECOND))
    assert await desk.resolve() == NEW
    assert (desk.first.asked, desk.second.asked) == (["api.groq.com."], [])


async def test_C2_a_name_that_is_absolute_already():
    desk = Desk(Answer(NEW, None))
    await desk.resolve("api.groq.com.")
    assert desk.first.asked == ["api.groq.com."]


async def test_C2_short_names_are_the_systems():
    desk = Desk(Answer(OLD, None), Answer(NEW, None))
    assert await desk.resolve("localhost") == NEW
    assert (desk.first.asked, desk.second.asked) == ([], ["localhost"])


async def test_system_alone():
    names = Names(Answer(NEW, None))
    assert await Resolver(FakeClock(), None, names).resolve(HOST) == NEW
    assert names.asked == [HOST]


@pytest.mark.parametrize(("ttl_ns", "kept_ns"), [(SECOND, SECOND), (None, MAX_TTL_NS), (600 * SECOND, MAX_TTL_NS)])
async def test_C3_answers_are_kept_for_their_ttl_30_s_at_most(ttl_ns, kept_ns):
    desk = Desk(Answer(OLD, ttl_ns))
    await desk.resolve()
    desk.first.says = Answer(NEW, ttl_ns)
    desk.clock.advance(kept_ns - 1)
    assert await desk.resolve() == OLD
    desk.clock.advance(1)
    assert await desk.resolve() == NEW
    assert len(desk.first.asked) == 2


async def test_C3_forget_asks_anew():
    desk = Desk(Answer(OLD, None))
    await desk.resolve()
    desk.first.says = Answer(NEW, None)
    desk.resolver.forget(HOST)
    desk.resolver.forget("never.heard.of")
    assert await desk.resolve() == NEW


async def test_C1_when_the_first_fails_the_second_is_asked_at_once():
    desk = Desk(FAILED, Answer(NEW, None))
    assert await desk.resolve() == NEW
    assert desk.second.asked == [HOST]


async def test_C1_when_the_first_is_slow_the_second_joins_after_300_ms():
    desk = Desk(None, Answer(NEW, None))
    asking = desk.start()
    await settle()
    desk.clock.advance(PATIENCE_NS - 1)
    await settle()
    assert desk.second.asked == []
    desk.clock.advance(1)
    assert await asking == NEW
    await settle()
    assert desk.first.cancelled == 1
    assert desk.clock.pending == 0


async def test_C1_the_first_may_still_win():
    desk = Desk()
    asking = desk.start()
    await settle()
    desk.clock.advance(PATIENCE_NS)
    await settle()
    assert desk.second.asked == [HOST]
    desk.first.answer(Answer(OLD, None))
    assert await asking == OLD
    await settle()
    assert desk.second.cancelled == 1


@pytest.mark.parametrize("loser", ["first", "second"])
async def test_C1_one_failure_waits_for_the_other(loser):
    desk = Desk()
    asking = desk.start()
    await settle()
    desk.clock.advance(PATIENCE_NS)
    await settle()
    lost, won = (desk.first, desk.second) if loser == "first" else (desk.second, desk.first)
    lost.answer(FAILED)
    await settle()
    assert not asking.done()
    won.answer(Answer(NEW, None))
    assert await asking == NEW


async def test_a_name_that_never_resolved():
    desk = Desk(FAILED, OSError("no"))
    with pytest.raises(Fault) as caught:
        await desk.resolve()
    assert caught.value.outcome is Outcome.CONNECT_FAILED
    assert HOST in caught.value.detail
    desk.second.says = Answer(NEW, None)
    assert await desk.resolve() == NEW


async def test_C1_the_last_good_addresses_serve_when_both_fail():
    desk = Desk(Answer(OLD, None))
    await desk.resolve()
    desk.first.says = desk.second.says = FAILED
    desk.clock.advance(3600 * SECOND)
    assert await desk.resolve() == OLD
    asked = len(desk.first.asked)
    desk.clock.advance(STALE_TTL_NS - 1)
    assert await desk.resolve() == OLD
    assert len(desk.first.asked) == asked
    desk.clock.advance(1)
    desk.first.says = Answer(NEW, None)
    assert await desk.resolve() == NEW


async def test_C1_a_black_hole_costs_known_hosts_one_second_once():
    desk = Desk(Answer(OLD, None))
    await desk.resolve()
    desk.first.says = None
    desk.clock.advance(MAX_TTL_NS)
    asking = desk.start()
    await settle()
    desk.clock.advance(STALE_AFTER_NS - 1)
    await settle()
    assert not asking.done()
    desk.clock.advance(1)
    assert await asking == OLD
    again = desk.start()  # the lookup is still under way: this one does not wait
    await settle()
    desk.clock.advance(0)
    assert await again == OLD
    assert (len(desk.first.asked), len(desk.second.asked)) == (2, 1)
    desk.second.answer(Answer(NEW, None))
    await settle()
    assert await desk.resolve() == NEW
    assert desk.clock.pending == 0


async def test_one_lookup_for_all_who_ask_and_none_is_harmed_by_one_who_leaves():
    desk = Desk()
    asking = [desk.start() for _ in range(10)]
    await settle()
    asking[0].cancel()
    await settle()
    desk.first.answer(Answer(NEW, None))
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1:] == [NEW] * 9
    assert desk.first.asked == ["api.groq.com."]


async def test_hosts_are_apart():
    desk = Desk()
    one, two = desk.start("a.example"), desk.start("b.example")
    await settle()
    assert sorted(desk.first.asked) == ["a.example.", "b.example."]
    assert repr(desk.resolver) == "<Resolver 0 kept, 2 under way>"
    desk.first.answer(Answer(NEW, None))
    assert await one == await two == NEW


async def test_close_ends_what_is_under_way():
    closed = []

    async def close() -> None:
        closed.append(True)

    names: Lookup = Names()
    resolver = Resolver(FakeClock(), names, Names(), close)
    asking = asyncio.ensure_future(resolver.resolve(HOST))
    await settle()
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert closed == [True]


@pytest.mark.parametrize("mode", ["auto", "system"])
async def test_localhost_for_real(mode):
    async with asyncio.timeout(5):
        resolver = make_resolver(LoopClock(), mode)
        assert (2, "127.0.0.1") in await resolver.resolve("localhost")
        await resolver.close()
