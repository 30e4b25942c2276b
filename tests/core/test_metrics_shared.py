"""The cache and sharing as families: what each says, and that no caller can add a series."""

from __future__ import annotations

import pytest

from sidecar.core.cache_counts import OTHERS, CacheStatus, ModelCounts
from sidecar.core.metrics_shared import PARTS
from sidecar.core.sharing import REASONS, Counters, Sharing
from tests.core.house import NOW, roster_of
from tests.core.test_metrics_live import told

NAMES = {family.name for part in PARTS for family in part.families}
EVERY = ModelCounts(
    hits=1, misses=2, bypasses=3, coalesced=4, evictions=5, expired=6, saved_input_tokens=7, saved_output_tokens=8
)


@pytest.fixture
def roster():
    return roster_of()


def shown(roster, **fields):
    return {name: samples for name, samples in told(roster, **fields).items() if name in NAMES}


def test_nothing_is_told_of_what_there_is_not(roster):
    assert shown(roster) == shown(roster, cache=CacheStatus(False, models={"fast": EVERY})) == {}


def test_J5_what_the_cache_does(roster):
    status = CacheStatus(True, 3, 1000, 200, 4000, {"fast": EVERY, "": ModelCounts(bypasses=9)})
    assert shown(roster, cache=status) == {
        "sidecar_cache_requests_total": {
            ("fast", "hit"): 1, ("fast", "coalesced"): 4, ("fast", "miss"): 2, ("fast", "bypass"): 3,
            ("none", "hit"): 0, ("none", "coalesced"): 0, ("none", "miss"): 0, ("none", "bypass"): 9,
        },
        "sidecar_cache_saved_tokens_total": {("input",): 7, ("output",): 8},
        "sidecar_cache_dropped_total": {("evicted",): 5, ("expired",): 6},
        "sidecar_cache_entries": {(): 3},
        "sidecar_cache_bytes": {("kept",): 1000, ("reserved",): 200},
        "sidecar_cache_bytes_limit": {(): 4000},
    }  # fmt: skip


def test_I1_models_that_callers_make_up_count_together(roster):
    models = {f"made-up-{number}": EVERY for number in range(1000)} | {OTHERS: EVERY, "fast": EVERY}
    found = shown(roster, cache=CacheStatus(True, models=models))["sidecar_cache_requests_total"]
    assert {route for route, _ in found} == {"fast", "other"}
    assert found["other", "bypass"] == 1001 * 3
    assert found["fast", "bypass"] == 3


def test_F1_how_limits_are_shared(roster):
    sharing = Sharing(3, "redis://h", lambda lease: None)
    sharing.counters = Counters(calls=10, failures={"timeout": 2}, outages=1, ledgers_lost=4)
    found = shown(roster, share=sharing.status())
    assert found["sidecar_share_mode"] == {("shared",): 1, ("static",): 0, ("divided",): 0}
    assert found["sidecar_share_replicas"] == {(): 3}
    assert found["sidecar_share_calls_total"] == {(): 10}
    assert found["sidecar_share_failures_total"] == {(reason,): 2 * (reason == "timeout") for reason in REASONS}
    assert found["sidecar_share_outages_total"] == {(): 1}
    assert found["sidecar_share_ledgers_lost_total"] == {(): 4}
    sharing.fail("connection", "away", NOW)
    assert shown(roster, share=sharing.status())["sidecar_share_mode"]["static",] == 1


def test_without_a_store_there_are_no_calls(roster):
    status = Sharing(2, "", lambda lease: None).status()
    status.mode, status.counters = "divided", None
    assert shown(roster, share=status) == {
        "sidecar_share_mode": {("shared",): 0, ("static",): 0, ("divided",): 1},
        "sidecar_share_replicas": {(): 2},
    }
