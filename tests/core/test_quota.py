"""Admission, settlement, learning and cooldowns of one account and model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, ChargeRule, Cost, Reading, Source, Usage
from sidecar.core.quota import BLOCKED_NS, Charge, LimitSpec, Quota, QuotaSpec
from sidecar.core.windows import ALGORITHMS
from tests.core import house

NOW = 1_764_000_000 * SECOND
ONE = Cost(1, 0)

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
costs = st.builds(Cost, st.integers(0, 130), st.integers(0, 40), st.integers(0, 3))


def quota(*specs: LimitSpec, **rest: Any) -> Quota:
    return Quota("groq/org-a", QuotaSpec("llama", specs)._replace(**rest))


def rpm(limit: int, algorithm: str = "token_bucket") -> LimitSpec:
    return LimitSpec(Axis.REQUESTS, MINUTE, limit, Source.CONFIG, algorithm)


def tpm(limit: int, algorithm: str = "token_bucket") -> LimitSpec:
    return LimitSpec(Axis.TOKENS, MINUTE, limit, Source.CONFIG, algorithm)


def left(subject: Quota, now: int = NOW) -> list[int]:
    return [view.remaining for view in subject.views(now)]


def admitted(subject: Quota, cost: Cost, now: int = NOW) -> Charge:
    return house.admitted(subject, cost, now)


@each_algorithm
def test_A1_requests_of_one_tick_are_charged_before_the_next_is_tested(algorithm):
    subject = quota(tpm(100, algorithm))
    sizes = [58 + 117 * i // 49 for i in range(50)]
    passed = [size for size in sizes if subject.try_admit(Cost(size, 0), NOW) is not None]
    assert passed == [58]
    assert left(subject) == [42]


@each_algorithm
def test_A1_tokens_of_any_sliding_minute_stay_below_the_limit(algorithm):
    subject, now, through = quota(tpm(100, algorithm)), NOW, []
    for size in [58 + 84 * i // 49 for i in range(50)]:
        free_at = subject.free_at(Cost(size, 0), now)
        assert free_at is not None
        now = free_at
        admitted(subject, Cost(size, 0), now)
        through.append((now, min(size, 100)))
    for now, _ in through:
        within = sum(size for at, size in through if now - MINUTE < at <= now)
        assert within <= (100 if algorithm == "sliding" else 200)


def test_A2_first_request_is_admitted_however_it_is_estimated():
    subject = quota(tpm(100))
    assert subject.free_at(Cost(142, 0), NOW) == NOW
    admitted(subject, Cost(142, 0))
    assert left(subject) == [0]
    assert subject.free_at(Cost(100, 0), NOW) == NOW + MINUTE  # it took the whole limit, and no more


@settings(max_examples=60, deadline=None)
@given(costs, st.integers(1, 100), st.sampled_from(ALGORITHMS))
def test_A2_what_can_ever_fit_fits_a_whole_quota(cost, limit, algorithm):
    subject = quota(rpm(1, algorithm), tpm(limit, algorithm))
    free_at = subject.free_at(cost, NOW)
    assert free_at in (NOW, None)
    assert (subject.try_admit(cost, NOW) is None) == (free_at is None)


def test_A4_request_that_never_fits_is_told_at_once():
    subject = quota(tpm(100))
    for cost in (Cost(143, 0), Cost(0, 101), Cost(100, 31)):
        assert subject.free_at(cost, NOW) is None
        assert subject.try_admit(cost, NOW) is None
    subject.cool(NOW + HOUR)
    assert subject.free_at(Cost(143, 0), NOW) is None  # waiting for the cooldown would not help it
    assert left(subject) == [100]


def test_A4_a_share_is_no_reason_to_refuse_for_ever():
    subject = quota(tpm(100), replicas=4)
    admitted(subject, Cost(80, 0))
    assert left(subject) == [0]


@each_algorithm
@pytest.mark.parametrize(
    ("axis", "window_ns", "cost", "admissions"),
    [
        (Axis.REQUESTS, MINUTE, Cost(1, 1), 10),
        (Axis.TOKENS, MINUTE, Cost(2, 3), 2),
        (Axis.REQUESTS, DAY, Cost(1, 1), 10),
        (Axis.TOKENS, DAY, Cost(2, 3), 2),
        (Axis.INPUT_TOKENS, MINUTE, Cost(2, 3), 5),
        (Axis.OUTPUT_TOKENS, MINUTE, Cost(2, 3), 3),
        (Axis.OUTPUT_TOKENS, MINUTE, Cost(2, 0), 10),
        (Axis.AUDIO_SECONDS, HOUR, Cost(0, 0, 4), 2),
    ],
)
def test_A24_each_limit_alone_is_enforced(algorithm, axis, window_ns, cost, admissions):
    subject = quota(LimitSpec(axis, window_ns, 10, Source.CONFIG, algorithm))
    for _ in range(admissions):
        admitted(subject, cost)
    assert subject.try_admit(cost, NOW) is None
    free_at = subject.free_at(cost, NOW)
    assert free_at is not None
    assert NOW < free_at <= NOW + window_ns


def test_an_axis_that_a_request_does_not_touch_does_not_stop_it():
    subject = quota(LimitSpec(Axis.AUDIO_SECONDS, HOUR, 10), rpm(10))
    admitted(subject, Cost(0, 0, 10))
    admitted(subject, Cost(5, 5))
    assert subject.try_admit(Cost(0, 0, 1), NOW) is None


def test_A23_refused_request_costs_no_window():
    subject = quota(rpm(10), tpm(100), LimitSpec(Axis.REQUESTS, DAY, 1))
    admitted(subject, Cost(10, 0))
    before = left(subject)
    for _ in range(5):
        assert subject.try_admit(Cost(10, 0), NOW) is None
    assert left(subject) == before
    assert subject.inflight == 1


def test_A23_raised_limit_admits_at_once():
    subject = quota(rpm(2), tpm(100))
    charge = admitted(subject, Cost(10, 0))
    admitted(subject, Cost(10, 0))
    assert subject.try_admit(Cost(10, 0), NOW) is None
    subject.replace_specs(QuotaSpec("llama", (rpm(3), tpm(100))), NOW)
    assert left(subject) == [1, 80]
    subject.settle(charge, Usage(4, 0), NOW)  # charged before the reload
    assert left(subject) == [1, 86]
    admitted(subject, Cost(10, 0))


def test_A22_sliding_quota_has_no_double_burst_at_a_boundary():
    subject = quota(rpm(30, "sliding"))
    late = NOW // MINUTE * MINUTE + MINUTE - 1
    for _ in range(30):
        admitted(subject, ONE, late)
    assert subject.try_admit(ONE, late + 1) is None
    assert subject.free_at(ONE, late + 1) == late + MINUTE


def test_A25_after_a_cooldown_traffic_comes_by_its_bucket():
    subject = quota(rpm(60))
    for _ in range(60):
        admitted(subject, ONE)
    subject.cool(NOW + 10 * SECOND)
    now = NOW + 10 * SECOND
    subject.passed(admitted(subject, ONE, now))
    burst = [at for at in range(now, now + SECOND + 1, SECOND // 100) if subject.try_admit(ONE, at)]
    assert len(burst) == 10  # nine were left of ten seconds' refill, one came in that second


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20 * SECOND), costs), min_size=1, max_size=30),
    st.sampled_from(ALGORITHMS),
)
def test_free_at_is_the_first_instant_at_which_everything_admits(moves, algorithm):
    specs = (
        rpm(5, algorithm),
        tpm(100, algorithm),
        LimitSpec(Axis.OUTPUT_TOKENS, MINUTE, 50, Source.CONFIG, algorithm),
    )
    subject, now = quota(*specs), NOW
    for gap, cost in moves:
        now += gap
        free_at = subject.free_at(cost, now)
        if free_at is None:
            assert subject.try_admit(cost, now) is None
            continue
        if free_at > now:
            assert subject.try_admit(cost, free_at - 1) is None
            now = free_at
        assert subject.free_at(cost, now) == now
        admitted(subject, cost, now)


@each_algorithm
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_B2_nothing_in_flight_reserves_nothing(algorithm, data):
    subject, now = quota(rpm(50, algorithm), tpm(1000, algorithm), concurrency=8), NOW
    open_charges: list[Charge] = []
    for _ in range(data.draw(st.integers(0, 40))):
        now += data.draw(st.integers(0, SECOND))
        charge = subject.try_admit(data.draw(costs), now)
        if charge is not None:
            open_charges.append(charge)
        if open_charges and data.draw(st.booleans()):
            charge = open_charges.pop(data.draw(st.integers(0, len(open_charges) - 1)))
            end = data.draw(st.sampled_from(["settle", "unknown", "cancel"]))
            for _ in range(2):  # the second is harmless
                if end == "cancel":
                    subject.cancel(charge, now)
                else:
                    subject.settle(charge, Usage(5, 5) if end == "settle" else None, now)
        assert subject.inflight == len(open_charges) <= 8
    for charge in open_charges:
        subject.cancel(charge, now)
    assert subject.inflight == 0
    assert subject.is_idle(now + 2 * MINUTE)
    subject.learn([Reading(Axis.TOKENS, MINUTE, 1000, 1000, None, Source.HEADER)], now)
    assert left(subject, now)[1] == 1000  # nothing is held back


@pytest.mark.parametrize(
    ("rule", "usage", "remaining"),
    [
        (ChargeRule(), Usage(40, 30), 30),
        (ChargeRule(), Usage(10, 5), 85),
        (ChargeRule(), None, 50),
        (ChargeRule(refunds=False), Usage(10, 5), 50),
        (ChargeRule(refunds=False), Usage(40, 30), 30),
        (ChargeRule(), Usage(500, 0), 0),
    ],
)
@each_algorithm
def test_A8_settled_as_the_provider_charges(algorithm, rule, usage, remaining):
    subject = quota(rpm(10, algorithm), tpm(100, algorithm), rule=rule)
    charge = admitted(subject, Cost(30, 20))
    subject.settle(charge, usage, NOW + 1)
    assert [view.remaining for view in subject.views(NOW + 1)] == [9, remaining]


@pytest.mark.parametrize(("cached", "remaining"), [("counted", [900, 895]), ("free", [980, 975])])
def test_A8_what_came_from_a_prompt_cache_counts_where_the_provider_counts_it(cached, remaining):
    specs = (LimitSpec(Axis.INPUT_TOKENS, MINUTE, 1000), tpm(1000))
    subject = quota(*specs, rule=ChargeRule(cached=cached))
    charge = admitted(subject, Cost(90, 0))
    subject.settle(charge, Usage(100, 5, cached_tokens=80), NOW)
    assert left(subject) == remaining


def test_input_and_output_windows_are_settled_by_their_own():
    specs = [LimitSpec(axis, MINUTE, 100) for axis in (Axis.INPUT_TOKENS, Axis.OUTPUT_TOKENS, Axis.AUDIO_SECONDS)]
    subject = quota(*specs)
    charge = admitted(subject, Cost(30, 20, 7))
    assert left(subject) == [70, 80, 93]
    subject.settle(charge, Usage(25, 40), NOW)
    assert left(subject) == [75, 60, 93]


@each_algorithm
def test_cancelled_request_gives_everything_back(algorithm):
    subject = quota(rpm(10, algorithm), tpm(100, algorithm))
    charge = admitted(subject, Cost(140, 0))
    subject.cancel(charge, NOW)
    assert left(subject) == [10, 100]
    assert subject.inflight == 0


def test_what_free_at_promised_is_spent():
    subject = quota(rpm(10), tpm(100))
    assert subject.free_at(Cost(120, 0), NOW) == NOW
    charge = admitted(subject, Cost(120, 0))
    assert left(subject) == [9, 0]
    assert repr(charge) == f"<Charge 1 requests, 100 tokens at {NOW}>"


def test_concurrency_opens_by_an_event():
    subject = quota(concurrency=2)
    first = admitted(subject, ONE)
    admitted(subject, ONE)
    assert subject.try_admit(ONE, NOW) is None
    assert subject.free_at(ONE, NOW) == BLOCKED_NS
    subject.settle(first, None, NOW)
    assert subject.free_at(ONE, NOW) == NOW


class TestCooldown:
    def test_A9_nothing_goes_before_the_later_of_two_instants(self):
        subject = quota()
        subject.cool(NOW + HOUR)
        subject.cool(NOW + MINUTE)
        assert subject.free_at(ONE, NOW) == NOW + HOUR
        assert subject.try_admit(ONE, NOW + HOUR - 1) is None
        admitted(subject, ONE, NOW + HOUR)

    def test_A18_one_probe_after_a_cooldown(self):
        subject = quota(rpm(1000))
        subject.cool(NOW + MINUTE)
        later = NOW + MINUTE
        charges = [charge for _ in range(200) if (charge := subject.try_admit(ONE, later))]
        assert len(charges) == subject.inflight == 1
        assert subject.free_at(ONE, later) == BLOCKED_NS
        assert subject.headroom(later) == 0
        subject.passed(charges[0])
        assert subject.free_at(ONE, later) == later
        assert len([1 for _ in range(200) if subject.try_admit(ONE, later)]) == 200

    def test_A18_failed_probe_cools_again(self):
        subject = quota()
        subject.cool(NOW + MINUTE)
        probe = admitted(subject, ONE, NOW + MINUTE)
        subject.cool(NOW + 2 * MINUTE)
        subject.cancel(probe, NOW + MINUTE)
        assert subject.free_at(ONE, NOW + MINUTE) == NOW + 2 * MINUTE
        subject.passed(probe)  # too late: it is no probe any more
        assert subject.free_at(ONE, NOW + MINUTE) == NOW + 2 * MINUTE

    def test_A18_probe_that_ends_without_a_word_makes_room_for_another(self):
        for end in ("settle", "cancel"):
            subject = quota()
            subject.cool(NOW + MINUTE)
            probe = admitted(subject, ONE, NOW + MINUTE)
            if end == "settle":
                subject.settle(probe, None, NOW + MINUTE)
            else:
                subject.cancel(probe, NOW + MINUTE)
            admitted(subject, ONE, NOW + MINUTE)
            assert subject.try_admit(ONE, NOW + MINUTE) is None

    def test_older_request_s_success_opens_nothing(self):
        subject = quota()
        older = admitted(subject, ONE)
        subject.cool(NOW + MINUTE)
        subject.passed(older)
        assert subject.free_at(ONE, NOW) == NOW + MINUTE
        admitted(subject, ONE, NOW + MINUTE)
        subject.passed(older)
        assert subject.free_at(ONE, NOW + MINUTE) == BLOCKED_NS

    def test_the_windows_still_count(self):
        subject = quota(rpm(1))
        admitted(subject, ONE)
        subject.cool(NOW + SECOND)
        assert subject.free_at(ONE, NOW) == NOW + MINUTE


def header(axis: Axis, window_ns: int | None, limit: int | None, remaining: int | None) -> Reading:
    return Reading(axis, window_ns, limit, remaining, None, Source.HEADER)


class TestLearning:
    def test_a_limit_nobody_configured_is_filled_in(self):
        subject = quota(algorithms={(Axis.TOKENS, MINUTE): "token_bucket"})
        subject.learn([header(Axis.TOKENS, MINUTE, 6000, 5000), header(Axis.REQUESTS, DAY, 1000, 999)], NOW)
        assert [(v.axis, v.window_ns, v.limit, v.remaining, v.source) for v in subject.views(NOW)] == [
            (Axis.TOKENS, MINUTE, 6000, 5000, Source.HEADER),
            (Axis.REQUESTS, DAY, 1000, 999, Source.HEADER),
        ]
        assert "TokenBucket 6000/60s" in repr(subject)
        assert "SlidingWindow 1000/86400s" in repr(subject)

    def test_a_limit_from_an_error_text_is_obeyed_for_a_day(self):
        subject = quota(tpm(10_000))
        subject.learn([Reading(Axis.TOKENS, MINUTE, 100, None, None, Source.BODY)], NOW)
        assert subject.free_at(Cost(1000, 0), NOW) is None
        assert subject.try_admit(Cost(1000, 0), NOW + DAY - 1) is None
        admitted(subject, Cost(1000, 0), NOW + DAY)

    def test_a_window_known_by_hearsay_alone_goes_after_a_day(self):
        subject = quota()
        subject.learn([Reading(Axis.TOKENS, MINUTE, 100, None, None, Source.BODY)], NOW)
        assert subject.largest_budget() == 100
        assert subject.free_at(Cost(1000, 0), NOW + DAY) == NOW + DAY
        assert subject.largest_budget() is None

    def test_hearing_it_again_prolongs_it(self):
        subject = quota(tpm(10_000))
        for at in (NOW, NOW + HOUR):
            subject.learn([Reading(Axis.TOKENS, MINUTE, 100, None, None, Source.BODY)], at)
        assert subject.free_at(Cost(1000, 0), NOW + DAY) is None
        assert subject.free_at(Cost(1000, 0), NOW + DAY + HOUR) == NOW + DAY + HOUR

    def test_remaining_lowers_at_once_and_raises_less_what_is_in_flight(self):
        subject = quota(tpm(1000))
        first, _second = admitted(subject, Cost(200, 0)), admitted(subject, Cost(300, 0))
        subject.learn([header(Axis.TOKENS, MINUTE, 1000, 100)], NOW)
        assert left(subject) == [100]
        subject.learn([header(Axis.TOKENS, MINUTE, 1000, 900)], NOW)
        assert left(subject) == [400]
        subject.settle(first, None, NOW)
        subject.learn([header(Axis.TOKENS, MINUTE, 1000, 900)], NOW)
        assert left(subject) == [600]

    @pytest.mark.parametrize(
        ("specs", "remaining"),
        [
            ((rpm(10),), [3]),
            ((rpm(10), LimitSpec(Axis.REQUESTS, DAY, 20)), [10, 20]),
            ((tpm(10),), [10]),
            ((), []),
        ],
    )
    def test_a_window_not_named_must_be_the_only_one_of_its_axis(self, specs, remaining):
        subject = quota(*specs)
        subject.learn([header(Axis.REQUESTS, None, None, 3)], NOW)
        assert left(subject) == remaining

    def test_nothing_is_made_of_half_a_reading(self):
        subject = quota()
        subject.learn([header(Axis.TOKENS, None, 100, 3), header(Axis.TOKENS, MINUTE, None, 3)], NOW)
        assert left(subject) == []

    def test_headers_make_no_more_than_16_windows(self):
        subject = quota()
        subject.learn([header(Axis.TOKENS, seconds * SECOND, 100, 3) for seconds in range(1, 100)], NOW)
        assert len(left(subject)) == 16

    def test_learn_off_takes_nothing(self):
        subject = quota(tpm(1000), learn=False)
        subject.learn([header(Axis.TOKENS, MINUTE, 100, 0), header(Axis.REQUESTS, MINUTE, 1, 0)], NOW)
        assert left(subject) == [1000]

    def test_a_reload_that_turns_learning_off_forgets(self):
        subject = quota(tpm(1000))
        subject.learn([header(Axis.TOKENS, MINUTE, 100, 90), header(Axis.REQUESTS, MINUTE, 1, 0)], NOW)
        subject.replace_specs(QuotaSpec("llama", (tpm(1000),), learn=False), NOW)
        assert left(subject) == [990]

    def test_a_concurrency_limit_is_learned_and_ends_after_a_day(self):
        subject = quota(concurrency=40)
        subject.learn([Reading(Axis.CONCURRENCY, None, 2, None, None, Source.BODY)], NOW)
        assert subject.concurrency == 2
        for _ in range(2):
            admitted(subject, ONE)
        assert subject.free_at(ONE, NOW) == BLOCKED_NS
        assert subject.free_at(ONE, NOW + DAY) == NOW + DAY
        assert subject.concurrency == 40


def test_headroom_is_the_tightest():
    subject = quota(rpm(10), tpm(1000), concurrency=4)
    assert subject.headroom(NOW) == 1000
    charge = admitted(subject, Cost(500, 0))
    assert subject.headroom(NOW) == 500  # tokens
    admitted(subject, ONE)
    admitted(subject, ONE)
    assert subject.headroom(NOW) == 250  # in flight
    subject.settle(charge, None, NOW)
    subject.cool(NOW + SECOND)
    assert subject.headroom(NOW) == 0
    assert quota().headroom(NOW) == 1000


def test_largest_budget_is_what_one_request_may_take():
    subject = quota(rpm(10), tpm(6000), LimitSpec(Axis.TOKENS, DAY, 5000), replicas=2)
    assert subject.largest_budget() == 5000
    assert subject.largest_budget(Axis.REQUESTS) == 10
    assert subject.largest_budget(Axis.OUTPUT_TOKENS) is None


def test_idle_only_when_nothing_would_be_lost():
    subject = quota(rpm(60))
    assert subject.is_idle(NOW)
    charge = admitted(subject, ONE)
    assert not subject.is_idle(NOW + MINUTE)
    subject.settle(charge, None, NOW)
    assert not subject.is_idle(NOW)
    assert subject.is_idle(NOW + SECOND)
    subject.cool(NOW + HOUR)
    assert not subject.is_idle(NOW + MINUTE)
    assert subject.is_idle(NOW + HOUR)


def test_repr_says_what_an_operator_asks():
    subject = quota(rpm(30), concurrency=4)
    admitted(subject, ONE)
    subject.cool(NOW + HOUR)
    assert repr(subject) == (
        f"<Quota groq/org-a llama: 1/4 in flight, 0 waiting cooling {NOW + HOUR}, "
        f"<Budget requests <TokenBucket 30/60s whole at {NOW + 2 * SECOND}> by config>>"
    )
    assert (subject.model, subject.has_waiters) == ("llama", False)
