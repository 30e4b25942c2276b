"""Two accounts that turn out to be one organisation: merged once, on the strict side, for good (A7)."""

from __future__ import annotations

import pytest

from sidecar.core.accounts import Accounts
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source, Usage
from sidecar.core.line import Lines, Place
from sidecar.core.quota import LimitSpec, Quota, QuotaSpec
from tests.core.house import NOW, roster_of, snapshot_of, target_of

ONE = Cost(1, 0)
TEXT = """
providers:
  - name: groq
    keys: [{name: a, env: A}, {name: b, env: B}, {name: c, env: C}]
    limits: [{model: "*", rpm: 10}]
"""


def test_A7_accounts_are_merged_once():
    accounts = Accounts()
    assert accounts.note("groq", "groq/a", "org_1") is None
    assert accounts.note("groq", "groq/a", "org_1") is None
    merger = accounts.note("groq", "groq/b", "org_1")
    assert merger == ("groq", "org_1", "groq/a", "groq/b")
    assert str(merger).startswith("the accounts a and b of groq are both org_1: ")
    assert accounts.note("groq", "groq/b", "org_1") is None
    assert (accounts.root("groq/b"), accounts.merged) == ("groq/a", 1)


def test_A7_other_organisations_and_other_providers_stay_apart():
    accounts = Accounts()
    for provider, account, organization in (("groq", "groq/a", "o"), ("groq", "groq/b", "p"), ("x", "x/b", "o")):
        assert accounts.note(provider, account, organization) is None
    assert (accounts.merged, accounts.items()) == (0, [])


def test_A7_who_stands_for_another_may_itself_be_joined():
    accounts = Accounts()
    for account, organization in (("a", "o"), ("b", "p"), ("c", "p"), ("b", "o")):
        accounts.note("groq", account, organization)
    assert dict(accounts.items()) == {"b": "a", "c": "a"}
    assert accounts.note("groq", "c", "p") is None


@pytest.mark.parametrize(("forgotten", "left"), [("b", {"c": "a"}), ("a", {}), ("z", {"b": "a", "c": "a"})])
def test_A7_another_secret_is_learned_anew(forgotten, left):
    accounts = Accounts()
    for account in ("a", "b", "c"):
        accounts.note("groq", account, "o")
    accounts.forget(forgotten)
    assert dict(accounts.items()) == left


def test_A7_organisations_are_input_and_bounded():
    accounts = Accounts()
    for number in range(5000):
        accounts.note("groq", "a", f"org_{number}")
    assert len(accounts._named) == 4096


def quota(limit, **rest):
    spec = LimitSpec(Axis.REQUESTS, MINUTE, limit, algorithm="token_bucket")
    return Quota("groq/a", QuotaSpec("m", (spec,))._replace(**rest))


def test_A7_the_more_that_was_used_counts():
    one, other = quota(10), quota(10)
    for _ in range(3):
        one.try_admit(ONE, NOW)
    charges = [other.try_admit(ONE, NOW) for _ in range(7)]
    other.learn([Reading(Axis.TOKENS, DAY, 1000, 400, None, Source.HEADER)], NOW)
    other.learn([Reading(Axis.REQUESTS, MINUTE, 9, None, None, Source.BODY)], NOW)
    other.cool(NOW + HOUR)
    one.merge(other, NOW)
    assert [(view.axis, view.limit, view.remaining) for view in one.views(NOW)] == [
        (Axis.REQUESTS, 9, 2),
        (Axis.TOKENS, 1000, 400),
    ]
    assert (one.inflight, one.cooldown_until) == (10, NOW + HOUR)
    assert other.try_admit(ONE, NOW + DAY) is None, "nobody is served there any more"
    assert charges[0] is not None
    one.settle(charges[0], Usage(0, 0), NOW)
    assert charges[1] is not None
    one.cancel(charges[1], NOW)
    assert (one.inflight, next(iter(one.views(NOW))).remaining) == (8, 3), "charged there, given back here"


def test_A7_who_waits_where_nobody_is_served_any_more_is_to_ask_again():
    lines, one, other = Lines(), quota(1), quota(1)
    for each in (one, other):
        each.try_admit(ONE, NOW)
    alone, _ = lines.enlist([Place(other, ONE)], 0, NOW)
    both, _ = lines.enlist([Place(one, ONE), Place(other, ONE)], 0, NOW)
    one.merge(other, NOW)
    release = lines.dissolve(other, NOW)
    assert release == ([], [alone], {other: None})
    assert (alone.left, both.is_waiting, lines.waiting, other.line.waiting) == (True, True, 1, 0)
    assert lines.release([one], NOW + MINUTE).granted == [both]


def candidates(roster, model="m"):
    return roster.keys(target_of(roster, f"groq/{model}"), NOW).candidates


def test_A7_keys_of_one_organisation_draw_on_one_quota_from_then_on():
    roster = roster_of(TEXT)
    a, b, c = candidates(roster)
    elsewhere = candidates(roster, "n")
    for _ in range(6):
        assert b.quota.try_admit(ONE, NOW) is not None
    assert roster.note_organization(a, "org_1", NOW) is None
    old = b.quota
    noted = roster.note_organization(b, "org_1", NOW)
    assert noted is not None
    assert noted[0].joined == "groq/b"
    assert old in noted[1]
    assert a.quota is b.quota is not c.quota
    assert elsewhere[0].quota is elsewhere[1].quota
    assert [view.remaining for view in a.quota.views(NOW)] == [4]
    assert roster.note_organization(b, "org_1", NOW) is None
    assert {quota.account for quota in roster.ledger} == {"groq/a", "groq/c"}
    assert candidates(roster, "new")[1].quota.account == "groq/a"
    roster.reload(snapshot_of(TEXT + "wait: {max: 5s}\n"), NOW + SECOND)
    again = candidates(roster)
    assert again[1].quota is again[0].quota is a.quota, "it stays so over a reload"
    roster.reload(snapshot_of(TEXT, secrets={"b": "another"}), NOW + SECOND)
    again = candidates(roster)
    assert again[1].quota is not again[0].quota, "until the key is another"


def test_A7_one_key_that_must_serve_is_merged_as_well():
    roster = roster_of(TEXT)
    a, b, _ = candidates(roster)
    only = roster.only(a.target, b.key, NOW)
    roster.note_organization(a, "org_1", NOW)
    roster.note_organization(b, "org_1", NOW)
    assert only.candidates[0].quota is a.quota
