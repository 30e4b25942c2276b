"""Follows one object of the API: calls back when it may have changed, and never gives up.

List, then watch from the list's version, and go on from the last version seen when the watch ends. Begins anew with
a list when the server has forgotten that far back (410), and slower after each failure in a row.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple, NoReturn, cast

from sidecar.core.admission_standing import retry_after_ns
from sidecar.core.watch_events import GONE, WatchEvent
from sidecar.inject.api import Api, ApiError
from sidecar.interfaces import Clock, sleep_until


class Watched(NamedTuple):
    """An object by the path of its collection and its name, and who wants to know."""

    path: str
    name: str
    changed: Callable[[], None]
    failed: Callable[[ApiError], None]


async def follow(api: Api, clock: Clock, watched: Watched) -> NoReturn:
    """Follow until cancelled."""
    query = {"fieldSelector": f"metadata.name={watched.name}"}
    version = ""
    failures = 0
    while True:
        try:
            if not version:
                version = _version(await api.list(watched.path, query))
                watched.changed()
            seen = await _watch(api, watched, query, version)
            # a server that ends every watch at once must not be asked in a circle
            failures = failures + 1 if seen == version else 0
            version = seen
        except ApiError as error:
            failures += 1
            version = ""
            if error.status != GONE:
                watched.failed(error)
        if failures:
            await sleep_until(clock, clock.now_ns() + retry_after_ns(failures))


async def _watch(api: Api, watched: Watched, query: dict[str, str], version: str) -> str:
    events = cast("AsyncGenerator[WatchEvent]", api.watch(watched.path, query, version))
    async with aclosing(events):
        async for event in events:
            if event.error:
                raise ApiError(event.error, event.message)
            version = event.version or version
            if event.is_change:
                watched.changed()
    return version


def _version(listed: dict[str, object]) -> str:
    metadata = listed.get("metadata")
    return str(metadata.get("resourceVersion", "")) if isinstance(metadata, dict) else ""
