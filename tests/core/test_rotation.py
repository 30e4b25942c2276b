"""The choice among very many keys: nobody is forgotten, nobody that is spent is asked again and again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import HOUR, MINUTE, SECOND, Cost
from sidecar.core.outcomes import Feedback, Outcome, Scope
from tests.core.house import NOW
from tests.core.test_conversation import keys_of

ONE = Cost(1, 0)


def served(keys, now, count):
    found = []
    for _ in range(count):
        admitted = keys.admit(ONE, now, ())
        if admitted is None:
            break
        found.append(admitted[0].key.name)
    return found


def test_all_is_given_and_nothing_more():
    keys = keys_of(40, "rpm: 3")
    assert sorted(served(keys, NOW, 500)) == sorted(f"k{n}" for n in range(40) for _ in range(3))
    assert len(served(keys, NOW + 2 * MINUTE, 500)) == 120


def test_of_a_thousand_spent_keys_the_ten_others_serve_and_the_rest_is_not_looked_at():
    keys = keys_of(1000, "rpm: 600")
    for candidate in keys.candidates[:990]:
        candidate.quota.cool(NOW + HOUR)
    assert set(served(keys, NOW, 200)) == {f"k{n}" for n in range(990, 1000)}
    assert len(keys._rotation._parked) > 950
    assert len(set(served(keys, NOW + HOUR, 4000))) == 1000


@pytest.mark.parametrize("scope", [Scope.KEY, Scope.KEY_MODEL, Scope.QUOTA])
def test_who_frees_before_its_time_is_found_when_nobody_else_is_left(scope):
    keys = keys_of(20, "rpm: 1")
    for candidate in keys.candidates:
        candidate.apply(Feedback(Outcome.BUSY, scope, NOW + HOUR), NOW)
    assert served(keys, NOW, 1) == []
    lucky = keys.candidates[7]
    lucky.of_key.clear()
    lucky.at_model.clear()
    lucky.quota.gate, lucky.quota.cooldown_until = type(lucky.quota.gate).OPEN, 0
    assert served(keys, NOW + 1, 1) == ["k7"]


def test_a_request_that_fits_a_few_finds_them():
    keys = keys_of(30, "tpm: 100")
    for candidate in keys.candidates[3:]:
        candidate.quota.try_admit(Cost(50, 0), NOW)
    found = set()
    for _ in range(3):
        admitted = keys.admit(Cost(80, 0), NOW, ())
        assert admitted is not None
        found.add(admitted[0].key.name)
    assert found == {"k0", "k1", "k2"}
    assert keys.admit(Cost(80, 0), NOW, ()) is None
    assert keys.admit(Cost(40, 0), NOW, ()) is not None
    assert keys.admit(Cost(9999, 0), NOW, ()) is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20 * SECOND), st.integers(1, 80), st.integers(0, 24)), max_size=60))
def test_it_finds_somebody_exactly_when_there_is_one(moves):
    keys, now = keys_of(24, "rpm: 2, tpm: 100"), NOW
    for gap, size, passed in moves:
        now += gap
        cost, passed_over = Cost(size, 0), list(keys.candidates[:passed])
        able = [
            each
            for each in keys.candidates[passed:]
            if each.quota.free_at(cost, now) == now and not each.quota.line.waiting
        ]
        admitted = keys.admit(cost, now, passed_over)
        assert (admitted is not None) == bool(able)
        assert admitted is None or admitted[0] in able


def test_who_is_drawn_serves_as_long_as_its_quota_looks_the_same():
    keys = keys_of(40, "rpm: 1000000, tpm: 1000000000")
    first = served(keys, NOW, 67)  # the last round ends with each
    assert sorted(map(first.count, set(first))) == [16, 17, 17, 17]
    second = served(keys, NOW, 67)
    assert len(set(second)) == 4
    assert not set(first) & set(second)
    # a thousandth of a small limit is less than one request: what was seen holds for none
    assert len(set(served(keys_of(40, "rpm: 900"), NOW, 40))) == 40


def test_of_keys_with_a_cap_each_serves_once_before_others_are_drawn():
    assert len(set(served(keys_of(40, "rpm: 1000000, concurrency: 100"), NOW, 40))) == 40
