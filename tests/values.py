"""Values of core's own classes as tests want them: a record at its end, a value with some fields changed."""

from __future__ import annotations

from typing import Any, TypeVar

from sidecar.core.record import Record

V = TypeVar("V")


def names_of(kind: type) -> tuple[str, ...]:
    """The fields of a class, run as it is or compiled."""
    return getattr(kind, "__mypyc_attrs__", None) or kind.__slots__  # type: ignore[no-any-return,attr-defined]


def values_of(value: object) -> dict[str, object]:
    """What a value holds, by name, to compare two that are not the same."""
    return {name: getattr(value, name) for name in names_of(type(value))}


def replaced(value: V, **changes: Any) -> V:
    """A value like that one but for the fields that are given."""
    return type(value)(**values_of(value) | changes)


def record(name: str, arrived_ns: int, method: bytes, path: bytes, **fields: Any) -> Record:
    """The record of a request as the gateway has filled it in."""
    made = Record(name, arrived_ns, method, path)
    for field, value in fields.items():
        setattr(made, field, value)
    return made
