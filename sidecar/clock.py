"""The real clock: Unix nanoseconds that never run backwards, and timers on the event loop.

A wall-clock anchor plus monotonic progress: steps of the wall clock (NTP, a suspended laptop) would otherwise open or
close quota windows by mistake. When the two drift apart by more than a second the anchor is taken again, so that
windows aligned to the UTC minute stay where the provider has them (design section 6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sidecar.core.limits import SECOND
from sidecar.interfaces import Timer

_CHECK_NS = SECOND  # how often the wall clock is compared


class LoopClock:
    """Implements `interfaces.Clock` on a running event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._check_at_ns = 0
        self._last_ns = 0

    def now_ns(self) -> int:
        """Unix nanoseconds, never less than before."""
        monotonic = time.monotonic_ns()
        if monotonic >= self._check_at_ns:
            self._check_at_ns = monotonic + _CHECK_NS
            drifted = time.time_ns() - monotonic
            if abs(drifted - self._offset_ns) > SECOND:
                self._offset_ns = drifted
        now = monotonic + self._offset_ns
        if now > self._last_ns:
            self._last_ns = now
        return self._last_ns

    def call_at(self, when_ns: int, callback: Callable[..., object], *args: object) -> Timer:
        """Run `callback(*args)` on the loop at `when_ns`."""
        return self._loop.call_later(max(0, when_ns - self.now_ns()) / SECOND, callback, *args)
