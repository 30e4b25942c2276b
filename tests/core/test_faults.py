"""Whose fault it is: both tables are complete, and no word means two things."""

from __future__ import annotations

import pytest

from sidecar.core.errors import Reason
from sidecar.core.faults import FAULTS, OF_OUTCOME, OF_REASON, fault_of
from sidecar.core.outcomes import Outcome


def test_every_outcome_and_every_reason_has_a_fault():
    assert set(OF_OUTCOME) == set(Outcome)
    assert set(OF_REASON) == set(Reason)
    assert {*OF_OUTCOME.values(), *OF_REASON.values()} == set(FAULTS)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_word_that_both_know_means_the_same(outcome):
    meant = [OF_REASON[reason] for reason in Reason if reason.value == outcome.value]
    assert meant in ([], [OF_OUTCOME[outcome]])
    assert fault_of(outcome.value) == OF_OUTCOME[outcome]


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        ("ok", "none"),
        ("client_gone", "caller"),
        ("rate_limited", "quota"),
        ("rate_limit_exceeded", "quota"),
        ("key_invalid", "key"),
        ("server_error", "provider"),
        ("overloaded", "sidecar"),
        ("a word that is none of ours", "sidecar"),
    ],
)
def test_I4_the_fault_of(outcome, fault):
    assert fault_of(outcome) == fault
