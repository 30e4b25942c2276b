"""The script of the ledger, on a real server: who is served, in which order, and what a call means that comes twice."""

import json
import random

import msgspec
import pytest

from sidecar.core.lease_call import Batch, Call, Outage, encode
from sidecar.core.lua_ledger import script
from tests.servers import RedisServer

RPM = "0/60000000000"

# the script as it is, but for its clock: the test turns that
SCRIPT = script("{ARGV[2], ARGV[3]}")


class Ledger:
    """A ledger on a real server, with a clock of its own (microseconds)."""

    def __init__(self, server):
        self.server = server
        self.now = 1_764_000_000_000_000
        self.name = server.call("SCRIPT", "LOAD", SCRIPT).split(b"\r\n")[1].decode()

    def ask(self, member, number=1, *, limit=600, transit=0, epoch="", needs=(), batches=None, **more):
        batches = batches or [Batch(number, {}, {}, [])]
        window, waiting = (RPM, "token_bucket", limit, 60_000_000, transit, 0), [(age, {RPM: 1}) for age in needs]
        call = Call(member, number, epoch, "p:", [window], batches, waiting, 0, {RPM: 1}, {}, {}, 0, "open", {})
        words = encode(msgspec.structs.replace(call, **more)).decode(), *map(str, divmod(self.now, 1_000_000))
        reply = self.server.call("EVALSHA", self.name, "2", "{a}", "{a}:m", *words)
        assert reply.startswith(b"$"), reply
        return json.loads(reply.split(b"\r\n", 1)[1])


@pytest.fixture
def ledger():
    with RedisServer() as running:
        yield Ledger(running)


def held(reply):
    return reply["w"][RPM][0]


def left(reply):
    return reply["w"][RPM][1]


def spent(number, amount):
    return [Batch(number, {RPM: amount}, {}, [])]


def test_F3_two_hundred_that_wait_are_served_in_the_order_they_came(ledger):
    """They call in any order, and often; the ledger is one that was lost, so it begins spent."""
    names = [f"m{at}" for at in range(200)]
    came = {name: ledger.now - (200 - at) * 50_000 for at, name in enumerate(names)}
    for name in names:
        ledger.ask(name, epoch="lost", needs=[ledger.now - came[name]])
    draw, number = random.Random(7), 1
    served: list[str] = []
    while len(served) < 6:
        number += 1
        ledger.now += 80_000  # less than one request's time: were it more, two could be served in any order
        for name in draw.sample(names, len(names)):
            if name not in served and held(ledger.ask(name, number, epoch="lost", needs=[ledger.now - came[name]])):
                served.append(name)
    assert served == names[: len(served)]


def test_F3_two_hundred_on_thirty_a_minute_waste_nothing_and_starve_nobody(ledger):
    """At each of them one request waits at any time: for 20 seconds all is served that the limit allows, in the
    order in which they came; whoever was served comes again behind the last."""
    names = [f"m{at}" for at in range(200)]
    epoch = ledger.ask("first", limit=30, bye=1)["e"]
    began = ledger.now = ledger.now + 2_000_000
    since = {name: began - 200 + at for at, name in enumerate(names)}
    owes, numbers, due = dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    served: list[str] = []

    def ask(name, is_next):
        numbers[name] += 1
        more = {"batches": spent(numbers[name], owes[name]), "needs": [ledger.now - since[name]]}
        reply = ledger.ask(name, numbers[name], limit=30, transit=1_000_000, epoch=epoch, **more)
        due[name] = ledger.now + (min(400_000, max(0, reply["x"])) if is_next else 1_900_000)
        owes[name] = int(held(reply))
        return owes[name] > 0

    for _ in range(200):
        for name in names:
            if due[name] <= ledger.now and ask(name, name == names[len(served) % 200]):
                served.append(name)
                since[name] = ledger.now
        due[names[len(served) % 200]] = 0
        ledger.now += 100_000
    assert 30 + 18 // 2 - 1 <= len(served) <= 30 + 20 // 2
    assert served == names[: len(served)]


