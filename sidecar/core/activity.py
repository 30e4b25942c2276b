"""What the process did lately: the last requests, what each second came to, and the last error of each key.

Counted as requests end, a handful of additions for each; put into words only when somebody asks. Bounded in every
direction, whatever callers send. Refuses to know who looks at it (board.py, status.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.access import timestamp
from sidecar.core.activity_shapes import Curves, Finished, LastError
from sidecar.core.errors import Step
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome
from sidecar.core.record import Record

REQUESTS: Final = 100  # that are remembered
SECONDS: Final = 120  # of the curves
_LONGEST: Final = 256  # of a name that a caller chose; so a record holds on to little
_SHOWN: Final = 128
_MOST_ERRORS: Final = 2048  # key x target; models are named by callers
_MILLISECOND: Final = SECOND // 1000
_OK: Final = Outcome.OK.value
_CLIENT_GONE: Final = Outcome.CLIENT_GONE.value


class Activity:
    """Fed with every request that ended."""

    __slots__ = (
        "_counts", "_ended_ns", "_errors", "_failures", "_records", "_second_ns", "_seconds", "_slot", "_waits",
        "finished",
    )  # fmt: skip

    def __init__(self) -> None:
        self.finished = 0  # requests, since the start
        # the last ones, each in the place that its number has among so many, and when they ended
        self._records: list[Record] = []
        self._ended_ns: list[int] = []
        self._second_ns = -SECOND  # when the second that runs began
        self._slot = 0  # of it
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
        place = self.finished % REQUESTS
        self.finished += 1
        if place < len(self._records):
            self._records[place] = record
            self._ended_ns[place] = now_ns
        else:
            self._records.append(record)
            self._ended_ns.append(now_ns)
        if not 0 <= now_ns - self._second_ns < SECOND:
            self._turn(now_ns)
        slot = self._slot
        self._counts[slot] += 1
        if record.wait_ns:
            self._waits[slot] += record.wait_ns
        outcome = record.outcome
        if outcome != _OK and outcome != _CLIENT_GONE:
            self._errors[slot] += 1
        if record.trail:
            self._blame(record.trail, now_ns)

    def _turn(self, now_ns: int) -> None:
        """Another second runs."""
        second = now_ns // SECOND
        self._second_ns = second * SECOND
        self._slot = slot = second % (SECONDS + 1)
        if self._seconds[slot] != second:
            self._seconds[slot] = second
            self._counts[slot] = self._errors[slot] = self._waits[slot] = 0

    def since(self, number: int) -> list[Finished]:
        """The requests that ended after the first `number` of all, as far as they are remembered, oldest first."""
        first = max(number, self.finished - len(self._records))
        return [
            _shown(self._records[at % REQUESTS], self._ended_ns[at % REQUESTS], at + 1)
            for at in range(first, self.finished)
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
        return f"<Activity {self.finished} finished, {len(self._records)} remembered>"


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
