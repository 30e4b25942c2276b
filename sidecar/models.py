"""`GET /v1/models`: asks every configured provider at once, and merges. Only ever on a caller's own request (H4).

A provider that does not answer in time is represented by what the catalog knows of it. The list is kept for a while,
since SDKs and user interfaces ask for it often and it changes seldom; who comes while it is being asked for waits for
the same answers.
"""

from __future__ import annotations

import asyncio

import msgspec

from sidecar.core.headers import upstream_head
from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.model_list import assumed, listed, merge
from sidecar.core.outcomes import Fault
from sidecar.core.roster import Roster
from sidecar.core.snapshot import Key, Provider, Snapshot
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
        self._asked: Snapshot | None = None  # whose providers they are
        self._kept_until_ns = 0
        self._asking = asyncio.Lock()  # whoever leaves while asking lets the next one ask

    def forget(self) -> None:
        """Ask anew at the next request: the configuration has changed."""
        self._asked = None

    async def body(self, roster: Roster) -> bytes:
        """The body of the merged list."""
        async with self._asking:
            snapshot = roster.snapshot
            if self._asked is not snapshot or self._clock.now_ns() >= self._kept_until_ns:
                lists = await asyncio.gather(*(self._ask(roster, each) for each in snapshot.providers.values()))
                self._lists = list(zip(snapshot.providers, lists, strict=True))
                self._asked = snapshot  # a reload in the meantime is another one
                self._kept_until_ns = self._clock.now_ns() + _KEPT_NS
            lists_by_provider = self._lists
        now_ns = self._clock.now_ns()
        public = ("", assumed(roster.usable_names(now_ns), "sidecar"))
        reached = roster.reached(now_ns)
        return merge([public, *(each for each in lists_by_provider if each[0] in reached)], roster.parked(now_ns))

    async def _ask(self, roster: Roster, provider: Provider) -> Entries:
        for key in provider.keys:
            if roster.is_callable(key, self._clock.now_ns()):
                entries = await self._fetch(provider, key)
                if entries is None:
                    return assumed(roster.snapshot.catalog.ids_of(provider.name), provider.name)
                if entries:
                    return entries
        return []  # its models cannot be called

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
        if response.status == 401:
            return []  # nothing can be called with this key
        return listed(body) if response.status == 200 else None
