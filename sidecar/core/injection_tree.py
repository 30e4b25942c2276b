"""Reading what may be absent or null in a pod, and writing the operations of a JSON patch (RFC 6902, RFC 6901).

A pod is never turned into typed objects and back: fields that this version does not know would be lost. What has not
the type it should have is read as empty; the API server refuses such a pod itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Operation = dict[str, object]
Tree = Mapping[str, object]

_NOTHING: Tree = {}


def mapping(value: object) -> Tree:
    """The mapping, or an empty one."""
    return value if isinstance(value, Mapping) else _NOTHING


def mappings(value: object) -> list[Tree]:
    """The list with a mapping for each entry, so that indexes stay right; empty where it is no list."""
    return [mapping(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def text(value: object) -> str:
    """The text, or an empty one."""
    return value if isinstance(value, str) else ""


def pointer(*parts: str | int) -> str:
    """The path to a place, with `~` and `/` of names escaped."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def add(value: object, *parts: str | int) -> Operation:
    """Add there: into a list before what is there (`-`: at its end), into a mapping in place of what is there."""
    return {"op": "add", "path": pointer(*parts), "value": value}


def replace(value: object, *parts: str | int) -> Operation:
    """Put another value in that place, where there is one."""
    return {"op": "replace", "path": pointer(*parts), "value": value}
