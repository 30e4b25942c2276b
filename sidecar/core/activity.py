"""What the process did lately: the last requests, what each second came to, and the last error of each key.

Counted as requests end, a handful of additions for each; put into words only when somebody asks. Bounded in every
direction, whatever callers send. Refuses to know who looks at it (board.py, status.py).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from sidecar.core.access import timestamp
from sidecar.core.errors import Step
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome
from sidecar.core.record import Record

REQUESTS = 100  # that are remembered
SECONDS = 120  # of the curves
_LONGEST = 256  # of a name that a caller chose; so a record holds on to little
_SHOWN = 128
_MOST_ERRORS = 2048  # key x target; models are named by callers
_NO_FAULT = frozenset({Outcome.OK.value, Outcome.CLIENT_GONE.value})
_MILLISECOND = SECOND // 1000


class Finished(msgspec.Struct, omit_defaults=True):
    """One request that ended. `number`: its place among all; `at`: when it came. Durations in milliseconds. `trail`:
    the attempts that failed; who served it stands in `provider`, `target` and `key`."""

    number: int
    id: str
    at: str
    method: str
    path: str
    status: int
    outcome: str
    took_ms: float
    wait_ms: float = 0
    model: str | None = None
    stream: bool = False
    provider: str | None = None
    target: str | None = None
    key: str | None = None
    attempts: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    trail: tuple[Step, ...] = ()


class Curves(msgspec.Struct):
    """Second by second, the oldest first, without the one that still runs: requests that ended, how many of them in
    an error, and their mean wait for quota in milliseconds."""

    requests: list[int]
    errors: list[int]
    wait_ms: list[int]


class LastError(NamedTuple):
    """The last failure of a key at a target, and when that was (Unix ns)."""

    reason: str
    status: int | None
    at_ns: int


class Activity:
    """Fed with every request that ended."""

    __slots__ = ("_counts", "_ended", "_errors", "_failures", "_seconds", "_waits", "finished")

    def __init__(self) -> None:
        self.finished = 0  # requests, since the start
        self._ended: deque[tuple[Record, int]] = deque(maxlen=REQUESTS)
        # one slot more than is shown, for the second that runs
        self._seconds = [0] * (SECONDS + 1)
        self._counts = [0] * (SECONDS + 1)
        self._errors = [0] * (SECONDS + 1)
        self._waits = [0] * (SECONDS + 1)
        self._failures: dict[tuple[str, str], LastError] = {}

    def note(self, record: Record, now_ns: int) -> None:
        """A request ended at `now_ns`."""
        if record.model is not None and len(record.model) > _LONGEST:
            record = _shortened(record)
        self.finished += 1
        self._ended.append((record, now_ns))
        second = now_ns // SECOND
        slot = second % (SECONDS + 1)
        if self._seconds[slot] != second:
            self._seconds[slot] = second
            self._counts[slot] = self._errors[slot] = self._waits[slot] = 0
        self._counts[slot] += 1
        self._waits[slot] += record.wait_ns
        if record.outcome not in _NO_FAULT:
            self._errors[slot] += 1
        if record.trail:
            self._blame(record.trail, now_ns)

    def since(self, number: int) -> list[Finished]:
        """The requests that ended after the first `number` of all, as far as they are remembered, oldest first."""
        first = self.finished - len(self._ended)
        skipped = max(0, number - first)
        return [
            _shown(record, ended_ns, first + at + 1)
            for at, (record, ended_ns) in enumerate(self._ended)
            if at >= skipped
        ]

    def curves(self, now_ns: int) -> Curves:
        """The last two minutes, second by second."""
        present = now_ns // SECOND
        curves = Curves([], [], [])
        for second in range(present - SECONDS, present):
            slot = second % (SECONDS + 1)
            count = self._counts[slot] if self._seconds[slot] == second else 0
            curves.requests.append(count)
            curves.errors.append(self._errors[slot] if count else 0)
            curves.wait_ms.append(self._waits[slot] // count // _MILLISECOND if count else 0)
        return curves

    def last_error(self, key: str, target: str) -> LastError | None:
        """The last failure of the key of that label at `provider/model`."""
        return self._failures.get((key, target))

    def _blame(self, trail: tuple[Step, ...], now_ns: int) -> None:
        for step in trail:
            name = (step.key, step.target)
            self._failures.pop(name, None)
            self._failures[name] = LastError(step.reason, step.status, now_ns)
            if len(self._failures) > _MOST_ERRORS:
                del self._failures[next(iter(self._failures))]

    def __repr__(self) -> str:
        return f"<Activity {self.finished} finished, {len(self._ended)} remembered>"


def _shortened(record: Record) -> Record:
    """The same with names cut: of a model's name of a megabyte nothing is kept alive."""
    steps = tuple(msgspec.structs.replace(step, target=step.target[:_LONGEST]) for step in record.trail)
    model, target = record.model or "", record.target_model
    short = record.twin()
    short.model, short.trail = model[:_LONGEST], steps
    short.target_model = None if target is None else target[:_LONGEST]
    return short


def _shown(record: Record, ended_ns: int, number: int) -> Finished:
    usage = record.usage
    return Finished(
        number=number,
        id=record.id,
        at=timestamp(record.arrived_ns),
        method=record.method[:_SHOWN].decode("ascii", "replace"),
        path=record.path.partition(b"?")[0][:_SHOWN].decode("ascii", "replace"),
        status=record.status,
        outcome=record.outcome,
        took_ms=_milliseconds(ended_ns - record.arrived_ns),
        wait_ms=_milliseconds(record.wait_ns),
        model=None if record.model is None else record.model[:_SHOWN],
        stream=record.is_streamed,
        provider=record.provider,
        target=None if record.target_model is None else record.target_model[:_SHOWN],
        key=record.key,
        attempts=record.attempts,
        tokens_in=None if usage is None else usage.input_tokens,
        tokens_out=None if usage is None else usage.output_tokens,
        trail=record.trail,
    )


def _milliseconds(duration_ns: int) -> float:
    return round(duration_ns / _MILLISECOND, 1)
