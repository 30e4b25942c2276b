"""Metrics as text: Prometheus' own format 0.0.4 and OpenMetrics 1.0, from families and lines that are nearly ready.

prometheus_client writes the same, at ten times the cost for each sample; with a thousand keys that is the difference
between milliseconds and an event loop that stands still (bench/metrics.py). Tests hold the two equal. Decides layout
only. Prometheus, "Exposition formats"; OpenMetrics 1.0, "Text format".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple

from sidecar.core.limits import SECOND

_MOST_BRACED = 1 << 13  # label sets that are remembered from scrape to scrape; about 200 bytes each

Kind = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """One metric. `name`: as it is queried. `says`: one sentence without a full stop. `per_unit`: how many of our units
    make one of its own (ns in a second)."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    says: str
    bounds: tuple[int, ...] = ()  # of a histogram, in our units
    per_unit: int = 1

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of its samples."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


def counter(name: str, labels: tuple[str, ...], says: str) -> Family:
    """A family of counters; its name ends in `_total`."""
    return Family(name, "counter", labels, says)


def gauge(name: str, labels: tuple[str, ...], says: str) -> Family:
    """A family of gauges."""
    return Family(name, "gauge", labels, says)


def timing(name: str, labels: tuple[str, ...], bounds: tuple[int, ...], says: str) -> Family:
    """A family of histograms of durations, which we hold in ns and tell in seconds."""
    return Family(name, "histogram", labels, says, bounds, SECOND)


class Page:
    """The lines of one scrape, by family, in the order in which families are first asked for."""

    def __init__(self) -> None:
        self._lines: dict[Family, list[str]] = {}

    def lines(self, family: Family) -> list[str]:
        """The lines of a family, to be added to: `name{labels} value`. Nobody checks them."""
        return self._lines.setdefault(family, [])

    def add(self, family: Family, values: tuple[str, ...], value: float) -> None:
        """One sample of a counter or a gauge."""
        self.lines(family).append(f"{family.name}{braced(family.labels, values)} {number(value)}")

    def add_histogram(self, family: Family, values: tuple[str, ...], counts: Sequence[int], total: int) -> None:
        """All samples of one histogram: its counts by bucket, and the sum of its values."""
        lines, name = self.lines(family), family.name
        own = braced(family.labels, values)
        begin = f"{name}_bucket{own[:-1]}," if own else f"{name}_bucket{{"
        ends = [*(number(bound / family.per_unit) for bound in family.bounds), "+Inf"]
        running = list(accumulate(counts))
        lines += [f'{begin}le="{end}"}} {count}' for end, count in zip(ends, running, strict=True)]
        lines.append(f"{name}_count{own} {running[-1]}")
        lines.append(f"{name}_sum{own} {number(total / family.per_unit)}")

    def text(self, is_openmetrics: bool) -> bytes:
        """The whole page. OpenMetrics' end mark is the caller's to add, behind what else there is."""
        parts: list[str] = []
        for family, lines in self._lines.items():
            name = family.name
            if is_openmetrics and family.kind == "counter":
                name = name.removesuffix("_total")
            says = f"{family.says}.".replace("\\", "\\\\").replace("\n", "\\n")
            parts.append(f"# HELP {name} {says}\n# TYPE {name} {family.kind}\n")
            if lines:
                parts.append("\n".join(lines))
                parts.append("\n")
        return "".join(parts).encode()

    def __repr__(self) -> str:
        return f"<Page of {sum(map(len, self._lines.values()))} samples in {len(self._lines)} families>"


@lru_cache(maxsize=_MOST_BRACED)
def braced(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Labels as they stand behind a name; nothing where there are none."""
    pairs = ",".join(f'{name}="{escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def escaped(value: str) -> str:
    """A label's value within its quotes."""
    if "\\" in value or '"' in value or "\n" in value:
        value = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value


def number(value: float) -> str:
    """A value as both formats read it. Bounds of buckets have to be floats in OpenMetrics."""
    if isinstance(value, int):
        return str(value)
    if value == float("inf"):
        return "+Inf"
    return repr(value)
