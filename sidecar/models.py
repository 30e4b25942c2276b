"""`GET /v1/models`: asks every configured provider at once, and merges. Only ever on a caller's own request (H4).

A provider that does not answer in time is represented by what the catalog knows of it. The list is kept for a while,
since SDKs and user interfaces ask for it often and it changes seldom.
"""

from __future__ import annotations

import asyncio

import msgspec

from sidecar.core.headers import upstream_head
from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.model_list import assumed, listed, merge
from sidecar.core.outcomes import Fault
from sidecar.core.roster import Roster
from sidecar.core.snapshot import Key, Provider
from sidecar.interfaces import Clock
from sidecar.upstream.pool import Pool

_KEPT_NS = 5 * MINUTE
_WAIT_NS = 5 * SECOND
_LIST_MAX_BYTES = 4 << 20

Entries = list[tuple[str, msgspec.Raw]]


class ModelDirectory:
    """The providers' lists of models, merged and kept."""

    def __init__(self, clock: Clock, pool: Pool) -> None:
        self._clock = clock
        self._pool = pool
        self._lists: list[tuple[str, Entries]] = []
        self._kept_until_ns = 0

    def forget(self) -> None:
        """Ask anew at the next request: the configuration has changed."""
        self._kept_until_ns = 0

    async def body(self, roster: Roster) -> bytes:
        """The body of the merged list."""
        now_ns = self._clock.now_ns()
        snapshot = roster.snapshot
        if now_ns >= self._kept_until_ns:
            lists = await asyncio.gather(*(self._ask(roster, each) for each in snapshot.providers.values()))
            public = ("", assumed(snapshot.chains, "sidecar"))
            self._lists = [public, *zip(snapshot.providers, lists, strict=True)]
            self._kept_until_ns = now_ns + _KEPT_NS
        return merge(self._lists, roster.parked(now_ns))

    async def _ask(self, roster: Roster, provider: Provider) -> Entries:
        key = next((key for key in provider.keys if key.is_present and roster.is_accepted(key)), None)
        if key is None:
            return []  # its models cannot be called
        entries = await self._fetch(provider, key)
        if entries is None:
            return assumed(roster.snapshot.catalog.ids_of(provider.name), provider.name)
        return entries

    async def _fetch(self, provider: Provider, key: Key) -> Entries | None:
        headers = [(b"accept", b"application/json"), *provider.auth[key.ident]]
        head = upstream_head(b"GET", provider.base_path + b"/models", provider.host, headers, None)
        deadline_ns = self._clock.now_ns() + _WAIT_NS
        try:
            response = await self._pool.exchange(provider.origin, head, b"", deadline_ns)
            try:
                body = b""
                while len(body) < _LIST_MAX_BYTES and (chunk := await response.read(deadline_ns)):
                    body += chunk
            finally:
                response.abort()
        except Fault:
            return None
        return listed(body) if response.status == 200 else None
