"""The merged list of models: public names first, then what each provider lists, each id once, as it was told.

OpenAI API reference, "List models". What is parked as unavailable is left out (acceptance H5).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec


class _Listed(msgspec.Struct):
    data: list[msgspec.Raw]


class _Identified(msgspec.Struct):
    id: str = ""


class _Model(msgspec.Struct):
    id: str
    owned_by: str
    object: str = "model"
    created: int = 0


class ModelList(msgspec.Struct):
    """What `GET /v1/models` answers."""

    data: list[msgspec.Raw]
    object: str = "list"


_decode_list = msgspec.json.Decoder(_Listed).decode
_decode_flat = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_id = msgspec.json.Decoder(_Identified).decode
_encode = msgspec.json.Encoder().encode


def listed(body: bytes) -> list[tuple[str, msgspec.Raw]] | None:
    """The (id, entry) pairs of a provider's list; None when it is no list. Some send a bare array (Together)."""
    try:
        entries = _decode_flat(body) if body.lstrip()[:1] == b"[" else _decode_list(body).data
        return [(_decode_id(entry).id, entry) for entry in entries]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def assumed(ids: Iterable[str], owner: str) -> list[tuple[str, msgspec.Raw]]:
    """Entries for ids that are known without asking: public names, and the catalog's where a provider gives no list."""
    return [(model_id, msgspec.Raw(_encode(_Model(model_id, owner)))) for model_id in ids]


def merge(lists: Iterable[tuple[str, list[tuple[str, msgspec.Raw]]]], parked: Collection[str]) -> bytes:
    """The body of the merged list: every id once, the first entry for it as it stood.

    `lists`: each provider's name and entries. `parked`: targets (`provider/model`) that cannot be called for now.
    """
    kept: dict[str, msgspec.Raw] = {}
    for provider, entries in lists:
        for model_id, entry in entries:
            if model_id and f"{provider}/{model_id}" not in parked:
                kept.setdefault(model_id, entry)
    return _encode(ModelList(list(kept.values())))
