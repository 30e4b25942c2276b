"""Many sidecars, one quota, whole sidecars over a real Redis (acceptance F1-F4; docs/sharing.md).

Real clocks: what takes seconds here is the ledger's own patience, and every wait ends with what it waits for.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import msgspec
import pytest

from sidecar.core.lease_call import Batch, Call, encode
from sidecar.core.limits import SECOND
from sidecar.core.lua_ledger import LUA_LEDGER, script
from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.faults import Fault
from tests.fakes import LoopClock
from tests.fleet import events, fleet, share, told
from tests.rig import DrivenClock, chat, pump, running, until
from tests.servers import RedisServer

WATCHDOG_S = 20
RPM = "0/60000000000"
LEASE = Call(
    "peer", 1, "", "p:", [(RPM, "token_bucket", 30, 60_000_000, 1_500_000, 0)], [Batch(1, {}, {}, [])], [], 5, {RPM: 1},
    {}, {}, 0, "open", {},
)  # fmt: skip


def configuration(server, limits="{rpm: 30}", more="", patience="100ms"):
    return f"""
providers:
  - name: groq
    base_url: "{{groq}}"
    keys: [{{name: a, env: KEY_A}}]
    limits: [{limits}]
wait: {{max: {patience}}}
share: {{url: "{server.url}"{more}}}
"""


def groq(**limits):
    return {"groq": SimConfig("groq", limits=(LimitRule(**limits),), keep_requests=10_000)}


@pytest.fixture
def server():
    """A store whose ledger began five seconds ago, so that nobody waits for the first start to be over."""
    with RedisServer() as running:
        first = encode(msgspec.structs.replace(LEASE, w=[], b=[], x=0, bye=1)).decode()
        began_s = str(int(time.time()) - 5)
        running.call("EVAL", script("{ARGV[2], 0}"), "2", "sidecar:{groq/a}", "sidecar:{groq/a}:first", first, began_s)
        yield running


@pytest.fixture
def empty_server():
    with RedisServer() as running:
        yield running


def at_least(rigs, count):
    """How many have to be served: nothing is said of it where this machine was so busy that the store took 50 ms."""
    return 0 if any(sharing(rig).counters.outages for rig in rigs) else count


async def statuses(rigs, each):
    answers = await asyncio.gather(*(rig.post(body=chat("m")) for rig in rigs for _ in range(each)))
    return Counter(answer.status for answer in answers)


async def warm(found):
    """A first answer: the ledger is there, and whole but for that."""
    async with asyncio.timeout(WATCHDOG_S):
        while (await found.members[0].post(body=chat("m"))).status != 200:
            pass


def never_refused(found):
    assert found.sims["groq"].stats.total.refused == {}
    return found.sims["groq"].stats.total.served


async def test_F1_without_a_store_each_takes_its_share(tmp_path):
    """Four of them, each of share.replicas: 4: together never more than the limit in any minute."""
    clock = DrivenClock()
    config = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}]
    limits: [{rpm: 30}]
wait: {max: 0s}
share: {replicas: 4}
"""
    times = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with running(folder, config, groq(rpm=1000), clock=clock) as rig:
            answers = await pump(clock, asyncio.gather(*(rig.post(body=chat("m")) for _ in range(20))))
            assert Counter(answer.status for answer in answers) == {200: 7, 429: 13}
            times += rig.arrivals("groq")
            (window,) = (await pump(clock, rig.status()))["providers"][0]["accounts"]["a"][0]["windows"][:1]
            assert window["limit"] == 7
            assert (await pump(clock, rig.status()))["share"] == {"mode": "divided", "replicas": 4}
    assert len(times) == 28


async def test_F1_a_provider_that_has_less_left_corrects_the_share(tmp_path):
    """Others use the account as well: what the provider says is left wins over the share."""
    config = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}]
    limits: [{rpd: 40}]
