"""What `/status.json` tells: keys, quotas, benches; labels and numbers, never a secret."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.core.breaker import IN_A_ROW
from sidecar.core.limits import HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.status import status_of
from tests.core.house import NOW, TWO_PROVIDERS, roster_of, target_of

TEXT = """
providers:
  - name: groq
    keys:
      - {name: a, env: A, account: org}
      - {name: b, env: B, account: org}
    limits: [{model: "*", rpm: 60, tpm: 6000, concurrency: 8}]
  - name: groq-2
    base_url: "http://[::1]:9/v1"
    keys: [{name: a, env: C}]
"""


def shown(roster, now=NOW):
    """The status as a reader of the JSON sees it, by provider."""
    providers = msgspec.json.decode(msgspec.json.encode(status_of(roster, now)))
    return {provider["name"]: provider for provider in providers}


def candidate_of(roster, name="groq/m", at=0):
    return roster.keys(target_of(roster, name), NOW).candidates[at]


def test_I3_a_quiet_house():
    status = shown(roster_of(TEXT, missing=("b",)))
    assert list(status) == ["groq", "groq-2"]
    assert status["groq"] == {
        "name": "groq",
        "url": "https://api.groq.com/openai/v1",
        "keys": [
            {"name": "a", "account": "org", "present": True},
            {"name": "b", "account": "org", "present": False},
        ],
        "accounts": {"org": []},
        "usable_keys": 1,
    }
    assert status["groq-2"]["url"] == "http://[::1]:9/v1"
    assert status["groq-2"]["accounts"] == {"a": []}


def test_I3_every_window_with_what_is_left_and_who_said_so():
    roster = roster_of(TEXT)
    quota = candidate_of(roster).quota
    assert quota.try_admit(Cost(1000, 0), NOW) is not None
    quota.learn([Reading(Axis.REQUESTS, 24 * HOUR, 1000, 1000, None, Source.HEADER)], NOW)
    quota.learn([Reading(Axis.TOKENS, MINUTE, 3000, None, None, Source.BODY)], NOW)
    quota.cool(NOW + 1500 * SECOND // 1000)
    (told,) = shown(roster)["groq"]["accounts"]["org"]
    windows = {(each["counts"], each["per_s"]): each for each in told.pop("windows")}
    assert told == {"model": "m", "in_flight": 1, "waiting": 0, "concurrency": 8, "cooldown_s": 1.5}
    assert set(windows) == {("requests", 60), ("tokens", 60), ("requests", 86400)}
    assert windows["requests", 60]["source"] == "config"
    assert (windows["requests", 60]["limit"], windows["requests", 60]["remaining"]) == (60, 59)
    assert windows["requests", 60]["resets_in_s"] > 0
    assert (windows["tokens", 60]["limit"], windows["tokens", 60]["source"]) == (3000, "body")
    assert (windows["requests", 86400]["limit"], windows["requests", 86400]["source"]) == (1000, "header")
    assert windows["requests", 86400]["resets_in_s"] == 0
    assert [windows[kind].get("drift") for kind in (("requests", 60), ("requests", 86400))] == [None, 0]


def test_I3_of_an_account_every_model_that_was_asked_for():
    roster = roster_of(TEXT)
    for model in ("m", "n"):
        candidate_of(roster, f"groq/{model}")
    assert [quota["model"] for quota in shown(roster)["groq"]["accounts"]["org"]] == ["m", "n"]
    assert shown(roster)["groq-2"]["accounts"] == {"a": []}


@pytest.mark.parametrize(
    ("scope", "outcome", "until_ns", "bench"),
    [
        (Scope.TARGET, Outcome.BUSY, NOW + 90 * SECOND, {"reason": "busy", "for_s": 90.0, "message": "words"}),
        (Scope.KEY, Outcome.KEY_UNPAID, NOW + HOUR, {"reason": "key_unpaid", "for_s": 3600.0, "message": "words"}),
        (Scope.KEY, Outcome.KEY_INVALID, None, {"reason": "key_invalid", "for_s": None, "message": "words"}),
        (
            Scope.KEY_MODEL,
            Outcome.KEY_FORBIDDEN,
            NOW + 1,
            {"reason": "key_forbidden", "for_s": 0.0, "message": "words"},
        ),
    ],
)
@pytest.mark.parametrize("model", ["m", "a/b c", ""])
def test_H2_why_something_is_not_called_and_for_how_long(scope, outcome, until_ns, bench, model):
    roster = roster_of(TEXT)
    candidate_of(roster, f"groq/{model}").apply(Feedback(outcome, scope, until_ns, message="words"), NOW)
    status = shown(roster)
    first, second = status["groq"]["keys"]
    assert status["groq"].get("benched") == ({model: bench} if scope is Scope.TARGET else None)
    assert first.get("benched") == (bench if scope is Scope.KEY else None)
    assert first.get("benched_at") == ({model: bench} if scope is Scope.KEY_MODEL else None)
    assert set(second) == {"name", "account", "present"}
    assert "benched" not in status["groq-2"], "another provider, whose name begins alike"
    assert "benched" not in status["groq-2"]["keys"][0]
    if until_ns is not None:
        later = shown(roster, until_ns)["groq"]
        assert "benched" not in later
        assert later["keys"][0] == {"name": "a", "account": "org", "present": True}


def test_G3_it_holds_no_secret():
    roster = roster_of(TWO_PROVIDERS)
    for name in ("groq/m", "cerebras/m"):
        candidate = candidate_of(roster, name)
        assert candidate.quota.try_admit(Cost(1, 0), NOW) is not None
        for scope in Scope:
            candidate.apply(Feedback(Outcome.BUSY, scope, NOW + HOUR, message="no"), NOW)
    text = msgspec.json.encode(status_of(roster, NOW)).decode()
    assert "secret-of" not in text
    assert "groq" in text


def test_B12_a_breaker_that_is_not_closed_says_what_it_waits_for():
    roster = roster_of(TEXT)
    candidate = candidate_of(roster)
    charge = candidate.quota.try_admit(Cost(1, 0), NOW)
    assert charge is not None
    for _ in range(IN_A_ROW):
        candidate.breaker.ended(charge, Outcome.CONNECT_FAILED, NOW, 0.0)
    told = {
        "reason": "connect_failed",
        "trips": 1,
        "message": "5 failures in a row, 5 of 5 calls",
    }
    assert shown(roster)["groq"]["breakers"] == {"m": {"state": "open", "for_s": 1.0} | told}
    assert "breakers" not in shown(roster)["groq-2"]
    due = candidate.breaker.until_ns
    assert shown(roster, due)["groq"]["breakers"] == {"m": {"state": "open", "for_s": 0.0} | told}
    candidate.breaker.enter(charge, due)
    assert shown(roster, due)["groq"]["breakers"] == {"m": {"state": "half_open", "for_s": 1.0} | told}
    candidate.breaker.heard(charge)
    assert "breakers" not in shown(roster, due)["groq"]
