"""docs/metrics.md, written from the families themselves: what is told is what is documented, and a test holds it so.

Decides words and layout only. Refuses to know files: `page` returns the text.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.core.errors import Reason
from sidecar.core.exposition import Family, number
from sidecar.core.faults import FAULTS, OF_OUTCOME, OF_REASON
from sidecar.core.metrics import Part
from sidecar.core.metrics_table import PARTS
from sidecar.core.outcomes import Outcome
from sidecar.core.tally import OPERATIONS

_BEGIN = """\
# Metrics

Written by `sidecar/core/metrics_doc.py` from the families themselves; a test keeps this page equal to them.

`GET /metrics` on the admin port (`127.0.0.1:8788`), in Prometheus' text format or OpenMetrics, whichever the scraper
accepts, packed with gzip for who takes it. It needs no token, also off loopback, and asks no provider. Counting costs
a request about 1.4 µs; a scrape is made in steps of less than a millisecond, between which requests go on. With a
thousand keys of four windows each (17,000 samples) it takes 15 ms of CPU altogether (`bench/metrics.py`).

A dashboard for Grafana is in [`conf/grafana.json`](../conf/grafana.json), alerts in
[`conf/alerts.yaml`](../conf/alerts.yaml); what to do when one fires is in [operations.md](operations.md).

## Labels

Values come from the configuration, from the catalog, and from closed sets, never from a caller: whatever a caller makes
up counts as `other`, so the number of series is bounded by the configuration. The
route of a request that names no model is `none`.

| Label | Values |
|---|---|
| `route`, `gen_ai_request_model` | the model as the caller names it, where configuration or catalog do; else `other` |
| `provider`, `key`, `account` | names of the configuration; `gen_ai_provider_name` is a provider |
| `model` | the provider's own id, where configuration or catalog name it; `pool:NAME` of a pool; else `other` |
"""

_PROCESS = """
## The process itself

`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`, `process_max_fds`,
`process_start_time_seconds` and `process_virtual_memory_bytes` are prometheus_client's own.
"""


def page() -> str:
    """The whole page."""
    return "".join([_BEGIN, *_labels(), *_outcomes(), *(each for part in PARTS for each in _part(part)), _PROCESS])


def _labels() -> Iterable[str]:
    yield f"| `fault` | {_listed(FAULTS)}: whose fault an outcome is |\n"
    yield f"| `gen_ai_operation_name` | {_listed(OPERATIONS)} |\n"
    yield "| `counts`, `window` | what a window counts (`requests`, `tokens`, …) and its length (`1m`, `1h`, `1d`) |\n"


def _outcomes() -> Iterable[str]:
    yield "\n## Outcomes\n\n`outcome` of a request, `reason` of an attempt, `error_type` of an operation; by fault.\n\n"
    yield "| Fault | An attempt, or a request that ended with it | A request that was refused here |\n|---|---|---|\n"
    for fault in FAULTS:
        attempts = [outcome.value for outcome in Outcome if OF_OUTCOME[outcome] == fault]
        refusals = [reason.value for reason in Reason if OF_REASON[reason] == fault]
        yield f"| `{fault}` | {_listed(attempts)} | {_listed(refusals)} |\n"


def _part(part: Part) -> Iterable[str]:
    yield f"\n## {part.title}\n\n| Name | Kind | Labels | |\n|---|---|---|---|\n"
    for family in part.families:
        yield f"| `{family.name}` | {family.kind} | {_listed(family.labels)} | {_meaning(family)} |\n"


def _meaning(family: Family) -> str:
    if not family.bounds:
        return f"{family.says}."
    bounds = ", ".join(number(bound / family.per_unit) for bound in family.bounds)
    return f"{family.says}. Buckets: {bounds}."


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
