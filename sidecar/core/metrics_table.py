"""Every part of a scrape, in the order in which it is told and documented. A new part is added here."""

from __future__ import annotations

from sidecar.core import metrics_live, metrics_shared, metrics_traffic
from sidecar.core.exposition import Family
from sidecar.core.metrics import Part

PARTS: tuple[Part, ...] = (*metrics_traffic.PARTS, *metrics_live.PARTS, *metrics_shared.PARTS)


def families() -> dict[str, Family]:
    """Every family by its name."""
    return {family.name: family for part in PARTS for family in part.families}
