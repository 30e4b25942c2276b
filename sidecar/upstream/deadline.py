"""A time limit on whatever is awaited in a block, kept by the Clock that was given and no other.

`asyncio.timeout` reads the loop's own clock; tests drive time themselves, so only its cancellation rules are borrowed
here and the moment comes from `Clock.call_at`. Not for the hot path: a block costs a timer and a few objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecar.interfaces import Clock

# `Timeout.reschedule` compares with the loop's monotonic clock: zero is always past, so it fires at once.
_NOW = 0.0


@asynccontextmanager
async def until(clock: Clock, when_ns: int) -> AsyncIterator[None]:
    """Raise TimeoutError out of the block when it still runs at `when_ns` (Unix ns)."""
    async with asyncio.timeout(None) as scope:
        timer = clock.call_at(when_ns, scope.reschedule, _NOW)
        try:
            yield
        finally:
            timer.cancel()
