"""`GET /v1/models`: every provider is asked once, what cannot be called is left out, the answers are kept a while."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from sidecar.core.limits import HOUR, MINUTE, SECOND
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.models import ModelDirectory
from sidecar.upstream.pool import Pool
from sidecar.upstream.resolver import make_resolver
from tests.core.house import CATALOG, NOW, roster_of, snapshot_of, target_of
from tests.fakes import FakeClock, settle
from tests.rig import until
from tests.upstream.scripted import Scripted, answering


def says(*ids, status=b"200 OK"):
    """An answer that lists models."""
    body = msgspec.json.encode({"object": "list", "data": [{"id": each, "extra": 1} for each in ids]})
    return with_body(body, status)


def with_body(body, status=b"200 OK"):
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (status, len(body), body)


def in_turn(*answers):
    """A script that gives these answers in turn over all connections, the last one for ever."""
    left = list(answers)

    async def script(peer):
        while True:
            await peer.request()
            peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script


TEXT = """
providers:
  - name: groq
    base_url: http://127.0.0.1:{0}/openai/v1
    keys: [{{name: a, env: A}}, {{name: b, env: B}}]
  - name: cerebras
    base_url: http://127.0.0.1:{1}/v1
    keys: [{{name: c, env: C}}]
models:
  - {{name: fast, chain: [groq/x, cerebras/y]}}
