"""The guard of the hot path: it may not become a fifth dearer without anyone noticing (docs/performance.md).

What is compared is a multiple of a reference workload that runs beside it, with the figures of tests/hot_path.json. A
failure here means: make it cheaper again, or, where the cost buys something, `make guard ARGS=--renew` and say in
the commit what. Each runs in a process of its own, since coverage counts by the same means.
"""

import pytest

from tests.hot_path import FOREIGN, measured, stored

pytestmark = pytest.mark.alone

_COUNTED = {"request": 1.12, "event": 1.12}
_KEYS = 1.2


@pytest.fixture(scope="module")
def counted():
    return measured()


@pytest.fixture(scope="module")
def kept():
    """The stored figures, and how much more an interpreter may differ."""
    figures, is_mine = stored()
    return figures, 1.0 if is_mine else FOREIGN


@pytest.mark.parametrize("name", _COUNTED)
def test_no_more_bytecodes_than_are_stored(counted, kept, name):
    figures, slack = kept
    change = counted[name] / figures[name]
    assert change <= _COUNTED[name] * slack, f"{name}: {change - 1:+.0%}; see the docstring"


@pytest.mark.parametrize("name", _COUNTED)
def test_figures_that_are_beaten_are_renewed(counted, kept, name):
    # else a regression could hide in what was won
    figures, slack = kept
    change = counted[name] / figures[name]
    assert change * _COUNTED[name] * slack >= 1, f"{name}: {change - 1:+.0%}; `make guard ARGS=--renew`"


def test_a_thousand_keys_cost_what_one_costs():
    assert measured("--growth")["growth"] <= _KEYS
