"""Which key of a target serves next, and what to expect of a target that has none."""

from __future__ import annotations

from collections import Counter

import pytest

from sidecar.core.health import FOREVER_NS
from sidecar.core.keys import Keys, Size, header_text, is_timed
from sidecar.core.limits import HOUR, MINUTE, SECOND, Cost
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.snapshot import TRANSIT_NS
from sidecar.core.tokens import Calibration, Kind
from tests.core.house import NOW, roster_of, snapshot_of, target_of

COST = Cost(100, 0)


def keys_config(count, limits="rpm: 60"):
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(count))
    return f"providers:\n  - name: groq\n    keys:\n{keys}\n    limits: [{{{limits}}}]\n"


def keys_of(roster, model="m"):
    return roster.keys(target_of(roster, f"groq/{model}"), NOW)


def take(keys, now=NOW, passed_over=()):
    admitted = keys.admit(COST, now, passed_over)
    assert admitted is not None
    return admitted[0]


def test_A6_equal_keys_share_evenly():
    keys = keys_of(roster_of(keys_config(5)))
    served = Counter(take(keys).key.name for _ in range(250))
    assert served == {f"k{n}": 50 for n in range(5)}


def test_A6_the_larger_account_takes_more_so_that_none_is_drained_first():
    text = keys_config(2).replace(
        "[{rpm: 60}]", "[{model: '*', account: k0, rpm: 90}, {model: '*', account: k1, rpm: 30}]"
    )
    keys = keys_of(roster_of(text))
    served = Counter(take(keys).key.name for _ in range(120))
    assert served == {"k0": 90, "k1": 30}
    assert keys.admit(COST, NOW, ()) is None


def test_A7_two_keys_of_one_account_draw_on_one_quota():
    text = keys_config(2).replace("env: K0", "env: K0, account: org").replace("env: K1", "env: K1, account: org")
    keys = keys_of(roster_of(text))
    for _ in range(60):
        take(keys)
    assert keys.admit(COST, NOW, ()) is None


def test_of_many_keys_a_few_are_compared_and_all_come_to_serve():
    keys = keys_of(roster_of(keys_config(100)))
    served = Counter(take(keys).key.name for _ in range(1000))
    assert len(served) == 100
    assert max(served.values()) <= 20


def test_A13_a_key_limited_at_one_model_serves_another():
    roster = roster_of(keys_config(1))
    here, there = keys_of(roster, "m"), keys_of(roster, "n")
    candidate = take(here)
    candidate.apply(Feedback(Outcome.RATE_LIMITED, Scope.QUOTA, NOW + MINUTE), NOW)
    assert here.admit(COST, NOW, ()) is None
    assert take(there).key is candidate.key


@pytest.mark.parametrize(
    ("scope", "barred"),
    [
        (Scope.KEY, {"k0 m", "k0 n"}),
        (Scope.KEY_MODEL, {"k0 m"}),
        (Scope.TARGET, {"k0 m", "k1 m"}),
        (Scope.QUOTA, {"k0 m"}),
        (Scope.REQUEST, set()),
    ],
)
def test_a_bench_reaches_as_far_as_its_scope(scope, barred):
    roster = roster_of(keys_config(2))
    all_keys = {model: keys_of(roster, model) for model in ("m", "n")}
    first = all_keys["m"].candidates[0]
    first.apply(Feedback(Outcome.BUSY, scope, NOW + HOUR), NOW)
    found = set()
    for model, keys in all_keys.items():
        for candidate in keys.candidates:
            others = [other for other in keys.candidates if other is not candidate]
            if keys.admit(COST, NOW, others) is None:
                found.add(f"{candidate.key.name} {model}")
    assert found == barred


def test_A9_a_shorter_bench_never_replaces_a_longer_one():
    roster = roster_of(keys_config(1))
    candidate = keys_of(roster).candidates[0]
    candidate.apply(Feedback(Outcome.KEY_UNPAID, Scope.KEY, NOW + HOUR), NOW)
    candidate.apply(Feedback(Outcome.KEY_UNPAID, Scope.KEY, NOW + SECOND), NOW)
    assert candidate.of_key.until_ns == NOW + HOUR


def test_H6_an_invalid_key_is_off_until_its_secret_changes():
    roster = roster_of(keys_config(1))
    keys = keys_of(roster)
    keys.candidates[0].apply(Feedback(Outcome.KEY_INVALID, Scope.KEY, None), NOW)
    assert keys.admit(COST, NOW + 1000 * HOUR, ()) is None
    assert keys.outlook(COST, NOW, ()).free_at_ns is None
    roster.reload(snapshot_of(keys_config(1)), NOW)
    assert keys.candidates[0].of_key.until_ns == FOREVER_NS, "the same secret changes nothing"
    roster.reload(snapshot_of(keys_config(1), secrets={"k0": "another"}), NOW)
    assert keys_of(roster).admit(COST, NOW, ()) is not None


