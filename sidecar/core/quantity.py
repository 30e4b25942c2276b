"""Kubernetes' grammar of quantities: `100m`, `0.5`, `64Mi`, `1e3`.

Only as much as comparing needs: a request with a limit, zero with something. Source: the documentation of
resource.Quantity in Kubernetes' API machinery.
"""

from __future__ import annotations

import re
from decimal import Decimal

_GRAMMAR = re.compile(r"([+-]?)([0-9]{1,18}\.?[0-9]{0,9}|\.[0-9]{1,9})([A-Za-z]{0,2}|[eE][+-]?[0-9]{1,2})")
_SUFFIXES = {
    **{"": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")},
    **{suffix: Decimal(1000) ** (power + 1) for power, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": Decimal(1024) ** (power + 1) for power, suffix in enumerate("KMGTPE")},
}


def quantity(text: str) -> Decimal | None:
    """The amount, in cores or bytes; None when the text is not a quantity, or is below zero."""
    match = _GRAMMAR.fullmatch(text)
    if match is None or match[1] == "-":
        return None
    if match[3] in _SUFFIXES:
        return Decimal(match[2]) * _SUFFIXES[match[3]]
    return Decimal(f"{match[2]}{match[3]}") if match[3][0] in "eE" and len(match[3]) > 1 else None


def same(one: str, other: str) -> bool:
    """Whether two texts are the same amount: `1` and `1000m` are."""
    amounts = quantity(one), quantity(other)
    return None not in amounts and amounts[0] == amounts[1]
