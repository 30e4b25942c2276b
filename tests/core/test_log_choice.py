"""Which requests leave a line: all that may have to be explained, and exactly the share of the rest asked for."""

from __future__ import annotations

import pytest

from sidecar.core.errors import Step
from sidecar.core.limits import SECOND
from sidecar.core.log_choice import LogChoice
from tests.core.house import NOW
from tests.values import record as record_of


def told(choice, number, duration_ns=0, **fields):
    record = record_of("r", NOW, b"POST", b"/", number=number, **({"outcome": "ok"} | fields))
    return choice.tells(record, NOW + duration_ns)


@pytest.mark.parametrize("sample", [0.0, 0.001, 0.1, 0.25, 0.5, 0.999, 1.0])
def test_the_share_is_what_was_asked_for(sample):
    choice = LogChoice(sample, SECOND)
    count = sum(told(choice, number) for number in range(1, 10_001))
    assert abs(count - 10_000 * sample) <= 2


@pytest.mark.parametrize("every", [2, 3, 7, 10, 100])
def test_a_pattern_in_the_traffic_does_not_hide_from_it(every):
    choice = LogChoice(0.1, SECOND)
    count = sum(told(choice, number) for number in range(every, 1000 * every + 1, every))
    assert 80 <= count <= 120


@pytest.mark.parametrize("fields", [
    {"outcome": "client_gone"}, {"outcome": "rate_limit_exceeded"}, {"outcome": ""},
    {"trail": (Step("groq/m", "a", "busy", 503),)}, {"duration_ns": SECOND},
])  # fmt: skip
def test_I5_what_may_have_to_be_explained_is_always_told(fields):
    choice = LogChoice(0.0, SECOND)
    assert all(told(choice, number, **fields) for number in range(100))
    assert not any(told(choice, number, duration_ns=SECOND - 1) for number in range(1, 100))


def test_it_says_what_it_chooses():
    assert repr(LogChoice(0.25, SECOND)) == "<LogChoice 0.25, slow from 1000000000 ns>"
