"""The sliding window's slots: how many, how late, and whose spend a refund finds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.sliding import SLOTS, SlidingWindow

NOW = 1_764_000_000 * SECOND


def slots(window: SlidingWindow) -> int:
    return len(window.state()) // 2


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.lists(st.integers(0, 20), min_size=200, max_size=400))
def test_never_more_than_64_slots(length, gaps):
    window, now = SlidingWindow(10**6, length), NOW
    for gap in gaps:
        now += gap
        window.spend(1, now)
        assert slots(window) <= SLOTS


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=100))
def test_a_spend_comes_back_at_most_a_grain_late_and_never_early(gaps):
    window, now, spent = SlidingWindow(10**6, MINUTE), NOW, []
    for gap in gaps:
        now += gap
        window.spend(1, now)
        spent.append(now)
        used = window.limit - window.remaining(now)
        assert used >= sum(at > now - MINUTE for at in spent)
        assert used <= sum(at > now - MINUTE - MINUTE // 63 - 1 for at in spent)


def test_a_slot_comes_back_with_its_newest():
    window = SlidingWindow(10, MINUTE)
    window.spend(5, NOW)
    window.spend(5, NOW + SECOND // 2)
    assert window.free_at(1, NOW + SECOND) == NOW + MINUTE + SECOND // 2
    assert slots(window) == 1


def test_A3_utilisation_under_constant_pressure():
    window, now, total = SlidingWindow(600, MINUTE), NOW, 0
    while now < NOW + 10 * MINUTE:
        if window.fits(1, now):
            window.spend(1, now)
            total += 1
        now += SECOND // 20
    assert total >= 0.95 * 6_000


def test_refund_finds_the_slot_of_its_spend():
    window = SlidingWindow(10, MINUTE)
    window.spend(4, NOW)
    window.spend(4, NOW + 30 * SECOND)
    window.refund(3, NOW + 40 * SECOND, NOW)
    assert window.remaining(NOW + 40 * SECOND) == 5
    assert window.remaining(NOW + MINUTE) == 6  # one of the first four was left to come back
    window.refund(4, NOW + MINUTE, NOW)  # its slot is gone: the second one's stays
    assert window.remaining(NOW + MINUTE) == 6


def test_a_spend_in_the_past_joins_the_slot_that_covers_it():
    window = SlidingWindow(10, MINUTE)
    window.spend(1, NOW)
    window.spend(1, NOW + 10 * SECOND)
    window.spend(3, NOW + 5 * SECOND)
    assert window.remaining(NOW + MINUTE) == 6
    assert window.remaining(NOW + 70 * SECOND) == 10


def test_observed_room_comes_from_the_oldest():
    window = SlidingWindow(10, MINUTE)
    window.spend(4, NOW)
    window.spend(4, NOW + 30 * SECOND)
    window.observe(5, NOW + 30 * SECOND)
    assert window.remaining(NOW + MINUTE) == 6
