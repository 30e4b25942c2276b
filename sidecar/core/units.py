"""The configuration's own grammar of durations and sizes: one number, one unit (`250ms 20s 10m 24h`, `64MiB`).

A bare number is refused: whoever writes `20` meant seconds or milliseconds, and guessing wrong is worse than asking.
What providers write in their headers is another grammar, with its own file (durations.py).
"""

from __future__ import annotations

import re
from decimal import Decimal

from sidecar.core.limits import HOUR, MINUTE, SECOND

DURATION_GRAMMAR = "a number and ms, s, m or h, such as 250ms, 20s, 10m or 24h"
SIZE_GRAMMAR = "a number and B, KiB, MiB or GiB, such as 512KiB or 64MiB"

_MILLISECOND = SECOND // 1000
_DURATIONS = {"h": HOUR, "m": MINUTE, "s": SECOND, "ms": _MILLISECOND}
_SIZES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}

# Fifteen digits hold every size in bytes that is allowed; a longer number is a slip, not a wish.
_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,12})?) ?([A-Za-z]{1,3})")


def parse_duration(text: str) -> int | None:
    """Nanoseconds in a duration such as `1.5s`; None when the text is not one."""
    return _parse(text, _DURATIONS)


def parse_size(text: str) -> int | None:
    """Bytes in a size such as `64MiB`; None when the text is not one, or names a part of a byte."""
    return _parse(text, _SIZES)


def format_duration(duration_ns: int) -> str:
    """The shortest text that `parse_duration` reads back as the same number of nanoseconds (which is not negative)."""
    return _format(duration_ns, _DURATIONS)


def format_size(size_bytes: int) -> str:
    """The shortest text that `parse_size` reads back as the same number of bytes (which is not negative)."""
    return _format(size_bytes, _SIZES)


def _parse(text: str, units: dict[str, int]) -> int | None:
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2] not in units:
        return None
    amount = Decimal(match[1]) * units[match[2]]
    return int(amount) if amount == amount.to_integral_value() else None


def _format(amount: int, units: dict[str, int]) -> str:
    smallest = list(units)[-1]
    unit = next((unit for unit, size in units.items() if amount and amount % size == 0), None)
    if unit is not None:
        return f"{amount // units[unit]}{unit}"
    if amount == 0:
        return f"0{'s' if units is _DURATIONS else smallest}"
    return f"{(Decimal(amount) / units[smallest]).normalize():f}{smallest}"
