"""What stands against keys, told to all sidecars: a key that one of them found dead is called by none.

A row is bound to the key's fingerprint, like those of state.py, so that it says nothing of a new secret (H6). What is
over is taken out by whoever sees it. Refuses to know where rows are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from sidecar.core.health import Health, Standing, Standings
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome
from sidecar.core.state import StandingState

_MOST = 4096  # rows that are told
_MOST_CHARS = 1024  # of a row's name

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StandingState).decode


class SharedStandings:
    """The standings of keys, and of keys at models, as rows by name."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._told: dict[str, int] = {}  # until when each row says, as far as known here

    def fresh(self, now_ns: int) -> dict[str, bytes]:
        """Rows that the others may not have."""
        rows: dict[str, bytes] = {}
        for name, standing in self._standing(now_ns):
            # one that ends within the second is over before it is heard
            if standing.until_ns > max(self._told.get(name, 0), now_ns + SECOND) and len(rows) < _MOST:
                rows[name] = self._row(name, standing)
        return rows

    def confirm(self, rows: Mapping[str, bytes]) -> None:
        """These rows are told."""
        for name, row in rows.items():
            self._told[name] = _decode(row).until_ns

    def take(self, rows: Mapping[str, bytes], now_ns: int) -> list[str]:
        """What all have told; the names of rows that are over."""
        over = []
        for name, row in rows.items():
            try:
                state = _decode(row)
                cause = Outcome(state.cause)
            except (msgspec.DecodeError, ValueError):
                continue  # of another version
            if state.until_ns <= now_ns:
                over.append(name)
                self._told.pop(name, None)
                continue
            self._told[name] = state.until_ns
            kind, _, rest = name.partition(" ")
            if kind in ("key", "key_model") and state.bound == self._bound(rest):
                self._standings(kind).of(rest, now_ns, kind == "key_model").bench(state.until_ns, cause, state.message)
        return over

    def forget(self) -> None:
        """The rows may be lost: everything is told again."""
        self._told.clear()

    def _standing(self, now_ns: int) -> Iterator[tuple[str, Standing]]:
        for kind in ("key", "key_model"):
            for name, standing in self._standings(kind).items():
                is_against = standing.until_ns > now_ns and standing.cause is not None
                if is_against and self._bound(name) and len(name) <= _MOST_CHARS and name.isprintable():
                    yield f"{kind} {name}", standing

    def _standings(self, kind: str) -> Standings:
        return self._health.keys if kind == "key" else self._health.key_models

    def _row(self, name: str, standing: Standing) -> bytes:
        cause = "" if standing.cause is None else standing.cause.value
        message = standing.message.encode("utf-8", "replace").decode()
        return _encode(StandingState(standing.until_ns, cause, message, self._bound(name.partition(" ")[2])))

    def _bound(self, name: str) -> str:
        fingerprint = self._health.fingerprints.get(name.partition(" ")[0])
        return "" if fingerprint is None else f"{fingerprint:016x}"

    def __repr__(self) -> str:
        return f"<SharedStandings {len(self._told)} told>"
