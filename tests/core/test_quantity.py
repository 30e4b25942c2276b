"""Kubernetes' quantities, as far as they are compared."""

from decimal import Decimal

import pytest

from sidecar.core.quantity import quantity, same

READ = [
    ("100m", "0.1"),
    ("1", "1"),
    ("0.5", "0.5"),
    (".5", "0.5"),
    ("5.", "5"),
    ("1n", "1e-9"),
    ("3u", "3e-6"),
    ("1k", "1000"),
    ("1M", "1000000"),
    ("1Ki", "1024"),
    ("64Mi", "67108864"),
    ("1Ei", str(1024**6)),
    ("1E", "1e18"),
    ("1e3", "1000"),
    ("1E-2", "0.01"),
    ("+1", "1"),
    ("0", "0"),
]
NOT = ["", "-1", "1 Mi", "m", "1mi", "1KI", "1K", "much", "1e", "1.2.3", "0x1", "1\n", "∞", "1e999", "9" * 40]


@pytest.mark.parametrize(("text", "amount"), READ)
def test_a_quantity_is_read(text, amount):
    assert quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", NOT)
def test_what_is_none_is_none(text):
    assert quantity(text) is None


def test_the_same_amount_in_other_words():
    assert same("1", "1000m")
    assert same("1Gi", "1024Mi")
    assert not same("1", "1001m")
    assert not same("x", "x")
