"""Which key made what: files, batches and stored responses can be had again with the key that created them alone.

Objects are known by their ids, which providers make unguessable; no id is ever invented or changed here. What is
forgotten (a restart, or ten thousand objects later) goes to the first provider like anything unknown.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sidecar.core.paths import Surface, segments

# an id and its owner are some 200 bytes: 2 MB at the most
_CAPACITY = 10_000

# collections whose members outlive the request that made them, by the name they have in a path
_COLLECTIONS = frozenset(
    {
        "assistants",
        "batches",
        "cachedContents",
        "containers",
        "conversations",
        "evals",
        "file_batches",
        "files",
        "items",
        "jobs",
        "responses",
        "runs",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    }
)
# below these an id can be asked for too, but what is posted to them is seldom stored
_MOSTLY_PASSING = frozenset({"completions", "messages"})


class Ownership:
    """The owner (a key's ident) of each object seen lately; the one used longest ago is forgotten first."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._owners: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Ownership {len(self._owners)} of {self._capacity}>"

    def note(self, ids: Iterable[str], owner: str) -> None:
        """These objects were created with the key `owner`."""
        for each in ids:
            self._owners.pop(each, None)
            self._owners[each] = owner
        while len(self._owners) > self._capacity:
            del self._owners[next(iter(self._owners))]

    def items(self) -> list[tuple[str, str]]:
        """Each object with its owner, the one used longest ago first."""
        return list(self._owners.items())

    def owner_of(self, ids: Iterable[str]) -> str | None:
        """The owner of the first of these objects that is known, or None."""
        for each in ids:
            owner = self._owners.pop(each, None)
            if owner is not None:
                self._owners[each] = owner
                return owner
        return None


class _Created(msgspec.Struct, gc=False):
    id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None


_decode = msgspec.json.Decoder(_Created).decode


def may_create(surface: Surface, method: bytes) -> bool:
    """Whether what is answered there with status 2xx may name objects that its key owns; passing answers are none."""
    return method != b"DELETE" and not _COLLECTIONS.isdisjoint(segments(surface.path))


def created_ids(body: bytes) -> tuple[str, ...]:
    """The ids of the objects that such an answer names."""
    try:
        created = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    return tuple(each for each in (created.id, created.output_file_id, created.error_file_id) if each)


def path_ids(path: bytes) -> tuple[str, ...]:
    """The ids of objects that a path names: `/files/{id}/content`, `/vector_stores/{id}/files/{id}`."""
    found: list[str] = []
    before = ""
    for segment in segments(path):
        names_collection = segment in _COLLECTIONS or segment in _MOSTLY_PASSING
        if segment and not names_collection and (before in _COLLECTIONS or before in _MOSTLY_PASSING):
            found.append(segment)
        before = segment
    return tuple(found)
