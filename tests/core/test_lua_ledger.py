"""The script of the ledger, on a real server: who is served, in which order, and what a call means that comes twice."""

import json
import random

import pytest

from sidecar.core.lease_call import Amounts, Batch, Call, encode
from sidecar.core.lua_ledger import LUA_LEDGER
from tests.servers import RedisServer

RPM = "0/60000000000"


@pytest.fixture
def server():
    with RedisServer() as running:
        yield running


def ask(server, member, number=1, *, epoch="", needs=(), batches=None, ahead=0, limit=600):
    call = Call(
        member, number, epoch, "p:", [(RPM, "token_bucket", limit, 60_000_000, 0, 0)],
        [Batch(number, {}, {}, [])] if batches is None else batches, [(age, {RPM: 1}) for age in needs],
        ahead, {RPM: 1}, {}, {}, 0, "open", {},
    )  # fmt: skip
    reply = server.call("EVAL", LUA_LEDGER, "2", "{a}", "{a}:m", encode(call).decode())
    assert reply.startswith(b"$"), reply
    return json.loads(reply.split(b"\r\n", 1)[1])


def held(reply):
    return reply["w"][RPM][0]


def test_F3_two_hundred_that_wait_are_served_in_the_order_they_came(server):
    """They call in any order, and often; the ledger is one that was lost, so it begins spent."""
    names = [f"m{at}" for at in range(200)]
    for at, name in enumerate(names):
        ask(server, name, epoch="lost", needs=[(200 - at) * 1_000_000])
    draw, number = random.Random(7), 1
    served: list[str] = []
    while len(served) < 12:
        number += 1
        for name in draw.sample(names, len(names)):
            if name not in served:
                age = (200 - names.index(name)) * 1_000_000
                epoch = ask(server, name, number, epoch="lost", needs=[age])
                if held(epoch):
                    served.append(name)
    assert sorted(served) == sorted(names[: len(served)])
    assert served == names[: len(served)]


def test_F3_a_call_that_comes_twice_changes_nothing(server):
    first = ask(server, "a", epoch="lost", ahead=0)
    used: list[Batch] = [Batch(2, {RPM: 7}, {}, [])]
    left = [ask(server, "a", 2, epoch=first["e"], batches=used)["w"][RPM][1] for _ in range(2)]
    assert ask(server, "a", 2, epoch=first["e"], batches=used)["late"] == 1
    assert left[1] >= left[0]


def test_F3_a_lost_reply_is_told_again(server):
    """What a call was granted whose reply nobody heard stands in the next."""
    amounts: Amounts = {}
    epoch = ask(server, "a", epoch="lost")["e"]
    number = 1
    granted = 0
    while not granted:
        number += 1
        granted = held(ask(server, "a", number, epoch=epoch, ahead=3))
    again = ask(server, "a", number + 1, epoch=epoch, batches=[Batch(number + 1, amounts, {}, [])])
    assert held(again) == granted
