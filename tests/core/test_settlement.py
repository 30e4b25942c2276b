"""What an attempt leaves on the account, by how it ended."""

from __future__ import annotations

import pytest

from sidecar.core.limits import Axis, Cost, Usage
from sidecar.core.outcomes import Outcome
from sidecar.core.settlement import settle
from tests.core.house import NOW, roster_of, target_of

LIMITED = """
providers:
  - name: {name}
    base_url: http://x/v1
    keys: [{{name: a, env: A}}]
    limits: [{{model: "*", rpm: 10, tpm: 1000}}]
"""
COST = Cost(100, 50)
USED = Usage(30, 20)

KEPT, NO_TOKENS, NOTHING = (9, 850), (9, 1000), (10, 1000)
LEFT = {
    Outcome.RATE_LIMITED: NOTHING,
    Outcome.CONCURRENCY: NOTHING,
    Outcome.TOO_LARGE: NOTHING,
    Outcome.BUSY: NOTHING,
    Outcome.KEY_INVALID: NOTHING,
    Outcome.KEY_UNPAID: NOTHING,
    Outcome.KEY_FORBIDDEN: NOTHING,
    Outcome.CONNECT_FAILED: NOTHING,
    Outcome.MODEL_UNAVAILABLE: NO_TOKENS,
    Outcome.NOT_FOUND: NO_TOKENS,
    Outcome.FIELD_REJECTED: NO_TOKENS,
    Outcome.FIELD_NEEDED: NO_TOKENS,
    Outcome.BAD_REQUEST: NO_TOKENS,
    Outcome.SERVER_ERROR: NO_TOKENS,
    Outcome.OK: KEPT,  # nobody said what it used
    Outcome.HEADERS_TIMEOUT: KEPT,
    Outcome.CONTENT_TIMEOUT: KEPT,
    Outcome.AMBIGUOUS: KEPT,
    Outcome.BROKEN: KEPT,
    Outcome.HEDGED: KEPT,
    Outcome.CLIENT_GONE: KEPT,
}


def left_after(outcome, usage, name="custom"):
    """Requests and tokens left, and whether the charge is closed."""
    roster = roster_of(LIMITED.format(name=name))
    candidate = roster.keys(target_of(roster, f"{name}/m"), NOW).candidates[0]
    charge = candidate.quota.try_admit(COST, NOW)
    assert charge is not None
    settle(candidate, charge, outcome, usage, NOW)
    settle(candidate, charge, Outcome.RATE_LIMITED, None, NOW)  # a second time is harmless
    assert candidate.quota.inflight == 0
    views = {view.axis: view.remaining for view in candidate.quota.views(NOW)}
    return views[Axis.REQUESTS], views[Axis.TOKENS]


def test_every_outcome_is_settled():
    assert set(LEFT) == set(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
def test_B2_what_is_left_where_no_usage_was_reported(outcome):
    assert left_after(outcome, None) == LEFT[outcome]


@pytest.mark.parametrize("outcome", Outcome)
def test_A1_what_a_provider_reports_is_what_counts_unless_it_refused(outcome):
    assert left_after(outcome, USED) == (NOTHING if LEFT[outcome] == NOTHING else (9, 950))


def test_A8_where_a_provider_gives_nothing_back_neither_do_we():
    assert left_after(Outcome.OK, USED, "azure") == KEPT
    assert left_after(Outcome.SERVER_ERROR, None, "azure") == KEPT
    assert left_after(Outcome.RATE_LIMITED, None, "azure") == NOTHING


def test_more_than_was_thought_is_charged_as_well():
    assert left_after(Outcome.OK, Usage(400, 100)) == (9, 500)
