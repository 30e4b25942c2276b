"""The share of the traffic that may be retries."""

from __future__ import annotations

import pytest

from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.retry_budget import RetryBudget

NOW = 1_700_000_000 * SECOND  # where a slot begins


def taken(budget, now, most=1000):
    count = 0
    while count < most and budget.take(now):
        count += 1
    return count


@pytest.mark.parametrize(
    ("share", "requests", "retries"),
    [(0.1, 0, 10), (0.1, 100, 10), (0.1, 109, 10), (0.1, 110, 11), (0.5, 200, 100), (0.0, 500, 10), (1.0, 50, 50)],
)
def test_A17_a_share_of_the_requests_and_always_ten(share, requests, retries):
    budget = RetryBudget(share)
    for _ in range(requests):
        budget.note_request(NOW)
    assert taken(budget, NOW) == retries
    assert repr(budget) == f"<RetryBudget {retries} retries, {requests} requests in the last minute>"


@pytest.mark.parametrize(
    ("later_ns", "again"),
    [
        (1, 0),
        (10 * SECOND, 0),
        (MINUTE - 1, 0),  # the last slot that still counts the first
        (MINUTE, 10),
        (MINUTE + 9 * SECOND, 10),
        (7 * MINUTE, 10),
        (10**6 * MINUTE, 10),
    ],
)
def test_A17_what_is_a_minute_old_counts_no_more(later_ns, again):
    budget = RetryBudget(0.1)
    assert taken(budget, NOW) == 10
    assert taken(budget, NOW + later_ns) == again


@pytest.mark.parametrize("gap_slots", range(1, 15))
def test_the_ring_forgets_exactly_what_is_too_old_whatever_the_gap(gap_slots):
    budget = RetryBudget(1.0)
    for slot in range(6):
        for _ in range(100):
            budget.note_request(NOW + slot * 10 * SECOND)
    left = max(0, 6 - gap_slots) * 100
    now = NOW + (5 + gap_slots) * 10 * SECOND
    budget.note_request(now)
    assert taken(budget, now) == max(10, left + 1)


def test_A17_over_a_minute_of_steady_failure_a_tenth_is_retried():
    budget, retries = RetryBudget(0.1), 0
    for step in range(6000):
        now = NOW + step * SECOND // 10
        budget.note_request(now)
        retries += budget.take(now)
    assert 500 <= retries <= 660  # of 6000 requests in ten minutes
