"""c-ares behind a stand-in for its channel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable

import aiodns
import pycares
import pytest

from sidecar.core.limits import SECOND
from sidecar.upstream.cares import Cares, new_channel
from sidecar.upstream.lookup import Answer

TIMEOUT = aiodns.error.DNSError(pycares.errno.ARES_ETIMEOUT, "timeout")
NO_SUCH_NAME = aiodns.error.DNSError(pycares.errno.ARES_ENOTFOUND, "not found")
BROKEN = pycares.AresError("no channel")


def node(family: socket.AddressFamily, address: object, ttl: int) -> pycares.AddrInfoNode:
    return pycares.AddrInfoNode(ttl, 0, family, 1, 0, (address, 0))


FOUND = pycares.AddrInfoResult([], [node(socket.AF_INET6, b"::1", 60), node(socket.AF_INET, "127.0.0.1", 20)])
EMPTY = pycares.AddrInfoResult([], [])


class Channel:
    """Gives the outcomes it was made with, in turn."""

    def __init__(self, *outcomes: pycares.AddrInfoResult | Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[str] = []
        self.closed = False

    def getaddrinfo(
        self, host: str, family: socket.AddressFamily = socket.AF_UNSPEC, *, type: int = 0
    ) -> Awaitable[pycares.AddrInfoResult]:
        self.asked.append(host)
        future: asyncio.Future[pycares.AddrInfoResult] = asyncio.get_running_loop().create_future()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        elif outcome is not None:
            future.set_result(outcome)
        return future

    async def close(self) -> None:
        self.closed = True


class Supply:
    """Makes one channel after the other."""

    def __init__(self, *channels: Channel) -> None:
        self.channels = channels
        self.made = 0

    def __call__(self) -> Channel:
        self.made += 1
        return self.channels[self.made - 1]


def nowhere(name: str) -> bool:
    return False


async def test_addresses_and_the_smallest_ttl():
    cares = Cares(Supply(Channel(FOUND)), nowhere)
    assert await cares("x.example.") == Answer([(10, "::1"), (2, "127.0.0.1")], 20 * SECOND)


@pytest.mark.parametrize("failure", [TIMEOUT, BROKEN])
async def test_C1_a_new_channel_after_two_failures_in_a_row(failure):
    first, second = Channel(failure, FOUND, failure, failure), Channel(FOUND)
    supply = Supply(first, second)
    cares = Cares(supply, nowhere)
    for outcome in "fail", "good", "fail", "fail":
        assert supply.made <= 1
        if outcome == "good":
            await cares("x.example.")
        else:
            with pytest.raises(OSError, match="c-ares"):
                await cares("x.example.")
    assert first.closed
    await cares("x.example.")
    assert (supply.made, repr(cares)) == (2, "<Cares failures=0>")


async def test_C1_being_too_slow_is_a_failure():
    first = Channel(None, None)
    cares = Cares(Supply(first), nowhere)
    for _ in range(2):
        asking = asyncio.ensure_future(cares("x.example."))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert first.closed


@pytest.mark.parametrize("answer", [NO_SUCH_NAME, EMPTY])
async def test_no_such_name_is_an_answer(answer):
    channel = Channel(TIMEOUT, answer, TIMEOUT)
    cares = Cares(Supply(channel), nowhere)
    for _ in range(3):
        with pytest.raises(OSError, match="c-ares"):
            await cares("x.example.")
    assert not channel.closed


async def test_names_in_etc_hosts_are_left_to_the_system():
    supply = Supply()
    with pytest.raises(OSError, match="hosts"):
        await Cares(supply, lambda name: name == "pinned.example")("pinned.example.")
    assert supply.made == 0


async def test_C14_a_real_channel_opens_and_closes():
    async with asyncio.timeout(5):
        channel = new_channel()
        result = await channel.getaddrinfo("127.0.0.1")
        assert [bytes(entry.addr[0]) for entry in result.nodes] == [b"127.0.0.1"]
        await channel.close()
