"""`/metrics` on the wire: which format a scraper takes, whether packed, and never in the way of a request.

What is told is core's (core/metrics_table.py); the process's own figures (CPU, memory, open files) are
prometheus_client's, and so is the choice of the format. It is loaded on the first scrape, in a thread: a process that
nobody scrapes need not hold it. The page is made in steps, between which requests go on; a large one is packed in a
thread. Content negotiation as prometheus_client's own server does it.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sidecar.core.exposition import Page
from sidecar.core.metrics import Live, Part, fill

_PACK_ASIDE_BYTES = 64 * 1024  # packing less takes no longer than handing it to a thread
_LEVEL = 1  # these lines shrink to a twentieth at any level


_Client = Callable[[str], tuple[bytes, str]]  # an Accept header -> the process's own figures, and the content type


class Scraped(NamedTuple):
    """A page as it is sent. `encoding`: `gzip`, or None."""

    body: bytes
    content_type: str
    encoding: str | None = None


class Metrics:
    """Answers scrapes. `live` takes the state of the process."""

    def __init__(self, live: Callable[[], Live], parts: Iterable[Part]) -> None:
        self._live = live
        self._parts = tuple(parts)
        self._client: _Client | None = None

    async def scrape(self, accept: str, accept_encoding: str) -> Scraped:
        """One page, for a scraper that sends these headers."""
        if self._client is None:
            self._client = await asyncio.get_running_loop().run_in_executor(None, _load)
        own, content_type = self._client(accept)
        is_openmetrics = content_type.startswith("application/openmetrics-text")
        page = Page()
        for _ in self.steps(page):
            await asyncio.sleep(0)
        body = page.text(is_openmetrics) + own
        if not _takes_gzip(accept_encoding):
            return Scraped(body, content_type)
        if len(body) < _PACK_ASIDE_BYTES:
            return Scraped(_packed(body), content_type, "gzip")
        packed = await asyncio.get_running_loop().run_in_executor(None, _packed, body)
        return Scraped(packed, content_type, "gzip")

    def steps(self, page: Page) -> Iterator[None]:
        """Fill a page, step by step."""
        return fill(self._parts, self._live(), page)


def _load() -> _Client:
    """prometheus_client, which takes 30 ms and some megabytes."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)

    def figures(accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    return figures


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether a scraper takes gzip: named, and not refused by `q=0` (RFC 9110, 12.5.3)."""
    for each in accept_encoding.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, _LEVEL, mtime=0)
