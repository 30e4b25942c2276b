"""Where the members of a JSON object stand in its text, so that one can be changed and every other byte kept.

Finds spans and nothing else: the text is known to be JSON (some parser has accepted it), so nothing is validated here;
on other text the spans are meaningless, but reading them ends. Values are never decoded. RFC 8259.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

_QUOTE, _BACKSLASH = b'"\\'
_OPENING: Final = b"[{"
_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*+\{")
_MEMBER: Final = re.compile(rb'[\s,]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*+:\s*+', re.DOTALL)
_STRUCTURE: Final = re.compile(rb'[^"\[\]{}]*+["\[\]{}]')
_SCALAR: Final = re.compile(rb"[^\s,\]}]*+")
_STRING_REST: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ELEMENT: Final = re.compile(rb"[\s,]*+\{")
_CLOSE: Final = re.compile(rb"\s*+\}")
_END: Final = re.compile(rb"\s*+\}\s*+\Z")
_FLAT_END: Final = re.compile(rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+\}\s*+\Z', re.DOTALL)
_SPACE: Final = re.compile(rb"\s*+")


class Member(NamedTuple):
    """One member: from the quote of its name at `start` to the end of its value, which begins at `value`."""

    name: str
    start: int
    value: int
    end: int


def inside(text: bytes) -> int | None:
    """The offset after the opening brace of the object that is this text; None when it begins otherwise."""
    match = _START.match(text)
    return match.end() if match else None


def members(text: bytes) -> Iterator[Member]:
    """The members of the object that is this text, in order."""
    start = inside(text)
    return iter(()) if start is None else members_from(text, start)


def members_from(text: bytes, at: int) -> Iterator[Member]:
    """The members that begin at or after `at`, an offset between two members, up to the end of their object."""
    while match := _MEMBER.match(text, at):
        at = _value_end(text, match.end())
        yield Member(_unquoted(match[1]), match.start(1), match.end(), at)


def elements(text: bytes, at: int) -> Iterator[list[Member]]:
    """The members of each object in the array whose bracket is at `at`, as long as its elements are objects."""
    at += 1
    while match := _ELEMENT.match(text, at):
        found = list(members_from(text, match.end()))
        close = _CLOSE.match(text, found[-1].end if found else match.end())
        if close is None:
            return
        yield found
        at = close.end()


def ends_at(text: bytes, at: int) -> bool:
    """Whether nothing but the brace that ends the whole text follows."""
    return _END.match(text, at) is not None


def ends_flat(text: bytes, at: int) -> bool:
    """Whether neither object nor array follows before the brace that ends the whole text."""
    return _FLAT_END.match(text, at) is not None


def begins_with(text: bytes, at: int, name: bytes) -> bool:
    """Whether the next member's name is `name`, a JSON string."""
    space = _SPACE.match(text, at)
    return space is not None and text.startswith(name, space.end())


def is_name(text: bytes, at: int) -> bool:
    """Whether a string that is a member's name, not a value, stands there."""
    return _MEMBER.match(text, at) is not None


def is_escaped(text: bytes, at: int) -> bool:
    """Whether a backslash stands before that offset."""
    return at > 0 and text[at - 1] == _BACKSLASH


def spliced(text: bytes, start: int, end: int, piece: bytes) -> bytes:
    """The text with `piece` in the place of a span; one copy, however long it is."""
    view = memoryview(text)
    return b"".join((view[:start], piece, view[end:]))


def rewritten(
    text: bytes, found: list[Member], fields: Collection[str], renames: Mapping[str, str]
) -> tuple[list[bytes | memoryview], tuple[str, ...]]:
    """The members of an object less `fields`, others renamed, in pieces; and the names of those that are gone.

    A member whose new name another one has already is dropped: two of one name would contradict each other.
    """
    view = memoryview(text)
    taken = {member.name for member in found if member.name not in fields}
    pieces: list[bytes | memoryview] = []
    dropped: list[str] = []
    end = 0
    for member in found:
        name = renames.get(member.name)
        if member.name in fields or name in taken:
            dropped.append(member.name)
        else:
            if pieces:  # the comma before a member goes where the member goes
                pieces.append(view[end : member.start])
            start = member.start
            if name is not None:
                taken.add(name)
                pieces.append(quoted(name))
                start = _string_end(text, member.start)
            pieces.append(view[start : member.end])
        end = member.end
    return pieces, tuple(dropped)


def quoted(text: str) -> bytes:
    """A string as JSON text."""
    return msgspec.json.encode(text)


def _value_end(text: bytes, at: int) -> int:
    if text.startswith(b'"', at):
        return _string_end(text, at)
    if not text.startswith((b"{", b"["), at):
        scalar = _SCALAR.match(text, at)
        return scalar.end() if scalar else len(text)
    depth = 0
    while match := _STRUCTURE.match(text, at):
        at = match.end()
        mark = text[at - 1]
        if mark == _QUOTE:
            at = _string_end(text, at - 1)
        elif mark in _OPENING:
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return at
    return len(text)


def _string_end(text: bytes, at: int) -> int:
    # a search for one byte is many times faster than a pattern, and most long strings hold no escaped quote
    end = text.find(b'"', at + 1)
    if end < 0:
        return len(text)
    if text[end - 1] != _BACKSLASH:
        return end + 1
    rest = _STRING_REST.match(text, at + 1)
    return rest.end() if rest else len(text)


def _unquoted(text: bytes) -> str:
    if _BACKSLASH in text:
        return str(json.loads(text.decode("utf-8", "surrogateescape")))
    return text[1:-1].decode("utf-8", "surrogateescape")
