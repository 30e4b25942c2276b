"""Order, pacing and wakes of waiting requests."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.line import Lines, Place, Release, Ticket
from sidecar.core.quota import BLOCKED_NS, LimitSpec, Quota, QuotaSpec
from sidecar.core.windows import ALGORITHMS
from tests.values import values_of

NOW = 1_764_000_000 * SECOND
ONE = Cost(1, 0)
ARRIVALS = itertools.count(1)  # the number of each request


def rpm(limit: int, algorithm: str = "token_bucket", concurrency: int | None = None) -> Quota:
    spec = LimitSpec(Axis.REQUESTS, MINUTE, limit, Source.CONFIG, algorithm)
    return Quota("groq/org-a", QuotaSpec("llama", (spec,), concurrency))


def tpm(limit: int) -> Quota:
    return Quota("groq/org-a", QuotaSpec("llama", (LimitSpec(Axis.TOKENS, MINUTE, limit, algorithm="token_bucket"),)))


def spent(quota: Quota, now: int = NOW) -> Quota:
    while quota.try_admit(ONE, now):
        pass
    return quota


def waiting(lines: Lines, *quotas: Quota, cost: Cost = ONE, now: int = NOW) -> Ticket:
    ticket, release = lines.enlist([Place(quota, cost) for quota in quotas], next(ARRIVALS), now)
    assert ticket.is_waiting
    assert release.granted == []
    return ticket


def test_who_can_go_goes_at_once():
    lines, quota = Lines(), rpm(1)
    ticket, release = lines.enlist([Place(quota, ONE, "token")], 1, NOW)
    assert release == Release([ticket], [], {quota: None})
    assert values_of(ticket.granted) == {"quota": quota, "cost": ONE, "token": "token"}
    assert ticket.charge is not None
    assert (lines.waiting, quota.has_waiters, quota.inflight) == (0, False, 1)


def test_A14_burst_of_three_times_the_rpm_goes_in_order_and_paced():
    lines, quota = Lines(), rpm(30)
    released, wake = [], None
    for number in range(90):
        _, release = lines.enlist([Place(quota, ONE)], number, NOW)
        released += [(NOW, ticket.number) for ticket in release.granted]
        wake = release.wakes[quota]
    while wake is not None:
        release = lines.release([quota], wake)
        released += [(wake, ticket.number) for ticket in release.granted]
        wake = release.wakes[quota]
    assert [number for _, number in released] == list(range(90))
    assert [at - NOW for at, _ in released] == [0] * 30 + [2 * SECOND * i for i in range(1, 61)]


def test_first_quota_to_admit_takes_the_ticket_out_of_all_lines():
    lines, slow, fast = Lines(), spent(rpm(1)), spent(rpm(60))
    ticket, release = lines.enlist([Place(slow, ONE, "slow"), Place(fast, ONE, "fast")], 1, NOW)
    assert release.wakes == {slow: NOW + MINUTE, fast: NOW + SECOND}
    assert ticket.is_waiting
    release = lines.release([fast], NOW + SECOND)
    assert release == Release([ticket], [], {fast: None, slow: None})
    assert values_of(ticket.granted) == {"quota": fast, "cost": ONE, "token": "fast"}
    assert (slow.has_waiters, slow.inflight, lines.waiting) == (False, 1, 0)


def test_one_place_for_each_quota():
    lines, quota = Lines(), spent(rpm(1))
    ticket, _ = lines.enlist([Place(quota, ONE, "first key"), Place(quota, ONE, "second key")], 1, NOW)
    assert [place.token for place in ticket.places] == ["first key"]
    assert quota.line.waiting == 1


def test_small_request_does_not_overtake_a_large_one():
    lines, quota = Lines(), tpm(100)
    quota.try_admit(Cost(50, 0), NOW)
    large = waiting(lines, quota, cost=Cost(100, 0))
    small = waiting(lines, quota, cost=ONE)
    assert lines.release([quota], NOW + 29 * SECOND).granted == []
    assert lines.release([quota], NOW + 30 * SECOND).granted == [large]
    assert small.is_waiting


def test_A14_who_leaves_frees_the_place_at_once():
    lines, quota = Lines(), tpm(100)
    quota.try_admit(Cost(50, 0), NOW)
    large = waiting(lines, quota, cost=Cost(100, 0))
    small = waiting(lines, quota, cost=ONE)
    assert lines.leave(large, NOW) == Release([small], [], {quota: None})
    assert (large.left, large.charge, lines.waiting) == (True, None, 0)
    assert lines.leave(large, NOW) == Release([], [], {})
    assert lines.leave(small, NOW) == Release([], [], {})
    assert small.granted is not None


def test_a_grant_elsewhere_moves_the_other_line_up():
    lines, first, second = Lines(), tpm(100), spent(rpm(60))
    first.try_admit(Cost(50, 0), NOW)
    large, release = lines.enlist([Place(first, Cost(100, 0)), Place(second, ONE)], next(ARRIVALS), NOW)
    small = waiting(lines, first)
    release = lines.release([second], NOW + SECOND)
    assert release.granted == [large, small]
    assert large.granted is not None
    assert small.granted is not None
    assert (large.granted.quota, small.granted.quota) == (second, first)


def test_A14_who_comes_again_keeps_the_place_of_its_arrival():
    lines, quota = Lines(), rpm(1, "fixed")
    quota.cool(NOW + HOUR)
    first, _ = lines.enlist([Place(quota, ONE)], 1, NOW)
    later = [lines.enlist([Place(quota, ONE)], number, NOW)[0] for number in (3, 4, 6)]
    release = lines.release([quota], NOW + HOUR)
    assert release.granted == [first]
    assert first.charge is not None
    quota.cool(NOW + 2 * HOUR)  # the provider refused it all the same
    quota.cancel(first.charge, NOW + HOUR)
    lines.leave(later[1], NOW + HOUR)
    again = [lines.enlist([Place(quota, ONE)], number, NOW + HOUR)[0] for number in (2, 5, 4, 1, 7)]
    order = []
    for turn in range(2, 12):
        now = NOW + turn * HOUR
        for ticket in lines.release([quota], now).granted:
            order.append(ticket.number)
            assert ticket.charge is not None
            quota.passed(ticket.charge)
            quota.settle(ticket.charge, None, now)
    assert order == [1, 2, 3, 4, 5, 6, 7]
    assert all(ticket.granted for ticket in again)
    assert lines.waiting == 0


def test_A18_two_hundred_waiters_and_one_probe():
    lines, quota = Lines(), rpm(6000, "fixed")
    quota.cool(NOW + HOUR)
    tickets = [waiting(lines, quota) for _ in range(200)]
    release = lines.release([quota], NOW + HOUR)
    assert release == Release(tickets[:1], [], {quota: BLOCKED_NS})
    assert quota.inflight == 1
    # it fails: again none before the time named, then again one
    probe = tickets[0].charge
    assert probe is not None
    quota.cool(NOW + 2 * HOUR)
    quota.cancel(probe, NOW + HOUR)
    assert lines.release([quota], NOW + HOUR) == Release([], [], {quota: NOW + 2 * HOUR})
    release = lines.release([quota], NOW + 2 * HOUR)
    assert release == Release(tickets[1:2], [], {quota: BLOCKED_NS})
    # it passes: the others follow, in order
    probe = tickets[1].charge
    assert probe is not None
    quota.passed(probe)
    assert lines.release([quota], NOW + 2 * HOUR).granted == tickets[2:]


def test_concurrency_releases_one_for_each_that_ends():
    lines, quota = Lines(), rpm(100, concurrency=1)
    charge = quota.try_admit(ONE, NOW)
    assert charge is not None
    first, second = waiting(lines, quota), waiting(lines, quota)
    quota.settle(charge, None, NOW)
    assert lines.release([quota], NOW) == Release([first], [], {quota: BLOCKED_NS})
    assert second.is_waiting


def test_head_that_can_never_fit_any_more_does_not_hold_up_the_line():
    lines, quota, other = Lines(), tpm(1000), spent(rpm(1))
    quota.try_admit(Cost(1000, 0), NOW)
    stuck = waiting(lines, quota, cost=Cost(900, 0))
    elsewhere = waiting(lines, quota, other, cost=Cost(800, 0))
    small = waiting(lines, quota, cost=Cost(1, 0))
    quota.learn([Reading(Axis.TOKENS, MINUTE, 100, None, None, Source.BODY)], NOW)
    release = lines.release([quota], NOW)
    assert release.stranded == [stuck]
    assert stuck.left
    assert elsewhere.is_waiting  # the other line still has it
    assert lines.waiting == 2
    wake = release.wakes[quota]
    assert wake is not None
    assert lines.release([quota], wake).granted == [small]
    assert lines.release([other], NOW + MINUTE).granted == [elsewhere]
    assert lines.waiting == 0


def test_entries_of_those_who_left_do_not_pile_up():
    lines, quota = Lines(), rpm(1)
    quota.cool(NOW + DAY)
    stays = waiting(lines, quota)
    for _ in range(1000):
        lines.leave(waiting(lines, quota), NOW)
    assert repr(quota.line).startswith("<Line 1 waiting, ")
    assert int(repr(quota.line).split()[3]) <= 20
    assert repr(lines) == "<Lines 1 waiting>"
    lines.leave(stays, NOW)
    assert repr(quota.line) == "<Line 0 waiting, 0 entries>"
    assert repr(stays) == f"<Ticket {stays.number} left, in 0 lines>"


class Room:
    """Lines with their timers, beside a plain list of who should stand where."""

    def __init__(self, quotas: list[Quota]) -> None:
        self.now = NOW
        self.lines = Lines()
        self.quotas = quotas
        self.order: dict[Quota, list[Ticket]] = {quota: [] for quota in quotas}
        self.timers: dict[Quota, int | None] = dict.fromkeys(quotas)
        self.running: list[Ticket] = []

    def take(self, release: Release) -> None:
        self.timers.update(release.wakes)
        for ticket in release.granted:
            assert ticket.granted is not None
            quota = ticket.granted.quota
            assert self.order[quota][0] is ticket, "overtaken"
            self.forget(ticket)
            self.running.append(ticket)
        for ticket in release.stranded:
            self.forget(ticket)

    def forget(self, ticket: Ticket) -> None:
        for line in self.order.values():
            if ticket in line:
                line.remove(ticket)

    def enlist(self, quotas: list[Quota], cost: Cost) -> None:
        ticket, release = self.lines.enlist([Place(quota, cost) for quota in quotas], next(ARRIVALS), self.now)
        for quota in quotas:
            self.order[quota].append(ticket)
        self.take(release)

    def leave(self, ticket: Ticket) -> None:
        release = self.lines.leave(ticket, self.now)
        self.forget(ticket)
        self.take(release)

    def end(self, index: int, succeeds: bool) -> None:
        ticket = self.running.pop(index)
        assert ticket.granted is not None
        assert ticket.charge is not None
        quota = ticket.granted.quota
        if succeeds:
            quota.passed(ticket.charge)
        else:
            quota.cool(self.now + 7 * SECOND)
        quota.settle(ticket.charge, None, self.now)
        self.take(self.lines.release([quota], self.now))

    def fire(self) -> bool:
        """Go on to the first timer, and fire every one that is due by then."""
        due = [at for at in self.timers.values() if at is not None and at < BLOCKED_NS]
        if not due:
            return False
        self.now = max(self.now, min(due))
        while ripe := [quota for quota, at in self.timers.items() if at is not None and at <= self.now]:
            self.take(self.lines.release(ripe[:1], self.now))
        return True

    def check(self) -> None:
        assert self.lines.waiting == len({id(t) for line in self.order.values() for t in line})
        for quota, line in self.order.items():
            assert quota.line.waiting == len(line)
            if line:
                cost = next(place.cost for place in line[0].places if place.quota is quota)
                free_at = quota.free_at(cost, self.now)
                timer = self.timers[quota]
                assert free_at is not None
                assert timer is not None
                assert timer <= free_at, "a wake is lost"
                assert free_at > self.now, "who could go was left waiting"


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(ALGORITHMS))
def test_A14_no_wake_is_lost_and_nobody_overtakes(data, algorithm):
    quotas = [rpm(2, algorithm, 2), rpm(5, algorithm), tpm(100)]
    room = Room(quotas)
    for _ in range(data.draw(st.integers(0, 25))):
        act = data.draw(st.sampled_from(["enlist", "enlist", "leave", "end", "fail", "fire", "idle"]))
        everyone = list(dict.fromkeys(ticket for line in room.order.values() for ticket in line))
        if act == "enlist":
            room.enlist(
                data.draw(st.lists(st.sampled_from(quotas), min_size=1, unique=True)),
                Cost(data.draw(st.integers(1, 120)), 0),
            )
        elif act == "leave" and everyone:
            room.leave(data.draw(st.sampled_from(everyone)))
        elif act in ("end", "fail") and room.running:
            room.end(data.draw(st.integers(0, len(room.running) - 1)), act == "end")
        elif act == "fire":
            room.fire()
        elif act == "idle":
            due = [at for at in room.timers.values() if at is not None]
            room.now = min([room.now + data.draw(st.integers(0, 5 * SECOND)), *(at - 1 for at in due if at > room.now)])
        room.check()
    for _ in range(1000):  # left alone, with every answer a success, everyone is served
        if room.running:
            room.end(0, True)
        elif not room.fire():
            break
        room.check()
    assert room.lines.waiting == 0
    assert all(quota.inflight == 0 for quota in quotas)


@pytest.mark.parametrize("count", [1, 3])
def test_leaving_counts_once_for_each_line(count):
    lines, quotas = Lines(), [spent(rpm(1)) for _ in range(count)]
    ticket = waiting(lines, *quotas)
    assert [quota.line.waiting for quota in quotas] == [1] * count
    assert lines.leave(ticket, NOW).wakes == dict.fromkeys(quotas)
    assert [quota.line.waiting for quota in quotas] == [0] * count
