"""Whether a tree of lists, mappings and scalars has the shape that the structs of config.py declare, field by field.

Reports everything at once and goes on: what is wrong is replaced by its default or by a hole (an empty text, an empty
list), so that the checks of meaning (config_problems.py) still see the rest. Texts with a grammar (durations, sizes,
addresses, names) become values here. Knows the fields only through msgspec.inspect, so there is no second list of them.
A value is repeated in a message only where a grammar was missed and it cannot be a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import inspect

from sidecar.core import units
from sidecar.core.config import ANY, Address, Config, Problem
from sidecar.core.secret import looks_like_secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODEL = re.compile(r"[!-~]{1,256}")
_PORT = re.compile(r"[0-9]{1,5}")


def shape(tree: object) -> tuple[Config, list[Problem]]:
    """The configuration in a tree, with holes for what is wrong, and all that is wrong with its shape."""
    found: list[Problem] = []
    builtin = _read(tree if tree is not None else {}, inspect.type_info(Config), "", found)
    return msgspec.convert({} if builtin is _WRONG else builtin, Config), found


def child(path: str, name: str) -> str:
    """The path of a field; a name that may be a secret put in the wrong place is not repeated."""
    shown = "(hidden)" if looks_like_secret(name) else name[:64]
    return f"{path}.{shown}" if path else shown


def item(path: str, index: int) -> str:
    """The path of an entry of a list."""
    return f"{path}[{index}]"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name most like this one, else at all of them."""
    names = list(known)
    match = difflib.get_close_matches(name, names, 1)
    if match:
        return f"did you mean {match[0]}?"
    return f"known: {', '.join(names)}" if names else ""


class _Wrong:
    """Stands for a value that was reported, and is replaced by its default or a hole."""


_WRONG = _Wrong()


class _Kind(NamedTuple):
    """A grammar of texts: its reader (None = not of this grammar), and how to tell it to an operator."""

    read: Callable[[str], object]
    grammar: str
    show: Callable[[int], str] = str


def _read(tree: object, wanted: inspect.Type, path: str, found: list[Problem]) -> object:
    match wanted:
        case inspect.Metadata():
            return _annotated(tree, wanted, path, found)
        case inspect.UnionType():  # only `X | None` occurs
            return None if tree is None else _read(tree, wanted.types[0], path, found)
        case inspect.StructType():
            return _struct(tree, wanted, path, found)
        case inspect.VarTupleType():
            return _list(tree, wanted.item_type, path, found)
        case inspect.LiteralType():
            return _literal(tree, wanted, path, found)
        case _:
            return _scalar(tree, wanted, path, found)


def _annotated(tree: object, wanted: inspect.Metadata, path: str, found: list[Problem]) -> object:
    extra = wanted.extra or {}
    if "one_or_many" in extra and isinstance(wanted.type, inspect.VarTupleType):
        return _one_or_many(tree, wanted.type, path, found)
    kind = _KINDS[extra["kind"]]
    if not isinstance(tree, str):
        hint = ("put it in quotes" if kind.show is str else "add the unit") if _is_number(tree) else ""
        return _wrong(found, path, f"expected {kind.grammar}; got {_word(tree)}", hint)
    if looks_like_secret(tree) and kind is not _KINDS["model"]:
        return _wrong(found, path, "looks like a secret", "this value is shown in logs and headers: choose another")
    value = kind.read(tree)
    if value is None:
        return _wrong(found, path, f"expected {kind.grammar}; got {_shown(tree)}", "")
    if isinstance(wanted.type, inspect.IntType) and isinstance(value, int):
        return _bounded(value, wanted.type, path, found, kind.show)
    return value


def _struct(tree: object, wanted: inspect.StructType, path: str, found: list[Problem]) -> object:
    if tree is None and not any(field.required for field in wanted.fields):
        return {}  # a heading whose fields are all commented out
    if not isinstance(tree, Mapping):
        return _wrong(found, path, f"expected fields and their values; got {_word(tree)}", "")
    fields = {field.encode_name: field for field in wanted.fields}
    for name in tree:
        if name not in fields:
            found.append(_unknown(str(name), path, fields))
    value: dict[str, object] = {}
    for name, field in fields.items():
        if name in tree:
            read = _read(tree[name], field.type, child(path, name), found)
        elif field.required:
            read = _wrong(found, child(path, name), "is missing", "")
        else:
            continue
        if read is not _WRONG:
            value[name] = read
        elif field.required:
            value[name] = _hole(field.type)
    return value


def _unknown(name: str, path: str, fields: Mapping[str, inspect.Field]) -> Problem:
    where = child(path, name)
    if {"env", "file"} <= fields.keys() and not difflib.get_close_matches(name, fields):
        return Problem(where, "unknown field", "a secret is not written here: say where it is, with env or file")
    return Problem(where, "unknown field", nearest(name, fields))


def _list(tree: object, wanted: inspect.Type, path: str, found: list[Problem]) -> object:
    if not isinstance(tree, list | tuple):
        return _wrong(found, path, f"expected a list; got {_word(tree)}", "begin each entry with a dash")
    entries = [_read(entry, wanted, item(path, index), found) for index, entry in enumerate(tree)]
    return [_hole(wanted) if entry is _WRONG else entry for entry in entries]


