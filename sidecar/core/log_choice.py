"""Which requests leave a line in the log, where an operator wants less than all of them.

Whatever may have to be explained later is always told: what did not end well, what needed a second attempt, what took
long. Of the rest exactly the share that was asked for, spread evenly by a request's number, without randomness (a Weyl
sequence: multiples of the golden ratio fill the interval more evenly than any draw).
"""

from __future__ import annotations

from typing import Final

from sidecar.core.outcomes import Outcome
from sidecar.core.record import Record

_BITS: Final = 32
_STEP: Final = 0x9E3779B9  # 2**32 divided by the golden ratio
_MASK: Final = (1 << _BITS) - 1
_WELL: Final = Outcome.OK.value


class LogChoice:
    """`sample`: the share of ordinary requests that is told; `slow_ns`: from when on a request is not ordinary."""

    __slots__ = ("_threshold", "slow_ns")

    def __init__(self, sample: float, slow_ns: int) -> None:
        self._threshold = round(sample * (1 << _BITS))
        self.slow_ns = slow_ns

    def tells(self, record: Record, now_ns: int) -> bool:
        """Whether a request that ended at `now_ns` is told."""
        if self._threshold > _MASK or record.outcome != _WELL or record.trail:
            return True  # and of the rest all, unless an operator wants less
        return (record.number * _STEP) & _MASK < self._threshold or now_ns - record.arrived_ns >= self.slow_ns

    def __repr__(self) -> str:
        return f"<LogChoice {self._threshold / (1 << _BITS)}, slow from {self.slow_ns} ns>"
