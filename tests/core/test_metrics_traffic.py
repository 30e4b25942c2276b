"""What was counted, as families: each count under its labels, with whose fault it was."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse

from sidecar.core.errors import Step
from sidecar.core.exposition import Page
from sidecar.core.limits import SECOND, Usage
from sidecar.core.metrics import fill
from sidecar.core.metrics_traffic import PARTS
from sidecar.core.tally import Tally
from tests.core.house import NOW, live_of, roster_of
from tests.values import record as record_of

KEYS = 400


def told(tally, roster):
    page = Page()
    steps = sum(1 for _ in fill(PARTS, live_of(roster, tally), page))
    samples = [sample for family in parse(page.text(False).decode()) for sample in family.samples]
    return {(each.name, *each.labels.values()): each.value for each in samples}, steps


def test_I5_every_count_is_told_once_under_its_labels():
    roster = roster_of()
    tally = Tally(roster.snapshot)
    busy = (Step("cerebras/m", "c", "busy", 503),)
    record = record_of(
        "r", NOW, b"POST", b"/v1/chat/completions", model="fast", provider="groq", key="a", attempts=2, trail=busy,
        outcome="ok", ours_ns=2_000_000, wait_ns=3 * SECOND, is_streamed=True, content_ns=NOW + 4 * SECOND,
        usage=Usage(7, 30),
    )  # fmt: skip
    tally.note(record, NOW + 5 * SECOND)
    samples, _ = told(tally, roster)
    assert samples["sidecar_requests_total", "fast", "groq", "a", "ok", "none"] == 1
    assert samples["sidecar_attempts_total", "groq", "a", "ok", "none"] == 1
    assert samples["sidecar_attempts_total", "cerebras", "c", "busy", "provider"] == 1
    assert samples["sidecar_wait_seconds_sum", "fast"] == 3
    assert [samples["sidecar_wait_seconds_bucket", "fast", end] for end in ("2.0", "5.0", "+Inf")] == [0, 1, 1]
    assert samples["sidecar_overhead_seconds_sum", "fast"] == 0.002
    assert samples["sidecar_overhead_seconds_bucket", "fast", "0.002"] == 1
    operation = ("chat", "groq", "fast")
    assert samples["gen_ai_client_operation_duration_seconds_sum", *operation, ""] == 5
    assert samples["gen_ai_client_operation_time_to_first_chunk_seconds_sum", *operation] == 4
    assert samples["gen_ai_client_token_usage_sum", *operation, "input"] == 7
    assert samples["gen_ai_client_token_usage_bucket", *operation, "output", "64.0"] == 1
    assert samples["gen_ai_client_token_usage_bucket", *operation, "output", "16.0"] == 0


def test_many_series_are_told_in_steps():
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(KEYS))
    roster = roster_of(f"providers:\n  - name: groq\n    keys:\n{keys}\n")
    tally = Tally(roster.snapshot)
    for number in range(KEYS):
        tally.note(record_of("r", NOW, b"GET", b"/", provider="groq", key=f"k{number}", attempts=1, outcome="ok"), NOW)
    samples, steps = told(tally, roster)
    assert sum(name[0] == "sidecar_requests_total" for name in samples) == KEYS
    assert steps >= len(PARTS) + 2
