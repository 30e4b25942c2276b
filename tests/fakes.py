"""Stand-ins for what app.py makes: a clock that tests drive, and one that follows the running loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

from sidecar.core.limits import SECOND
from sidecar.interfaces import Clock

START_NS = 1_700_000_000 * SECOND


class FakeTimer:
    """A scheduled call of a FakeClock."""

    def __init__(self, when_ns: int, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.when_ns = when_ns
        self.is_cancelled = False
        self._callback = callback
        self._args = args

    def __repr__(self) -> str:
        return f"<FakeTimer {self.when_ns} {self._callback!r}>"

    def cancel(self) -> None:
        """Forget the call."""
        self.is_cancelled = True

    def run(self) -> None:
        """Make the call."""
        self._callback(*self._args)


class FakeClock(Clock):
    """A Clock that stands still until `advance`. Works with and without a running loop; no socket is affected."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self._now_ns = now_ns
        self._timers: list[tuple[int, int, FakeTimer]] = []
        self._order = itertools.count()
        self.calls = 0  # how many timers were ever made

    def __repr__(self) -> str:
        return f"<FakeClock {self._now_ns} pending={self.pending}>"

    @property
    def pending(self) -> int:
        """Timers that are armed."""
        return sum(not timer.is_cancelled for _, _, timer in self._timers)

    @property
    def next_ns(self) -> int | None:
        """When the next armed timer is due (Unix ns)."""
        return min((when_ns for when_ns, _, timer in self._timers if not timer.is_cancelled), default=None)

    def now_ns(self) -> int:
        """The time it was set to."""
        return self._now_ns

    def call_at(self, when_ns: int, callback: Callable[..., object], *args: object) -> FakeTimer:
        """Call back during the `advance` that reaches `when_ns`; a time already past waits for the next `advance`."""
        timer = FakeTimer(when_ns, callback, args)
        self.calls += 1
        heapq.heappush(self._timers, (when_ns, next(self._order), timer))
        return timer

    def advance(self, duration_ns: int) -> None:
        """Let time pass; timers due are run in order, each at its own time, those they make included."""
        end_ns = self._now_ns + duration_ns
        while self._timers and self._timers[0][0] <= end_ns:
            when_ns, _, timer = heapq.heappop(self._timers)
            self._now_ns = max(self._now_ns, when_ns)
            if not timer.is_cancelled:
                timer.run()
        self._now_ns = end_ns


class LoopClock(Clock):
    """A Clock on the running loop's own time, for tests with real sockets."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Unix time, steady."""
        return time.monotonic_ns() + self._offset_ns

    def call_at(self, when_ns: int, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """The loop's own timer."""
        return self._loop.call_later(max(0, when_ns - self.now_ns()) / SECOND, callback, *args)


async def settle(turns: int = 20) -> None:
    """Give every task that can go on without I/O the turns to do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
