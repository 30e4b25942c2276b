"""Names to addresses, such that a name that ever resolved goes on resolving (RFC 8767, serve stale).

It decides whom to ask and whom to believe: c-ares first, getaddrinfo beside it when c-ares has not answered in 300 ms
or has failed; the first good answer wins. Answers are kept for their TTL, 30 s at most. When nobody answers, the last
good addresses serve. It does not know how lookups are made: both are given to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Fault, Outcome
from sidecar.interfaces import Clock
from sidecar.upstream.deadline import until
from sidecar.upstream.lookup import Address, Answer, Lookup, system_lookup

PATIENCE_NS = 300 * SECOND // 1000  # with c-ares alone, before getaddrinfo is asked as well
MAX_TTL_NS = 30 * SECOND  # a provider that moves is followed within this time
# How long a caller waits for news of a host whose last addresses are known: shorter than any connect timeout, so that
# a dead name server costs known hosts nothing but this (RFC 8767, 5 suggests 1.8 s)
STALE_AFTER_NS = SECOND
STALE_TTL_NS = 5 * SECOND  # how long old addresses serve unasked when both lookups have failed


class _Kept(NamedTuple):
    addresses: list[Address]
    until_ns: int


class _Flight(NamedTuple):
    """A lookup under way, shared by all who want that host. Its result is None when it failed."""

    task: asyncio.Task[Answer | None]
    departed_ns: int


class Resolver:
    """Addresses of hosts. `primary` is asked for absolute names, `secondary` for hosts as they are written."""

    def __init__(
        self,
        clock: Clock,
        primary: Lookup | None,
        secondary: Lookup,
        close_primary: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._clock = clock
        self._primary = primary
        self._secondary = secondary
        self._close_primary = close_primary
        self._kept: dict[str, _Kept] = {}
        self._last_good: dict[str, list[Address]] = {}
        self._flights: dict[str, _Flight] = {}

    def __repr__(self) -> str:
        return f"<Resolver {len(self._kept)} kept, {len(self._flights)} under way>"

    async def resolve(self, host: str) -> list[Address]:
        """Addresses of `host`, best first. Raises Fault(CONNECT_FAILED) when it has none and never had."""
        now_ns = self._clock.now_ns()
        kept = self._kept.get(host)
        if kept is not None and now_ns < kept.until_ns:
            return kept.addresses
        flight = self._flights.get(host) or self._depart(host, now_ns)
        known = self._last_good.get(host)
        if known is None:
            answer = await asyncio.shield(flight.task)
            if answer is None:
                raise Fault(Outcome.CONNECT_FAILED, f"the name {host} does not resolve")
            return answer.addresses
        with contextlib.suppress(TimeoutError):
            async with until(self._clock, flight.departed_ns + STALE_AFTER_NS):
                answer = await asyncio.shield(flight.task)
                return known if answer is None else answer.addresses
        return known

    def forget(self, host: str) -> None:
        """Ask anew next time: connecting to what is kept has failed."""
        self._kept.pop(host, None)

    async def close(self) -> None:
        """End the lookups under way, and the primary."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._close_primary is not None:
            await self._close_primary()

    def _depart(self, host: str, now_ns: int) -> _Flight:
        flight = _Flight(asyncio.create_task(self._fly(host)), now_ns)
        self._flights[host] = flight
        return flight

    async def _fly(self, host: str) -> Answer | None:
        try:
            answer = await self._look_up(host)
        finally:
            del self._flights[host]
        now_ns = self._clock.now_ns()
        if answer is not None:
            ttl_ns = MAX_TTL_NS if answer.ttl_ns is None else min(answer.ttl_ns, MAX_TTL_NS)
            self._kept[host] = _Kept(answer.addresses, now_ns + ttl_ns)
            self._last_good[host] = answer.addresses
        elif host in self._last_good:
            self._kept[host] = _Kept(self._last_good[host], now_ns + STALE_TTL_NS)
        return answer

    async def _look_up(self, host: str) -> Answer | None:
        # A short name means what the system's search list says: c-ares is asked for absolute names only.
        if self._primary is None or "." not in host:
            return await _attempt(self._secondary, host)
        first = asyncio.create_task(_attempt(self._primary, host.rstrip(".") + "."))
        second = asyncio.create_task(self._join(first, host))
        try:
            for attempt in asyncio.as_completed((first, second)):
                answer = await attempt
                if answer is not None:
                    return answer
            return None
        finally:
            first.cancel()
            second.cancel()
            await asyncio.gather(first, second, return_exceptions=True)

    async def _join(self, first: asyncio.Task[Answer | None], host: str) -> Answer | None:
        """The second lookup, once the first has failed or taken too long; None when it was not needed."""
        with contextlib.suppress(TimeoutError):
            async with until(self._clock, self._clock.now_ns() + PATIENCE_NS):
                if await asyncio.shield(first) is not None:
                    return None
        return await _attempt(self._secondary, host)


async def _attempt(lookup: Lookup, name: str) -> Answer | None:
    try:
        return await lookup(name)
    except OSError:
        return None


def make_resolver(clock: Clock, mode: Literal["auto", "system"]) -> Resolver:
    """The resolver of `dns.resolver`: `auto` is c-ares backed by getaddrinfo, `system` getaddrinfo alone."""
    if mode == "system":
        return Resolver(clock, None, system_lookup)
    # Imported here because it takes 60 ms, a seventh of the time from exec to ready, which `system` need not pay.
    from sidecar.upstream.cares import Cares

    cares = Cares()
    return Resolver(clock, cares, system_lookup, cares.close)
