"""What a simulated provider has counted, and the waits it has announced.

Counts are kept in total, per key, per account, per model and per account and model (`account/model`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec


class Row(msgspec.Struct):
    """Counts of one key, account or model.

    `served`: answers sent whole with a 2xx status. `refused`: refusals by kind (`rpm`, `tpm_never`, `concurrency`,
    `invalid_api_key`, ...). `faulted`: faults played, by kind. `early`: calls before an announced time was over.
    `aborted`: the caller left before the end. The tokens are the bill: also of answers cut short, as far as they went;
    `served_input_tokens` and `served_output_tokens` are the part of it for those that were served.
    """

    seen: int = 0
    served: int = 0
    early: int = 0
    aborted: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    served_input_tokens: int = 0
    served_output_tokens: int = 0
    in_flight: int = 0
    peak: int = 0
    refused: dict[str, int] = {}
    faulted: dict[str, int] = {}


class Stats(msgspec.Struct, frozen=True):
    """A snapshot of all counts."""

    total: Row
    keys: dict[str, Row]
    accounts: dict[str, Row]
    models: dict[str, Row]
    quotas: dict[str, Row]


class Labels(NamedTuple):
    """Under which rows a call is counted; empty = not known."""

    key: str = ""
    account: str = ""
    model: str = ""


class Tally:
    """The counters of one simulated provider."""

    def __init__(self) -> None:
        self._total = Row()
        self._keys: dict[str, Row] = {}
        self._accounts: dict[str, Row] = {}
        self._models: dict[str, Row] = {}
        self._quotas: dict[str, Row] = {}

    def __repr__(self) -> str:
        row = self._total
        return f"<Tally seen={row.seen} served={row.served} refused={sum(row.refused.values())} early={row.early}>"

    def rows(self, labels: Labels) -> tuple[Row, ...]:
        """The rows a call counts in."""
        quota = f"{labels.account}/{labels.model}" if labels.account and labels.model else ""
        tables = (
            (self._keys, labels.key),
            (self._accounts, labels.account),
            (self._models, labels.model),
            (self._quotas, quota),
        )
        return (self._total, *(table.setdefault(name, Row()) for table, name in tables if name))

    def stats(self) -> Stats:
        """A copy of the counts as they stand."""
        live = Stats(self._total, self._keys, self._accounts, self._models, self._quotas)
        return msgspec.convert(msgspec.to_builtins(live), Stats)


def entered(rows: Iterable[Row]) -> None:
    """A call begins."""
    for row in rows:
        row.seen += 1
        row.in_flight += 1
        row.peak = max(row.peak, row.in_flight)


def left(rows: Iterable[Row]) -> None:
    """A call has ended, however it ended."""
    for row in rows:
        row.in_flight -= 1


def served(rows: Iterable[Row]) -> None:
    """A 2xx answer was sent whole."""
    for row in rows:
        row.served += 1


def early(rows: Iterable[Row]) -> None:
    """A call came before an announced time."""
    for row in rows:
        row.early += 1


def aborted(rows: Iterable[Row]) -> None:
    """The caller left before the end."""
    for row in rows:
        row.aborted += 1


def refused(rows: Iterable[Row], kind: str) -> None:
    """A call was refused."""
    for row in rows:
        row.refused[kind] = row.refused.get(kind, 0) + 1


def faulted(rows: Iterable[Row], kind: str) -> None:
    """A fault was played on a call."""
    for row in rows:
        row.faulted[kind] = row.faulted.get(kind, 0) + 1


def billed(rows: Iterable[Row], input_tokens: int, output_tokens: int, is_served: bool) -> None:
    """Tokens to be paid for; `is_served`: of an answer that was sent whole."""
    for row in rows:
        row.input_tokens += input_tokens
        row.output_tokens += output_tokens
        if is_served:
            row.served_input_tokens += input_tokens
            row.served_output_tokens += output_tokens


class Announcements:
    """The waits told to callers in refusals, per account and model."""

    def __init__(self, grace_ns: int) -> None:
        self._grace_ns = grace_ns
        self._told: dict[tuple[str, str], tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<Announcements {len(self._told)}>"

    def announce(self, account: str, model: str, now: int, until: int) -> None:
        """This account was told at `now` to stay away from this model until `until`; the later time stands."""
        told_at, standing = self._told.get((account, model), (now, 0))
        if standing <= now:
            told_at = now
        self._told[account, model] = (told_at, max(standing, until))

    def is_early(self, account: str, model: str, now: int) -> bool:
        """Whether a call now comes before the time that was announced."""
        told_at, until = self._told.get((account, model), (0, 0))
        return now < until and now - told_at >= self._grace_ns

    def forget(self) -> None:
        """Nothing has been announced."""
        self._told.clear()
