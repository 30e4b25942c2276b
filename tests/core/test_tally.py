"""Counting requests: what counts as what, that labels come from the configuration, and that nothing grows."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import Step
from sidecar.core.limits import SECOND, Usage
from sidecar.core.tally import (
    DURATION,
    FIRST_CHUNK,
    OPERATIONS,
    OVERHEAD,
    TOKENS,
    WAIT,
    Ended,
    Histogram,
    Operation,
    Tally,
    operation,
)
from tests.core.house import NOW, snapshot_of
from tests.values import record as record_of

CHAT = b"/v1/chat/completions"
END = NOW + 2 * SECOND
SERVED = {"provider": "groq", "key": "a", "attempts": 1, "outcome": "ok", "model": "fast", "ours_ns": 100_000}


def tally():
    return Tally(snapshot_of())


def record(path=CHAT, method=b"POST", **fields):
    return record_of("req_1", NOW, method, path, **fields)


def requests(counted):
    return {tuple(labels): count for labels, count in counted}


def attempts(counted):
    return {tuple(labels): each.count for labels, each in counted.attempts.by_labels.items() if each.count}


def series(counted):
    """How many there are, of all kinds."""
    held = (counted.wait, counted.overhead, counted.duration, counted.first_chunk, counted.tokens)
    return len(requests(counted)) + len(counted.attempts.by_labels) + sum(len(each.by_labels) for each in held)


@pytest.mark.parametrize("at", range(-1, 2))
@pytest.mark.parametrize("bound", range(len(WAIT)))
def test_a_bound_belongs_to_the_bucket_below(bound, at):
    histogram = Histogram(WAIT)
    histogram.note(WAIT[bound] + at)
    assert histogram.counts.index(1) == bound + (at > 0)
    assert histogram.total == WAIT[bound] + at


VALUES = st.one_of(
    st.integers(-5, 100), st.integers(0, 2**70), st.integers(0, 70).map(lambda bits: 1 << bits),
    st.sampled_from([bound + by for bound in (*DURATION, *TOKENS) for by in (-1, 0, 1)]),
)  # fmt: skip


@given(st.sampled_from([DURATION, FIRST_CHUNK, TOKENS, WAIT, OVERHEAD, (7,)]), VALUES)
def test_every_value_is_in_the_bucket_that_its_bounds_name(bounds, value):
    histogram = Histogram(bounds)
    histogram.note(value)
    assert histogram.counts.index(1) == bisect_left(bounds, value)
    assert (sum(histogram.counts), histogram.total) == (1, value)


def test_I5_an_ordinary_stream_is_in_every_histogram():
    counted = tally()
    counted.note(
        record(**SERVED, wait_ns=SECOND, is_streamed=True, content_ns=NOW + SECOND * 3 // 2, usage=Usage(7, 30, 5)), END
    )
    asked = Operation("chat", "groq", "fast")
    assert requests(counted) == {("fast", "groq", "a", "ok"): 1}
    assert attempts(counted) == {("groq", "a", "ok"): 1}
    assert counted.wait.by_labels["fast",].total == SECOND
    assert counted.overhead.by_labels["fast",].total == 100_000
    assert counted.duration.by_labels[Ended(asked, "")].total == 2 * SECOND
    assert counted.first_chunk.by_labels[asked].total == SECOND * 3 // 2
    assert [counted.tokens.by_labels[asked, kind].total for kind in ("input", "output")] == [7, 30]
    assert repr(counted) == "<Tally of 1 requests in 1 series>"
    assert repr(counted.wait.by_labels["fast",]) == "<Histogram 1 values, 1000000000 in all>"
    assert repr(counted.requests.by_labels["fast", "groq", "a", "ok"]) == "<Counter 1>"


def test_E2_overhead_of_a_whole_answer_counts_its_delivery_too():
    counted = tally()
    counted.note(record(**SERVED, content_ns=END - 50_000, usage=Usage(1, 1)), END)
    counted.note(record(**SERVED, content_ns=END - SECOND), END)  # passed on piece by piece
    assert counted.overhead.by_labels["fast",].total == 150_000 + 100_000
    assert not any(counted.first_chunk.by_labels[Operation("chat", "groq", "fast")].counts), "only of streams"


def test_I2_unknown_usage_is_no_zero():
    counted = tally()
    counted.note(record(**SERVED), END)
    assert not any(any(each.counts) for each in counted.tokens.by_labels.values())


def test_I5_each_attempt_counts_by_what_became_of_it():
    counted = tally()
    trail = (Step("groq/m", "b", "rate_limited", 429), Step("groq/a/b", "a", "busy", 503))
    counted.note(record(**SERVED | {"attempts": 3, "trail": trail}), END)
    counted.note(record(**SERVED | {"attempts": 2, "trail": trail, "outcome": "upstream_failed"}), END)
    assert attempts(counted) == {("groq", "b", "rate_limited"): 2, ("groq", "a", "busy"): 2, ("groq", "a", "ok"): 1}


def test_I4_a_caller_that_leaves_is_no_failure_of_a_provider():
    counted = tally()
    for _ in range(1000):
        counted.note(record(**SERVED | {"outcome": "client_gone"}), END)
    counted.note(record(**SERVED | {"outcome": "client_gone", "attempts": 2}), END)  # two were asked at once
    assert attempts(counted) == {("groq", "a", "client_gone"): 1002}


def test_what_nobody_was_asked_for_is_no_operation():
    counted = tally()
    counted.note(record(outcome="rate_limit_exceeded", model="fast", wait_ns=20 * SECOND), END)
    counted.note(record(b"/nowhere", outcome="unknown_path"), END)
    assert requests(counted) == {("fast", "", "", "rate_limit_exceeded"): 1, ("none", "", "", "unknown_path"): 1}
    assert attempts(counted) == {}
    assert counted.wait.by_labels["fast",].total == 20 * SECOND, "a wait in vain is a wait"
    assert not counted.duration.by_labels
    assert not counted.overhead.by_labels


@pytest.mark.parametrize(
    ("model", "route"),
    [
        (None, "none"),
        ("", "none"),
        ("fast", "fast"),
        ("openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("groq/openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
        ("groq/made-up", "other"),
        ("groq/", "other"),
        ("nobody/openai/gpt-oss-120b", "other"),
        ("made-up", "other"),
        ("other", "other"),
    ],
)
def test_I1_routes_are_names_of_the_configuration_or_the_catalog(model, route):
    assert tally().route(model) == route


def test_I1_of_whatever_callers_make_up_there_is_one_series():
    counted = tally()
    counted.note(record(**SERVED), END)
    counted.note(record(b"/x", **SERVED | {"model": "made-up"}), END)
    before = series(counted)
    for number in range(100_000):
        made_up = record(b"/v1/%d" % number, **SERVED | {"model": f"m{number}"}, caller=f"user-{number}")
        counted.note(made_up, END)
    assert series(counted) == before
    assert requests(counted)["other", "groq", "a", "ok"] == 100_001
    assert len(counted._found) <= 4096


@given(st.binary(max_size=60), st.sampled_from([b"GET", b"POST", b"X"]))
def test_I1_operations_are_a_closed_set(target, method):
    assert operation(method, target) in OPERATIONS


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (CHAT, "chat"),
        (CHAT + b"?x=1", "chat"),
        (b"/openai/v1/responses", "chat"),
        (b"/v1/completions", "text_completion"),
        (b"/v1/embeddings", "embeddings"),
        (b"/v1/audio/speech", "speech"),
        (b"/v1/audio/translations", "transcription"),
        (b"/v1/files", "other"),
        (b"/p/anthropic/v1/messages", "chat"),
        (b"/p/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "generate_content"),
        (b"/p/gemini/v1beta/models/x:countTokens", "other"),
        (b"/../x", "other"),
    ],
)
def test_what_is_asked_for_in_the_words_of_opentelemetry(target, expected):
    assert operation(b"POST", target) == expected


def test_the_same_path_with_another_method_is_another_operation():
    counted = tally()
    counted.note(record(method=b"GET", **SERVED), END)
    counted.note(record(**SERVED), END)
    assert {ended.operation.name for ended in counted.duration.by_labels} == {"other", "chat"}


def test_a_reload_forgets_what_is_configured_no_more():
    counted = tally()
    trail = (Step("cerebras/m", "c", "busy", 503),)
    counted.note(record(**SERVED | {"attempts": 2, "trail": trail}), END)
    counted.note(record(outcome="unknown_path"), END)
    counted.reload(snapshot_of("providers:\n  - name: groq\n    keys: [{name: z, env: A}]\n"))
    assert requests(counted) == {("none", "", "", "unknown_path"): 1}
    assert attempts(counted) == {}
    counted.note(record(**SERVED | {"key": "z"}), END)
    assert requests(counted)["other", "groq", "z", "ok"] == 1, "`fast` is no name any more"


def test_buckets_are_those_of_the_convention():
    assert [bound / SECOND for bound in DURATION] == [0.01 * 2**power for power in range(14)]
