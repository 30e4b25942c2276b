"""What a request costs and what it used: values, equal when they say the same."""

from __future__ import annotations

import pytest

from sidecar.core.amounts import Cost, Usage
from sidecar.core.limits import Axis


@pytest.mark.parametrize(
    ("cost", "taken"),
    [
        (Cost(100, 20, 7), (1, 120, 100, 20, 7)),
        (Cost(100, 0), (1, 100, 100, 1, 0)),  # who reads anything also writes something
        (Cost(0, 0), (1, 0, 0, 0, 0)),
    ],
)
def test_a_request_takes_its_part_of_each_window(cost, taken):
    axes = [axis for axis in Axis if axis is not Axis.CONCURRENCY]
    assert tuple(cost.taken(axis) for axis in axes) == taken


@pytest.mark.parametrize("kind", [Cost, Usage])
def test_values_that_say_the_same_are_equal(kind):
    assert kind(1, 2, 3) == kind(1, 2, 3)
    assert hash(kind(1, 2, 3)) == hash(kind(1, 2, 3))
    for other in (kind(0, 2, 3), kind(1, 0, 3), kind(1, 2, 0), (1, 2, 3)):
        assert kind(1, 2, 3) != other
    assert "1 in, 2 out, 3" in repr(kind(1, 2, 3))


def test_the_more_of_both_counts():
    assert Usage(1, 9, 3).at_least(Usage(4, 5, 0)) == Usage(4, 9, 3)
