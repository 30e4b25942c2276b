"""What of a quota is kept and taken up again: whole by the same configuration and clock, strictly by others."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.budget import FOREVER_NS, HEARD_FOR_NS
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source, Usage
from sidecar.core.quota import Gate, LimitSpec, Quota, QuotaSpec
from sidecar.core.quota_state import BudgetState, Moment, QuotaState, capture, restore
from sidecar.core.windows import ALGORITHMS, Calendar

NOW = 1_764_000_000 * SECOND
ONE = Cost(1, 0)

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def spec_of(algorithm="token_bucket", requests=60, tokens=1000, **rest):
    calendar = Calendar(DAY, (NOW + 3 * HOUR, NOW + 27 * HOUR))
    transit_ns = rest.pop("transit_ns", 0)
    limits = (
        LimitSpec(Axis.REQUESTS, MINUTE, requests, Source.CONFIG, algorithm, calendar, transit_ns),
        LimitSpec(Axis.TOKENS, MINUTE, tokens, Source.CONFIG, algorithm, calendar, transit_ns),
        LimitSpec(Axis.REQUESTS, DAY, 10 * requests, Source.CONFIG, algorithm, calendar, transit_ns),
    )
    return QuotaSpec("m", limits)._replace(calendar=calendar, transit_ns=transit_ns, **rest)


def quota_of(spec):
    return Quota("groq/a", spec)


def taken_up(state, spec, now=NOW, saved_ns=None):
    fresh = quota_of(spec)
    if state is not None:
        restore(fresh, state, Moment(now, now if saved_ns is None else saved_ns))
    return fresh


def views(quota, now=NOW):
    return [(view.axis, view.window_ns, view.limit, view.remaining) for view in quota.views(now)]


def through_json(state):
    return msgspec.json.decode(msgspec.json.encode(state), type=QuotaState)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([1, SECOND, 7 * SECOND, MINUTE, HOUR])),
        st.tuples(st.just("admit"), st.integers(0, 400)),
        st.tuples(st.just("end"), st.integers(0, 500)),
        st.tuples(st.just("cancel"), st.just(0)),
        st.tuples(st.just("limit"), st.integers(1, 90)),
        st.tuples(st.just("remaining"), st.integers(0, 60)),
        st.tuples(st.just("cap"), st.integers(1, 5)),
        st.tuples(st.just("cool"), st.integers(0, 90)),
    ),
    max_size=30,
)


def heard(what, value):
    """What a provider says in one of the moves."""
    return {
        "limit": [
            Reading(Axis.TOKENS, HOUR, 100 * value, None, None, Source.BODY),
            Reading(Axis.REQUESTS, MINUTE, value, None, None, Source.HEADER),
        ],
        "remaining": [Reading(Axis.REQUESTS, MINUTE, None, value, 5 * SECOND, Source.HEADER)],
        "cap": [Reading(Axis.CONCURRENCY, None, value, None, None, Source.HEADER)],
    }.get(what, [])


def live(quota, played):
    """Let a quota live through it; when it is then."""
    now, under_way = NOW, []
    for what, value in played:
        quota.learn(heard(what, value), now)
        if what == "pass":
            now += value
        elif what == "admit":
            charge = quota.try_admit(Cost(value, 0), now)
            under_way += [charge] if charge else []
        elif what == "end" and under_way:
            quota.settle(under_way.pop(0), Usage(value, 0), now)
        elif what == "cancel" and under_way:
            quota.cancel(under_way.pop(), now)
        elif what == "cool":
            quota.cool(now + value * SECOND)
    for charge in under_way:
        quota.settle(charge, None, now)
    return now


@each_algorithm
@settings(max_examples=60, deadline=None)
@given(moves, st.sampled_from([0, SECOND // 2]))
def test_A21_captured_restored_captured_is_the_same(algorithm, played, transit_ns):
    spec = spec_of(algorithm, transit_ns=transit_ns)
    quota = quota_of(spec)
    now = live(quota, played)
    state = capture(quota, "m", now)
    again = taken_up(state and through_json(state), spec, now)
    assert capture(again, "m", now) == state
    assert views(again, now) == views(quota, now)
    assert again.concurrency == quota.concurrency
    assert again.cooldown_until == (0 if quota.gate is Gate.OPEN else quota.cooldown_until)


@each_algorithm
@settings(max_examples=60, deadline=None)
@given(moves, st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(0, 400)), max_size=20))
def test_A21_a_restored_quota_admits_no_more_than_the_one_that_was_kept(algorithm, played, later):
    spec = spec_of(algorithm, transit_ns=SECOND // 2)
    quota = quota_of(spec)
    now = live(quota, played)
    again = taken_up(capture(quota, "m", now), spec, now)
    for gap, tokens in later:
        now += gap
        cost = Cost(tokens, 0)
        charge = again.try_admit(cost, now)
        if charge is not None:
            original = quota.try_admit(cost, now)
            assert original is not None
            for each, of_quota in ((charge, again), (original, quota)):
                of_quota.passed(each)
                of_quota.settle(each, None, now)


def test_nothing_is_kept_of_a_quota_that_is_as_good_as_new():
    quota = quota_of(spec_of())
    assert capture(quota, "m", NOW) is None
    charge = quota.try_admit(ONE, NOW)
    assert capture(quota, "m", NOW) is not None
    quota.settle(charge, None, NOW)
    assert capture(quota, "m", NOW + DAY) is None


def test_what_is_older_than_its_window_is_over():
    quota = quota_of(spec_of("fixed"))
    for _ in range(60):
        quota.try_admit(ONE, NOW)
    state = capture(quota, "m", NOW)
    later = taken_up(state, spec_of("fixed"), NOW + MINUTE, saved_ns=NOW)
    assert views(later, NOW + MINUTE) == [(0, MINUTE, 60, 60), (1, MINUTE, 1000, 1000), (0, DAY, 600, 540)]
    much_later = taken_up(state, spec_of("fixed"), NOW + 2 * DAY, saved_ns=NOW)
    assert capture(much_later, "m", NOW + 2 * DAY) is None


@pytest.mark.parametrize("after", ["fixed", "sliding"])
@pytest.mark.parametrize("saved_ns", [NOW - 1, NOW, NOW + 1])
def test_what_the_provider_may_count_in_its_next_window_is_kept(saved_ns, after):
    quota = quota_of(spec_of("fixed", transit_ns=SECOND // 2))
    for _ in range(20):
        quota.try_admit(ONE, NOW - 2 * SECOND)
    for _ in range(7):
        quota.try_admit(ONE, NOW - SECOND // 4)
    again = taken_up(capture(quota, "m", saved_ns), spec_of(after, transit_ns=SECOND // 2), NOW + 2, saved_ns)
    assert again.try_admit(Cost(0, 0), NOW + 2) is not None
    assert views(again, NOW + 2)[0] == (Axis.REQUESTS, MINUTE, 60, 60 - 7 - 1)


def test_a_cap_that_was_heard_too_long_ago_is_not_kept():
    quota = quota_of(spec_of())
    quota.learn([Reading(Axis.CONCURRENCY, None, 3, None, None, Source.HEADER)], NOW)
    assert capture(quota, "m", NOW + HEARD_FOR_NS - 1) is not None
    assert capture(quota, "m", NOW + HEARD_FOR_NS) is None


def test_what_is_in_flight_stays_spent_and_leaves_its_place():
    quota = quota_of(spec_of(concurrency=1))
    quota.try_admit(Cost(300, 0), NOW)
    again = taken_up(capture(quota, "m", NOW), spec_of(concurrency=1))
    assert views(again)[1] == (Axis.TOKENS, MINUTE, 1000, 700)
    assert again.inflight == 0
    assert again.try_admit(ONE, NOW) is not None


@pytest.mark.parametrize("is_probing", [False, True])
def test_A21_a_cooldown_is_kept_and_ends_with_one_probe(is_probing):
    quota = quota_of(spec_of())
    quota.cool(NOW + MINUTE)
    saved_ns = NOW
    if is_probing:
        saved_ns = NOW + MINUTE
        quota.try_admit(ONE, saved_ns)
        assert quota.gate is Gate.PROBING
    again = taken_up(capture(quota, "m", saved_ns), spec_of(), saved_ns)
    assert again.free_at(ONE, NOW + SECOND) == NOW + MINUTE
    assert again.try_admit(ONE, NOW + MINUTE - 1) is None
    assert again.try_admit(ONE, NOW + MINUTE) is not None
    assert again.try_admit(ONE, NOW + MINUTE) is None


def test_learned_limits_end_when_they_would_have():
    quota = quota_of(spec_of())
    quota.learn([Reading(Axis.REQUESTS, MINUTE, 7, None, None, Source.HEADER)], NOW)
    quota.learn([Reading(Axis.TOKENS, HOUR, 70, None, None, Source.BODY)], NOW)
    quota.learn([Reading(Axis.CONCURRENCY, None, 3, None, None, Source.HEADER)], NOW)
    state = capture(quota, "m", NOW)
    again = taken_up(state, spec_of(), NOW + 20 * HOUR, saved_ns=NOW)
    assert views(again)[0][2] == 7
    assert views(again)[3] == (Axis.TOKENS, HOUR, 70, 70)
    assert again.concurrency == 3
    assert again.try_admit(ONE, NOW + HEARD_FOR_NS - 1) is not None
    assert len(views(again)) == 4
    again.try_admit(ONE, NOW + HEARD_FOR_NS)
    assert [limit for _, _, limit, _ in views(again)] == [60, 1000, 600]
    assert again.concurrency is None
    assert len(views(taken_up(state, spec_of(), NOW + HEARD_FOR_NS, saved_ns=NOW))) == 3


def test_H6_what_an_error_text_said_ends_when_the_limit_is_edited():
    quota = quota_of(spec_of())
    quota.learn([Reading(Axis.REQUESTS, MINUTE, 7, None, None, Source.BODY)], NOW)
    quota.learn([Reading(Axis.REQUESTS, DAY, 70, None, None, Source.HEADER)], NOW)
    quota.learn([Reading(Axis.CONCURRENCY, None, 3, None, None, Source.HEADER)], NOW)
    state = capture(quota, "m", NOW)
    assert [limit for _, _, limit, _ in views(taken_up(state, spec_of()))] == [7, 1000, 70]
    edited = taken_up(state, spec_of(requests=90, concurrency=9))
    assert [limit for _, _, limit, _ in views(edited)] == [90, 1000, 70]
    assert edited.concurrency == 9


def test_H6_without_learning_nothing_learned_is_taken_up():
    quota = quota_of(spec_of())
    quota.try_admit(ONE, NOW)
    quota.learn([Reading(Axis.REQUESTS, MINUTE, 7, None, None, Source.HEADER)], NOW)
    quota.learn([Reading(Axis.TOKENS, HOUR, 70, 60, None, Source.BODY)], NOW)
    again = taken_up(capture(quota, "m", NOW), spec_of(learn=False))
    assert views(again) == [(0, MINUTE, 60, 59), (1, MINUTE, 1000, 999), (0, DAY, 600, 599)]


@pytest.mark.parametrize("requests", [30, 60, 120])
@each_algorithm
def test_H6_what_was_used_stays_used_under_another_limit(algorithm, requests):
    quota = quota_of(spec_of(algorithm))
    for _ in range(20):
        quota.try_admit(ONE, NOW)
    again = taken_up(capture(quota, "m", NOW), spec_of(algorithm, requests))
    assert views(again)[0] == (Axis.REQUESTS, MINUTE, requests, requests - 20)


@pytest.mark.parametrize("before", ALGORITHMS)
@pytest.mark.parametrize("after", ALGORITHMS)
def test_what_was_used_stays_used_by_another_way_of_counting(before, after):
    quota = quota_of(spec_of(before))
    for at in range(20):
        quota.try_admit(ONE, NOW + at)
    now = NOW + 19
    again = taken_up(capture(quota, "m", now), spec_of(after), now)
    assert [left for *_, left in views(again, now)] == [40, 980, 580]


@pytest.mark.parametrize("back_ns", [HOUR, 400 * DAY])
@each_algorithm
def test_when_the_clock_has_gone_back_nothing_is_closed_for_longer_than_its_window(algorithm, back_ns):
    quota = quota_of(spec_of(algorithm))
    for _ in range(60):
        quota.try_admit(ONE, NOW)
    quota.cool(NOW + 10 * SECOND)
    quota.learn([Reading(Axis.TOKENS, HOUR, 700, None, None, Source.BODY)], NOW)
    now = NOW - back_ns
    again = taken_up(capture(quota, "m", NOW), spec_of(algorithm), now, saved_ns=NOW)
    assert [left for *_, left in views(again, now)] == [0, 940, 540, 700]
    assert again.cooldown_until == now + 10 * SECOND
    free_at = again.free_at(ONE, now)
    assert free_at is not None
    assert now + 10 * SECOND <= free_at <= now + MINUTE
    assert again.try_admit(ONE, now + HEARD_FOR_NS) is not None
    assert len(views(again)) == 3


@pytest.mark.parametrize("back_ns", [1, SECOND, 2 * SECOND])
def test_clocks_of_two_processes_may_be_a_little_apart(back_ns):
    quota = quota_of(spec_of("sliding"))
    for at in range(20):
        quota.try_admit(ONE, NOW - HOUR + at * MINUTE)
    again = taken_up(capture(quota, "m", NOW), spec_of("sliding"), NOW - back_ns, saved_ns=NOW)
    first_end = NOW - HOUR + DAY + DAY // 63
    assert views(again, first_end + MINUTE)[2][3] == views(quota, first_end + MINUTE)[2][3] > 580


def test_a_bench_for_ever_does_not_move():
    assert Moment(NOW - DAY, NOW).moved(FOREVER_NS) == FOREVER_NS
    assert Moment(NOW - DAY, NOW).moved(NOW + 1) == NOW - DAY + 1
    assert Moment(NOW, NOW - DAY).moved(NOW + 1) == NOW + 1


@pytest.mark.parametrize(
    "part",
    [
        BudgetState(99, MINUTE, "sliding", (), None, ()),
        BudgetState(0, MINUTE, "token_bucket", (1, 2), None, ()),
        BudgetState(0, MINUTE, "sliding", (1, 2), None, ()),
        BudgetState(0, MINUTE, "none such", (1, 2), None, ()),
        BudgetState(0, MINUTE, "token_bucket", (), None, (("nobody", 1, 2),)),
    ],
)
def test_a_part_that_makes_no_sense_is_an_error(part):
    with pytest.raises(ValueError, match=r"."):
        taken_up(QuotaState("m", 0, None, None, (part,)), spec_of())


@pytest.mark.parametrize("state", [(NOW, NOW, NOW - 1, 1, 1), (NOW, NOW, 1, 2)])
def test_a_sliding_window_of_another_shape_is_an_error(state):
    with pytest.raises(ValueError, match="sliding"):
        taken_up(
            QuotaState("m", 0, None, None, (BudgetState(0, MINUTE, "sliding", state, 60, ()),)), spec_of("sliding")
        )


def test_what_nobody_counts_any_more_is_left_out():
    state = QuotaState("m", 0, None, None, (BudgetState(1, DAY, "sliding", (NOW, NOW, 5), 9, ()),))
    assert views(taken_up(state, spec_of())) == views(quota_of(spec_of()))