def _one_or_many(tree: object, wanted: inspect.VarTupleType, path: str, found: list[Problem]) -> object:
    if isinstance(tree, list | tuple):
        return _list(tree, wanted.item_type, path, found)
    one = _read(tree, wanted.item_type, path, found)
    return list(with_twin(one)) if isinstance(one, Address) else one if one is _WRONG else [one]


def _literal(tree: object, wanted: inspect.LiteralType, path: str, found: list[Problem]) -> object:
    if isinstance(tree, str) and tree in wanted.values:
        return tree
    choices = " or ".join(str(value) for value in wanted.values)
    return _wrong(found, path, f"expected {choices}; got {_shown(tree)}", "")


def _scalar(tree: object, wanted: inspect.Type, path: str, found: list[Problem]) -> object:
    match wanted:
        case inspect.BoolType():
            return tree if isinstance(tree, bool) else _wrong(found, path, f"expected true or false; got {_word(tree)}")
        case inspect.IntType() | inspect.FloatType():
            return _number(tree, wanted, path, found)
    if isinstance(tree, str):
        return tree
    return _wrong(found, path, f"expected text; got {_word(tree)}", "put it in quotes" if _is_number(tree) else "")


def _number(tree: object, wanted: inspect.IntType | inspect.FloatType, path: str, found: list[Problem]) -> object:
    if isinstance(tree, int) and not isinstance(tree, bool):
        return _bounded(tree, wanted, path, found)
    if isinstance(tree, float) and isinstance(wanted, inspect.FloatType):
        return _bounded(tree, wanted, path, found)
    expected = "a whole number" if isinstance(wanted, inspect.IntType) else "a number"
    return _wrong(found, path, f"expected {expected}; got {_word(tree)}")


def _bounded(
    value: float,
    wanted: inspect.IntType | inspect.FloatType,
    path: str,
    found: list[Problem],
    show: Callable[[int], str] = str,
) -> object:
    # Written so that a NaN, which compares false with everything, is outside every bound.
    if wanted.gt is not None and not value > wanted.gt:
        return _wrong(found, path, f"must be more than {show(int(wanted.gt))}")
    if wanted.ge is not None and not value >= wanted.ge:
        return _wrong(found, path, f"must be at least {show(int(wanted.ge))}")
    if wanted.le is not None and not value <= wanted.le:
        return _wrong(found, path, f"must be at most {show(int(wanted.le))}")
    return value


def _hole(wanted: inspect.Type) -> object:
    """A value of the wanted type that the checks of meaning recognise as absent."""
    match wanted:
        case inspect.Metadata(extra={"kind": "address"}):
            return Address("", 0)
        case inspect.Metadata():
            return _hole(wanted.type)
        case inspect.StructType():
            return {field.encode_name: _hole(field.type) for field in wanted.fields if field.required}
        case inspect.VarTupleType():
            return []
    return ""


def _wrong(found: list[Problem], path: str, message: str, hint: str = "") -> _Wrong:
    found.append(Problem(path, message, hint))
    return _WRONG


def _is_number(tree: object) -> bool:
    return isinstance(tree, int | float)


def _word(tree: object) -> str:
    """The type of a value in words. The value itself may be a secret in the wrong place."""
    words = {bool: "true or false", int: "a number", float: "a number", str: "text", type(None): "nothing"}
    if isinstance(tree, Mapping):
        return "fields"
    return "a list" if isinstance(tree, list | tuple) else words.get(type(tree), f"a {type(tree).__name__}")


def _shown(tree: object) -> str:
    if not isinstance(tree, str):
        return _word(tree)
    is_showable = len(tree) <= 40 and tree.isprintable() and not looks_like_secret(tree)
    return f'"{tree}"' if is_showable else f"a text of {len(tree)} characters"


def with_twin(address: Address) -> tuple[Address, ...]:
    """An address given alone, and the same on IPv6's loopback where it is IPv4's: `localhost` may be either."""
    is_alone = address.host != "127.0.0.1" or not address.port
    return (address,) if is_alone else (address, Address("::1", address.port, is_optional=True))


def read_address(text: str) -> Address | None:
    """The address in a text such as `127.0.0.1:8787`, `[::1]:8787` or `*:8787`; None when it is none."""
    host, separator, port = text.rpartition(":")
    if not separator or not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    if host in ("localhost", ANY):
        return Address(ANY if host == ANY else "127.0.0.1", int(port))
    is_bracketed = host.startswith("[") and host.endswith("]")
    try:
        parsed = ipaddress.ip_address(host[1:-1] if is_bracketed else host)
    except ValueError:
        return None
    return Address(str(parsed), int(port)) if is_bracketed == (parsed.version == 6) else None


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str | None]:
    return lambda text: text if pattern.fullmatch(text) else None


_KINDS = {
    "duration": _Kind(units.parse_duration, units.DURATION_GRAMMAR, units.format_duration),
    "size": _Kind(units.parse_size, units.SIZE_GRAMMAR, units.format_size),
    "address": _Kind(
        read_address, "an IP address and a port, such as 127.0.0.1:8787, '[::1]:8787' or '*:8787' (all interfaces)"
    ),
    "name": _Kind(_matching(_NAME), "a name of at most 64 letters, digits, dots, dashes and underscores"),
    "model": _Kind(_matching(_MODEL), "a model's name without spaces"),
}