"""
GROQ, CEREBRAS = says("x", "both"), says("both", "y")
PUBLIC = ["fast"]


class House:
    """A directory in front of two scripted providers, on a clock that the test drives."""

    def __init__(self, pool, clock, ports, missing=()):
        self.clock = clock
        self.ports = ports
        self.roster = roster_of(TEXT.format(*ports), missing)
        self.directory = ModelDirectory(clock, pool)

    async def ids(self):
        """The ids of the merged list, in order."""
        return [model["id"] for model in msgspec.json.decode(await self.directory.body(self.roster))["data"]]

    def bench(self, target, scope, outcome, until_ns=NOW + HOUR, key=0):
        """Something becomes known."""
        candidate = self.roster.keys(target_of(self.roster, target), self.clock.now_ns()).candidates[key]
        candidate.apply(Feedback(outcome, scope, until_ns), self.clock.now_ns())


@contextlib.asynccontextmanager
async def house(first, second, missing=()):
    """The house, and the two providers that follow these scripts."""
    clock = FakeClock(NOW)
    async with asyncio.timeout(5), Scripted(first) as groq, Scripted(second) as cerebras:
        pool = Pool(clock, make_resolver(clock, "system"), connect_timeout_ns=5 * SECOND)
        try:
            yield House(pool, clock, (groq.origin.port, cerebras.origin.port), missing), groq, cerebras
        finally:
            await pool.close()


async def test_H5_public_names_first_then_each_providers_own_each_once():
    async with house(answering(GROQ), answering(CEREBRAS)) as (it, groq, cerebras):
        assert await it.ids() == [*PUBLIC, "x", "both", "y"]
        body = await it.directory.body(it.roster)
        assert b'{"id":"x","extra":1}' in body, "entries pass as they were told"
        (asked,) = groq.requests
        assert asked.lower().split(b"\r\n") == [
            b"get /openai/v1/models http/1.1",
            b"host: 127.0.0.1:%d" % it.ports[0],
            b"accept: application/json",
            b"authorization: bearer secret-of-groq-a",
            b"",
            b"",
        ]
        assert len(cerebras.requests) == 1


CATALOGS = CATALOG.ids_of("groq")


@pytest.mark.parametrize(
    "answer",
    [
        with_body(b'{"error": {"message": "no"}}', b"500 Oops"),
        with_body(b'{"error": {"message": "no"}}'),
        with_body(b"<html>"),
        says("x", status=b"404 Not Found"),
        says("x", status=b"302 Found"),
        b"nonsense\r\n\r\n",
        with_body(b"[" + b" " * (5 << 20) + b"]"),
    ],
)
async def test_H5_who_gives_no_list_is_represented_by_the_catalog(answer):
    async with house(answering(answer), answering(CEREBRAS)) as (it, _, _):
        assert await it.ids() == [*PUBLIC, *CATALOGS, "both", "y"]


async def test_H5_who_is_down_is_represented_by_the_catalog():
    async with house(answering(GROQ), answering(CEREBRAS)) as (it, groq, _):
        await groq.__aexit__(None, None, None)
        assert await it.ids() == [*PUBLIC, *CATALOGS, "both", "y"]


async def silent(peer):
    await peer.request()
    await peer.gone()


async def stalling(peer):
    await peer.request()
    peer.send(GROQ[:-3])
    await peer.gone()


@pytest.mark.parametrize("script", [silent, stalling])
async def test_who_is_slow_is_not_waited_for(script):
    async with house(script, answering(CEREBRAS)) as (it, groq, _):
        asking = asyncio.ensure_future(it.ids())
        await until(lambda: bool(groq.requests))
        await settle()
        it.clock.advance(5 * SECOND - 1)
        await settle()
        assert not asking.done()
        it.clock.advance(1)
        assert await asking == [*PUBLIC, *CATALOGS, "both", "y"]


@pytest.mark.parametrize(("later_ns", "rounds"), [(0, 1), (5 * MINUTE - 1, 1), (5 * MINUTE, 2), (HOUR, 2)])
async def test_the_list_is_kept_for_five_minutes(later_ns, rounds):
    async with house(in_turn(GROQ, says("new")), answering(CEREBRAS)) as (it, groq, cerebras):
        await it.ids()
        it.clock.advance(later_ns)
        assert ("new" in await it.ids()) is (rounds == 2)
        assert (len(groq.requests), len(cerebras.requests)) == (rounds, rounds)


async def test_H1_after_a_reload_everyone_is_asked_again():
    async with house(in_turn(GROQ, says("new")), answering(CEREBRAS)) as (it, groq, _):
        await it.ids()
        it.directory.forget()
        assert "new" in await it.ids()
        it.roster.reload(snapshot_of(TEXT.format(*it.ports)), NOW)
        await it.ids()
        assert len(groq.requests) == 3


async def test_H1_a_reload_while_they_are_asked_is_not_lost():
    told = asyncio.Event()

    async def late(peer):
        await peer.request()
        await told.wait()
        peer.send(GROQ)
        await answering(says("new"))(peer)

    async with house(late, answering(CEREBRAS)) as (it, groq, _):
        asking = asyncio.ensure_future(it.ids())
        await until(lambda: bool(groq.peers))
        it.roster.reload(snapshot_of(TEXT.format(*it.ports).replace("name: fast", "name: quick")), NOW)
        it.directory.forget()
        told.set()
        assert "x" in await asking
        assert await it.ids() == ["quick", "new", "both", "y"]


async def test_H5_what_is_parked_is_left_out_at_once_and_comes_back():
    async with house(answering(GROQ), answering(CEREBRAS)) as (it, groq, _):
        assert await it.ids() == [*PUBLIC, "x", "both", "y"]
        it.bench("groq/x", Scope.TARGET, Outcome.MODEL_UNAVAILABLE, NOW + MINUTE)
        assert await it.ids() == [*PUBLIC, "both", "y"]
        it.bench("cerebras/y", Scope.TARGET, Outcome.MODEL_UNAVAILABLE, NOW + MINUTE)
        assert await it.ids() == ["both"], "and a public name with its last target"
        it.bench("groq/both", Scope.TARGET, Outcome.MODEL_UNAVAILABLE, NOW + 2 * MINUTE)
        assert await it.ids() == ["both"], "which the other provider has too"
        it.clock.advance(MINUTE)
        assert await it.ids() == [*PUBLIC, "x", "both", "y"]
        assert len(groq.requests) == 1


@pytest.mark.parametrize(
    ("missing", "outcome", "key"),
    [((), None, b"a"), (("a",), None, b"b"), ((), Outcome.KEY_INVALID, b"b"), ((), Outcome.KEY_UNPAID, b"b")],
)
async def test_H2_one_key_is_asked_and_never_one_that_is_off(missing, outcome, key):
    async with house(answering(GROQ), answering(CEREBRAS), missing) as (it, groq, _):
        if outcome is not None:
            it.bench("groq/x", Scope.KEY, outcome, None if outcome is Outcome.KEY_INVALID else NOW + HOUR)
        assert "x" in await it.ids()
        (asked,) = groq.requests
        assert b"Bearer secret-of-groq-" + key in asked


async def test_a_key_that_is_found_invalid_gives_way_to_the_next():
    async with house(in_turn(says("no", status=b"401 No"), GROQ), answering(CEREBRAS)) as (it, groq, _):
        assert await it.ids() == [*PUBLIC, "x", "both", "y"]
        assert [request.count(b"secret-of-groq-b") for request in groq.requests] == [0, 1]


@pytest.mark.parametrize("missing", [("a", "b"), ("a", "b", "c")])
async def test_H5_without_a_usable_key_a_providers_models_are_left_out_and_it_is_not_asked(missing):
    async with house(answering(GROQ), answering(CEREBRAS), missing) as (it, groq, _):
        assert await it.ids() == ([] if "c" in missing else [*PUBLIC, "both", "y"])
        assert groq.requests == []


async def test_H5_models_whose_last_key_went_off_are_left_out_at_once():
    async with house(answering(GROQ), answering(CEREBRAS)) as (it, _, _):
        await it.ids()
        it.bench("cerebras/y", Scope.KEY, Outcome.KEY_INVALID, None)
        assert await it.ids() == [*PUBLIC, "x", "both"]


async def test_callers_at_the_same_time_share_one_round_of_questions():
    async with house(answering(GROQ), answering(CEREBRAS)) as (it, groq, cerebras):
        lists = await asyncio.gather(*(it.ids() for _ in range(20)))
        assert lists == [[*PUBLIC, "x", "both", "y"]] * 20
        assert (len(groq.requests), len(cerebras.requests)) == (1, 1)


async def test_B1_whoever_leaves_while_asking_takes_nobody_along():
    async with house(silent, answering(CEREBRAS)) as (it, groq, _):
        first, second = (asyncio.ensure_future(it.ids()) for _ in range(2))
        await until(lambda: bool(groq.requests))
        first.cancel()
        await until(lambda: groq.peers[0].is_gone)
        await until(lambda: len(groq.requests) == 2)
        assert not second.done()
        it.clock.advance(5 * SECOND)
        assert await second == [*PUBLIC, *CATALOGS, "both", "y"]
        assert first.cancelled()
