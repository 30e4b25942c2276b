"""What callers left with a simulated provider: files, batches and stored responses. An account sees only its own.

Bounded: the oldest object of an account goes when it has too many. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.sim.replies import Json

_MOST = 1_000  # objects of one kind kept for an account: more than any test or bench makes


class Stored(NamedTuple):
    """An object and, for a file, its bytes."""

    value: Json
    content: bytes = b""


class Shelf:
    """All objects of one provider, by surface and account."""

    def __init__(self) -> None:
        self._shelves: dict[tuple[str, str], dict[str, Stored]] = {}

    def __repr__(self) -> str:
        return f"<Shelf {sum(len(shelf) for shelf in self._shelves.values())} objects>"

    def put(self, surface: str, account: str, stored: Stored) -> Json:
        """Keep an object under its id."""
        shelf = self._shelves.setdefault((surface, account), {})
        shelf[str(stored.value["id"])] = stored
        if len(shelf) > _MOST:
            del shelf[next(iter(shelf))]
        return stored.value

    def get(self, surface: str, account: str, name: str) -> Stored | None:
        """The object of that id, if this account has it."""
        return self._shelves.get((surface, account), {}).get(name)

    def drop(self, surface: str, account: str, name: str) -> bool:
        """Forget an object; False when there was none."""
        return self._shelves.get((surface, account), {}).pop(name, None) is not None

    def all(self, surface: str, account: str) -> list[Json]:
        """Every object of one kind this account has, oldest first."""
        return [stored.value for stored in self._shelves.get((surface, account), {}).values()]


def file_object(name: str, created: int, filename: str, content: bytes, purpose: str) -> Stored:
    """A `file` object."""
    value: Json = {"id": name, "object": "file", "bytes": len(content), "created_at": created, "filename": filename}
    return Stored(value | {"purpose": purpose, "status": "processed"}, content)


def batch_object(name: str, created: int, endpoint: str, input_file_id: str, status: str) -> Stored:
    """A `batch` object; a simulated batch never runs."""
    value: Json = {"id": name, "object": "batch", "endpoint": endpoint, "input_file_id": input_file_id}
    counts = {"total": 0, "completed": 0, "failed": 0}
    value |= {"status": status, "created_at": created, "completion_window": "24h", "errors": None}
    return Stored(value | {"output_file_id": None, "error_file_id": None, "request_counts": counts})
