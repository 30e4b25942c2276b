"""A lease as its quota sees it: when it asks, what it tells, what a reply makes of it. Without any server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.lease import BEAT_NS, FOREVER_NS, LIFE_NS, Lease
from sidecar.core.lease_call import Answer, Batch, folded, heard, wanted
from sidecar.core.leased_window import LeasedWindow
from sidecar.core.limits import DAY, MINUTE, SECOND, Axis, Cost
from sidecar.core.quota import LimitSpec, Quota, QuotaSpec

NOW = 1_764_000_000 * SECOND
ONE = Cost(0, 0)
RPM = f"0/{MINUTE}"


def made(*specs, algorithm="leased_token_bucket"):
    limits = specs or ((Axis.REQUESTS, MINUTE, 30),)
    quota = Quota(
        "groq/a",
        QuotaSpec("m", tuple(LimitSpec(axis, length, limit, algorithm=algorithm) for axis, length, limit in limits)),
    )
    woken: list[Lease] = []
    lease = Lease(quota, woken.append)
    lease.bind(NOW, None)
    return quota, lease, woken


def answer(out, left=20, *, next_us=-1, cool_us=0, gate="open", epoch="e", members=2):
    return Answer(epoch, members, {RPM: (out, left, 0)}, next_us, cool_us, gate, {})


def called(lease, reply, now=NOW):
    call = lease.call("me", "p:", now)
    assert lease.due_ns(now) == FOREVER_NS
    lease.take(reply, now, now)
    return call


def test_it_asks_when_it_is_empty_and_admits_what_it_holds_until_that_ends():
    quota, lease, woken = made()
    assert quota.try_admit(ONE, NOW) is None
    assert woken == [lease]
    assert quota.try_admit(ONE, NOW) is None
    assert woken == [lease]  # told once
    called(lease, answer(2))
    assert quota.try_admit(ONE, NOW + LIFE_NS - 1) is not None
    assert quota.try_admit(ONE, NOW + LIFE_NS) is None


def test_F3_what_was_spent_while_a_call_was_under_way_is_not_held_twice():
    quota, lease, _ = made()
    called(lease, answer(6))
    assert [quota.try_admit(ONE, NOW) is not None for _ in range(3)] == [True] * 3
    call = lease.call("me", "p:", NOW + 1)
    assert (call.b[-1].u, call.b[-1].k) == ({RPM: 3}, {})
    assert quota.try_admit(ONE, NOW + 2) is not None
    lease.take(answer(3), NOW + 1, NOW + 3)
    admitted = [quota.try_admit(ONE, NOW + 4) for _ in range(3)]
    assert [charge is not None for charge in admitted] == [True, True, False]
    assert lease.call("me", "p:", NOW + 5).b[-1].u == {RPM: 3}


def test_F3_a_reply_that_is_lost_leaves_what_was_told_to_be_told_again():
    quota, lease, _ = made()
    called(lease, answer(2))
    assert quota.try_admit(ONE, NOW) is not None
    first = lease.call("me", "p:", NOW + 1)
    lease.miss(NOW + 1)
    second = lease.call("me", "p:", NOW + 2)
    assert first.b[-1] in second.b
    assert [batch.s for batch in second.b] == [first.s, second.s]
    lease.take(answer(1), NOW + 2, NOW + 2)
    assert [batch.s for batch in lease.call("me", "p:", NOW + 3).b] == [second.s + 1]


def test_too_many_lost_ones_are_told_as_one_on_the_strict_side():
    batches = [Batch(1, {RPM: 3}, {RPM: 2}, [(RPM, 1, 5)]), Batch(2, {RPM: -1}, {}, []), Batch(3, {RPM: 4}, {}, [])]
    assert folded(batches) == [Batch(3, {RPM: 7}, {}, [])]


def test_what_is_not_wanted_any_more_is_given_back():
    quota, lease, _ = made()
    called(lease, answer(10))
    call = lease.call("me", "p:", NOW + 2 * SECOND)
    assert call.b[-1].k == {RPM: 10}
    assert quota.try_admit(ONE, NOW + 2 * SECOND) is None


def test_demand_is_what_the_last_second_took():
    quota, lease, _ = made()
    called(lease, answer(10))
    for _ in range(6):
        assert quota.try_admit(ONE, NOW + SECOND // 2) is not None
    call = lease.call("me", "p:", NOW + SECOND // 2)
    assert (call.x, call.a) == (6, {RPM: 1})


def test_a_cancelled_request_returns_to_the_lease_and_an_old_one_to_the_ledger():
    quota, lease, _ = made()
    called(lease, answer(2))
    charge = quota.try_admit(ONE, NOW + 1)
    assert charge is not None
    quota.cancel(charge, NOW + 2)
    assert next(iter(lease.windows.values())).held == 2
    charge = quota.try_admit(ONE, NOW + 3)
    assert charge is not None
    called(lease, answer(1), NOW + SECOND)
    quota.cancel(charge, NOW + SECOND + 1000)
    assert lease.call("me", "p:", NOW + 2 * SECOND).b[-1].r == [(RPM, 1, (2 * SECOND - 3) // 1000)]


def test_F3_a_cooldown_is_told_at_once_and_heard_by_others():
    quota, lease, _ = made()
    called(lease, answer(0))
    quota.cool(NOW + 30 * SECOND)
    assert lease.due_ns(NOW) < NOW + BEAT_NS
    assert called(lease, answer(0, cool_us=30_000_000, gate="cooling")).c == 30_000_000
    assert lease.call("me", "p:", NOW + 1).c == 0
    other, theirs, _ = made()
    called(theirs, answer(0, cool_us=30_000_000, gate="cooling"))
    assert other.cooldown_until == NOW + 30 * SECOND


def test_F3_one_probe_over_all_then_all_are_open():
    quota, lease, _ = made()
    quota.cool(NOW + SECOND)
    later = NOW + SECOND
    called(lease, answer(0, gate="probing"), later)
    assert quota.gate.value == "cooling"
    called(lease, answer(1, gate="open"), later)
    assert quota.gate.value == "open"
    prober, mine, _ = made()
    prober.cool(NOW + SECOND)
    called(mine, answer(1, gate="mine"), later)
    charge = prober.try_admit(ONE, later)
    assert charge is not None
    prober.passed(charge)
    assert mine.due_ns(later) < later + BEAT_NS  # the others wait for that
    assert mine.call("me", "p:", later).g == "open"


@pytest.mark.parametrize(("replicas", "share"), [(1, 27), (2, 13), (27, 1)])
def test_F2_without_the_ledger_a_share_that_starts_spent(replicas, share):
    quota, lease, _ = made()
    called(lease, answer(5))
    lease.divide(replicas, NOW)
    assert quota.try_admit(ONE, NOW) is None
    (window,) = lease.windows.values()
    assert window.limit == share
    admitted = sum(quota.try_admit(ONE, NOW + at * SECOND // 10) is not None for at in range(1, 601))
    assert share - 1 <= admitted <= share
    assert lease.due_ns(NOW) == FOREVER_NS
    lease.unite()
    assert quota.try_admit(ONE, NOW + MINUTE) is None
    outage = lease.call("me", "p:", NOW + MINUTE).o
    assert outage is not None
    assert (outage.w, outage.n) == ({RPM: 27}, replicas)


def test_F2_less_than_one_each_is_one_in_several_windows():
    quota, lease, _ = made()
    lease.divide(200, NOW)
    admitted = sum(quota.try_admit(ONE, NOW + at * SECOND) is not None for at in range(30 * 60))
    assert 1 <= admitted <= 30 * 30 * 9 // 10 // 200


def test_F2_of_a_day_what_was_left_is_divided():
    day = f"0/{DAY}"
    quota, lease, _ = made((Axis.REQUESTS, DAY, 1000), algorithm="leased_fixed")
    lease.call("me", "p:", NOW)
    lease.take(Answer("e", 1, {day: (0, 100, 0)}, -1, 0, "open", {}), NOW, NOW)
    lease.divide(3, NOW)
    assert sum(quota.try_admit(ONE, NOW) is not None for _ in range(100)) == 30
    lease.unite()
    assert lease.call("me", "p:", NOW).b[-1].u == {day: 30}


costs = st.builds(Cost, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**4))


@given(costs)
def test_what_a_request_is_asked_for_is_what_it_is_charged(cost):
    specs = tuple(LimitSpec(Axis(axis), MINUTE, 10**9) for axis in range(5))
    charge = Quota("a", QuotaSpec("m", specs)).try_admit(cost, NOW)
    assert charge is not None
    assert tuple(taken.amount for taken in charge.spent) == wanted(cost)


def test_words_of_another_version_are_no_limit():
    assert heard("0/60000000000 rumour", (1, 2)) is None
    assert heard("x", (1, 2)) is None


def test_a_window_says_what_it_is():
    assert "alone" in repr(LeasedWindow("sliding", 5, MINUTE))
    _, lease, _ = made()
    assert "holds 0" in repr(lease)
    lease.divide(2, NOW)
    assert "static" in repr(lease)
