"""`/metrics` of a running sidecar, read as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse

from tests.rig import Rig


class Scrape:
    """Every sample of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in parse(text) for sample in family.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def of(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """The samples of that name that have those labels, each with all its labels."""
        return [
            (sample.labels, sample.value)
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of those samples; 0 where there are none."""
        return sum(value for _, value in self.of(name, **labels))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The same, by the values of one label."""
        found: dict[str, float] = {}
        for own, value in self.of(name, **labels):
            found[own[label]] = found.get(own[label], 0) + value
        return found


async def scrape(rig: Rig, **headers: str) -> Scrape:
    """One scrape."""
    named = {"accept-encoding": "identity"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with rig.client.get(f"{rig.admin}/metrics", headers=named) as answer:
        assert answer.status == 200
        return Scrape((await answer.read()).decode())
