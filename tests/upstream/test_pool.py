"""Exchanges with a scripted provider on real sockets: both loops, with and without TLS."""

from __future__ import annotations

import asyncio
import gc
from typing import TypeVar

import pytest

from sidecar.core.http import Origin
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Fault, Outcome
from sidecar.upstream.connection import Connection
from sidecar.upstream.lookup import Answer
from sidecar.upstream.pool import STALE_WITHIN_NS, Pool
from sidecar.upstream.reader import Reader
from sidecar.upstream.resolver import Resolver
from sidecar.upstream.response import MAX_UNREAD_BYTES
from tests.fakes import FakeClock, LoopClock, settle
from tests.upstream.conftest import fault, local_resolver, soon, tls_wire, whole
from tests.upstream.scripted import OK, Peer, Scripted, answering, ask

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def counts(pool: Pool) -> tuple[int, int, int, int]:
    return pool.open, pool.idle, pool.leased, pool.connecting


T = TypeVar("T")


def living(kind: type[T]) -> list[T]:
    return [thing for thing in gc.get_objects() if isinstance(thing, kind)]


async def test_counts_start_at_nothing(wire):
    pool = wire.pool()
    assert counts(pool) == (0, 0, 0, 0)
    assert repr(pool) == "<Pool 0 leased, 0 idle, 0 connecting>"


def test_keep_alive_reuses_one_connection(play, wire):
    async def scenario():
        pool = wire.pool()
        async with wire.provider(answering(OK)) as provider:
            for _ in range(5):
                response = await pool.exchange(provider.origin, *ask(), soon())
                assert (response.status, await whole(response)) == (200, b"ok")
                assert counts(pool) == (1, 1, 0, 0)
            assert len(provider.peers) == 1
            assert provider.requests == [b"".join(ask())] * 5
            await pool.close()
            await provider.empty()
        assert counts(pool) == (0, 0, 0, 0)

    play(scenario())


def test_last_in_first_out(play, wire):
    async def scenario():
        pool = wire.pool()
        async with wire.provider(answering(OK)) as provider:
            await asyncio.gather(*(pool.exchange(provider.origin, *ask(), soon()) for _ in range(3)))
            assert counts(pool) == (3, 3, 0, 0)
            before = [peer.sent for peer in provider.peers]
            for _ in range(4):
                await pool.exchange(provider.origin, *ask(), soon())
            after = [peer.sent for peer in provider.peers]
            assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 0, 4 * len(OK)]
            await pool.close()

    play(scenario())


def test_C4_stale_connection_is_replaced_once(play, wire):
    async def scenario():
        async def script(peer: Peer) -> None:
            await peer.request()
            peer.send(OK)
            if peer.number == 0:  # the race: it closes while the next request is on its way
                await peer.until(lambda: bool(peer.received))
                peer.reset()
                return
            await peer.request()
            peer.send(OK)

        pool = wire.pool()
        async with wire.provider(script) as provider:
            for _ in range(3):
                response = await pool.exchange(provider.origin, *ask(), soon())
                assert await whole(response) == b"ok"
            assert len(provider.peers) == 2
            assert len(provider.requests) == 3
            assert counts(pool) == (1, 1, 0, 0)
            await pool.close()

    play(scenario())


def test_C4_closing_at_random_costs_no_error_and_no_duplicate(play, wire):
    async def scenario():
        async def script(peer: Peer) -> None:
            for _ in range(1 + peer.number % 3):
                await peer.request()
                peer.send(OK)
            if peer.number % 2:
                await peer.until(lambda: bool(peer.received))
            peer.close()

        pool = wire.pool()
        async with wire.provider(script) as provider:
            for number in range(150):
                response = await pool.exchange(provider.origin, *ask(b"%d" % number), soon())
                assert await whole(response) == b"ok"
            bodies = [request.partition(b"\r\n\r\n")[2] for request in provider.requests]
            assert bodies == [b"%d" % number for number in range(150)]
            await pool.close()

    play(scenario())


