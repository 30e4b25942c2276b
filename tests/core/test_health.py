"""Standings: they only grow, they end by themselves, and their number is bounded."""

from __future__ import annotations

import pytest

from sidecar.core.breaker import State
from sidecar.core.health import FOREVER_NS, Health, Standing, Standings
from sidecar.core.outcomes import Outcome

NOW = 1_000


@pytest.mark.parametrize(
    ("benches", "until", "cause"),
    [
        ([(10, Outcome.BUSY)], 10, Outcome.BUSY),
        ([(10, Outcome.BUSY), (5, Outcome.KEY_UNPAID)], 10, Outcome.BUSY),
        ([(10, Outcome.BUSY), (10, Outcome.KEY_UNPAID)], 10, Outcome.BUSY),
        ([(10, Outcome.BUSY), (11, Outcome.KEY_UNPAID)], 11, Outcome.KEY_UNPAID),
        ([(FOREVER_NS, Outcome.KEY_INVALID), (99, Outcome.BUSY)], FOREVER_NS, Outcome.KEY_INVALID),
    ],
)
def test_A9_A12_a_bench_only_grows(benches, until, cause):
    standing = Standing()
    for until_ns, why in benches:
        standing.bench(until_ns, why, why.value)
    assert (standing.until_ns, standing.cause, standing.message) == (until, cause, cause.value)


def test_a_standing_says_what_it_is():
    standing = Standing()
    assert repr(standing) == "<Standing good until 0>"
    standing.bench(7, Outcome.BUSY, "later")
    assert repr(standing) == "<Standing busy until 7>"
    standing.clear()
    assert (standing.until_ns, standing.cause, standing.message) == (0, None, "")


def test_a_name_has_one_standing():
    standings = Standings()
    assert standings.of("a", NOW) is standings.of("a", NOW, is_passing=True)
    assert standings.of("a", NOW) is not standings.of("b", NOW)
    assert [name for name, _ in standings.items()] == ["a", "b"]


def test_E1_passing_names_are_bounded_and_configured_ones_stay():
    standings = Standings(most=20)
    kept = [standings.of(f"configured {n}", NOW) for n in range(30)]
    for n in range(100):
        standings.of(f"passing {n}", NOW, is_passing=True)
    assert len(standings) == 50
    assert [standings.of(f"configured {n}", NOW) for n in range(30)] == kept


def test_E1_good_ones_leave_before_benched_ones():
    standings = Standings(most=20)
    for n in range(5):
        standings.of(f"benched {n}", NOW, is_passing=True).bench(NOW + 9, Outcome.MODEL_UNAVAILABLE, "")
    for n in range(100):
        standings.of(f"good {n}", NOW, is_passing=True)
    names = {name for name, _ in standings.items()}
    assert len(names) == 20
    assert {f"benched {n}" for n in range(5)} < names
    for n in range(100):
        standings.of(f"later {n}", NOW + 9, is_passing=True)
    assert not any(name.startswith("benched") for name, _ in standings.items()), "a bench that is over keeps nobody"


def test_E1_many_benched_ones_are_bounded_as_well():
    standings = Standings(most=20)
    for n in range(100):
        standings.of(f"benched {n}", NOW, is_passing=True).bench(NOW + 9, Outcome.MODEL_UNAVAILABLE, "")
    assert len(standings) == 20


def test_a_name_that_was_configured_since_stays():
    standings = Standings(most=2)
    first = standings.of("first", NOW, is_passing=True)
    assert standings.of("first", NOW) is first
    for n in range(10):
        standings.of(f"passing {n}", NOW, is_passing=True)
    assert standings.of("first", NOW) is first


def bench_all(health):
    for standings, names in [
        (health.keys, ["groq/a", "groq/ab"]),
        (health.key_models, ["groq/a m", "groq/ab m"]),
        (health.targets, ["groq/m", "groq", "groq-2/m"]),
    ]:
        for name in names:
            standings.of(name, NOW).bench(FOREVER_NS, Outcome.KEY_INVALID, "")


def good(health):
    kinds = (health.keys, health.key_models, health.targets)
    return {name for standings in kinds for name, standing in standings.items() if not standing.until_ns}


def test_H6_a_changed_secret_is_given_another_chance_and_no_other_key_is():
    health = Health()
    health.note_secret("groq/a", 1)
    bench_all(health)
    health.note_secret("groq/a", 1)
    assert good(health) == set()
    health.note_secret("groq/a", 2)
    assert good(health) == {"groq/a", "groq/a m"}


def test_H6_at_another_address_nothing_is_known_of_a_provider():
    health = Health()
    health.note_place("groq", "https://a/v1")
    bench_all(health)
    health.note_place("groq", "https://a/v1")
    assert good(health) == set()
    health.note_place("groq", "https://b/v1")
    assert good(health) == {"groq/m", "groq"}


def test_a_provider_at_a_new_place_begins_with_closed_breakers():
    health = Health()
    health.note_place("groq", "https://one")
    breakers = [health.breakers.of(name, NOW) for name in ("groq/m", "cerebras/m")]
    for breaker in breakers:
        breaker.until_ns, breaker.state = NOW + 9, State.OPEN
    health.note_place("groq", "https://one")
    assert [breaker.state for breaker in breakers] == [State.OPEN, State.OPEN]
    health.note_place("groq", "https://two")
    assert [(breaker.state, breaker.until_ns) for breaker in breakers] == [(State.CLOSED, 0), (State.OPEN, NOW + 9)]
