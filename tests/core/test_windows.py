"""Every algorithm against a brute-force model, and the contract they share."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND
from sidecar.core.windows import ALGORITHMS, Calendar, FixedWindow, SlidingWindow, TokenBucket, Window, make

NOW = 1_764_000_000 * SECOND

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
limits = st.integers(1, 60)
lengths = st.integers(1, 500)  # small windows, so that instants collide with boundaries
steps = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 70)), max_size=60)
random = settings(max_examples=60, deadline=None)


def arrivals(moves: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(gap, amount) -> (instant, amount)."""
    instants = accumulate((gap for gap, _ in moves), initial=NOW)
    next(instants)
    return list(zip(instants, (amount for _, amount in moves), strict=True))


def admitted(window: Window, moves: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What the window lets through of the arrivals."""
    through = []
    for now, amount in arrivals(moves):
        if window.fits(amount, now):
            window.spend(amount, now)
            through.append((now, amount))
    return through


class FractionBucket:
    """A token bucket in exact fractions."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit, self.rate, self.level, self.at = limit, Fraction(limit, window_ns), Fraction(0), 0

    def advance(self, now: int) -> None:
        self.level = max(Fraction(0), self.level - (now - self.at) * self.rate)
        self.at = now


@random
@given(limits, lengths, steps)
def test_token_bucket_equals_a_bucket_of_fractions(limit, length, moves):
    bucket, model = TokenBucket(limit, length), FractionBucket(limit, length)
    for now, amount in arrivals(moves):
        model.advance(now)
        fits = model.level + amount <= limit or amount == 0
        assert bucket.fits(amount, now) == fits
        assert bucket.remaining(now) == max(0, int(limit - model.level))
        if fits:
            bucket.spend(amount, now)
            model.level += amount
            assert bucket.resets_at(now) - now == -(-model.level // model.rate)


@random
@given(limits, lengths, steps)
def test_A22_token_bucket_bound_holds_in_every_interval(limit, length, moves):
    through = admitted(TokenBucket(limit, length), moves)
    for i, (start, _) in enumerate(through):
        total = 0
        for now, amount in through[i:]:
            total += amount
            assert total * length <= limit * (length + now - start)


@random
@given(limits, lengths, steps)
def test_A22_sliding_window_bound_holds_in_every_stretch(limit, length, moves):
    through = admitted(SlidingWindow(limit, length), moves)
    for now, _ in through:
        assert sum(amount for at, amount in through if now - length < at <= now) <= limit


@random
@given(limits, lengths, steps)
def test_fixed_window_bound_holds_between_boundaries(limit, length, moves):
    totals: dict[int, int] = {}
    for now, amount in admitted(FixedWindow(limit, length), moves):
        totals[now // length] = totals.get(now // length, 0) + amount
    assert all(total <= limit for total in totals.values())


@random
@given(limits, lengths, steps)
def test_fixed_window_admits_all_that_its_calendar_window_allows(limit, length, moves):
    window = FixedWindow(limit, length)
    used: dict[int, int] = {}
    for now, amount in arrivals(moves):
        already = used.get(now // length, 0)
        assert window.fits(amount, now) == (already + amount <= limit or amount == 0)
        if window.fits(amount, now):
            window.spend(amount, now)
            used[now // length] = already + amount


@random
@given(limits, lengths, steps)
def test_what_a_sliding_window_admits_the_others_admit(limit, length, moves):
    bucket, fixed = TokenBucket(limit, length), FixedWindow(limit, length)
    for now, amount in admitted(SlidingWindow(limit, length), moves):
        assert bucket.fits(amount, now)
        assert fixed.fits(amount, now)
        bucket.spend(amount, now)
        fixed.spend(amount, now)


@each_algorithm
@random
@given(limits, lengths, steps, st.integers(0, 70))
def test_free_at_is_the_first_instant_that_fits(algorithm, limit, length, moves, amount):
    window = make(algorithm, limit, length)
    now = NOW
    for at, spent in arrivals(moves):
        now = at
        window.spend(spent, at)  # overdrawing too
    free_at = window.free_at(amount, now)
    if amount > limit:
        assert free_at is None
        return
    assert free_at is not None
    assert (free_at == now) == window.fits(amount, now)
    if free_at > now:
        assert not window.fits(amount, free_at - 1)
    assert window.fits(amount, free_at)


@each_algorithm
@random
@given(limits, lengths, steps)
def test_resets_at_is_when_the_whole_limit_fits(algorithm, limit, length, moves):
    window = make(algorithm, limit, length)
    now = NOW
    for at, spent in arrivals(moves):
        now = at
        window.spend(spent, at)
    whole_ns = window.resets_at(now)
    assert whole_ns >= now
    assert window.remaining(whole_ns) == limit


@each_algorithm
@random
@given(limits, lengths, steps)
def test_A23_asking_costs_nothing(algorithm, limit, length, moves):
    asked, silent = make(algorithm, limit, length), make(algorithm, limit, length)
    for now, amount in arrivals(moves):
        for _ in range(3):
            asked.fits(amount, now)
            asked.free_at(amount + 1, now)
        assert asked.remaining(now) == silent.remaining(now)
        if silent.fits(amount, now):
            asked.spend(amount, now)
            silent.spend(amount, now)


@each_algorithm
@random
@given(limits, lengths, st.integers(0, 70))
def test_A2_what_fits_an_empty_window_is_never_refused_by_a_whole_one(algorithm, limit, length, amount):
    window = make(algorithm, limit, length)
    assert window.fits(amount, NOW) == (amount <= limit)
    window.spend(limit, NOW)
    later = window.resets_at(NOW)
    assert window.fits(amount, later) == (amount <= limit)


@each_algorithm
@random
@given(limits, limits, lengths, steps)
def test_A23_changed_limit_keeps_what_was_used(algorithm, limit, other, length, moves):
    window = make(algorithm, limit, length)
    through = admitted(window, moves)
    now = through[-1][0] if through else NOW
    used = limit - window.remaining(now)
    window.set_limit(other, now)
    assert window.limit == other
    assert window.remaining(now) == max(0, other - used)
    if other > limit:
        assert window.fits(other - used, now)


@each_algorithm
@random
@given(limits, lengths, st.integers(0, 70), st.integers(0, 80))
def test_refund_gives_back_no_more_than_was_spent(algorithm, limit, length, spent, back):
    window = make(algorithm, limit, length)
    window.spend(spent, NOW)
    window.refund(back, NOW, NOW)
    assert window.remaining(NOW) == max(0, limit - max(0, spent - back))


@each_algorithm
def test_refund_without_an_instant_takes_from_the_newest(algorithm):
    window = make(algorithm, 10, MINUTE)
    window.spend(6, NOW)
    window.refund(4, NOW + 1)
    assert window.remaining(NOW + 1) == 8


@each_algorithm
def test_refund_of_what_has_come_back_already_gives_nothing(algorithm):
    window = make(algorithm, 10, MINUTE)
    window.spend(10, NOW)
    window.spend(4, NOW + MINUTE)
    before = window.remaining(NOW + MINUTE)
    window.refund(10, NOW + MINUTE, NOW)
    assert window.remaining(NOW + MINUTE) == before


def test_token_bucket_refund_is_bounded_by_the_time_since():
    bucket = TokenBucket(60, MINUTE)
    bucket.spend(60, NOW)
    bucket.spend(40, NOW + 40 * SECOND)
    bucket.refund(60, NOW + 40 * SECOND, NOW)  # a third of a minute's worth at most is still out
    assert bucket.remaining(NOW + 40 * SECOND) == 20


@each_algorithm
@random
@given(limits, lengths, steps, st.integers(0, 70))
def test_observe_sets_the_view(algorithm, limit, length, moves, said):
    window = make(algorithm, limit, length)
    through = admitted(window, moves)
    now = through[-1][0] if through else NOW
    window.observe(said, now)
    assert window.remaining(now) == min(said, limit)


def test_observe_of_the_same_count_keeps_the_fraction_of_a_unit():
    bucket = TokenBucket(60, MINUTE)
    bucket.spend(1, NOW)
    bucket.observe(59, NOW + SECOND // 2)
    assert bucket.resets_at(NOW + SECOND // 2) == NOW + SECOND


def test_sliding_window_believes_when_it_will_be_whole():
    window = SlidingWindow(1000, DAY)
    window.observe(10, NOW, NOW + 5 * HOUR)
    assert window.free_at(11, NOW) == NOW + 5 * HOUR
    window.observe(0, NOW, NOW + 2 * DAY)  # no later than one window from now
    assert window.free_at(1000, NOW) == NOW + DAY
    late = SlidingWindow(1000, DAY)
    late.observe(10, NOW, NOW - DAY)  # an instant gone by helps nothing: the count stands, until the next
    assert late.remaining(NOW) == 10
    assert late.remaining(NOW + 1) == 1000


@each_algorithm
@random
@given(limits, limits, lengths, steps)
def test_restored_state_continues(algorithm, limit, other, length, moves):
    window = make(algorithm, limit, length)
    through = admitted(window, moves)
    now = through[-1][0] if through else NOW
    copy, changed = make(algorithm, limit, length), make(algorithm, other, length)
    copy.restore(window.state(), now)
    changed.restore(window.state(), now)
    for later in (now, now + length // 2, now + length):
        assert copy.free_at(limit, later) == window.free_at(limit, later)
        assert copy.remaining(later) == window.remaining(later)
    assert changed.limit == other


@each_algorithm
def test_limit_of_nothing_admits_nothing_and_survives_it(algorithm):
    window = make(algorithm, 0, MINUTE)
    assert window.free_at(1, NOW) is None
    assert window.fits(0, NOW)
    window.spend(5, NOW)
    window.set_limit(10, NOW)
    assert window.remaining(NOW) == 5


@pytest.mark.parametrize(
    ("algorithm", "told_of_ns", "since", "present"),
    [
        ("token_bucket", NOW, 0, 10),
        ("token_bucket", NOW - 6 * SECOND, 0, 16),
        ("token_bucket", NOW - 6 * SECOND, 4, 12),
        ("token_bucket", NOW - HOUR, 4, 56),  # never more than whole
        ("sliding", NOW - 6 * SECOND, 4, 10),
        ("fixed", NOW, 4, 6),
        ("fixed", NOW - 1, 4, None),  # of the minute before
    ],
)
def test_a_count_is_brought_up_to_the_present(algorithm, told_of_ns, since, present):
    window = make(algorithm, 60, MINUTE)
    window.fits(1, NOW - SECOND)
    assert window.brought_up(10, told_of_ns, since, NOW) == present


@pytest.mark.parametrize("limit", [7, 30, 59, 8000])
def test_token_bucket_never_loses_a_unit_to_rounding(limit):
    bucket = TokenBucket(limit, MINUTE)
    for _ in range(limit):
        assert bucket.fits(1, NOW)
        bucket.spend(1, NOW)
    assert not bucket.fits(1, NOW)
    assert bucket.free_at(1, NOW) == NOW - (-MINUTE // limit)


def test_A3_token_bucket_runs_at_its_full_rate():
    bucket, now = TokenBucket(7, MINUTE), NOW
    bucket.spend(7, now)
    for _ in range(7_000):
        free_at = bucket.free_at(1, now)
        assert free_at is not None
        now = free_at
        bucket.spend(1, now)
    assert now == NOW + 1_000 * MINUTE


@pytest.mark.parametrize(
    ("used", "requested", "limit", "length", "wait"),
    [  # the waits Groq printed, providers.md 2.4
        (30, 1, 30, MINUTE, 2 * SECOND),
        (1000, 1, 1000, DAY, 86_400_000_000),
        (2542, 9855, 12000, MINUTE, 1_985_000_000),
        (97050, 3619, 100000, DAY, 578_016_000_000),
        (997, 192, 1000, MINUTE, 11_340_000_000),
        (7170, 230, 7200, HOUR, 100_000_000_000),
    ],
)
def test_token_bucket_waits_as_groq_announces(used, requested, limit, length, wait):
    bucket = TokenBucket(limit, length)
    bucket.spend(used, NOW)
    assert bucket.free_at(requested, NOW) == NOW + wait


class TestCalendar:
    @pytest.mark.parametrize("length", [MINUTE, HOUR, DAY])
    def test_utc_is_arithmetic(self, length):
        start = NOW // length * length
        assert Calendar(length).next_after(start) == start + length
        assert Calendar(length).next_after(start + 1) == start + length
        assert Calendar(length).next_after(start + length - 1) == start + length

    def test_a_zone_follows_its_boundaries_then_its_length(self):
        calendar = Calendar(DAY, (NOW, NOW + 23 * HOUR, NOW + 47 * HOUR))  # a day of 23 hours
        cases = [
            (NOW - 1, NOW),
            (NOW, NOW + 23 * HOUR),
            (NOW + 23 * HOUR - 1, NOW + 23 * HOUR),
            (NOW + 23 * HOUR, NOW + 47 * HOUR),
            (NOW + 47 * HOUR, NOW + 71 * HOUR),
            (NOW + 200 * HOUR, NOW + 215 * HOUR),
        ]
        for now, expected in cases:
            assert calendar.next_after(now) == expected

    def test_a_fixed_window_follows_it(self):
        window = make("fixed", 5, DAY, Calendar(DAY, (NOW + HOUR, NOW + 24 * HOUR)))
        window.spend(5, NOW)
        assert window.free_at(1, NOW) == NOW + HOUR
        assert window.fits(5, NOW + HOUR)

    def test_one_of_another_length_is_not_used(self):
        window = make("fixed", 5, MINUTE, Calendar(DAY, (NOW + HOUR,)))
        window.spend(5, NOW)
        assert window.free_at(1, NOW) == NOW // MINUTE * MINUTE + MINUTE


def test_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match="known: token_bucket, sliding, fixed"):
        make("leaky", 1, MINUTE)


def test_reprs_say_what_an_operator_asks():
    assert repr(make("token_bucket", 30, MINUTE)) == "<TokenBucket 30/60s whole at 0>"
    assert repr(make("sliding", 30, MINUTE)) == "<SlidingWindow 30/60s used 0 in 0 slots>"
    assert repr(make("fixed", 30, DAY)) == "<FixedWindow 30/86400s used 0 until 0>"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(
    limit=st.integers(1, 20),
    calls=st.lists(
        st.tuples(st.integers(0, 40 * SECOND), st.integers(1, 8), st.integers(0, SECOND // 2)), min_size=1, max_size=60
    ),
)
def test_A9_what_arrives_late_is_still_admitted_where_it_arrives(algorithm, limit, calls):
    """Each call is spent here and counted by the provider up to half a second later, in whatever order."""
    transit = SECOND // 2
    ours, theirs = make(algorithm, limit, MINUTE, transit_ns=transit), make(algorithm, limit, MINUTE)
    arrivals, now = [], NOW
    for gap, amount, delay in calls:
        now += gap
        if ours.fits(amount, now):
            ours.spend(amount, now)
            arrivals.append((now + delay, amount))
    for at, amount in sorted(arrivals):
        assert theirs.fits(amount, at)
        theirs.spend(amount, at)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_A3_a_whole_window_gives_all_it_has_at_once_whatever_the_transit(algorithm):
    window = make(algorithm, 20, MINUTE, transit_ns=SECOND // 2)
    for _ in range(20):
        assert window.fits(1, NOW)
        window.spend(1, NOW)
    assert not window.fits(1, NOW)
