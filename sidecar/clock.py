"""The real clock: Unix nanoseconds that never run backwards, and timers on the event loop.

A wall-clock anchor plus monotonic progress: steps of the wall clock (NTP, a suspended laptop) would otherwise open or
close quota windows by mistake. When the two drift apart by more than a second the anchor is taken again, so that
windows aligned to the UTC minute stay where the provider has them (design section 6). Forwards that is a leap.
Backwards time must not go, and if it stood still nothing would refill or time out: it goes at half its speed until the
two agree.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sidecar.core.limits import SECOND
from sidecar.interfaces import Clock, Timer

_CHECK_NS = SECOND  # how often the wall clock is compared


class LoopClock(Clock):
    """Implements `interfaces.Clock` on a running event loop. `wall` and `monotonic`, in ns: what it is made of."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._loop = loop
        self._wall, self._monotonic = wall, monotonic
        self._checked_ns = monotonic()
        self._due_ns = self._checked_ns + _CHECK_NS
        self._offset_ns = wall() - self._checked_ns
        self._last_ns = 0

    def now_ns(self) -> int:
        """Unix nanoseconds, never less than before."""
        monotonic = self._monotonic()
        if monotonic >= self._due_ns:
            self._look(monotonic)
        now = monotonic + self._offset_ns
        if now < self._last_ns:
            return self._last_ns
        self._last_ns = now
        return now

    def _look(self, monotonic: int) -> None:
        passed = monotonic - self._checked_ns
        self._checked_ns, self._due_ns = monotonic, monotonic + _CHECK_NS
        offset = self._wall() - monotonic
        if abs(offset - self._offset_ns) > SECOND:
            self._offset_ns = max(offset, self._offset_ns - passed // 2)

    def call_at(self, when_ns: int, callback: Callable[..., object], *args: object) -> Timer:
        """Run `callback(*args)` on the loop at `when_ns`."""
        return self._loop.call_later(max(0, when_ns - self.now_ns()) / SECOND, callback, *args)
