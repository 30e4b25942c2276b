"""A logarithmic histogram in the manner of HDR: any time from nanoseconds to hours, to within one part in 128. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_BITS = 7  # of the mantissa


class Histogram:
    """Counts of times in ns; what is told of it is the upper end of a bucket, so never too little."""

    __slots__ = ("_counts", "count")

    def __init__(self, times_ns: Iterable[int] = ()) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        for each in times_ns:
            self.add(each)

    def __repr__(self) -> str:
        return f"Histogram({self.count} times, p50 {self.at(50) / 1e3:.0f} us, p99 {self.at(99) / 1e3:.0f} us)"

    def add(self, time_ns: int) -> None:
        """Count one."""
        shift = max(0, time_ns.bit_length() - _BITS - 1)
        self._counts[(shift << _BITS) + (time_ns >> shift)] += 1
        self.count += 1

    def merge(self, other: Histogram) -> None:
        """Count what another counted."""
        self._counts.update(other._counts)
        self.count += other.count

    def at(self, percentile: float) -> int:
        """The time (ns) within which so many per cent of all were; 0 of an empty histogram."""
        left = self.count * percentile / 100
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 1e-9:
                return _upper(bucket)
        return 0


def _upper(bucket: int) -> int:
    shift = max(0, (bucket >> _BITS) - 1)
    return (((bucket - (shift << _BITS)) + 1) << shift) - 1
