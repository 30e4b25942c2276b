"""Who can serve a target: built once, bounded, and what is known outlives a reload."""

from __future__ import annotations

import pytest

from sidecar.core.health import FOREVER_NS
from sidecar.core.keys import Size
from sidecar.core.limits import MINUTE, Cost
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.tokens import Kind
from tests.core.house import NOW, TWO_PROVIDERS, hops_of, roster_of, snapshot_of, target_of

COST = Cost(1, 0)
LOCAL = "providers: [{name: custom, base_url: http://one/v1, keys: [{name: a, env: A}]}]\n"


def bench(candidate, scope, outcome=Outcome.BUSY, until_ns=NOW + MINUTE):
    candidate.apply(Feedback(outcome, scope, until_ns, message="words"), NOW)


def test_a_target_is_built_once_and_one_key_of_it_shares_everything():
    roster = roster_of()
    target = target_of(roster, "groq/m")
    keys = roster.keys(target, NOW)
    assert roster.keys(target_of(roster, "groq/m"), NOW) is keys
    assert [candidate.key.name for candidate in keys.candidates] == ["a", "b"]
    only = roster.only(target, keys.candidates[1].key, NOW)
    (candidate,) = only.candidates
    assert candidate.quota is keys.candidates[1].quota
    assert all(only.calibrations[kind] is keys.calibrations[kind] for kind in Kind)
    bench(candidate, Scope.TARGET)
    bench(candidate, Scope.KEY)
    bench(candidate, Scope.KEY_MODEL)
    same = keys.candidates[1]
    assert (same.at_provider, same.of_key, same.at_model) == (
        candidate.at_provider,
        candidate.of_key,
        candidate.at_model,
    )
    assert keys.candidates[0].standing() is candidate.at_provider


def test_H1_what_was_used_and_what_is_known_outlives_a_reload():
    roster = roster_of(TWO_PROVIDERS + "wait: {max: 5s}\n")
    hop = hops_of(roster)[0]
    charge = hop.candidates[0].quota.try_admit(COST, NOW)
    assert charge is not None
    for scope in (Scope.TARGET, Scope.KEY, Scope.KEY_MODEL):
        bench(hop.candidates[0], scope)
    hop.report(Size(400, None, 1, 0, Kind.SYMBOLS), 400)
    roster.reload(snapshot_of(), NOW)
    again = hops_of(roster)[0]
    assert again is not hop
    assert again.target.provider is not hop.target.provider
    assert again.candidates[0].quota is hop.candidates[0].quota
    assert again.calibrations == hop.calibrations
    assert again.cost(Size(400, None, 1, 0, Kind.SYMBOLS)).input_tokens > 100
    same = again.candidates[0]
    assert [each.until_ns for each in (same.at_provider, same.of_key, same.at_model)] == [NOW + MINUTE] * 3


@pytest.mark.parametrize(
    ("text", "secrets", "is_free"),
    [
        (LOCAL, {}, False),
        (LOCAL + "wait: {max: 1s}\n", {}, False),
        (LOCAL, {"a": "new"}, True),
        (LOCAL.replace("one", "two"), {}, True),
        (LOCAL.replace("/v1", "/v2"), {}, True),
        (LOCAL.replace("http:", "https:"), {}, True),
        (LOCAL.replace("one", "ONE"), {}, False),
    ],
)
def test_H6_an_invalid_key_is_off_until_it_or_its_provider_is_another(text, secrets, is_free):
    roster = roster_of(LOCAL)
    keys = roster.keys(target_of(roster, "custom/m"), NOW)
    bench(keys.candidates[0], Scope.KEY, Outcome.KEY_INVALID, None)
    assert keys.candidates[0].of_key.until_ns == FOREVER_NS
    roster.reload(snapshot_of(text, secrets=secrets), NOW)
    again = roster.keys(target_of(roster, "custom/m"), NOW)
    assert (again.admit(COST, NOW, ()) is not None) is is_free


@pytest.mark.parametrize(("text", "is_parked"), [(LOCAL, True), (LOCAL.replace("one", "two"), False)])
def test_H5_a_model_is_parked_until_its_provider_is_elsewhere(text, is_parked):
    roster = roster_of(LOCAL)
    bench(roster.keys(target_of(roster, "custom/m"), NOW).candidates[0], Scope.TARGET, Outcome.MODEL_UNAVAILABLE)
    roster.reload(snapshot_of(text), NOW)
    assert roster.parked(NOW) == ({"custom/m"} if is_parked else set())


