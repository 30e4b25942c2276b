"""The table of error classes as a table: its order, its columns, and that no row stands in the shadow of another."""

import pytest

from sidecar.core.error_classes import ROWS, STATUS_OF_NAME, Case, Trait, Until, classify_case
from sidecar.core.limits import DAY, HOUR
from sidecar.core.outcomes import Outcome, Scope


def case(status, *names, dialect="openai", text="", traits=()):
    return Case(dialect, status, frozenset(names), text, frozenset(traits))


STATUSES = {
    Outcome.BAD_REQUEST: (400, 405, 406, 409, 415, 416, 422, 424, 431, 451),
    Outcome.KEY_INVALID: (401,),
    Outcome.KEY_UNPAID: (402,),
    Outcome.KEY_FORBIDDEN: (403,),
    Outcome.NOT_FOUND: (404,),
    Outcome.MODEL_UNAVAILABLE: (410, 501),
    Outcome.TOO_LARGE: (413,),
    Outcome.RATE_LIMITED: (429,),
    Outcome.BUSY: (498, 503, 529),
    Outcome.SERVER_ERROR: (408, 421, 425, 499, 500, 502, 504, 520, 522, 524, 530, 599, 999),
}


@pytest.mark.parametrize(
    ("status", "outcome"), [(status, outcome) for outcome, statuses in STATUSES.items() for status in statuses]
)
def test_B9_status_alone(status, outcome):
    assert classify_case(case(status)).outcome is outcome


def test_B9_every_row_can_be_reached():
    for row in ROWS:
        status = min(row.statuses, default=418)
        dialect = min(row.dialects, default="openai")
        traits = frozenset() if row.trait is None else frozenset({row.trait})
        reached = {
            classify_case(Case(dialect, status, frozenset({name}), "", traits))
            for status in row.statuses or {status}
            for name in row.names or {""}
        }
        assert row in reached or row.text is not None, row


def test_B9_every_name_leads_to_its_row():
    for row in ROWS:
        for name in row.names:
            reached = {classify_case(case(status, name)).outcome for status in row.statuses}
            assert row.outcome in reached, name


def test_names_are_lower_case():
    assert all(name == name.lower() for row in ROWS for name in row.names)


@pytest.mark.parametrize(
    ("outcome", "until", "bench_ns"),
    [
        (Outcome.KEY_INVALID, Until.NEVER, None),
        (Outcome.KEY_UNPAID, Until.AT_LEAST, 6 * HOUR),
        (Outcome.KEY_FORBIDDEN, Until.AT_LEAST, HOUR),
    ],
)
def test_H2_keys_are_benched_for_hours(outcome, until, bench_ns):
    rows = [row for row in ROWS if row.outcome is outcome]
    assert rows
    assert all((row.until, row.bench_ns) == (until, bench_ns) for row in rows)
    assert all(row.scope in (Scope.KEY, Scope.KEY_MODEL) for row in rows)


def test_H5_retired_models_are_parked_for_a_day():
    parked = [row for row in ROWS if row.outcome is Outcome.MODEL_UNAVAILABLE and row.scope is Scope.TARGET]
    assert {row.bench_ns for row in parked} == {DAY}
    assert classify_case(case(410)) in parked
    assert classify_case(case(404, "model_not_found")) in parked


def test_H5_a_404_without_a_model_code_parks_nothing():
    for text in ("", "Not found", "No such File object: file-1", "The assistant's model file was not found"):
        row = classify_case(case(404, text=text))
        assert (row.outcome, row.scope, row.until) == (Outcome.NOT_FOUND, Scope.REQUEST, Until.NEVER)


def test_H3_what_is_about_the_request_benches_nothing():
    about_requests = [row for row in ROWS if row.scope is Scope.REQUEST]
    assert {row.until for row in about_requests} == {Until.NEVER}
    assert {row.outcome for row in about_requests} == {
        Outcome.TOO_LARGE,
        Outcome.BAD_REQUEST,
        Outcome.NOT_FOUND,
        Outcome.MODEL_UNAVAILABLE,
    }


def test_A4_never_fits_comes_before_waiting():
    assert classify_case(case(429, traits={Trait.NEVER_FITS})).outcome is Outcome.TOO_LARGE
    assert classify_case(case(429, "rate_limit_exceeded")).outcome is Outcome.RATE_LIMITED


def test_no_allowance_is_the_keys_at_mistral_and_the_models_elsewhere():
    assert classify_case(case(429, dialect="mistral", traits={Trait.NO_ALLOWANCE})).scope is Scope.KEY
    assert classify_case(case(429, dialect="gemini", traits={Trait.NO_ALLOWANCE})).scope is Scope.KEY_MODEL


def test_B5_implied_statuses_are_errors():
    assert all(400 <= status < 600 for status in STATUS_OF_NAME.values())
