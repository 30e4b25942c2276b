"""What it costs to be observed: counting one request, and one scrape of a thousand keys with four windows each.

Process CPU time; the best of five. "In one piece" is the longest that a request may have to wait behind a scrape.
Beside it prometheus_client writing the same samples. Run from the root: `python -m bench.metrics`. Fails where counting
takes more than 2 us, or a scrape more than 20 ms.
"""

from __future__ import annotations

import sys
import time
import timeit
from collections.abc import Callable
from itertools import pairwise

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.core.exposition import Page
from sidecar.core.limits import SECOND, Cost, Usage
from sidecar.core.metrics import Live, fill
from sidecar.core.metrics_table import PARTS
from sidecar.core.record import Record
from sidecar.core.roster import Roster
from sidecar.core.tally import Tally
from tests.core.house import NOW, live_of, roster_of

_KEYS = 1000
_LIMITS = "rpm: 1000, tpm: 1000000, rpd: 100000, tpd: 100000000"
_COUNT_MOST_US = 2.0
_SCRAPE_MOST_MS = 20.0


def house() -> Roster:
    """A thousand keys, each an account of its own with four windows, each of which has served a request."""
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(_KEYS))
    chain = "models: [{name: fast, chain: [groq/openai/gpt-oss-120b]}]"
    roster = roster_of(f"providers:\n  - name: groq\n    keys:\n{keys}\n    limits: [{{{_LIMITS}}}]\n{chain}\n")
    for candidate in roster.keys(roster.snapshot.chains["fast"][0], NOW).candidates:
        charge = candidate.quota.try_admit(Cost(100, 0), NOW)
        assert charge is not None
        candidate.quota.settle(charge, Usage(90, 10), NOW)
    return roster


def record(key: int) -> Record:
    """An ordinary streamed request, as it is at its end."""
    made = Record("req_1", NOW, b"POST", b"/v1/chat/completions")
    made.model, made.is_streamed, made.attempts = "fast", True, 1
    made.provider, made.target_model, made.key = "groq", "openai/gpt-oss-120b", f"k{key}"
    made.status, made.outcome, made.ours_ns = 200, "ok", 150_000
    made.content_ns, made.usage = NOW + SECOND // 3, Usage(90, 10)
    return made


class Parsed:
    """The same samples, for prometheus_client to write."""

    def __init__(self, text: str) -> None:
        self._families = list(text_string_to_metric_families(text))

    def collect(self) -> list[Metric]:
        """As a collector does."""
        return self._families


def scraped(state: Live) -> bytes:
    """One scrape."""
    page = Page()
    for _ in fill(PARTS, state, page):
        pass
    return page.text(False)


def longest_piece(state: Live) -> float:
    """The longest step of a scrape, or the making of its text, in seconds; of ten scrapes the shortest such."""
    found = []
    for _ in range(10):
        page, times = Page(), [time.perf_counter()]
        for _ in fill(PARTS, state, page):
            times.append(time.perf_counter())
        page.text(False)
        times.append(time.perf_counter())
        found.append(max(after - before for before, after in pairwise(times)))
    return min(found)


def seconds(what: Callable[[], object], number: int) -> float:
    """CPU time of one call."""
    return min(timeit.repeat(what, number=number, repeat=5, timer=time.process_time)) / number


def main() -> int:
    """Print the table; 1 where a target is missed."""
    roster = house()
    tally = Tally(roster.snapshot)
    records = [record(n) for n in range(_KEYS)]
    for each in records:
        tally.note(each, NOW + SECOND)
    one = records[0]
    note_us = seconds(lambda: tally.note(one, NOW + SECOND), 20_000) * 1e6
    state = live_of(roster, tally)
    text = scraped(state)
    scrape_ms = seconds(lambda: scraped(state), 5) * 1e3
    registry = CollectorRegistry()
    registry.register(Parsed(text.decode()))
    client_ms = seconds(lambda: generate_latest(registry), 1) * 1e3
    rows = [
        ("counting one request", f"{note_us:.2f} us"),
        ("samples of a scrape", str(sum(not line.startswith(b"#") for line in text.splitlines()))),
        ("bytes of a scrape", str(len(text))),
        ("one scrape", f"{scrape_ms:.1f} ms"),
        ("in one piece", f"{longest_piece(state) * 1e3:.1f} ms"),
        ("prometheus_client, writing alone", f"{client_ms:.1f} ms"),
    ]
    sys.stdout.write("".join(f"{name:34} {value:>12}\n" for name, value in rows))
    return 1 if note_us > _COUNT_MOST_US or scrape_ms > _SCRAPE_MOST_MS else 0


if __name__ == "__main__":
    sys.exit(main())
