"""One timer for all the waits of a connection. A new wait only notes its end: a timer that fires early is set again.

So a request costs no timer. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.interfaces import Clock, Timer

_NEVER_NS: Final = 1 << 63


class Alarm:
    """Calls `ring` when the last wait that was set has lasted too long."""

    __slots__ = ("_armed_ns", "_clock", "_ring", "_timer", "due_ns")

    def __init__(self, clock: Clock, ring: Callable[[], object]) -> None:
        self.due_ns = _NEVER_NS  # Unix ns
        self._armed_ns = _NEVER_NS
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None

    def set(self, wait_ns: int) -> None:
        """Ring in `wait_ns` from now, whatever was set before."""
        self.due_ns = self._clock.now_ns() + wait_ns
        if self.due_ns < self._armed_ns:
            self._arm()

    def close(self) -> None:
        """Never ring again, and forget whom to call."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._ring = _nobody

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = self.due_ns
        self._timer = self._clock.call_at(self.due_ns, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed_ns = _NEVER_NS
        if self._clock.now_ns() < self.due_ns:
            self._arm()
        else:
            self._ring()


def _nobody() -> None:
    """Nobody waits any more."""
