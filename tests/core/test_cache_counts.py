"""Counts by model, bounded."""

from __future__ import annotations

from sidecar.core.cache_counts import OTHERS, CacheCounts


def test_each_model_has_its_own():
    counts = CacheCounts()
    counts.of("a").hits += 1
    counts.of("a").save(3, 4)
    counts.of(None).misses += 1
    assert counts.of("a").hits == 1
    assert (counts.of("a").saved_requests, counts.of("a").saved_input_tokens, counts.of("a").saved_output_tokens) == (
        1,
        3,
        4,
    )
    assert counts.models[""].misses == 1


def test_a_caller_that_invents_models_is_counted_in_one_place():
    counts = CacheCounts()
    for n in range(1500):
        counts.of(f"m{n}").hits += 1
    assert len(counts.models) == 1001
    assert counts.models[OTHERS].hits == 500
