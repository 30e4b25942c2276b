"""Rows that end with the process: what `state.path: null` asks for. The contract is `interfaces.Store`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sidecar.interfaces import Loaded


class MemoryStore:
    """Implements `interfaces.Store` with a dict."""

    def __init__(self) -> None:
        self.place: str | None = None
        self._rows: dict[str, bytes] = {}

    async def load(self) -> Loaded:
        return Loaded(dict(self._rows))

    async def save(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        for name in (*removed, *changed):
            self._rows.pop(name, None)  # what is saved again goes to the end
        self._rows.update(changed)

    async def close(self) -> None:
        """Nothing is held."""

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._rows)} rows>"