def test_F3_whoever_holds_something_at_a_cooldown_sends_no_probe_of_its_own(ledger):
    """What two hold when one is told to wait is taken back; at the end one of them has one request."""
    epoch = ledger.ask("a")["e"]
    ledger.now += 2_000_000
    for name in "ab":
        assert held(ledger.ask(name, 2, epoch=epoch, x=5)) == 5
    assert held(ledger.ask("a", 3, epoch=epoch, c=2_000_000, g="cooling")) == 0
    assert held(ledger.ask("b", 3, epoch=epoch, needs=[0, 0])) == 0
    ledger.now += 2_100_000
    replies = [ledger.ask(name, 4, epoch=epoch, needs=[0, 0], g="cooling") for name in "ab"]
    assert [(held(reply), reply["g"]) for reply in replies] == [(1, "mine"), (0, "probing")]


def outage(seconds, limit, count):
    """As a lease tells it: what all shares had in so long."""
    return Outage(int(seconds * 1e6), {RPM: -(-9 * limit * int(seconds * 1000) // 600_000)}, count)


def test_F3_a_late_reply_costs_the_others_nothing(ledger):
    """One of four was out of reach for half a second, which three have not been heard in: what is assumed of these they
    have again at their next call."""
    epoch = ledger.ask("a", limit=6000)["e"]
    ledger.now += 1_500_000
    for number, name in enumerate("abcd"):
        ledger.now += 1000
        ledger.ask(name, 2, limit=6000, epoch=epoch, batches=spent(2, 6000 if number == 0 else 0))
    before = ledger.now
    ledger.now += 500_000
    back = ledger.ask("a", 3, limit=6000, epoch=epoch, o=outage(0.499, 6000, 4))
    assert left(back) <= 50 - 44  # refilled, less the shares of all
    for name in "bcd":
        reply = ledger.ask(name, 3, limit=6000, epoch=epoch)
    assert left(reply) >= 50 - 12 - 3
    assert ledger.now - before == 500_000


def test_F3_a_short_stop_of_the_store_is_spent_once(ledger):
    """All four were out of reach for the same half a second: the shares of all are spent, and no more than these."""
    epoch = ledger.ask("a", limit=6000)["e"]
    ledger.now += 1_500_000
    for number, name in enumerate("abcd"):
        ledger.now += 1000
        ledger.ask(name, 2, limit=6000, epoch=epoch, batches=spent(2, 6000 if number == 0 else 0))
    ledger.now += 500_000
    lefts = [left(ledger.ask(name, 3, limit=6000, epoch=epoch, o=outage(0.499, 6000, 4))) for name in "abcd"]
    assert all(0 <= each <= 6 for each in lefts)


def test_F3_of_one_out_of_reach_the_static_share_is_kept_free(ledger):
    """A peer is silent, but its connection is open: it may be counting alone. One whose connection is gone may not."""
    epoch = ledger.ask("a", limit=6000)["e"]
    ledger.now += 1_500_000
    for name in "bc":
        ledger.ask(name, 2, limit=6000, epoch=epoch)
    ledger.ask("a", 2, limit=6000, epoch=epoch, batches=spent(2, 6000))
    lefts = []
    with ledger.server.listening("p:b"):
        for second in range(15):
            ledger.now += 1_000_000
            lefts.append(left(ledger.ask("a", 3 + second, limit=6000, epoch=epoch)))
    alone = [left(ledger.ask("a", 18, limit=6000, epoch=epoch))]
    for second in range(10):
        ledger.now += 1_000_000
        alone.append(left(ledger.ask("a", 19 + second, limit=6000, epoch=epoch)))
    assert abs(lefts[14] - lefts[4] - 10 * (100 - 45)) <= 2  # of 100 a second nine tenths of the half
    assert abs(alone[10] - alone[0] - 10 * 100) <= 2  # its connection is gone, and so is its part


def test_F3_a_call_that_comes_twice_changes_nothing(ledger):
    first = ledger.ask("a", epoch="lost")
    lefts = [left(ledger.ask("a", 2, epoch=first["e"], batches=spent(2, 7))) for _ in range(2)]
    assert ledger.ask("a", 2, epoch=first["e"], batches=spent(2, 7))["late"] == 1
    assert lefts[1] == lefts[0]


def test_F3_a_lost_reply_is_told_again(ledger):
    """What a call was granted whose reply nobody heard stands in the next."""
    epoch = ledger.ask("a", epoch="lost")["e"]
    ledger.now += 5_000_000
    granted = held(ledger.ask("a", 2, epoch=epoch, x=3))
    assert granted == 3
    assert held(ledger.ask("a", 3, epoch=epoch)) == granted
