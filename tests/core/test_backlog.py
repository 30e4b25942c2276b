"""When whoever comes next will have its turn: never promised later than it comes (A15, A16)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.backlog import Backlog
from sidecar.core.limits import DAY, MINUTE, SECOND, Axis, ChargeRule, Cost
from sidecar.core.line import Lines, Place
from sidecar.core.quota import BLOCKED_NS, LimitSpec, Quota, QuotaSpec
from sidecar.core.windows import ALGORITHMS, make

NOW = 1_764_000_000 * SECOND
ONE = Cost(1, 0)
SLACK_NS = SECOND // 20


def quota(*limits, algorithm="token_bucket", **rest):
    specs = tuple(LimitSpec(axis, MINUTE, limit, algorithm=algorithm) for axis, limit in limits)
    return Quota("groq/a", QuotaSpec("m", specs)._replace(**rest))


def rpm(limit, algorithm="token_bucket"):
    return quota((Axis.REQUESTS, limit), algorithm=algorithm)


def spent(subject, now=NOW):
    while subject.try_admit(ONE, now):
        pass
    return subject


def enlisted(lines, quotas, count, cost=ONE):
    return [lines.enlist([Place(each, cost) for each in quotas], 0, NOW)[0] for _ in range(count)]


def test_nobody_waits():
    backlog = Backlog()
    assert backlog.turn([(spent(rpm(1)), ONE)], NOW) == NOW
    assert not backlog.is_vain([(spent(rpm(1)), ONE)], NOW, NOW)


@pytest.mark.parametrize("ahead", [1, 5, 30])
def test_A16_the_turn_comes_after_those_ahead(ahead):
    lines, subject = Lines(), spent(rpm(60))
    enlisted(lines, [subject], ahead)
    turn_ns = lines.backlog.turn([(subject, ONE)], NOW)
    assert NOW + (ahead + 1) * SECOND - SLACK_NS <= turn_ns <= NOW + (ahead + 1) * SECOND


def test_A16_two_quotas_serve_a_common_line_twice_as_fast():
    lines, one, other = Lines(), spent(rpm(60)), spent(rpm(60))
    enlisted(lines, [one, other], 9)
    assert lines.backlog.turn([(one, ONE), (other, ONE)], NOW) <= NOW + 5 * SECOND
    # those who stand at both may all be served at the other
    assert lines.backlog.turn([(one, ONE)], NOW) <= NOW + SECOND


def test_A15_who_may_go_where_nobody_stands_has_its_turn_there():
    lines, busy, idle = Lines(), spent(rpm(60)), rpm(60)
    enlisted(lines, [busy], 100)
    assert lines.backlog.turn([(busy, ONE), (idle, ONE)], NOW) == NOW
    spent(idle)
    assert lines.backlog.turn([(busy, ONE), (idle, ONE)], NOW) <= NOW + SECOND
    assert not lines.backlog.is_vain([(busy, ONE), (idle, ONE)], NOW + SECOND, NOW)


def test_A15_who_would_wait_in_vain_is_known():
    lines, subject = Lines(), spent(rpm(60))
    enlisted(lines, [subject], 19)
    places = [(subject, ONE)]
    assert lines.backlog.is_vain(places, NOW + 20 * SECOND - 1, NOW)
    assert not lines.backlog.is_vain(places, NOW + 20 * SECOND, NOW)


def test_what_leaves_is_no_longer_counted():
    lines, subject = Lines(), spent(rpm(60))
    tickets = enlisted(lines, [subject], 10)
    for ticket in tickets[:5]:
        lines.leave(ticket, NOW)
    assert lines.backlog.waiting == lines.waiting == 5
    for second in range(1, 6):
        lines.release([subject], NOW + second * SECOND)
    assert (lines.waiting, repr(lines.backlog)) == (0, "<Backlog 0 waiting at 0 sets of quotas>")


def test_where_nothing_limits_or_nothing_comes_the_turn_is_told_as_far_as_known():
    lines, free, cooling = Lines(), quota(), rpm(60)
    cooling.cool(NOW + DAY)
    free.cool(NOW + MINUTE)
    enlisted(lines, [free], 1)
    assert NOW + MINUTE - SLACK_NS <= lines.backlog.turn([(free, ONE)], NOW) <= NOW + MINUTE
    cooling.cool(BLOCKED_NS)
    assert lines.backlog.turn([(cooling, ONE)], NOW) > NOW + 30 * DAY


def test_declared_output_counts_only_where_it_is_not_given_back():
    for refunds, second in ((True, 14), (False, 40)):
        subject = quota((Axis.TOKENS, 60), rule=ChargeRule("declared", refunds=refunds))
        subject.try_admit(Cost(60, 0), NOW)
        lines = Lines()
        subject.budgets[0].reserved = 0  # it has been settled
        lines.enlist([Place(subject, Cost(10, 13))], 0, NOW)
        turn_ns = lines.backlog.turn([(subject, Cost(10, 13))], NOW)
        assert abs(turn_ns - (NOW + second * SECOND)) <= SLACK_NS


moves = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50), st.integers(0, 40)), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(moves, st.sampled_from(ALGORITHMS), st.booleans())
def test_A15_nobody_is_sent_away_who_would_have_been_served(moves, algorithm, refunds):
    """Every course of a line, settled at once to seven tenths of the estimate: no turn comes before it was promised."""
    limits = ((Axis.REQUESTS, 20), (Axis.TOKENS, 100))
    quotas = [quota(*limits, algorithm=algorithm, rule=ChargeRule("declared", refunds=refunds)) for _ in range(2)]
    lines, promised, served, agenda, now = Lines(), {}, {}, {}, NOW

    def take(release):
        served.update({ticket.number: now for ticket in release.granted})
        agenda.update(release.wakes)

    for number, (which, size, declared) in enumerate(moves):
        cost = Cost(size, declared)
        chosen = quotas if which == 3 else [quotas[which % 2]]
        turn_ns = lines.backlog.turn([(each, cost) for each in chosen], now)
        ticket, release = lines.enlist([Place(each, cost) for each in chosen], number, now)
        promised[ticket.number] = turn_ns
        take(release)
    while lines.waiting:
        now = min(wake for wake in agenda.values() if wake is not None)
        take(lines.release(quotas, now))
    assert len(served) == len(moves)
    assert all(at >= promised[seq] - SLACK_NS for seq, at in served.items())


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(ALGORITHMS),
    st.lists(st.tuples(st.integers(0, 30 * SECOND), st.integers(1, 10)), max_size=12),
    st.integers(0, 5 * MINUTE),
)
def test_no_window_admits_more_than_it_says_it_may(algorithm, before, span):
    window, now = make(algorithm, 10, MINUTE), NOW
    for gap, amount in before:
        now += gap
        if window.fits(amount, now):
            window.spend(amount, now)
    until, bound, through = now + span, window.admits_by(now + span, now), 0
    while now <= until:
        if window.fits(1, now):
            window.spend(1, now)
            through += 1
        else:
            free_ns = window.free_at(1, now)
            assert free_ns is not None
            now = free_ns
    assert bound >= through
    assert bound <= through + 10
