"""A YAML text as a tree of lists, mappings and scalars, with the line of every path, so that a problem can name it.

Nothing is constructed but text, numbers, booleans and null: a tag that asks for more is a problem, never obeyed.
A key given twice is a problem too, where PyYAML would silently keep the last. YAML 1.1, as PyYAML reads it; dates stay
text. Knows no field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import yaml

from sidecar.core.config import Problem
from sidecar.core.config_shape import child, item

# Aliases may multiply: a text of 1 KB can stand for 10**9 nodes. A thousand keys with limits need about 20,000.
_MAX_NODES = 100_000
_QUOTES = "values that hold : # [ { * or & must be in quotes"


class Document(NamedTuple):
    """What was read: the tree (None when it could not be), the line of each path, and what is wrong with the text."""

    tree: object
    lines: dict[str, int]
    problems: tuple[Problem, ...]
    is_whole: bool = True  # reading came to the end of the text

    def line(self, path: str) -> int | None:
        """The line of a path, or of the nearest thing around it that stands in the text."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)


def read_yaml(text: str) -> Document:
    """The tree in a text. Problems of syntax have an empty path, whose line is where reading stopped."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return _Walk().document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        said = ", ".join(part for part in (error.context, error.problem) if part)
        return _unreadable(f"is not YAML: {said}", _QUOTES, line)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _unreadable("is not YAML: it holds a control character", "save it as UTF-8 text", line)
    except (RecursionError, _TooLarge):
        return _unreadable("is nested too deeply, or its aliases multiply", "write it out", 1)


def _unreadable(message: str, hint: str, line: int) -> Document:
    return Document(None, {"": line}, (Problem("", message, hint),), is_whole=False)


class _TooLarge(Exception):
    """More nodes than any configuration has."""


class _Walk:
    """One pass over the nodes of a document."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}
        self._problems: list[Problem] = []
        self._nodes = 0

    def document(self, root: yaml.Node | None) -> Document:
        tree = None if root is None else self._value(root, "")
        self._lines[""] = 1
        return Document(tree, self._lines, tuple(self._problems))

    def _value(self, node: yaml.Node, path: str) -> object:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _TooLarge
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._value(entry, item(path, index)) for index, entry in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, path)
        self._wrong(path, "has a tag, and tags are not obeyed here", "remove what begins with !")
        return None

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                merged = {**self._merged(value, path), **merged}
            elif not isinstance(key, yaml.ScalarNode):
                self._wrong(path, "has a field whose name is not text", "write name: value")
            else:
                self._field(own, key, value, path)
        return {**merged, **own}

    def _field(self, own: dict[str, object], key: yaml.ScalarNode, value: yaml.Node, path: str) -> None:
        where = child(path, key.value)
        line = key.start_mark.line + 1
        if key.value in own:
            # reported at the second one: the first is what its author has forgotten
            first = self._lines[where]
            self._lines[where] = line
            self._wrong(where, f"is given twice, first in line {first}", "keep one of them")
            return
        self._lines[where] = line
        own[key.value] = self._value(value, where)

    def _merged(self, node: yaml.Node, path: str) -> dict[str, object]:
        """What `<<:` brings in: a mapping, or a list of them, of which the first wins."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, object] = {}
        for part in parts:
            value = self._value(part, path)
            if isinstance(value, dict):
                merged = {**value, **merged}
            else:
                self._wrong(path, "merges something that has no fields", "give << an alias of fields")
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: str) -> object:
        try:
            return _SCALARS[node.tag](node)
        except (ValueError, KeyError):  # `!!int abc`, `!!bool abc`, a number of 5,000 digits
            self._wrong(path, "does not agree with its tag", "remove what begins with !")
            return None

    def _wrong(self, path: str, message: str, hint: str) -> None:
        self._problems.append(Problem(path, message, hint))


def _text(node: yaml.ScalarNode) -> object:
    return node.value


_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_SCALARS: dict[str, Callable[[yaml.ScalarNode], object]] = {
    "tag:yaml.org,2002:null": lambda node: None,
    "tag:yaml.org,2002:bool": _CONSTRUCTOR.construct_yaml_bool,
    "tag:yaml.org,2002:int": _CONSTRUCTOR.construct_yaml_int,
    "tag:yaml.org,2002:float": _CONSTRUCTOR.construct_yaml_float,
    "tag:yaml.org,2002:str": _text,
    "tag:yaml.org,2002:timestamp": _text,
    "tag:yaml.org,2002:value": _text,
}
