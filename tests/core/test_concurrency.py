"""The search for a provider's cap on requests in flight, against a model of a provider that hides it (A20)."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.concurrency import UNBOUNDED, Permits
from sidecar.core.limits import MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.quota import BLOCKED_NS, Quota, QuotaSpec

NOW = 1_764_000_000 * SECOND
ONE = Cost(1, 0)
ROUND_TRIP_NS = SECOND // 20


class Crowd:
    """Workers in a closed loop before a provider that lets in `hidden` at once, tells nobody, and forgets nothing."""

    def __init__(self, quota, hidden, workers, seed=1, shortest_ns=SECOND // 4, longest_ns=4 * SECOND):
        self.quota, self.hidden, self.idle = quota, hidden, workers
        self.span = shortest_ns, longest_ns
        self.random = random.Random(seed)
        self.events = []
        self.now = NOW
        self.order = self.inside = 0
        self.peak = 0
        self.refused_at = []
        self.busy_ns = {}

    def run(self, until):
        """Play until then; the refusals are in `refused_at`, what was used in `busy_ns` by minute."""
        self._send()
        while self.now < until:
            wake_ns = self.quota.free_at(ONE, self.now) if self.idle else BLOCKED_NS
            due_ns = self.events[0][0] if self.events else BLOCKED_NS
            self._pass_to(min(due_ns, wake_ns, until))
            while self.events and self.events[0][0] <= self.now:
                _, _, charge, is_in, is_end = heapq.heappop(self.events)
                self._ended(charge, is_in, is_end)
            self._send()

    def _pass_to(self, then):
        minute = (self.now - NOW) // MINUTE
        self.busy_ns[minute] = self.busy_ns.get(minute, 0) + self.inside * (then - self.now)
        self.now = then

    def _ended(self, charge, is_in, is_end):
        if not is_in:
            self.quota.crowd(charge, self.now)
            self.refused_at.append(self.now)
            self.idle += 1
        elif not is_end:
            self.quota.passed(charge)
        else:
            self.inside -= 1
            self.quota.settle(charge, None, self.now)
            self.idle += 1

    def _send(self):
        while self.idle and (charge := self.quota.try_admit(ONE, self.now)) is not None:
            self.idle -= 1
            is_in = self.inside < self.hidden
            if is_in:
                self.inside += 1
                self.peak = max(self.peak, self.inside)
                ends_ns = self.now + self.random.randint(*self.span)
                self._plan(ends_ns - 1, charge, True, False)  # the status of a plain answer comes when it is complete
                self._plan(ends_ns, charge, True, True)
            else:
                self._plan(self.now + ROUND_TRIP_NS, charge, False, True)

    def _plan(self, when, *what):
        self.order += 1
        heapq.heappush(self.events, (when, self.order, *what))

    def share(self, first, last):
        """The part of the hidden cap that was used in the minutes from `first` up to `last`."""
        return sum(self.busy_ns[minute] for minute in range(first, last)) / (self.hidden * (last - first) * MINUTE)


def quota(concurrency=None, documented=None):
    return Quota("deepseek/a", QuotaSpec("m", (), concurrency, documented=documented))


@pytest.mark.parametrize("seed", range(2))
def test_A20_a_hidden_cap_of_39_below_the_documented_500(seed):
    crowd = Crowd(quota(documented=500), 39, 80, seed)
    crowd.run(NOW + 31 * MINUTE)
    first = [at for at in crowd.refused_at if at < NOW + MINUTE]
    assert len(first) <= 2
    later = crowd.refused_at[len(first) :]
    assert all(second - one > 10 * MINUTE for one, second in itertools.pairwise(later))
    assert later, "the level that was refused is tried again, so that a raised cap is found"
    assert crowd.share(1, 31) >= 0.9
    assert crowd.share(0, 31) >= 0.9


@settings(max_examples=6, deadline=None)
@given(st.integers(20, 90), st.integers(90, 150), st.integers(1, 20), st.integers(0, 99))
def test_A20_any_hidden_cap_is_found_and_kept(hidden, workers, longest, seed):
    crowd = Crowd(quota(documented=200), hidden, workers, seed, longest_ns=longest * SECOND)
    crowd.run(NOW + 25 * MINUTE)
    # a step is one of sixteen, and each of it may be refused; the search ends within two minutes
    assert len(crowd.refused_at) <= 2 * (1 + hidden // 16) + 4
    assert sum(at >= NOW + 3 * MINUTE for at in crowd.refused_at) <= 2 * (1 + hidden // 16)
    assert crowd.share(3, 25) >= 0.9


def test_A20_a_burst_before_anything_is_known_tells_the_cap_at_once():
    crowd = Crowd(quota(), 39, 80)
    crowd.run(NOW + SECOND)
    assert len(crowd.refused_at) == 41  # nothing was documented and nothing configured: all were sent
    burst = len(crowd.refused_at)
    crowd.run(NOW + 21 * MINUTE)
    assert len(crowd.refused_at) - burst <= 4
    assert crowd.share(1, 21) >= 0.9


def test_A20_a_cap_that_is_raised_later_is_found():
    crowd = Crowd(quota(documented=200), 30, 80)
    crowd.run(NOW + 5 * MINUTE)
    crowd.hidden = 60
    crowd.run(NOW + 25 * MINUTE)
    assert crowd.peak == 60


@pytest.mark.parametrize(("hidden", "most"), [(100, 24), (10, 10)])
def test_A20_a_configured_cap_is_never_exceeded_and_needs_no_search(hidden, most):
    crowd = Crowd(quota(concurrency=24, documented=200), hidden, 80)
    assert crowd.quota.concurrency == 24
    crowd.run(NOW + 5 * MINUTE)
    assert crowd.peak == most
    assert crowd.quota.inflight <= 24
    assert bool(crowd.refused_at) is (hidden < 24)


def test_without_any_cap_nothing_is_held_back():
    subject = quota()
    assert (subject.concurrency, subject.permits.cap) == (None, UNBOUNDED)
    assert all(subject.try_admit(ONE, NOW) for _ in range(500))


def test_a_refusal_never_lowers_it_below_one():
    subject = quota()
    for at in range(3):
        charge = subject.try_admit(ONE, NOW + at)
        assert charge is not None
        subject.crowd(charge, NOW + at)
        subject.crowd(charge, NOW + at)
    assert (subject.concurrency, subject.inflight) == (1, 0)


def test_a_refusal_for_want_of_capacity_counts_only_where_a_cap_is_searched_and_nearly_full():
    for documented, in_flight, is_lowered in ((None, 40, False), (200, 3, False), (200, 15, True)):
        subject = quota(documented=documented)
        charges = [subject.try_admit(ONE, NOW) for _ in range(in_flight)]
        before = subject.concurrency
        assert charges[-1] is not None
        subject.crowd(charges[-1], NOW, is_busy=True)
        assert (subject.concurrency != before) is is_lowered


def test_what_a_provider_names_is_the_end_of_the_search():
    subject = quota(documented=500)
    subject.learn([Reading(Axis.CONCURRENCY, None, 12, 0, None, Source.BODY)], NOW)
    assert subject.concurrency == 12
    assert subject.permits.heard is not None
    crowd = Crowd(subject, 100, 80)
    crowd.run(NOW + 5 * MINUTE)
    assert crowd.peak == 12


def test_a_configuration_edited_ends_what_was_found():
    subject = quota(concurrency=50)
    charges = [subject.try_admit(ONE, NOW) for _ in range(50)]
    assert charges[-1] is not None
    subject.crowd(charges[-1], NOW)
    assert subject.concurrency == 46
    subject.replace_specs(QuotaSpec("m", (), 50), NOW)
    assert subject.concurrency == 46
    subject.replace_specs(QuotaSpec("m", (), 60), NOW)
    assert subject.concurrency == 60


def test_it_says_what_it_is():
    permits = Permits(None, None, 1)
    assert repr(permits) == "<Permits any number>"
    permits.refuse(NOW, 20, NOW)
    assert repr(permits) == "<Permits 19, refused at 21>"
