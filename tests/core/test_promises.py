"""Long runs in simulated time, against models of providers that share no code with ours (A3, A6, A12, A19, A25).

The models are leaky buckets of fractions: what a provider would count, told by it alone.
"""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source, Usage
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.settlement import settle
from tests.core.house import NOW, roster_of, target_of

TRANSIT_NS = SECOND // 20
TOOK_NS = SECOND // 2


class Bucket:
    """A provider's own count: leaks at the limit's rate, refuses what would overflow."""

    def __init__(self, limit, window_ns=MINUTE):
        self.limit, self.window_ns = limit, window_ns
        self.level, self.at = Fraction(0), NOW

    def now(self, now):
        self.level = max(Fraction(0), self.level - Fraction((now - self.at) * self.limit, self.window_ns))
        self.at = now
        return self.level

    def take(self, amount, now):
        if self.now(now) + amount > self.limit:
            return False
        self.level += amount
        return True


def keys_of(count, limits):
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(count))
    roster = roster_of(f"providers:\n  - name: groq\n    keys:\n{keys}\n    limits: [{limits}]\n")
    return roster.keys(target_of(roster, "groq/m"), NOW)


def load(keys, share, rpm, minutes=10):
    """Steady load at a share of what the provider's buckets allow: served by key, local refusals, refusals upstream."""
    buckets = {candidate: Bucket(rpm) for candidate in keys.candidates}
    gap_ns = int(MINUTE / (rpm * len(buckets) * share))
    served, local, upstream = dict.fromkeys(buckets, 0), 0, 0
    for now in range(NOW, NOW + minutes * MINUTE, gap_ns):
        admitted = keys.admit(Cost(100, 0), now, ())
        if admitted is None:
            local += 1
            continue
        candidate, charge = admitted
        if buckets[candidate].take(1, now + TRANSIT_NS):
            served[candidate] += 1
            candidate.quota.settle(charge, Usage(90, 20), now + TRANSIT_NS)
        else:
            upstream += 1
            candidate.quota.cancel(charge, now + TRANSIT_NS)
    return served, local, upstream


def test_A3_ten_minutes_at_95_percent_of_the_real_limit():
    keys = keys_of(1, '{model: "*", rpm: 60, tpm: 100000}')
    served, local, upstream = load(keys, 0.95, 60)
    assert (local, upstream) == (0, 0)
    assert sum(served.values()) >= 0.95 * 600


def test_A3_under_constant_pressure_the_limit_is_used_and_never_overstepped():
    keys = keys_of(1, '{model: "*", rpm: 60, tpm: 100000}')
    served, _, upstream = load(keys, 3, 60)
    assert upstream == 0
    assert sum(served.values()) >= 0.95 * (600 + 60)  # the rate, and what a whole bucket holds at the start


@pytest.mark.parametrize("count", [5, 24])
def test_A6_equal_keys_at_nine_tenths_of_their_sum(count):
    served, local, upstream = load(keys_of(count, '{model: "*", rpm: 30}'), 0.9, 30)
    assert (local, upstream) == (0, 0)
    mean = sum(served.values()) / count
    assert all(abs(each - mean) <= 0.05 * mean for each in served.values()), served


def test_A12_a_key_that_is_spent_for_five_days_is_not_called_in_them():
    keys = keys_of(2, '{model: "*", rpm: 600}')
    spent = keys.candidates[0]
    spent.apply(Feedback(Outcome.RATE_LIMITED, Scope.QUOTA, NOW + 5 * DAY), NOW)
    called = {keys.admit(Cost(1, 0), now, ())[0] for now in range(NOW, NOW + 5 * DAY, 10 * MINUTE)}
    assert called == {keys.candidates[1]}
    assert spent in {keys.admit(Cost(1, 0), NOW + 5 * DAY + at * SECOND, ())[0] for at in range(3)}


