"""Which metrics and labels an expression of PromQL names: enough of its grammar for dashboards and alerts."""

from __future__ import annotations

import re
from typing import NamedTuple

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_FUNCTION = re.compile(r"\b[a-zA-Z_]\w*\s*(?=\()")
_NAME = re.compile(r"\b[a-zA-Z_:][\w:]*\b")
_WORDS = {"and", "or", "unless", "bool", "offset"}
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


class Named(NamedTuple):
    """`metrics`: each with the labels it is selected by. `grouped`: labels of groupings and of matchings."""

    metrics: list[tuple[str, set[str]]]
    grouped: set[str]


def named(expression: str) -> Named:
    """What an expression names."""
    rest = _RANGE.sub("", _TEXT.sub('""', expression))
    grouped = {label.strip() for found in _GROUPING.findall(rest) for label in found.split(",") if label.strip()}
    rest = _GROUPING.sub(" ", rest)
    metrics = [(name, set(_MATCHER.findall(matchers))) for name, matchers in _SELECTOR.findall(rest)]
    rest = _FUNCTION.sub(" ", _SELECTOR.sub(" ", rest))
    metrics += [(name, set[str]()) for name in _NAME.findall(rest) if name not in _WORDS]
    return Named(metrics, grouped)
