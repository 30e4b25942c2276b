"""The table of what is done after each outcome."""

from __future__ import annotations

import pytest

from sidecar.core.errors import Refusal
from sidecar.core.fallback import RULES, Blame, Next
from sidecar.core.outcomes import Outcome

RELAYED = {Outcome.OK, Outcome.BAD_REQUEST, Outcome.CLIENT_GONE, Outcome.HEDGED}
OTHER_KEY = {
    Outcome.RATE_LIMITED,
    Outcome.CONCURRENCY,
    Outcome.KEY_INVALID,
    Outcome.KEY_UNPAID,
    Outcome.KEY_FORBIDDEN,
    Outcome.SERVER_ERROR,
}
REPEATED = {Outcome.BUSY, Outcome.SERVER_ERROR, Outcome.CONNECT_FAILED, Outcome.BROKEN}
RELAYED_ALONE = {Outcome.NOT_FOUND, Outcome.MODEL_UNAVAILABLE, Outcome.FIELD_NEEDED}
KEYS_FAULT = {Outcome.KEY_INVALID, Outcome.KEY_UNPAID, Outcome.KEY_FORBIDDEN}
CALLERS_FAULT = {Outcome.TOO_LARGE, Outcome.BAD_REQUEST, Outcome.NOT_FOUND}
NOBODYS_FAULT = {Outcome.OK, Outcome.CLIENT_GONE, Outcome.HEDGED, Outcome.RATE_LIMITED, Outcome.CONCURRENCY}


@pytest.mark.parametrize("outcome", Outcome)
def test_B9_every_outcome_has_one_row(outcome):
    rule = RULES[outcome]
    others = Next.AGAIN if outcome is Outcome.FIELD_REJECTED else Next.TARGET
    then = Next.RELAY if outcome in RELAYED else Next.KEY if outcome in OTHER_KEY else others
    assert rule.then is then
    assert rule.may_retry is (outcome in REPEATED)
    assert rule.relays_alone is (outcome in RELAYED_ALONE)


@pytest.mark.parametrize("outcome", [Outcome.AMBIGUOUS, Outcome.HEADERS_TIMEOUT, Outcome.CONTENT_TIMEOUT])
def test_B13_what_may_have_been_done_is_never_repeated_at_the_same_target(outcome):
    assert not RULES[outcome].may_retry


@pytest.mark.parametrize("outcome", Outcome)
def test_whose_fault_it_is(outcome):
    groups = {Blame.KEY: KEYS_FAULT, Blame.CLIENT: CALLERS_FAULT, Blame.NOBODY: NOBODYS_FAULT}
    blamed = next((blame for blame, outcomes in groups.items() if outcome in outcomes), Blame.TARGET)
    assert RULES[outcome].blame is blamed


@pytest.mark.parametrize("outcome", sorted(REPEATED, key=str))
def test_A17_what_is_repeated_here_may_be_repeated_by_the_caller(outcome):
    assert Refusal(RULES[outcome].reason, "").may_mend