@pytest.mark.parametrize("reused", [False, True])
def test_B13_death_on_a_fresh_connection_is_ambiguous_and_never_sent_again(play, wire, reused):
    async def scenario():
        async def script(peer: Peer) -> None:
            if reused and peer.number == 0:
                await peer.request()
                peer.send(OK)
            await peer.request()
            peer.reset()

        pool = wire.pool()
        async with wire.provider(script) as provider:
            if reused:  # the stale one is replaced, and its replacement dies as well
                await pool.exchange(provider.origin, *ask(), soon())
            caught = await fault(pool.exchange(provider.origin, *ask(b"paid"), soon()))
            assert caught.outcome is Outcome.AMBIGUOUS
            assert len(provider.requests) == (3 if reused else 1)
            assert counts(pool) == (0, 0, 0, 0)

    play(scenario())


@pytest.mark.parametrize("head", [b"HTTP/1.1 ", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_B13_a_kept_connection_that_answered_a_byte_is_not_stale(play, wire, head):
    async def scenario():
        async def script(peer: Peer) -> None:
            await peer.request()
            peer.send(OK)
            await peer.request()
            peer.send(head)
            peer.close()

        pool = wire.pool()
        async with wire.provider(script) as provider:
            await pool.exchange(provider.origin, *ask(), soon())
            caught = await fault(pool.exchange(provider.origin, *ask(), soon()))
            assert caught.outcome is Outcome.AMBIGUOUS
            assert len(provider.requests) == 2

    play(scenario())


def test_B13_a_kept_connection_that_died_at_work_is_not_stale(play, wire):
    async def scenario():
        clock = FakeClock()
        pool = Pool(clock, local_resolver(LoopClock()), connect_timeout_ns=SECOND, tls=wire.client)

        async def script(peer: Peer) -> None:
            await peer.request()
            peer.send(OK)
            await peer.request()
            clock.advance(STALE_WITHIN_NS + 1)
            peer.reset()

        async with wire.provider(script) as provider:
            deadline = clock.now_ns() + 20 * SECOND
            await pool.exchange(provider.origin, *ask(), deadline)
            caught = await fault(pool.exchange(provider.origin, *ask(), deadline))
            assert caught.outcome is Outcome.AMBIGUOUS
            assert len(provider.requests) == 2

    play(scenario())


class TestCancel:
    """B1: the provider's socket sees the end at once, whatever was going on."""

    def test_B1_before_headers(self, play, wire):
        async def scenario():
            async def script(peer: Peer) -> None:
                await peer.request()
                asking.cancel()
                await peer.gone()

            pool = wire.pool()
            async with wire.provider(script) as provider:
                asking = asyncio.ensure_future(pool.exchange(provider.origin, *ask(), soon()))
                with pytest.raises(asyncio.CancelledError):
                    await asking
                assert counts(pool) == (0, 0, 0, 0)
                await provider.empty()

        play(scenario())

    @pytest.mark.parametrize("how", ["cancel", "abort"])
    def test_B1_inside_the_body(self, play, wire, how):
        async def scenario():
            async def script(peer: Peer) -> None:
                await peer.request()
                peer.send(CHUNKED + b"2\r\nhi\r\n")
                await peer.gone()

            pool = wire.pool()
            async with wire.provider(script) as provider:
                response = await pool.exchange(provider.origin, *ask(), soon())
                assert await response.read(soon()) == b"hi"
                if how == "abort":
                    response.abort()
                else:
                    reading = asyncio.ensure_future(response.read(soon()))
                    await settle(2)
                    reading.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await reading
                assert counts(pool) == (0, 0, 0, 0)
                await provider.empty()

        play(scenario())

    def test_B1_inside_an_upload(self, play, wire):
        async def scenario():
            async def script(peer: Peer) -> None:
                await peer.until(lambda: len(peer.received) > 100_000)
                peer.transport.pause_reading()
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                peer.transport.resume_reading()
                await peer.gone()

            pool = wire.pool()
            async with wire.provider(script) as provider:
                asking = asyncio.ensure_future(pool.exchange(provider.origin, *ask(b"x" * 30_000_000), soon()))
                await asyncio.wait({asking})
                assert counts(pool) == (0, 0, 0, 0)
                await provider.empty()
                assert len(provider.peers[0].received) < 30_000_000

        play(scenario())

    def test_B1_inside_the_handshake(self, play, authority):
        async def scenario():
            wire = tls_wire(authority, "localhost")

            async def script(peer: Peer) -> None:
                await peer.until(lambda: bool(peer.received))  # the ClientHello, never answered
                asking.cancel()
                await peer.gone()

            pool = wire.pool()
            async with wire._replace(server=None).provider(script) as provider:
                origin = provider.origin._replace(scheme="https", host="localhost")
                asking = asyncio.ensure_future(pool.exchange(origin, *ask(), soon()))
                with pytest.raises(asyncio.CancelledError):
                    await asking
                assert counts(pool) == (0, 0, 0, 0)
                await provider.empty()

        play(scenario())

    def test_B1_inside_the_lookup(self, play, wire):
        async def scenario():
            pool = wire.pool()
            asking = asyncio.ensure_future(pool.exchange(Origin("http", "localhost", 1), *ask(), soon()))
            await asyncio.sleep(0)
            assert counts(pool) == (0, 0, 0, 1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert counts(pool) == (0, 0, 0, 0)

        play(scenario())

    def test_B1_just_connected(self, play, wire):
        """In the turn between the transport's first word and ours: asyncio and uvloop would only `close()`."""

        async def scenario():
            pool = wire.pool()
            async with wire.provider(answering(OK)) as provider:
                caught_between = 0
                while not caught_between:
                    asking = asyncio.ensure_future(pool.exchange(provider.origin, *ask(), soon()))
                    while not asking.done():
                        await asyncio.sleep(0)
                        made = [each for each in living(Connection) if each.is_usable and each not in pool._open]
                        if made:
                            asking.cancel()
                            await asyncio.wait({asking})
                            assert [each.is_closed for each in made] == [True] * len(made)
                            caught_between += 1
                    await pool.close()
                    pool = wire.pool()
                await provider.empty()

        play(scenario())

    def test_B2_C12_1000_cancelled_anywhere_leak_nothing(self, play, wire):
        async def scenario():
            pool = wire.pool()
            async with wire.provider(answering(CHUNKED + b"2\r\nhi\r\n")) as provider:

                async def stream() -> None:
                    response = await pool.exchange(provider.origin, *ask(), soon())
                    await whole(response)

                for turn in range(20):
                    streams = [asyncio.ensure_future(stream()) for _ in range(50)]
                    await settle(turn)
                    for task in streams:
                        task.cancel()
                    await asyncio.wait(streams)
                assert counts(pool) == (0, 0, 0, 0)
                await provider.empty()

        play(scenario())


def test_C12_2000_at_once(play):
    async def scenario():
        clock = LoopClock()
        pool = Pool(clock, local_resolver(clock), connect_timeout_ns=9 * SECOND)
        everyone = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if len(peer.server.requests) == 2000:
                everyone.set()
            await everyone.wait()
            peer.send(OK)

        async with Scripted(script) as provider:
            answers = await asyncio.gather(*(pool.exchange(provider.origin, *ask(), soon()) for _ in range(2000)))
            assert [response.status for response in answers] == [200] * 2000
            assert counts(pool) == (2000, 2000, 0, 0)
            await pool.close()
            await provider.empty()

    play(scenario())


class TestBodies:
    def test_C6_one_line_of_8_MiB_streams(self, play, wire):
        async def scenario():
            line = b"data: " + b"x" * (8 << 20) + b"\n\n"

            async def script(peer: Peer) -> None:
                await peer.request()
                peer.send(CHUNKED + b"%x\r\n" % len(line) + line[: 1 << 20])
                await first_piece.wait()  # the rest comes only when the start has been passed on
                peer.send(line[1 << 20 :] + b"\r\n0\r\n\r\n")

            first_piece = asyncio.Event()
            pool = wire.pool()
            async with wire.provider(script) as provider:
                response = await pool.exchange(provider.origin, *ask(), soon())
                received = await response.read(soon())
                first_piece.set()
                assert received + await whole(response) == line
                await pool.close()

        play(scenario())

    def test_E4_who_does_not_read_is_not_sent_more(self, play, wire):
        async def scenario():
            size = 50_000_000

            async def script(peer: Peer) -> None:
                await peer.request()
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                while peer.sent < size and not peer.is_gone:
                    peer.send(b"x" * 500_000)
                    await asyncio.sleep(0)

            pool = wire.pool()
            async with wire.provider(script) as provider:
                response = await pool.exchange(provider.origin, *ask(), soon())
                peer = provider.peers[0]
                await provider_stalls(peer)
                assert peer.accepted < size // 2  # what both kernels hold, and what is unread here
                assert sum(map(len, response.pieces)) <= 3 * MAX_UNREAD_BYTES
                total = 0
                while piece := await response.read(soon()):
                    total += len(piece)
                    assert len(piece) <= 3 * MAX_UNREAD_BYTES
                assert total == size
                await pool.close()

        async def provider_stalls(peer: Peer) -> None:
            """Until nothing moves for many turns though more is to be sent."""
            still = 0
            before = -1
            while still < 200:
                await asyncio.sleep(0)
                still = still + 1 if peer.accepted == before and peer.sent > 1_000_000 else 0
                before = peer.accepted

        play(scenario())

    @pytest.mark.parametrize("status", [413, 200])
    def test_an_early_answer_to_a_large_upload(self, play, wire, status):
        async def scenario():
            body = b"x" * 8_000_000

            async def script(peer: Peer) -> None:
                await peer.until(lambda: len(peer.received) > 100_000)
                peer.transport.pause_reading()
                peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
                await answered.wait()
                if status == 200:
                    peer.transport.resume_reading()
                    await peer.request()
                peer.send(b"early")
                peer.transport.resume_reading()
                await peer.gone()

            answered = asyncio.Event()
            pool = wire.pool()
            async with wire.provider(script) as provider:
                response = await pool.exchange(provider.origin, *ask(body), soon())
                answered.set()
                assert (response.status, await whole(response)) == (status, b"early")
                assert counts(pool) == ((1, 1, 0, 0) if status == 200 else (0, 0, 0, 0))
                assert provider.requests == ([b"".join(ask(body))] if status == 200 else [])
                await pool.close()

        play(scenario())

    def test_a_large_upload_arrives_whole(self, play, wire):
        async def scenario():
            body = bytes(range(256)) * 16384  # 4 MiB
            pool = wire.pool()
            async with wire.provider(answering(OK)) as provider:
                for _ in range(2):
                    response = await pool.exchange(provider.origin, *ask(body), soon())
                    assert await whole(response) == b"ok"
                assert provider.requests == [b"".join(ask(body))] * 2
                assert len(provider.peers) == 1
                await pool.close()

        play(scenario())

    def test_C9_head_204_304_and_the_end_of_the_connection(self, play, wire):
        async def scenario():
            async def script(peer: Peer) -> None:
                await peer.request()
                peer.send(b"HTTP/1.1 204 No\r\n\r\n")
                await peer.request()
                peer.send(b"HTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n")
                if (await peer.request()).startswith(b"HEAD"):
                    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
                else:
                    peer.send(b"HTTP/1.1 200 OK\r\n\r\nto the end")
                    peer.close()

            pool = wire.pool()
            async with wire.provider(script) as provider:
                for method, status, body in ((b"HEAD", 200, b""), (b"POST", 200, b"to the end")):
                    for expected in (204, 304):
                        response = await pool.exchange(provider.origin, *ask(), soon())
                        assert (response.status, await whole(response)) == (expected, b"")
                    response = await pool.exchange(provider.origin, *ask(method=method), soon())
                    assert (response.status, await whole(response)) == (status, body)
                    assert counts(pool) == (0, 0, 0, 0)
                assert len(provider.peers) == 2

        play(scenario())

    def test_B3_a_body_that_breaks_off(self, play, wire):
        async def scenario():
            async def script(peer: Peer) -> None:
                await peer.request()
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")
                peer.close()

            pool = wire.pool()
            async with wire.provider(script) as provider:
                response = await pool.exchange(provider.origin, *ask(), soon())
                assert await response.read(soon()) == b"hi"
                assert (await fault(response.read(soon()))).outcome is Outcome.BROKEN
                assert counts(pool) == (0, 0, 0, 0)

        play(scenario())

    def test_G2_a_redirect_is_an_answer(self, play, wire):
        async def scenario():
            moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
            pool = wire.pool()
            async with wire.provider(answering(moved)) as provider:
                response = await pool.exchange(provider.origin, *ask(), soon())
                assert response.status == 307
                assert len(provider.requests) == 1
                await pool.close()

        play(scenario())


class TestConnecting:
    def test_refused(self, play, wire):
        async def scenario():
            pool = wire.pool()
            async with wire.provider(answering(OK)) as provider:
                origin = provider.origin
            caught = await fault(pool.exchange(origin, *ask(), soon()))
            assert caught.outcome is Outcome.CONNECT_FAILED
            assert str(origin.port) in caught.detail
            assert counts(pool) == (0, 0, 0, 0)

        play(scenario())

    @pytest.mark.parametrize("limit", ["connect", "headers"])
    def test_a_handshake_that_never_ends(self, play, authority, limit):
        async def scenario():
            wire = tls_wire(authority, "localhost")
            clock = FakeClock()

            async def script(peer: Peer) -> None:
                await peer.until(lambda: bool(peer.received))
                clock.advance(2 * SECOND)
                await peer.gone()

            pool = Pool(
                clock,
                local_resolver(LoopClock()),
                connect_timeout_ns=(2 if limit == "connect" else 9) * SECOND,
                tls=wire.client,
            )
            async with wire._replace(server=None).provider(script) as provider:
                origin = provider.origin._replace(scheme="https", host="localhost")
                deadline = clock.now_ns() + (9 if limit == "connect" else 2) * SECOND
                caught = await fault(pool.exchange(origin, *ask(), deadline))
                assert caught.outcome is Outcome.CONNECT_FAILED
                assert "in time" in caught.detail
                await provider.empty()
                assert counts(pool) == (0, 0, 0, 0)
                assert clock.pending == 0

        play(scenario())

    def test_G2_a_certificate_for_another_name(self, play, authority):
        async def scenario():
            wire = tls_wire(authority, "other.example")
            pool = wire.pool()
            async with wire.provider(answering(OK)) as provider:
                caught = await fault(pool.exchange(provider.origin, *ask(b"sk-secret"), soon()))
                assert caught.outcome is Outcome.CONNECT_FAILED
                assert "certificate" in caught.detail
                assert "sk-secret" not in str(caught)
                assert provider.requests == []

        play(scenario())

    def test_G2_a_certificate_of_nobody_we_trust(self, play, authority):
        async def scenario():
            clock = LoopClock()
            wire = tls_wire(authority, "localhost")
            pool = Pool(clock, local_resolver(clock), connect_timeout_ns=5 * SECOND)  # the default context
            async with wire.provider(answering(OK)) as provider:
                caught = await fault(pool.exchange(provider.origin, *ask(), soon()))
                assert caught.outcome is Outcome.CONNECT_FAILED
                assert provider.requests == []

        play(scenario())

    def test_tls_names_the_host_and_speaks_http1_only(self, play, authority):
        async def scenario():
            wire = tls_wire(authority, "localhost")
            assert wire.server is not None
            names = []
            wire.server.sni_callback = lambda _socket, name, _context: names.append(name)
            wire.server.set_alpn_protocols(["h2", "http/1.1"])
            pool = wire.pool()
            async with wire.provider(answering(OK)) as provider:
                await pool.exchange(provider.origin, *ask(), soon())
                chosen = provider.peers[0].transport.get_extra_info("ssl_object").selected_alpn_protocol()
                await pool.close()
            assert (names, chosen) == (["localhost"], "http/1.1")

        play(scenario())

    def test_closed_as_soon_as_accepted(self, play, wire):
        async def scenario():
            async def script(peer: Peer) -> None:
                peer.close()

            pool = wire.pool()
            async with wire.provider(script) as provider:
                caught = await fault(pool.exchange(provider.origin, *ask(), soon()))
                assert caught.outcome in (Outcome.CONNECT_FAILED, Outcome.AMBIGUOUS)
                assert counts(pool) == (0, 0, 0, 0)

        play(scenario())

    def test_localhost_by_ipv6(self, play):
        async def scenario():
            clock = LoopClock()
            pool = Pool(clock, local_resolver(clock), connect_timeout_ns=5 * SECOND)
            async with Scripted(answering(OK), host="::1") as provider:
                response = await pool.exchange(provider.origin, *ask(), soon())
                assert await whole(response) == b"ok"
                await pool.close()

        play(scenario())

    def test_C3_an_address_that_fails_is_asked_for_anew(self, play):
        async def scenario():
            addresses = ["127.0.0.2", "127.0.0.1"]

            async def lookup(host: str) -> Answer:
                return Answer([(2, addresses.pop(0))], None)

            clock = LoopClock()
            pool = Pool(clock, Resolver(clock, None, lookup), connect_timeout_ns=5 * SECOND)
            async with Scripted(answering(OK)) as provider:
                origin = provider.origin._replace(host="moved.example")
                assert (await fault(pool.exchange(origin, *ask(), soon()))).outcome is Outcome.CONNECT_FAILED
                assert (await pool.exchange(origin, *ask(), soon())).status == 200
                await pool.close()

        play(scenario())

    def test_a_name_without_an_address(self, play):
        async def scenario():
            async def lookup(host: str) -> Answer:
                raise OSError("no such name")

            clock = LoopClock()
            pool = Pool(clock, Resolver(clock, None, lookup), connect_timeout_ns=5 * SECOND)
            caught = await fault(pool.exchange(Origin("http", "nowhere.example", 80), *ask(), soon()))
            assert caught.outcome is Outcome.CONNECT_FAILED
            assert "nowhere.example" in caught.detail
            assert counts(pool) == (0, 0, 0, 0)

        play(scenario())

    def test_not_http(self, play, wire):
        async def scenario():
            pool = wire.pool()
            async with wire.provider(answering(b"SSH-2.0-x\r\n")) as provider:
                caught = await fault(pool.exchange(provider.origin, *ask(), soon()))
                assert caught.outcome is Outcome.BROKEN
                assert counts(pool) == (0, 0, 0, 0)

        play(scenario())


class TestKeeping:
    """Ages, on a clock that tests drive."""

    async def pool(self, clock: FakeClock, wire, **settings: int) -> Pool:
        return Pool(clock, local_resolver(LoopClock()), connect_timeout_ns=SECOND, tls=wire.client, **settings)

    def test_C4_idle_connections_expire(self, play, wire):
        async def scenario():
            clock = FakeClock()
            pool = await self.pool(clock, wire)
            async with wire.provider(answering(OK)) as provider:
                origin = provider.origin
                await asyncio.gather(*(pool.exchange(origin, *ask(), clock.now_ns() + SECOND) for _ in range(2)))
                clock.advance(20 * SECOND)
                await pool.exchange(origin, *ask(), clock.now_ns() + SECOND)
                clock.advance(10 * SECOND)
                assert counts(pool) == (1, 1, 0, 0)
                clock.advance(20 * SECOND)
                assert counts(pool) == (0, 0, 0, 0)
                await provider.empty()
                assert clock.pending == 0
                await pool.close()

        play(scenario())

    def test_C4_expired_at_the_very_moment_it_is_wanted(self, play, wire):
        async def scenario():
            clock = FakeClock()
            pool = await self.pool(clock, wire, max_idle_ns=SECOND)
            async with wire.provider(answering(OK)) as provider:
                await pool.exchange(provider.origin, *ask(), clock.now_ns() + SECOND)
                clock._now_ns += SECOND  # before the sweep has run
                await pool.exchange(provider.origin, *ask(), clock.now_ns() + SECOND)
                assert len(provider.peers) == 2
                assert counts(pool) == (1, 1, 0, 0)
                await pool.close()

        play(scenario())

    def test_C3_a_busy_connection_retires(self, play, wire):
        async def scenario():
            clock = FakeClock()
            pool = await self.pool(clock, wire, max_age_ns=60 * SECOND)
            async with wire.provider(answering(OK)) as provider:
                for _ in range(12):
                    await pool.exchange(provider.origin, *ask(), clock.now_ns() + SECOND)
                    clock.advance(10 * SECOND)
                assert len(provider.peers) == 2
                await pool.close()

        play(scenario())

    def test_an_answer_that_outlives_its_connections_age(self, play, wire):
        async def scenario():
            clock = FakeClock()
            pool = await self.pool(clock, wire, max_age_ns=5 * SECOND)

            async def script(peer: Peer) -> None:
                await peer.request()
                clock.advance(6 * SECOND)
                peer.send(OK)
                await peer.gone()

            async with wire.provider(script) as provider:
                response = await pool.exchange(provider.origin, *ask(), clock.now_ns() + 60 * SECOND)
                assert await response.read(0) == b"ok"
                assert counts(pool) == (0, 0, 0, 0)
                await provider.empty()

        play(scenario())

    def test_C4_a_connection_closed_while_idle_is_not_offered(self, play, wire):
        async def scenario():
            async def script(peer: Peer) -> None:
                await peer.request()
                peer.send(OK)
                await closing.wait()
                peer.close()

            closing = asyncio.Event()
            pool = wire.pool()
            async with wire.provider(script) as provider:
                await pool.exchange(provider.origin, *ask(), soon())
                assert counts(pool) == (1, 1, 0, 0)
                closing.set()
                while pool.open:  # noqa: ASYNC110  # the client's own loss has no event
                    await asyncio.sleep(0)
                assert counts(pool) == (0, 0, 0, 0)

        play(scenario())

    def test_G2_a_connection_serves_its_own_origin(self, play, wire):
        async def scenario():
            pool = wire.pool()
            async with wire.provider(answering(OK)) as one, wire.provider(answering(OK)) as two:
                for provider in (one, two, one):
                    await pool.exchange(provider.origin, *ask(), soon())
                assert (len(one.requests), len(two.requests), pool.open) == (2, 1, 2)
                await pool.close()

        play(scenario())

    def test_close_fails_what_is_under_way(self, play, wire):
        async def scenario():
            pool = wire.pool()
            async with wire.provider(answering(CHUNKED)) as provider:
                response = await pool.exchange(provider.origin, *ask(), soon())
                reading = asyncio.ensure_future(response.read(soon()))
                await settle(2)
                await pool.close()
                with pytest.raises(Fault):
                    await reading
                assert (await fault(pool.exchange(provider.origin, *ask(), soon()))).outcome is Outcome.CONNECT_FAILED
                await provider.empty()

        play(scenario())

    def test_C14_closed_connections_leave_no_cycle(self, play, wire):
        async def scenario():
            pool = wire.pool()
            async with wire.provider(answering(OK.replace(b"OK", b"OK\r\nConnection: close"))) as provider:
                for _ in range(3):
                    await pool.exchange(provider.origin, *ask(), soon())
                await provider.empty()
                await settle()
                assert (living(Connection), living(Reader)) == ([], [])

        gc.collect()
        gc.disable()
        try:
            play(scenario())
        finally:
            gc.enable()


class Sending:
    """Who has a request sent."""

    is_sent = False
    sent_ns = 0


def test_B2_the_sender_is_told_before_the_first_byte_and_not_while_connecting(play, wire):
    async def scenario():
        pool, sender = wire.pool(), Sending()
        async with wire.provider(answering(OK)) as provider:
            asking = asyncio.ensure_future(pool.exchange(provider.origin, *ask(), soon(), sender))
            seen = set()
            while not asking.done():
                seen.add((pool.connecting > 0, sender.is_sent))
                await asyncio.sleep(0)
            assert (True, False) in seen
            assert (True, True) not in seen
            assert sender.is_sent
            await whole(await asking)
            kept = Sending()
            asking = asyncio.ensure_future(pool.exchange(provider.origin, *ask(), soon(), kept))
            await asyncio.sleep(0)
            assert kept.is_sent, "over a kept connection it goes at once"
            await whole(await asking)
            await pool.close()

    play(scenario())


async def test_B13_a_connection_that_was_refused_has_sent_nothing():
    pool, sender = Pool(LoopClock(), local_resolver(LoopClock()), connect_timeout_ns=SECOND), Sending()
    async with Scripted(answering(OK)) as provider:
        origin = provider.origin
    assert (await fault(pool.exchange(origin, *ask(), soon(), sender))).outcome is Outcome.CONNECT_FAILED
    assert not sender.is_sent
    await pool.close()
