"""The present as families: what each says, and that no caller can add a series."""

from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from sidecar.core.breaker import IN_A_ROW
from sidecar.core.exposition import Page
from sidecar.core.health import FOREVER_NS
from sidecar.core.limits import HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.metrics import Kept, fill
from sidecar.core.metrics_table import PARTS, families
from sidecar.core.outcomes import Outcome
from sidecar.core.tally import Tally
from tests.core.house import NOW, admitted, hops_of, live_of, roster_of, snapshot_of

LIMITED = """
providers:
  - name: groq
    keys: [{name: a, env: A, account: org-a}, {name: b, env: B}]
    limits: [{model: "*", rpm: 30, tpd: 1000, concurrency: 4}]
models: [{name: fast, chain: [groq/openai/gpt-oss-120b]}]
"""


@pytest.fixture
def roster():
    return roster_of(LIMITED)


def told(roster, **fields):
    """Every sample: its labels' values and its value, by name. The time is NOW + 1 s."""
    state = live_of(roster, Tally(roster.snapshot))._replace(**fields)
    page = Page()
    for _ in fill(PARTS, state, page):
        pass
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parse(page.text(False).decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return samples


def test_every_family_is_told_of_even_where_it_has_nothing_to_say(roster):
    state = live_of(roster, Tally(roster.snapshot))
    page = Page()
    for _ in fill(PARTS, state, page):
        pass
    text = page.text(False).decode()
    assert [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")] == list(families())


def test_I3_a_quota_says_limit_remaining_reset_source_and_drift(roster):
    quota = hops_of(roster)[0].candidates[0].quota
    where = ("groq", "org-a", "openai/gpt-oss-120b")
    charge = quota.try_admit(Cost(100, 0), NOW)
    quota.learn([Reading(Axis.REQUESTS, MINUTE, 20, 15, None, Source.HEADER)], NOW, charge)
    quota.cool(NOW + 11 * SECOND)
    samples = told(roster)
    minute, day = (*where, "requests", "1m"), (*where, "tokens", "1d")
    assert samples["sidecar_quota_limit"][*minute, "header"] == 20
    assert samples["sidecar_quota_limit"][*day, "config"] == 1000
    assert samples["sidecar_quota_remaining"][minute] == 15
    assert samples["sidecar_quota_remaining"][day] == 900
    view = next(each for each in quota.views(NOW + SECOND) if each.axis is Axis.REQUESTS)
    assert samples["sidecar_quota_reset_seconds"][minute] == pytest.approx(
        (view.resets_at - NOW) / SECOND - 1, abs=1e-3
    )
    assert samples["sidecar_quota_drift_ratio"] == {minute: 0}
    assert samples["sidecar_quota_in_flight"][where] == 1
    assert samples["sidecar_quota_waiting"][where] == 0
    assert samples["sidecar_quota_concurrency_limit"][where] == 4
    assert samples["sidecar_quota_cooldown_seconds"] == {where: 10}


def test_H2_a_key_that_is_off_and_why(roster):
    health = roster.health
    health.keys.of("groq/a", NOW).bench(FOREVER_NS, Outcome.KEY_INVALID, "")
    health.key_models.of("groq/b openai/gpt-oss-120b", NOW).bench(NOW + HOUR, Outcome.KEY_FORBIDDEN, "")
    health.targets.of("groq/openai/gpt-oss-120b", NOW).bench(NOW + 61 * SECOND, Outcome.BUSY, "")
    samples = told(roster)
    assert samples["sidecar_keys"] == {("groq",): 2}
    assert samples["sidecar_keys_usable"] == {("groq",): 1}
    assert samples["sidecar_key_usable"] == {("groq", "a"): 0, ("groq", "b"): 1}
    assert samples["sidecar_key_benched_seconds"] == {("groq", "a", "key_invalid"): math.inf}
    where = ("groq", "b", "openai/gpt-oss-120b", "key_forbidden")
    assert samples["sidecar_key_model_benched_seconds"] == {where: 3599}
    assert samples["sidecar_target_benched_seconds"] == {("groq", "openai/gpt-oss-120b", "busy"): 60}


def test_a_key_that_is_missing_is_not_usable():
    samples = told(roster_of(LIMITED, missing=("b",)))
    assert samples["sidecar_key_usable"] == {("groq", "a"): 1, ("groq", "b"): 0}


def test_I1_what_callers_make_up_has_no_label_of_its_own(roster):
    names = {name: len(samples) for name, samples in told(roster).items()}
    for number in range(200):
        model = f"made-up-{number}"
        roster.ledger.quota("groq/org-a", model, NOW)
        roster.health.targets.of(f"groq/{model}", NOW, True).bench(NOW + number * SECOND, Outcome.BUSY, "")
        roster.health.key_models.of(f"groq/a {model}", NOW, True).bench(NOW + HOUR, Outcome.KEY_FORBIDDEN, "")
        roster.health.breakers.of(f"groq/{model}", NOW, True)
    samples = told(roster)
    assert samples["sidecar_quotas_unlisted"] == {(): 200}
    assert samples["sidecar_target_benched_seconds"] == {("groq", "other", "busy"): 198}, "the longest"
    assert set(samples["sidecar_key_model_benched_seconds"]) == {("groq", "a", "other", "key_forbidden")}
    added = sum(map(len, samples.values())) - sum(names.values())
    assert added == 1 + 1 + 3 + 1, "one bench of each kind, one breaker and its trips"


def test_a_breaker_shows_one_state_and_of_several_the_gravest(roster):
    candidate = hops_of(roster)[0].candidates[0]
    for name in ("made-up", "another"):
        roster.health.breakers.of(f"groq/{name}", NOW, True)
    other = roster.health.breakers.of("groq/one-more", NOW, True)
    for breaker in (candidate.breaker, other):
        for _ in range(IN_A_ROW):
            charge = admitted(candidate.quota, Cost(1, 0))
            candidate.quota.cancel(charge, NOW)
            breaker.ended(charge, Outcome.SERVER_ERROR, NOW, 0.0)
    samples = told(roster)
    for model in ("openai/gpt-oss-120b", "other"):
        states = {
            state: samples["sidecar_breaker_state"]["groq", model, state] for state in ("closed", "open", "half_open")
        }
        assert states == {"closed": 0, "open": 1, "half_open": 0}
        assert samples["sidecar_breaker_trips"]["groq", model] == 1


def test_what_is_configured_no_more_is_not_told(roster):
    roster.health.targets.of("groq/openai/gpt-oss-120b", NOW).bench(NOW + HOUR, Outcome.BUSY, "")
    roster.health.key_models.of("groq/b openai/gpt-oss-120b", NOW).bench(NOW + HOUR, Outcome.BUSY, "")
    roster.health.breakers.of("groq/openai/gpt-oss-120b", NOW)
    roster.reload(snapshot_of("providers:\n  - name: cerebras\n    keys: [{name: c, env: C}]\n"), NOW)
    samples = told(roster)
    assert not {"sidecar_target_benched_seconds", "sidecar_key_model_benched_seconds", "sidecar_breaker_state"} & set(
        samples
    )
    assert samples["sidecar_keys"] == {("cerebras",): 1}


def test_the_state_file_is_told_of_where_there_is_one(roster):
    assert "sidecar_state_unsaved" not in told(roster)
    samples = told(roster, kept=Kept(True, None, True))
    assert samples["sidecar_state_unsaved"] == {(): 1}
    assert "sidecar_state_saved_timestamp_seconds" not in samples
    samples = told(roster, kept=Kept(True, NOW, False), events={"reloaded": 3}, is_ready=False)
    assert samples["sidecar_state_saved_timestamp_seconds"] == {(): NOW / SECOND}
    assert samples["sidecar_events_total"] == {("reloaded",): 3}
    assert samples["sidecar_ready"] == {(): 0}
    assert samples["sidecar_config_info"] == {("0123456789ab",): 1}


def test_E5_a_scrape_of_many_keys_is_made_in_steps():
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(200))
    roster = roster_of(f"providers:\n  - name: groq\n    keys:\n{keys}\nmodels: [{{name: f, chain: [groq/m]}}]\n")
    hops_of(roster, "f")
    state = live_of(roster, Tally(roster.snapshot))
    assert sum(1 for _ in fill(PARTS, state, Page())) >= len(PARTS) + 200 // 32 * 2


def test_a_window_of_an_odd_length_is_named_by_its_seconds(roster):
    quota = hops_of(roster)[0].candidates[0].quota
    quota.learn([Reading(Axis.REQUESTS, 10 * SECOND, 5, None, None, Source.HEADER)], NOW)
    assert told(roster)["sidecar_quota_limit"]["groq", "org-a", "openai/gpt-oss-120b", "requests", "10s", "header"] == 5