def test_H1_a_key_that_has_come_serves():
    roster = roster_of(LOCAL, missing=("a",))
    target = target_of(roster, "custom/m")
    assert roster.keys(target, NOW).admit(COST, NOW, ()) is None
    roster.reload(snapshot_of(LOCAL), NOW)
    assert roster.keys(target_of(roster, "custom/m"), NOW).admit(COST, NOW, ()) is not None


def many_keys(count):
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(count))
    return f"providers:\n  - name: groq\n    keys:\n{keys}\nmodels: [{{name: fast, chain: [groq/own]}}]\n"


def test_E1_callers_model_names_do_not_fill_the_memory():
    roster = roster_of(many_keys(20))
    (hop,) = hops_of(roster)
    for n in range(900):
        roster.keys(target_of(roster, f"groq/made-up-{n}"), NOW)
    assert roster.candidates <= 1 << 14
    assert len(roster.health.targets) == 901
    assert len(roster.health.key_models) <= 4096 + 20
    assert len(roster.ledger) <= 4096 + 2 * 20
    bench(hop.candidates[0], Scope.TARGET)
    (again,) = hops_of(roster)
    assert again is not hop, "left out meanwhile"
    assert again.candidates[0].at_provider is hop.candidates[0].at_provider, "what is configured is never forgotten"
    assert again.candidates[7].at_model is hop.candidates[7].at_model


def test_E1_a_target_of_very_many_keys_is_kept_alone():
    roster = roster_of(many_keys(3))
    for n in range(10_000):
        roster.keys(target_of(roster, f"groq/m{n % 3}"), NOW)
    assert roster.candidates == 9


def test_E1_calibrations_are_bounded():
    roster = roster_of(many_keys(1))
    (hop,) = hops_of(roster)
    for n in range(4096):
        roster.keys(target_of(roster, f"groq/m{n}"), NOW)
    roster.reload(snapshot_of(many_keys(1)), NOW)
    assert hops_of(roster)[0].calibrations[Kind.PROSE] is not hop.calibrations[Kind.PROSE]


@pytest.mark.parametrize(
    ("outcome", "until_ns", "before", "after"),
    [
        (Outcome.KEY_INVALID, None, False, False),
        (Outcome.KEY_UNPAID, NOW + MINUTE, False, True),
    ],
)
def test_a_key_that_something_is_known_against_is_not_callable(outcome, until_ns, before, after):
    roster = roster_of(missing=("b",))
    first, second = roster.snapshot.providers["groq"].keys
    assert roster.is_callable(first, NOW)
    assert not roster.is_callable(second, NOW)
    bench(hops_of(roster)[0].candidates[0], Scope.KEY, outcome, until_ns)
    assert (roster.is_callable(first, NOW), roster.is_callable(first, NOW + MINUTE)) == (before, after)


NAMES = """
models:
  - {name: fast, chain: [groq/x, cerebras/y]}
  - {name: groq-alone, chain: [groq/x]}
"""


@pytest.mark.parametrize(
    ("missing", "parked", "names"),
    [
        ((), [], ["fast", "groq-alone"]),
        (("a",), [], ["fast", "groq-alone"]),
        (("a", "b"), [], ["fast"]),
        (("a", "b", "c"), [], []),
        ((), ["groq/x"], ["fast"]),
        ((), ["groq/x", "cerebras/y"], []),
        (("c",), ["groq/x"], []),
        ((), ["groq/y", "cerebras/x"], ["fast", "groq-alone"]),
    ],
)
def test_H5_a_public_name_is_usable_as_long_as_one_of_its_targets_is(missing, parked, names):
    roster = roster_of(TWO_PROVIDERS[: TWO_PROVIDERS.index("models:")] + NAMES, missing)
    for name in parked:
        bench(roster.keys(target_of(roster, name), NOW).candidates[0], Scope.TARGET, Outcome.MODEL_UNAVAILABLE)
    assert roster.usable_names(NOW) == names


def test_H5_only_what_does_not_exist_is_parked_and_only_for_a_time():
    roster = roster_of()
    bench(roster.keys(target_of(roster, "groq/gone"), NOW).candidates[0], Scope.TARGET, Outcome.MODEL_UNAVAILABLE)
    bench(roster.keys(target_of(roster, "groq/busy"), NOW).candidates[0], Scope.TARGET, Outcome.BUSY)
    assert roster.parked(NOW) == {"groq/gone"}
    assert roster.parked(NOW + MINUTE) == set()
