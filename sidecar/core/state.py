"""What of a process outlives it: quotas, what stands against keys and targets, calibrations, who owns which object.

Decides what is worth a row, which rows have changed since they were last saved, and how rows are taken up again: singly,
so that one that makes no sense costs no other. Rows are looked at when they are to be saved; nothing that serves a
request takes note of it. Refuses to know where rows are kept (store/).

No row holds a secret. What stands against a key is bound to its fingerprint, 64 bits of the SHA-256 of the secret and of
where it goes, and counts no more when either has changed (acceptance H6). That tells nothing of a key that a provider
has drawn at random; of one that can be guessed it would confirm the guess, which is why the file is its owner's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from sidecar.core.affinity import Ownership
from sidecar.core.health import FOREVER_NS, Standing, Standings
from sidecar.core.outcomes import Outcome
from sidecar.core.quota_state import Moment, Natural, QuotaState, capture, restore
from sidecar.core.roster import Roster
from sidecar.core.tokens import Calibration

SAVED_AT = "saved_at"  # the row that says when the others were true
SLICE = 64  # rows looked at in one go: less than a millisecond, since requests wait meanwhile
_MOST_CHARS = 1024  # of a row's name; longer ones are of ids that no provider gives

_START = Calibration().milli_bytes


class StandingState(NamedTuple):
    """One bench. `bound`: what it is about, by whose change it ends: a key's fingerprint, a provider's address."""

    until_ns: Natural
    cause: str
    message: str
    bound: str


class Batch(NamedTuple):
    """What to write so that the store holds the present; `marks` by row, for `State.confirm`."""

    changed: dict[str, bytes]
    removed: list[str]
    marks: dict[str, int | None]


_Kept = NamedTuple | int | str
_Look = tuple[str, tuple[object, ...] | int | str | None]

_encode = msgspec.json.Encoder().encode
_quota = msgspec.json.Decoder(QuotaState).decode
_standing = msgspec.json.Decoder(StandingState).decode
_number = msgspec.json.Decoder(Natural).decode
_text = msgspec.json.Decoder(str).decode


class State:
    """Implements looking at, and taking up, all that a roster and an ownership hold."""

    def __init__(self, roster: Roster, ownership: Ownership) -> None:
        self._roster = roster
        self._ownership = ownership
        self._marks: dict[str, int | None] = {}  # of each row in the store, what it says
        self._restorers: dict[str, Callable[[str, bytes, Moment], None]] = {
            "quota": self._restore_quota,
            "key": self._restore_key,
            "key_model": self._restore_key_model,
            "target": self._restore_target,
            "calibration": self._restore_calibration,
            "object": self._restore_object,
        }

    def restore(self, rows: Mapping[str, bytes], now_ns: int) -> int:
        """Take up the rows of a process before this one, before anything is served; how many made no sense."""
        self._marks = dict.fromkeys(rows.keys() - {SAVED_AT})
        moment = Moment(now_ns, _saved_at(rows, now_ns))
        return sum(not self._restored(name, value, moment) for name, value in rows.items() if name != SAVED_AT)

    def look(self, now_ns: int) -> Iterator[Batch | None]:
        """Everything that changed since the last confirmed batch, as the last of the values; the others are None,
        each a point at which to let others go on."""
        batch = Batch({}, [], {})
        for count, (name, kept) in enumerate(self._rows(now_ns), 1):
            if kept is not None:
                self._note(name, kept, batch)
            if count % SLICE == 0:
                yield None
        batch.removed.extend(self._marks.keys() - batch.marks.keys())
        if batch.changed or batch.removed:
            batch.changed[SAVED_AT] = _encode(now_ns)
        yield batch

    def confirm(self, batch: Batch) -> None:
        """The batch is saved. One that never is comes again with what follows."""
        self._marks = batch.marks

    def __repr__(self) -> str:
        return f"<State of {len(self._marks)} rows>"

    def _note(self, name: str, kept: tuple[object, ...] | int | str, batch: Batch) -> None:
        mark = hash(kept)  # instead of the row itself, which may have kilobytes; 64 bits do not meet by accident
        if self._marks.get(name) != mark:
            row = _encoded(name, kept)
            if row is None:
                return
            batch.changed[name] = row
        batch.marks[name] = mark

    def _rows(self, now_ns: int) -> Iterator[_Look]:
        """Every row there may be, with what it would say; None: nothing worth it. What changes while others go on is
        listed first."""
        for quota, model in self._roster.ledger.named().items():
            yield f"quota {quota.account} {quota.model}", capture(quota, model, now_ns)
        health = self._roster.health
        yield from _standings("key", health.keys, self._of_key, now_ns)
        yield from _standings("key_model", health.key_models, self._of_key, now_ns)
        yield from _standings("target", health.targets, self._of_target, now_ns)
        for name, calibration in list(self._roster.calibrations.items()):
            milli_bytes = calibration.milli_bytes
            yield f"calibration {name}", None if milli_bytes == _START else milli_bytes
        for each, owner in self._ownership.items():
            yield f"object {each}", owner

    def _of_key(self, name: str) -> str:
        """The fingerprint of a key, as configured now. `name`: the key's ident, alone or before a model."""
        fingerprint = self._roster.health.fingerprints.get(name.partition(" ")[0])
        return "" if fingerprint is None else f"{fingerprint:016x}"

    def _of_target(self, name: str) -> str:
        """The address of a target's provider, as configured now."""
        return self._roster.health.places.get(name.partition("/")[0], "")

    def _restored(self, name: str, value: bytes, moment: Moment) -> bool:
        kind, _, rest = name.partition(" ")
        try:
            self._restorers[kind](rest, value, moment)
        except (msgspec.DecodeError, ValueError, KeyError):
            return False  # of another version, or of an account that is configured no more
        return True

    def _restore_quota(self, name: str, value: bytes, moment: Moment) -> None:
        state = _quota(value)
        account, _, key = name.partition(" ")
        quota = self._roster.ledger.quota(account, state.model, moment.now_ns)
        if quota.model == key:  # else the model has joined or left a pool
            restore(quota, state, moment)

    def _restore_key(self, name: str, value: bytes, moment: Moment) -> None:
        self._bench(self._roster.health.keys, name, (self._of_key(name), _standing(value)), moment)

    def _restore_key_model(self, name: str, value: bytes, moment: Moment) -> None:
        self._bench(self._roster.health.key_models, name, (self._of_key(name), _standing(value)), moment)

    def _restore_target(self, name: str, value: bytes, moment: Moment) -> None:
        self._bench(self._roster.health.targets, name, (self._of_target(name), _standing(value)), moment)

    def _bench(self, standings: Standings, name: str, told: tuple[str, StandingState], moment: Moment) -> None:
        bound, state = told
        until_ns = moment.moved(state.until_ns)
        if state.bound == bound and bound and until_ns > moment.now_ns:
            model = name.partition("/")[2] if standings is self._roster.health.targets else name.partition(" ")[2]
            standing = standings.of(name, moment.now_ns, not self._roster.snapshot.is_known(model))
            standing.bench(until_ns, Outcome(state.cause), state.message)

    def _restore_calibration(self, name: str, value: bytes, moment: Moment) -> None:
        if self._of_target(name):
            self._roster.calibration(name).milli_bytes = _number(value)

    def _restore_object(self, name: str, value: bytes, moment: Moment) -> None:
        self._ownership.note((name,), _text(value))
