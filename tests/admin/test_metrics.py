"""`/metrics` on the wire: formats, packing, what is loaded when, and that a scrape takes turns with others."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from sidecar.admin.metrics import Metrics
from sidecar.core.exposition import gauge
from sidecar.core.metrics import Part
from sidecar.core.metrics_table import PARTS
from sidecar.core.tally import Tally
from tests.core.house import live_of, roster_of

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS = (  # what Prometheus 2.42 sends
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
BIG = gauge("x_big", ("n",), "Many lines")


def of(*more):
    roster = roster_of()
    state = live_of(roster, Tally(roster.snapshot))
    return Metrics(lambda: state, (*PARTS, *more))


async def test_who_says_nothing_gets_text():
    scraped = await of().scrape("", "")
    assert (scraped.content_type, scraped.encoding) == (PLAIN, None)
    names = {family.name for family in parse(scraped.body.decode())}
    assert {"sidecar_keys", "sidecar_ready", "process_resident_memory_bytes", "process_cpu_seconds"} <= names


async def test_prometheus_gets_openmetrics_with_its_end():
    scraped = await of().scrape(PROMETHEUS, "gzip")
    assert scraped.content_type.startswith("application/openmetrics-text; version=1.0.0")
    text = gzip.decompress(scraped.body).decode()
    assert text.endswith("# EOF\n")
    assert text.count("# EOF") == 1
    assert {"sidecar_keys", "sidecar_tokens", "process_cpu_seconds"} <= {each.name for each in parse_openmetrics(text)}


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("GZIP", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
    ],
)
async def test_gzip_is_for_who_takes_it(accepted, is_packed):
    scraped = await of().scrape("", accepted)
    assert scraped.encoding == ("gzip" if is_packed else None)
    assert scraped.body.startswith(b"\x1f\x8b" if is_packed else b"# HELP")


async def test_a_large_page_is_the_same_page():
    def fill(now, page):
        for number in range(5000):
            page.add(BIG, (str(number),), number)
        return ()

    metrics = of(Part("Big", (BIG,), fill))
    plain = (await metrics.scrape("", "")).body
    packed = gzip.decompress((await metrics.scrape("", "gzip")).body)
    assert len(plain) > 64 * 1024
    assert [line for line in plain.splitlines() if line.startswith(b"x_big")] == [
        line for line in packed.splitlines() if line.startswith(b"x_big")
    ]


async def test_I1_others_have_their_turns_during_a_scrape():
    turns = seen = 0

    def fill(now, page):
        nonlocal seen
        began = turns
        for _ in range(100):
            yield
        seen = turns - began

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    metrics = of(Part("Slow", (BIG,), fill))
    task = asyncio.ensure_future(other())
    async with asyncio.timeout(5):
        await metrics.scrape("", "")
    task.cancel()
    assert seen >= 100


PROGRAM = """
import sys
import sidecar.serving
loaded = sorted(name for name in sys.modules if name.startswith("prometheus_client"))
assert not loaded, loaded
"""


def test_E3_a_process_that_nobody_scrapes_does_not_load_it():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