wait: {max: 0s}
share: {replicas: 4}
"""
    clock = DrivenClock()
    async with running(tmp_path, config, groq(rpd=40), clock=clock) as rig:
        url, key = f"{rig.sims['groq'].base_url}/chat/completions", {"authorization": "Bearer gsk_a"}
        for _ in range(37):
            async with rig.client.post(url, json=chat("m"), headers=key) as answer:
                assert answer.status == 200
        answers = await pump(clock, _one_by_one(rig, 6))
        assert [answer.status for answer in answers] == [200] * 3 + [429] * 3
        assert rig.row("groq").refused == {}


async def _one_by_one(rig, count):
    return [await rig.post(body=chat("m")) for _ in range(count)]


async def test_F3_together_exactly_the_limit(tmp_path, empty_server):
    """Four sidecars ask for twice the minute at once: what the bucket holds is served, and nothing is refused."""
    async with (
        asyncio.timeout(WATCHDOG_S),
        fleet(tmp_path, configuration(empty_server, patience="1s"), groq(rpm=30), 4) as found,
    ):
        await warm(found)
        seen = await statuses(found.members, 15)
        assert at_least(found.members, 29) <= seen[200] <= 31
        assert never_refused(found) == seen[200] + 1
        state = await share(found.members[0])
        assert (state["mode"], state["replicas"]) == ("shared", 4)


async def test_F3_requests_that_wait_are_served_by_whichever_has_its_turn(tmp_path, server):
    """Twelve more than a bucket of ten a second holds wait at all sidecars: each is served, and none too early."""
    config = configuration(server, "{rpm: 600}", patience="10s")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=600), 3) as found:
        await warm(found)
        assert await statuses(found.members, 204) == {200: 612}
        assert never_refused(found) == 613


async def test_F3_one_request_of_all_sidecars_probes_when_a_cooldown_ends(tmp_path, server):
    """Requests wait at three; the first that goes is slow to be answered, and until it is nobody else goes."""
    config = configuration(server, "{rpm: 600}", patience="15s")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=600), 3) as found:
        await warm(found)
        assert await statuses(found.members, 1) == {200: 3}
        faults = found.sims["groq"].provider.faults
        faults.add(Fault("rate_limit", count=1, seconds=2.0))
        asking = [asyncio.ensure_future(found.members[0].post(body=chat("m")))]
        await until(lambda: all(_cooldown(rig) > 0 for rig in found.members), WATCHDOG_S)
        faults.add(Fault("slow", count=1, seconds=0.5))
        asking += [asyncio.ensure_future(rig.post(body=chat("m"))) for rig in found.members for _ in range(2)]
        assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
        probe, *others = sorted(found.members[0].arrivals("groq"))[-7:]
        assert min(others) >= probe + SECOND // 2
        assert found.sims["groq"].stats.total.seen == 4 + 1 + 7


async def test_F3_a_dead_peer_takes_no_more_than_its_lease_with_it(tmp_path, server):
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, configuration(server), groq(rpm=30), 1) as found:
        await warm(found)
        # a peer takes a lease of five, and is never heard of again
        server.call("EVAL", LUA_LEDGER, "2", "sidecar:{groq/a}", "sidecar:{groq/a}:m", encode(LEASE).decode())
        seen = await statuses(found.members, 40)
        assert at_least(found.members, 23) <= seen[200] <= 25
        assert never_refused(found) == seen[200] + 1


async def test_F3_nothing_is_left_behind_at_the_end(tmp_path, server):
    """A lease of which a part was not spent: all of it is back when its holder has stopped."""
    async with (
        asyncio.timeout(WATCHDOG_S),
        fleet(tmp_path, configuration(server, patience="1s"), groq(rpm=30), 2) as found,
    ):
        await warm(found)
        first, second = found.members
        assert (await statuses([first], 5)) == {200: 5}
        await found.remove(first)
        seen = await statuses([second], 40)
        assert seen[200] >= at_least([first, second], 24)
        assert never_refused(found) == 6 + seen[200]


async def test_F4_a_replica_that_joins_starts_with_nothing(tmp_path, server):
    """Two become ten under load: the newcomers share what is there."""
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, configuration(server), groq(rpm=30), 2) as found:
        await warm(found)
        seen = await statuses(found.members, 20)
        for _ in range(8):
            await found.add()
        more = await statuses(found.members, 5)
        assert at_least(found.members, 29) <= seen[200] + more[200] <= 33
        assert never_refused(found) == seen[200] + more[200] + 1
        await until(lambda: all(sharing(rig).replicas == 10 for rig in found.members))


async def test_F2_a_store_that_stops_costs_nobody_more_than_its_patience(tmp_path, server):
    """SIGSTOP: the first one waits 50 ms, then each counts by itself; and together again when it goes on."""
    config = configuration(server, "{rpm: 6000}", ", replicas: 2", patience="5s")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=6000), 2) as found:
        await warm(found)
        first, second = found.members
        server.freeze()
        assert (await statuses([first, second], 3)) == {200: 6}
        for rig in found.members:
            await told(rig, "share_lost")
            state = await share(rig)
            assert state["mode"] == "static"
            assert state["counters"]["outages"] >= 1
            assert state["counters"]["failures"]["timeout"] >= 1
            assert "50 ms" in state["problem"]
            async with rig.client.get(rig.admin + "/readyz") as ready:
                assert ready.status == 200
        assert (await statuses([first, second], 2)) == {200: 4}
        server.thaw()
        for rig in found.members:
            await told(rig, "share_back")
            assert (await share(rig))["mode"] == "shared"
        assert (await statuses([first, second], 2)) == {200: 4}
        never_refused(found)


async def test_F2_behind_a_frozen_store_a_request_waits_for_one_call_that_is_given_up(tmp_path, server):
    """In the order in which it is told: the call is given up, once, and all that come after are answered while the
    store still stands."""
    config = configuration(server, "{rpm: 6000}", patience="5s")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=6000), 1) as found:
        await warm(found)
        (rig,) = found.members
        server.freeze()
        while "share_lost" not in events(rig):
            assert (await statuses([rig], 1)) == {200: 1}
        asked = sharing(rig).counters.failures["timeout"]
        assert asked == 1
        before = len(rig.lines)
        for _ in range(5):
            assert (await statuses([rig], 1)) == {200: 1}
        assert [line["status"] for line in rig.lines[before:] if "status" in line] == [200] * 5
        assert events(rig).count("share_lost") == 1
        assert "share_back" not in events(rig)
        assert sharing(rig).counters.outages == 1


async def test_F2_a_store_that_is_killed_comes_back_empty_and_lets_nobody_burst(tmp_path, server):
    """kill -9, and another one without memory in its place, as after a failover to an empty replica."""
    config = configuration(server, "{rpm: 30}")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=30), 2) as found:
        await warm(found)
        seen = await statuses(found.members, 20)
        server.kill()
        for rig in found.members:
            await told(rig, "share_lost")
        await until(lambda: all("connection" in sharing(rig).counters.failures for rig in found.members))
        server.start()
        for rig in found.members:
            await told(rig, "share_back")
        more = await statuses(found.members, 20)
        assert more[200] <= 4
        assert never_refused(found) == seen[200] + more[200] + 1


async def test_F3_a_flushed_ledger_begins_spent(tmp_path, server):
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, configuration(server), groq(rpm=30), 2) as found:
        await warm(found)
        seen = await statuses(found.members, 20)
        server.call("FLUSHALL")
        await until(lambda: any("ledger_lost" in events(rig) for rig in found.members))
        more = await statuses(found.members, 20)
        assert more[200] <= 4
        assert never_refused(found) == seen[200] + more[200] + 1
        assert sum([(await share(rig))["counters"]["ledgers_lost"] for rig in found.members]) >= 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("CONFIG", "SET", "requirepass", "other"), "password"),
        (("CONFIG", "SET", "maxmemory", "1"), "memory"),
    ],
)
async def test_F2_a_store_that_refuses_is_out_of_reach(tmp_path, server, words, reason):
    """A password that is wrong, a memory that is full: a line, a count, the status; and back when it is mended."""
    config = configuration(server, "{rpm: 6000}", patience="5s")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=6000), 1) as found:
        await warm(found)
        (rig,) = found.members
        server.call(*words)
        server.password = "other" if reason == "password" else None
        server.call("CLIENT", "KILL", "TYPE", "normal")
        await told(rig, "share_lost")
        await until(lambda: reason in sharing(rig).counters.failures)
        assert (await statuses([rig], 2)) == {200: 2}
        server.call(*words[:-1], "" if reason == "password" else "0")
        server.password = None
        await told(rig, "share_back")
        assert (await statuses([rig], 2)) == {200: 2}


async def test_F2_another_password_in_its_file_is_taken_up(tmp_path, server):
    """The store has another one, and what was connected is not any more: it is back when the file has it too."""
    file = tmp_path / "password"
    file.write_text("old")
    server.call("CONFIG", "SET", "requirepass", "old")
    server.password = "old"
    config = configuration(server, "{rpm: 6000}", f", password: {{file: {file}}}", patience="5s")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=6000), 1) as found:
        await warm(found)
        (rig,) = found.members
        server.call("CONFIG", "SET", "requirepass", "new")
        server.password = "new"
        server.call("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: "password" in sharing(rig).counters.failures)
        file.write_text("new")
        await told(rig, "share_back")  # the file is looked at by itself
        assert "restart_needed" not in events(rig)
        assert (await statuses([rig], 2)) == {200: 2}


async def test_F3_a_cooldown_stops_the_others(tmp_path, server):
    """One is told to wait: the others, who were not, do not call."""
    config = configuration(server, "{rpm: 600}", patience="5s")  # less than what is announced
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=600), 2) as found:
        await warm(found)
        first, second = found.members
        assert (await statuses([first, second], 2)) == {200: 4}
        found.sims["groq"].provider.faults.add(Fault("rate_limit", count=1, seconds=30.0))
        assert (await statuses([first], 1)) == {429: 1}
        calls = found.sims["groq"].stats.total.seen
        await until(lambda: _cooldown(second) > 25 * SECOND)
        assert (await statuses([second], 2)) == {429: 2}
        assert found.sims["groq"].stats.total.seen == calls


def sharing(rig):
    """The state of sharing, at once."""
    status = rig.sidecar.share_status()
    assert status is not None
    return status


def _cooldown(rig):
    (quota,) = rig.sidecar._roster.ledger
    return quota.cooldown_until - LoopClock().now_ns()


async def test_F3_a_dead_key_is_called_by_none(tmp_path, server):
    config = configuration(server, "{rpm: 600}")
    sims = {"groq": SimConfig("groq", keys={"gsk_other": "x"}, limits=(LimitRule(rpm=600),))}
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, sims, 2) as found:
        first, second = found.members
        await until(lambda: sharing(first).replicas == 2)
        while (await first.post(body=chat("m"))).status == 429:
            pass
        calls = found.sims["groq"].stats.total.seen
        assert calls == 1
        health = second.sidecar._roster.health
        await until(lambda: health.keys.of("groq/a", 0).until_ns > 0)
        assert (await second.post(body=chat("m"))).status != 200
        assert found.sims["groq"].stats.total.seen == calls


async def test_F3_a_limit_that_one_learns_all_know(tmp_path, server):
    config = configuration(server, "{rpm: 600}", patience="5s")
    async with asyncio.timeout(WATCHDOG_S), fleet(tmp_path, config, groq(rpm=600, tpm=4321), 2) as found:
        await warm(found)
        first, second = found.members
        assert (await second.post(body=chat("m"))).status == 200
        await until(lambda: all("4321" in repr(list(rig.sidecar._roster.ledger)) for rig in (first, second)))
