"""Which configured limits apply to one account's model: for each field the most specific entry wins.

An exact model before a longer glob before "*"; then a named account before none; then the later entry. Refuses to know
what providers say of their limits (`budget.py` compares) and whether accounts exist (`config.problems` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from sidecar.core.config import Limit
from sidecar.core.limits import DAY, HOUR, MINUTE, Axis

AXES: dict[str, tuple[Axis, int]] = {
    "rpm": (Axis.REQUESTS, MINUTE),
    "rph": (Axis.REQUESTS, HOUR),
    "rpd": (Axis.REQUESTS, DAY),
    "tpm": (Axis.TOKENS, MINUTE),
    "tph": (Axis.TOKENS, HOUR),
    "tpd": (Axis.TOKENS, DAY),
    "itpm": (Axis.INPUT_TOKENS, MINUTE),
    "otpm": (Axis.OUTPUT_TOKENS, MINUTE),
    "ash": (Axis.AUDIO_SECONDS, HOUR),
}
"""The fields of an entry that are windows: what they count, over how many ns."""

FIELDS = (*AXES, "concurrency")


class Effective(NamedTuple):
    """The outcome for one account and model."""

    pool: str | None  # models with the same pool share their windows
    values: dict[str, tuple[int, int]]  # field -> limit, index of the entry it came from


def effective(entries: Sequence[Limit], account: str, model: str) -> Effective:
    """What `entries` say of `model` at `account`.

    A pool has one set of limits, whichever model asks first: entries that name the pool and those for "*" decide it.
    """
    ranked = _ranked(entries, account, model)
    pool = next((entry.pool for entry, _ in reversed(ranked) if entry.pool is not None), None)
    if pool is not None:
        ranked = [
            (entry, index)
            for index, entry in enumerate(entries)
            if entry.account in (None, account) and (entry.pool == pool or entry.model == "*")
        ]
        ranked.sort(key=lambda pair: (pair[0].pool == pool, pair[0].account is not None))
    values: dict[str, tuple[int, int]] = {}
    for entry, index in ranked:
        for field in FIELDS:
            value: int | None = getattr(entry, field)
            if value is not None:
                values[field] = (value, index)
    return Effective(pool, values)


def _ranked(entries: Sequence[Limit], account: str, model: str) -> list[tuple[Limit, int]]:
    """The entries that match, the most specific last; the sort is stable, so the later of equals stays the later."""
    matching = [
        (entry, index)
        for index, entry in enumerate(entries)
        if entry.account in (None, account) and (entry.model == model or fnmatchcase(model, entry.model))
    ]
    return sorted(matching, key=lambda pair: (_weight(pair[0].model, model), pair[0].account is not None))


def _weight(pattern: str, model: str) -> tuple[int, int]:
    if pattern == model:
        return (2, 0)
    return (0, 0) if pattern == "*" else (1, len(pattern))