@pytest.mark.parametrize("seed", range(3))
def test_A19_a_pool_of_fifteen_is_whole_again_after_a_day_of_random_refusals(seed):
    draw, keys = random.Random(seed), keys_of(15, '{model: "*", rpm: 60}')
    wasted = dict.fromkeys(keys.candidates, 0)
    fewest = 15
    for now in range(NOW, NOW + DAY, 20 * SECOND):
        admitted = keys.admit(Cost(10, 0), now, ())
        fewest = min(fewest, sum(each.standing().until_ns <= now for each in keys.candidates))
        if admitted is None:
            continue
        candidate, charge = admitted
        fate = draw.random()
        feedback = None
        if fate < 0.01:
            feedback = Feedback(Outcome.KEY_UNPAID, Scope.KEY, now + 6 * HOUR)
        elif fate < 0.1:
            feedback = Feedback(Outcome.RATE_LIMITED, Scope.QUOTA, now + draw.randint(1, 600) * SECOND)
        elif fate < 0.12:
            feedback = Feedback(Outcome.BUSY, Scope.TARGET, now + 5 * SECOND)
        if feedback is None:
            settle(candidate, charge, Outcome.OK, Usage(10, 5), now + TOOK_NS)
            candidate.quota.passed(charge)
            continue
        wasted[candidate] += feedback.outcome is Outcome.KEY_UNPAID
        settle(candidate, charge, feedback.outcome, None, now + TOOK_NS)
        candidate.apply(feedback, now)
    assert fewest < 15
    assert max(wasted.values()) <= 4, "an unpaid key is asked four times a day"
    end = NOW + DAY + 6 * HOUR
    whole = set()
    for now in range(end, end + 30 * SECOND, SECOND):
        candidate, charge = keys.admit(Cost(10, 0), now, ())
        candidate.quota.passed(charge)
        settle(candidate, charge, Outcome.OK, Usage(10, 5), now)
        whole.add(candidate)
    assert whole == set(keys.candidates)
    assert all(each.quota.inflight == 0 for each in keys.candidates)


def test_A25_after_recovery_a_key_takes_traffic_by_its_bucket():
    keys = keys_of(1, '{model: "*", rpm: 60}')
    (candidate,) = keys.candidates
    candidate.quota.learn([Reading(Axis.REQUESTS, MINUTE, 60, 0, MINUTE, Source.HEADER)], NOW)
    candidate.apply(Feedback(Outcome.RATE_LIMITED, Scope.QUOTA, NOW + 10 * SECOND), NOW)
    taken = 0
    for at in range(NOW + 10 * SECOND, NOW + 11 * SECOND, SECOND // 100):
        while (admitted := keys.admit(Cost(1, 0), at, ())) is not None:
            taken += 1
            admitted[0].quota.passed(admitted[1])
            admitted[0].quota.settle(admitted[1], None, at)
    assert 1 <= taken <= 11  # ten seconds' refill, and that of the second


def test_A8_input_and_output_are_counted_apart_where_the_provider_counts_them_apart():
    keys = "keys: [{name: a, env: A}]\n    limits: [{model: '*', itpm: 1000, otpm: 200}]"
    for name in ("anthropic", "fireworks"):
        roster = roster_of(f"providers:\n  - name: {name}\n    {keys}\n")
        (candidate,) = roster.keys(target_of(roster, f"{name}/m"), NOW).candidates
        quota = candidate.quota
        charge = quota.try_admit(Cost(400, 0), NOW)
        assert charge is not None
        # read from the prompt cache: free at Anthropic, for most models; Fireworks counts all of the prompt
        quota.settle(charge, Usage(400, 250, cached_tokens=300), NOW)
        left = {view.axis: view.remaining for view in quota.views(NOW)}
        assert left == {Axis.INPUT_TOKENS: 900 if name == "anthropic" else 600, Axis.OUTPUT_TOKENS: 0}
        assert quota.try_admit(Cost(10, 0), NOW) is None, "its output window is overdrawn, though it declares nothing"
        assert quota.try_admit(Cost(10, 0), NOW + 2 * MINUTE) is not None
