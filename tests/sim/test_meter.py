"""Admission and settlement in each provider's way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import DAY, MINUTE, SECOND
from sidecar.sim.axes import Demand, Denied
from sidecar.sim.config import LimitRule
from sidecar.sim.dialects import DIALECTS
from sidecar.sim.meter import Caller, Meter, Ticket

A1, A2, B1 = Caller("k1", "org-a"), Caller("k2", "org-a"), Caller("k3", "org-b")
NOW = 1_700_000_000 * SECOND  # 40 s before a UTC minute
NEXT_MINUTE = 1_700_000_040 * SECOND


def meter(dialect, *rules) -> Meter:
    return Meter(DIALECTS[dialect].style, rules)


def tokens(amount) -> Demand:
    return Demand(amount, amount, amount, amount)


def admitted(verdict) -> Ticket:
    assert isinstance(verdict, Ticket), verdict
    return verdict


def refused(verdict) -> Denied:
    assert isinstance(verdict, Denied), verdict
    return verdict


@pytest.mark.parametrize(
    ("axis", "limit", "used", "requested", "wait_ns"),
    [
        ("tpm", 12000, 2542, 9855, 1_985_000_000),
        ("tpm", 8000, 5536, 5599, 23_512_500_000),
        ("tpd", 100000, 97050, 3619, 578_016_000_000),
        ("otpm", 1000, 997, 192, 11_340_000_000),
        ("ash", 7200, 7170, 230, 100_000_000_000),
    ],
)
def test_waits_of_the_recorded_refusals(axis, limit, used, requested, wait_ns):
    metering = meter("groq", LimitRule(**{axis: limit}))
    admitted(metering.admit(A1, "m", tokens(used), NOW))
    verdict = refused(metering.admit(A1, "m", tokens(requested), NOW))
    assert verdict[:6] == (axis, limit, used, requested, wait_ns, False)
    refused(metering.admit(A1, "m", tokens(requested), NOW + wait_ns - 2_000))
    admitted(metering.admit(A1, "m", tokens(requested), NOW + wait_ns - 1))  # as printed: rounded down


@pytest.mark.parametrize(("axis", "limit", "wait_ns"), [("rpm", 30, 2 * SECOND), ("rpd", 1000, 86_400_000_000)])
def test_requests_are_buckets_also_by_the_day(axis, limit, wait_ns):
    metering = meter("groq", LimitRule(**{axis: limit}))
    for _ in range(limit):
        admitted(metering.admit(A1, "m", tokens(1), NOW))
    assert refused(metering.admit(A1, "m", tokens(1), NOW))[:6] == (axis, limit, limit, 1, wait_ns, False)


def test_the_longest_wait_is_named():
    metering = meter("groq", LimitRule(rpm=1, tpd=100))
    admitted(metering.admit(A1, "m", tokens(100), NOW))
    assert refused(metering.admit(A1, "m", tokens(50), NOW)).axis == "tpd"


def test_a_refused_request_costs_nothing():
    metering = meter("groq", LimitRule(rpm=10, tpm=100))
    admitted(metering.admit(A1, "m", tokens(90), NOW))
    before = metering.states(A1, "m", NOW)
    refused(metering.admit(A1, "m", tokens(20), NOW))
    refused(metering.admit(A1, "m", tokens(101), NOW))
    assert metering.states(A1, "m", NOW) == before


def test_a_request_larger_than_the_window_never_fits():
    verdict = refused(meter("groq", LimitRule(tpm=8000)).admit(A1, "m", tokens(11176), NOW))
    assert (verdict.never, verdict.axis, verdict.limit, verdict.requested) == (True, "tpm", 8000, 11176)


def test_an_overdrawn_bucket_shows_what_is_really_used():
    metering = meter("groq", LimitRule(tpm=100))
    ticket = admitted(metering.admit(A1, "m", tokens(10), NOW))
    metering.settle(ticket, tokens(150), NOW)
    assert refused(metering.admit(A1, "m", tokens(10), NOW)).used == 150


def test_keys_of_an_account_share_its_windows():
    metering = meter("groq", LimitRule(rpm=1))
    admitted(metering.admit(A1, "m", tokens(1), NOW))
    refused(metering.admit(A2, "m", tokens(1), NOW))
    admitted(metering.admit(B1, "m", tokens(1), NOW))
    admitted(metering.admit(A1, "other", tokens(1), NOW))


def test_limits_per_key_stand_beside_those_of_the_account():
    metering = meter("groq", LimitRule(per="key", rpm=1), LimitRule(rpm=2))
    admitted(metering.admit(A1, "m", tokens(1), NOW))
    refused(metering.admit(A1, "m", tokens(1), NOW))
    admitted(metering.admit(A2, "m", tokens(1), NOW))
    refused(metering.admit(Caller("k9", "org-a"), "m", tokens(1), NOW))


def test_the_last_matching_rule_wins_field_by_field():
    metering = meter("groq", LimitRule(rpm=30, tpm=6000), LimitRule(model="llama*", tpm=100), LimitRule(account="x"))
    assert {s.axis: s.limit for s in metering.states(A1, "llama-3", NOW)} == {"rpm": 30, "tpm": 100}
    assert {s.axis: s.limit for s in metering.states(A1, "m", NOW)} == {"rpm": 30, "tpm": 6000}


def test_settlement_charges_what_was_used():
    for dialect, left in (("groq", 70), ("cerebras", 70), ("openai", 60)):  # OpenAI counts what it estimated
        metering = meter(dialect, LimitRule(tpm=100))
        ticket = admitted(metering.admit(A1, "m", tokens(40), NOW))
        metering.settle(ticket, tokens(30), NOW)
        metering.settle(ticket, tokens(30), NOW)
        assert metering.states(A1, "m", NOW)[0].remaining == left


def test_cerebras_windows_end_with_the_utc_minute():
    metering = meter("cerebras", LimitRule(tpm=100))
    ticket = admitted(metering.admit(A1, "m", tokens(100), NOW))
    assert ticket.states[0] == ("tpm", 100, 100, 40 * SECOND)  # as before this call's charge
    assert refused(metering.admit(A1, "m", tokens(1), NOW)).wait_ns == 40 * SECOND
    refused(metering.admit(A1, "m", tokens(1), NEXT_MINUTE - 2_000))
    admitted(metering.admit(A1, "m", tokens(100), NEXT_MINUTE))
    assert metering.states(A1, "m", NEXT_MINUTE)[0] == ("tpm", 100, 0, MINUTE)


def test_cerebras_gives_nothing_back_across_the_boundary():
    metering = meter("cerebras", LimitRule(tpm=100))
    ticket = admitted(metering.admit(A1, "m", tokens(100), NOW))
    admitted(metering.admit(A1, "m", tokens(100), NEXT_MINUTE))
    metering.settle(ticket, tokens(1), NEXT_MINUTE)
    assert metering.states(A1, "m", NEXT_MINUTE)[0].remaining == 0


def test_cerebras_days_end_at_midnight_utc():
    metering = meter("cerebras", LimitRule(rpd=1))
    admitted(metering.admit(A1, "m", tokens(1), NOW))
    assert refused(metering.admit(A1, "m", tokens(1), NOW)).wait_ns == DAY - NOW % DAY


def test_concurrency_is_freed_by_settlement_alone():
    metering = meter("deepinfra", LimitRule(concurrency=2))
    first = admitted(metering.admit(A1, "m", tokens(1), NOW))
    admitted(metering.admit(A2, "m", tokens(1), NOW))
    assert refused(metering.admit(A1, "m", tokens(1), NOW + DAY))[:5] == ("concurrency", 2, 2, 1, None)
    metering.settle(first, tokens(1), NOW)
    metering.settle(first, tokens(1), NOW)
    admitted(metering.admit(A1, "m", tokens(1), NOW))
    refused(metering.admit(A1, "m", tokens(1), NOW))


def test_limits_change_at_once_and_keep_what_was_spent():
    metering = meter("groq", LimitRule(rpm=1, concurrency=5))
    ticket = admitted(metering.admit(A1, "m", tokens(1), NOW))
    metering.set_rules((LimitRule(rpm=3, tpm=10, concurrency=1),), NOW)
    assert refused(metering.admit(A1, "m", tokens(1), NOW)).axis == "concurrency"
    metering.settle(ticket, tokens(1), NOW)
    assert [(s.axis, s.limit, s.remaining) for s in metering.states(A1, "m", NOW)] == [("rpm", 3, 2), ("tpm", 10, 10)]
    metering.set_rules((), NOW)
    assert metering.states(A1, "m", NOW) == ()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), max_size=40))
def test_no_fixed_minute_admits_more_than_its_limit(calls):
    metering = meter("cerebras", LimitRule(tpm=100))
    spent: dict[int, int] = {}
    now = NOW
    for amount, seconds in calls:
        now += seconds * SECOND
        if isinstance(metering.admit(A1, "m", tokens(amount), now), Ticket):
            spent[now // MINUTE] = spent.get(now // MINUTE, 0) + amount
    assert all(total <= 100 for total in spent.values())
