"""Families of what is kept and what is shared: the cache, and the limits that several sidecars count together.

Told only while there is one. A model that only callers name counts as `other` (acceptance I1), so that of a thousand
made up names nothing is left but their sum.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.core.cache_counts import OTHERS, ModelCounts
from sidecar.core.exposition import Page, counter, gauge
from sidecar.core.metrics import Live, Part
from sidecar.core.sharing import REASONS, Counters
from sidecar.core.tally import OTHER

CACHED = counter(
    "sidecar_cache_requests_total",
    ("route", "result"),
    "Requests by what the cache did: `hit`, `coalesced` (answered by another's call), `miss`, `bypass`",
)
CACHE_SAVED = counter(
    "sidecar_cache_saved_tokens_total",
    ("type",),
    "Tokens, `input` or `output`, that hits and coalesced requests cost not",
)
CACHE_DROPPED = counter(
    "sidecar_cache_dropped_total",
    ("reason",),
    "Answers that are kept no more: `evicted` for want of room, or `expired`",
)
CACHE_ENTRIES = gauge("sidecar_cache_entries", (), "Answers that are kept")
CACHE_BYTES = gauge("sidecar_cache_bytes", ("state",), "Bytes of answers, `kept` or on their way in (`reserved`)")
CACHE_BYTES_MOST = gauge("sidecar_cache_bytes_limit", (), "`cache.max_bytes`: beyond it the oldest answers go")

SHARE_MODE = gauge(
    "sidecar_share_mode",
    ("mode",),
    "How limits are counted, 1 for one of: `shared` over the store, `static` while it is out of reach, `divided`",
)
SHARE_REPLICAS = gauge("sidecar_share_replicas", (), "Sidecars that use the same accounts, as far as is known")
SHARE_CALLS = counter("sidecar_share_calls_total", (), "Calls of the store; with `share.url`")
SHARE_FAILURES = counter(
    "sidecar_share_failures_total", ("reason",), "Calls of the store that failed; with `share.url`"
)
SHARE_OUTAGES = counter(
    "sidecar_share_outages_total",
    (),
    "How often the store went out of reach, and each counted by itself; with `share.url`",
)
SHARE_LOST = counter(
    "sidecar_share_ledgers_lost_total",
    (),
    "How often the store had forgotten what was used of a quota; with `share.url`",
)

_RESULTS = ("hit", "coalesced", "miss", "bypass")
_MODES = ("shared", "static", "divided")


def _results(counts: ModelCounts) -> tuple[int, int, int, int]:
    return counts.hits, counts.coalesced, counts.misses, counts.bypasses


def _cache(live: Live, page: Page) -> Iterable[None]:
    status = live.cache
    if status is None or not status.enabled:
        return ()
    by_route: dict[str, list[int]] = {}
    for model, counts in status.models.items():
        route = OTHER if model == OTHERS else live.tally.route(model)
        before = by_route.get(route, [0] * len(_RESULTS))
        by_route[route] = [one + more for one, more in zip(before, _results(counts), strict=True)]
    for route, told in by_route.items():
        for result, count in zip(_RESULTS, told, strict=True):
            page.add(CACHED, (route, result), count)
    every = status.models.values()
    page.add(CACHE_SAVED, ("input",), sum(counts.saved_input_tokens for counts in every))
    page.add(CACHE_SAVED, ("output",), sum(counts.saved_output_tokens for counts in every))
    page.add(CACHE_DROPPED, ("evicted",), sum(counts.evictions for counts in every))
    page.add(CACHE_DROPPED, ("expired",), sum(counts.expired for counts in every))
    page.add(CACHE_ENTRIES, (), status.entries)
    page.add(CACHE_BYTES, ("kept",), status.bytes)
    page.add(CACHE_BYTES, ("reserved",), status.in_flight_bytes)
    page.add(CACHE_BYTES_MOST, (), status.max_bytes)
    return ()


def _share(live: Live, page: Page) -> Iterable[None]:
    status = live.share
    if status is None:
        return ()
    for mode in _MODES:
        page.add(SHARE_MODE, (mode,), int(status.mode == mode))
    page.add(SHARE_REPLICAS, (), status.replicas)
    if status.counters is not None:
        _store(status.counters, page)
    return ()


def _store(counters: Counters, page: Page) -> None:
    page.add(SHARE_CALLS, (), counters.calls)
    for reason in REASONS:
        page.add(SHARE_FAILURES, (reason,), counters.failures.get(reason, 0))
    page.add(SHARE_OUTAGES, (), counters.outages)
    page.add(SHARE_LOST, (), counters.ledgers_lost)


PARTS = (
    Part(
        "The cache, while it is on",
        (CACHED, CACHE_SAVED, CACHE_DROPPED, CACHE_ENTRIES, CACHE_BYTES, CACHE_BYTES_MOST),
        _cache,
    ),
    Part(
        "Sharing, where limits are shared",
        (SHARE_MODE, SHARE_REPLICAS, SHARE_CALLS, SHARE_FAILURES, SHARE_OUTAGES, SHARE_LOST),
        _share,
    ),
)
