"""What the process did lately: bounded, counted as it comes, told when asked."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.activity import REQUESTS, SECONDS, Activity
from sidecar.core.errors import Step
from sidecar.core.limits import SECOND, Usage
from tests.core.house import NOW
from tests.values import record as record_of


def record(number=1, outcome="ok", status=200, **fields):
    return record_of(f"req_{number}", NOW, b"POST", b"/v1/chat/completions?x", outcome=outcome, status=status, **fields)


def test_the_last_hundred_requests_in_order_with_their_attempts():
    activity = Activity()
    for number in range(1, REQUESTS + 6):
        activity.note(record(number), NOW + SECOND)
    told = activity.since(0)
    assert [each.number for each in told] == list(range(6, REQUESTS + 6))
    assert [each.id for each in told][:2] == ["req_6", "req_7"]
    assert [each.number for each in activity.since(REQUESTS + 3)] == [REQUESTS + 4, REQUESTS + 5]
    assert activity.since(activity.finished) == []
    assert repr(activity) == "<Activity 105 finished, 100 remembered>"


def test_I5_a_request_with_its_trail():
    step = Step("groq/m", "a", "rate_limited", 429)
    activity = Activity()
    activity.note(
        record(
            model="fast", provider="cerebras", target_model="m", key="c", attempts=2, wait_ns=SECOND // 2,
            usage=Usage(7, 5), is_streamed=True, trail=(step,),
        ),
        NOW + 3 * SECOND // 2,
    )  # fmt: skip
    (told,) = activity.since(0)
    assert (told.path, told.took_ms, told.wait_ms) == ("/v1/chat/completions", 1500.0, 500.0)
    assert (told.tokens_in, told.tokens_out, told.stream, told.trail) == (7, 5, True, (step,))
    last = activity.last_error("a", "groq/m")
    assert last is not None
    assert (last.reason, last.status, last.at_ns) == ("rate_limited", 429, NOW + 3 * SECOND // 2)
    assert activity.last_error("c", "cerebras/m") is None


def test_E1_names_of_callers_are_cut_and_keys_in_error_are_bounded():
    activity = Activity()
    long = "m" * 1_000_000
    step = Step(f"groq/{long}", "a", "busy")
    activity.note(record(model=long, target_model=long, trail=(step,)), NOW)
    activity.note(record(model=long, outcome="invalid_json", status=400), NOW)
    first, second = activity.since(0)
    assert len(first.model or "") == len(first.target or "") == 128
    assert len(first.trail[0].target) == 256
    assert second.target is None
    for number in range(3000):
        activity.note(record(trail=(Step(f"groq/{number}", "a", "busy"),)), NOW)
    assert activity.last_error("a", "groq/0") is None
    assert activity.last_error("a", "groq/2999") is not None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.integers(0, 5000)), max_size=60))
def test_the_curves_are_what_happened_in_each_second(events):
    events.sort()
    activity = Activity()
    for after, is_error, wait_ms in events:
        outcome = "busy" if is_error else "ok"
        activity.note(record(outcome=outcome, wait_ns=wait_ms * 1_000_000), NOW + after * SECOND)
    present = events[-1][0] if events else 0
    curves = activity.curves(NOW + present * SECOND)
    assert len(curves.requests) == len(curves.errors) == len(curves.wait_ms) == SECONDS
    for at, second in enumerate(range(present - SECONDS, present)):
        these = [event for event in events if event[0] == second]
        assert curves.requests[at] == len(these)
        assert curves.errors[at] == sum(is_error for _, is_error, _ in these)
        assert curves.wait_ms[at] == (sum(wait for _, _, wait in these) // len(these) if these else 0)


def test_I4_a_caller_that_left_is_no_error():
    activity = Activity()
    activity.note(record(outcome="client_gone", status=499), NOW)
    assert sum(activity.curves(NOW + SECOND).errors) == 0
    assert sum(activity.curves(NOW + SECOND).requests) == 1
