"""What of a process outlives it: quotas, what stands against keys and targets, calibrations, who owns which object.

Decides what is worth a row, which rows have changed since they were last saved, and how rows are taken up again: one
by one, so that a row that makes no sense costs no other. They are looked at when they are to be saved; nothing that
serves a request takes note of it. Refuses to know where rows are kept (store/).

No row holds a secret. What stands against a key is bound to its fingerprint, 64 bits of the SHA-256 of the secret and
of where it goes, and counts no more when either has changed (acceptance H6). That tells nothing of a key that was drawn
at random, as providers do; of one that can be guessed it would confirm the guess, so the file is its owner's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from sidecar.core.affinity import Ownership
from sidecar.core.health import Standings
from sidecar.core.outcomes import Outcome
from sidecar.core.quota_state import Moment, Natural, QuotaState, capture, restore
from sidecar.core.roster import Roster
from sidecar.core.tokens import LEAST, MOST, Calibration

SAVED_AT = "saved_at"  # the row that says when the others were true
SLICE = 64  # rows looked at in one go: less than a millisecond, since requests wait meanwhile
_MOST_CHARS = 1024  # of a row's name; longer ones are of ids that no provider gives

_START = Calibration().milli_bytes


class StandingState(NamedTuple):
    """One bench. `bound`: by whose change it ends: a key's fingerprint, or a provider's address."""

    until_ns: Natural
    cause: str
    message: str
    bound: str


class Batch:
    """What to write so that the store holds the present; empty until `State.look` has filled it."""

    __slots__ = ("changed", "marks", "removed")

    def __init__(self) -> None:
        self.changed: dict[str, bytes] = {}
        self.removed: list[str] = []
        self.marks: dict[str, int | None] = {}  # by row: what stands for its contents

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)

    def __repr__(self) -> str:
        return f"<Batch {len(self.changed)} changed, {len(self.removed)} removed, of {len(self.marks)}>"


_Kept = tuple[object, ...] | int | str
_About = Callable[[str], tuple[str, str]]  # of a standing's name: what it is bound to ("": nothing known), its model

_encode = msgspec.json.Encoder().encode
_quota = msgspec.json.Decoder(QuotaState).decode
_standing = msgspec.json.Decoder(StandingState).decode
_instant = msgspec.json.Decoder(Natural).decode
_milli_bytes = msgspec.json.Decoder(Annotated[int, Meta(ge=LEAST, le=MOST)]).decode
_owner = msgspec.json.Decoder(str).decode


class State:
    """What a roster and an ownership hold, as rows by name, and which of them the store has."""

    def __init__(self, roster: Roster, ownership: Ownership) -> None:
        self._roster = roster
        self._ownership = ownership
        self._marks: dict[str, int | None] = {}  # of the rows in the store; None: not known
        health = roster.health
        self._standings: dict[str, tuple[Standings, _About]] = {
            "key": (health.keys, self._about_key),
            "key_model": (health.key_models, self._about_key),
            "target": (health.targets, self._about_target),
        }
        self._restorers: dict[str, Callable[[str, bytes, Moment], None]] = {
            "quota": self._restore_quota,
            "calibration": self._restore_calibration,
            "object": self._restore_object,
            **{kind: partial(self._restore_standing, kind) for kind in self._standings},
        }

    def restore(self, rows: Mapping[str, bytes], now_ns: int) -> None:
        """Take up the rows of a process before this one, before anything is served."""
        self._marks = dict.fromkeys(rows.keys() - {SAVED_AT})
        moment = Moment(now_ns, _saved_at(rows, now_ns))
        for name, row in rows.items():
            kind, _, rest = name.partition(" ")
            try:
                self._restorers[kind](rest, row, moment)
            except (msgspec.DecodeError, ValueError, KeyError):
                continue  # of another version, or of what is configured no more: the next batch removes it

    def look(self, batch: Batch, now_ns: int) -> Iterator[None]:
        """Fill a batch with all that has changed since the last confirmed one; others may go on at each step."""
        for count, (name, kept) in enumerate(self._rows(now_ns), 1):
            if kept is not None:
                self._note(batch, name, kept)
            if count % SLICE == 0:
                yield
        batch.removed.extend(self._marks.keys() - batch.marks.keys())
        if batch:
            batch.changed[SAVED_AT] = _encode(now_ns)

    def confirm(self, batch: Batch) -> None:
        """The batch is saved. What is in one that never is comes again in the next."""
        self._marks = batch.marks

    def __repr__(self) -> str:
        return f"<State of {len(self._marks)} rows>"

    def _note(self, batch: Batch, name: str, kept: _Kept) -> None:
        mark = hash(kept)  # instead of the row, which may have kilobytes; 64 bits do not meet by accident
        if self._marks.get(name) != mark:
            row = _encoded(name, kept)
            if row is None:
                return
            batch.changed[name] = row
        batch.marks[name] = mark

    def _rows(self, now_ns: int) -> Iterator[tuple[str, _Kept | None]]:
        """Everything there is, by the name of its row, with what is worth keeping of it. What others may change between
        two values is copied before."""
        for quota, model in self._roster.ledger.named().items():
            yield f"quota {quota.account} {quota.model}", capture(quota, model, now_ns)
        for kind, (standings, about) in self._standings.items():
            for name, standing in list(standings.items()):
                if standing.until_ns <= now_ns or standing.cause is None:
                    yield name, None
                else:
                    bound, _ = about(name)
                    state = StandingState(standing.until_ns, standing.cause.value, _clean(standing.message), bound)
                    yield f"{kind} {name}", state
        for name, calibration in list(self._roster.calibrations.items()):
            milli_bytes = calibration.milli_bytes
            yield f"calibration {name}", None if milli_bytes == _START else milli_bytes
        for each, owner in self._ownership.items():
            yield f"object {each}", owner

    def _about_key(self, name: str) -> tuple[str, str]:
        ident, _, model = name.partition(" ")
        fingerprint = self._roster.health.fingerprints.get(ident)
        return "" if fingerprint is None else f"{fingerprint:016x}", model

    def _about_target(self, name: str) -> tuple[str, str]:
        provider, _, model = name.partition("/")
        return self._roster.health.places.get(provider, ""), model

    def _restore_quota(self, name: str, row: bytes, moment: Moment) -> None:
        state = _quota(row)
        account, _, key = name.partition(" ")
        quota = self._roster.ledger.quota(account, state.model, moment.now_ns)
        if quota.model == key:  # else the model has joined or left a pool
            restore(quota, state, moment)

    def _restore_standing(self, kind: str, name: str, row: bytes, moment: Moment) -> None:
        state = _standing(row)
        cause = Outcome(state.cause)
        standings, about = self._standings[kind]
        bound, model = about(name)
        until_ns = moment.moved(state.until_ns)
        if bound and state.bound == bound and until_ns > moment.now_ns:
            is_passing = not self._roster.snapshot.is_known(model)
            standings.of(name, moment.now_ns, is_passing).bench(until_ns, cause, state.message)

    def _restore_calibration(self, name: str, row: bytes, moment: Moment) -> None:
        if self._about_target(name)[0]:
            self._roster.calibration(name).milli_bytes = _milli_bytes(row)

    def _restore_object(self, name: str, row: bytes, moment: Moment) -> None:
        self._ownership.note((name,), _owner(row))


def _saved_at(rows: Mapping[str, bytes], now_ns: int) -> int:
    try:
        return _instant(rows[SAVED_AT])
    except (msgspec.DecodeError, KeyError):
        return now_ns


def _encoded(name: str, kept: _Kept) -> bytes | None:
    """The row; None: its name is too long, or no Unicode. A caller may call a model anything."""
    if len(name) > _MOST_CHARS:
        return None
    try:
        name.encode()
        return _encode(kept)
    except UnicodeEncodeError:
        return None


def _clean(text: str) -> str:
    """A provider's words without what is no Unicode."""
    return text.encode("utf-8", "replace").decode()