def test_a_missing_key_serves_nobody():
    keys = keys_of(roster_of(keys_config(2), missing=("k0",)))
    assert {take(keys).key.name for _ in range(10)} == {"k1"}


def test_the_outlook_tells_when_the_first_key_frees():
    keys = keys_of(roster_of(keys_config(2, "rpm: 1")))
    take(keys, NOW)
    take(keys, NOW + 10 * SECOND)
    outlook = keys.outlook(COST, NOW + 10 * SECOND, ())
    assert outlook.free_at_ns == NOW + MINUTE + TRANSIT_NS
    assert not outlook.never_fits


def test_A4_the_outlook_tells_what_never_fits():
    keys = keys_of(roster_of(keys_config(2, "tpm: 100")))
    outlook = keys.outlook(Cost(100_000, 0), NOW, ())
    assert outlook.never_fits
    assert keys.largest_budget() == 100


def benched(*benches, passed_over=(), text=None, missing=()):
    """The outlook at keys that are benched: (which key, its scope, seconds, outcome)."""
    keys = keys_of(roster_of(text or keys_config(3, "rpm: 1"), missing))
    for index, scope, seconds, outcome in benches:
        until_ns = FOREVER_NS if seconds is None else NOW + seconds * SECOND
        keys.candidates[index].apply(Feedback(outcome, scope, until_ns), NOW)
    return keys, keys.outlook(COST, NOW, [keys.candidates[index] for index in passed_over])


@pytest.mark.parametrize(
    ("benches", "passed_over", "seconds", "cause", "ends"),
    [
        ([], (), 0, None, None),
        ([(0, Scope.KEY, 9, Outcome.KEY_UNPAID)], (), 0, None, 9),
        ([(0, Scope.KEY, 9, Outcome.KEY_UNPAID)], (0, 1, 2), None, None, None),
        ([(0, Scope.KEY, 9, Outcome.KEY_UNPAID)], (1, 2), 9, Outcome.KEY_UNPAID, 9),
        ([(0, Scope.TARGET, 7, Outcome.BUSY), (0, Scope.KEY, 9, Outcome.KEY_UNPAID)], (), 7, Outcome.BUSY, 7),
        ([(0, Scope.TARGET, 7, Outcome.BUSY), (0, Scope.KEY, 9, Outcome.KEY_UNPAID)], (1, 2), 9, Outcome.KEY_UNPAID, 9),
        ([(n, Scope.KEY_MODEL, 9 - n, Outcome.KEY_FORBIDDEN) for n in range(3)], (), 7, Outcome.KEY_FORBIDDEN, 7),
        ([(n, Scope.KEY, None, Outcome.KEY_INVALID) for n in range(3)], (), None, None, None),
        # the quota frees later than the bench ends
        ([(n, Scope.QUOTA, 9, Outcome.RATE_LIMITED) for n in range(3)], (), 9, None, None),
        (
            [(0, Scope.TARGET, 7, Outcome.BUSY), *((n, Scope.QUOTA, 9, Outcome.RATE_LIMITED) for n in range(3))],
            (),
            9,
            None,
            7,
        ),
    ],
)
def test_the_outlook_tells_what_bars_the_key_that_frees_first(benches, passed_over, seconds, cause, ends):
    _, outlook = benched(*benches, passed_over=passed_over)
    assert outlook.free_at_ns == (None if seconds is None else NOW + seconds * SECOND)
    assert outlook.cause is cause
    assert outlook.bench_ends_ns == (None if ends is None else NOW + ends * SECOND)
    assert not outlook.never_fits


MIXED = keys_config(2).replace("[{rpm: 60}]", "[{account: k0, tpm: 10}]")


@pytest.mark.parametrize(
    ("benches", "missing", "never_fits"),
    [
        ([], (), False),
        ([], ("k1",), True),
        ([(1, Scope.KEY, None, Outcome.KEY_INVALID)], (), True),
        ([(1, Scope.KEY, 9, Outcome.KEY_UNPAID)], (), False),
        ([], ("k0", "k1"), False),
    ],
)
def test_A4_only_keys_that_can_be_used_say_what_fits(benches, missing, never_fits):
    _, outlook = benched(*benches, text=MIXED, missing=missing)
    assert outlook.never_fits is never_fits


@pytest.mark.parametrize(
    ("benches", "missing", "passed_over", "places"),
    [
        ([], (), (), "012"),
        ([], ("k1",), (0,), "2"),
        ([(0, Scope.KEY, 9, Outcome.KEY_UNPAID)], (), (), "12"),
        ([(0, Scope.TARGET, 9, Outcome.BUSY)], (), (), ""),
        ([(0, Scope.QUOTA, 9, Outcome.RATE_LIMITED)], (), (), "012"),
    ],
)
def test_A14_only_for_a_quota_it_is_worth_standing_in_line(benches, missing, passed_over, places):
    keys, _ = benched(*benches, missing=missing)
    found = keys.places(COST, NOW, [keys.candidates[index] for index in passed_over])
    assert [candidate.key.name for candidate in found] == [f"k{digit}" for digit in places]


def test_A4_it_is_not_worth_standing_where_it_never_fits():
    keys = keys_of(roster_of(MIXED))
    assert [candidate.key.name for candidate in keys.places(COST, NOW, ())] == ["k1"]


def test_what_is_over_already_benches_nobody():
    keys, _ = benched((0, Scope.KEY, 0, Outcome.KEY_UNPAID), (1, Scope.KEY, -5, Outcome.KEY_UNPAID))
    assert [candidate.standing().cause for candidate in keys.candidates] == [None] * 3


def test_newcomers_do_not_overtake_those_who_wait():
    keys = keys_of(roster_of(keys_config(1)))
    candidate = keys.candidates[0]
    candidate.quota.line.waiting = 1
    assert keys.admit(COST, NOW, ()) is None
    candidate.quota.line.waiting = 0
    assert keys.admit(COST, NOW, ()) is not None


def test_a_target_without_keys_admits_nobody_and_promises_nothing():
    keys = Keys(target_of(roster_of(), "groq/m"), (), {Kind.PROSE: Calibration()})
    assert keys.admit(COST, NOW, ()) is None
    assert keys.outlook(COST, NOW, ()) == (None, False, None, None)
    assert keys.largest_budget() == 0


def test_a_candidate_says_what_it_is():
    (candidate,) = keys_of(roster_of(keys_config(1))).candidates
    assert repr(candidate).startswith("<Candidate groq/m k0 <Standing good until 0> <Quota groq/k0 m: 0 in flight")


def test_a_size_costs_what_the_providers_rule_charges():
    keys = keys_of(roster_of(keys_config(1)))
    assert keys.cost(Size(400, 50, 2, 0)) == Cost(100, 100)
    assert keys.cost(Size(0, None, 1, 30)).audio_seconds == 30


def test_each_kind_of_text_has_a_calibration_of_its_own():
    keys = keys_of(roster_of(keys_config(1)))
    dense, light = Size(4000, None, 1, 0, Kind.SYMBOLS), Size(4000, None, 1, 0)
    for _ in range(50):
        keys.report(dense, 2000)
    assert keys.cost(light).input_tokens == 1000
    assert keys.cost(dense).input_tokens == pytest.approx(2000, rel=0.05)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gpt-4o", b"gpt-4o"),
        ("a\r\nb: c", b"a??b: c"),
        ("!~ \x7f", b"!~ ?"),
        ("modèle", b"mod?le"),
        ("x" * 999, b"x" * 256),
    ],
)
def test_a_name_is_safe_as_a_header(text, value):
    assert header_text(text) == value


def test_nothing_tells_a_secret():
    roster = roster_of(keys_config(1))
    keys = keys_of(roster)
    shown = repr(keys.candidates) + repr(roster.snapshot) + repr(list(roster.snapshot.each_key()))
    assert "secret-of" not in shown


def test_of_many_keys_the_best_of_eight_in_rotation_serves_not_the_best_of_all():
    text = keys_config(100, "model: '*', rpm: 60}, {model: '*', account: k99, rpm: 6000")
    keys = keys_of(roster_of(text))
    for candidate in keys.candidates[:99]:
        candidate.quota.try_admit(COST, NOW)
    served = Counter(take(keys).key.name for _ in range(100))
    assert 1 <= served["k99"] <= 12


@pytest.mark.parametrize("scope", [Scope.KEY, Scope.KEY_MODEL, Scope.TARGET, Scope.QUOTA])
def test_A9_at_the_announced_instant_and_not_before(scope):
    keys = keys_of(roster_of(keys_config(1)))
    candidate = keys.candidates[0]
    candidate.apply(Feedback(Outcome.BUSY, scope, NOW + SECOND), NOW)
    for now, is_free in [(NOW + SECOND - 1, False), (NOW + SECOND, True)]:
        assert keys.outlook(COST, now, ()).free_at_ns == NOW + SECOND
        assert keys.places(COST, now, ()) == ([candidate] if is_free or scope is Scope.QUOTA else [])
        assert (keys.admit(COST, now, ()) is not None) is is_free


@pytest.mark.parametrize(
    ("free_at_ns", "timed"), [(None, False), (FOREVER_NS, False), (FOREVER_NS - 1, True), (0, True)]
)
def test_what_an_event_frees_has_no_time(free_at_ns, timed):
    assert is_timed(free_at_ns) is timed
