"""How a JSON body is fitted to a target: another model, fields dropped or renamed; everything else is left as it came.

A rewrite is a splice: members are found by their spans, and everything outside a changed span keeps its bytes: unknown
fields, big numbers, lone surrogates, odd white space (acceptance C16). What a field means to a provider is the
catalog's to know. RFC 8259.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from sidecar.core.body_shapes import Sought, decode_messages, decode_names
from sidecar.core.envelope import MODEL, UNREADABLE
from sidecar.core.outline import outline
from sidecar.core.spans import (
    Member,
    begins_with,
    elements,
    ends_at,
    ends_flat,
    inside,
    is_escaped,
    is_name,
    members,
    members_from,
    quoted,
    rewritten,
    spliced,
)

# how far from the end `model` is looked for before the body is read from its start: SDKs write it after `messages`
_TAIL_BYTES: Final = 1 << 16
_MESSAGES: Final = "messages"


class _Seen(Exception):
    """There is one."""


def with_model(body: bytes, model: str) -> bytes:
    """The body with another string as the value of its top-level `model`; unchanged where it has none."""
    member = _model_member(body)
    return body if member is None else spliced(body, member.value, member.end, quoted(model))


def with_member(body: bytes, name: str, value: bytes) -> bytes:
    """An object's text with the top-level member `name` set to the JSON text `value`; a new member goes first."""
    for member in members(body):
        if member.name == name:
            return spliced(body, member.value, member.end, value)
    start = inside(body)
    if start is None:
        return body
    comma = b"" if ends_at(body, start) else b","
    return spliced(body, start, start, quoted(name) + b":" + value + comma)


def without(body: bytes, fields: Collection[str], renames: Mapping[str, str]) -> tuple[bytes, tuple[str, ...]]:
    """The body less the named top-level members, others renamed; and the names of those that are gone.

    A member whose new name another one has already is dropped: two of one name would contradict each other.
    """
    if _is_without(body, {*fields, *renames}):
        return body, ()
    found = list(members(body))
    if not found:
        return body, ()
    pieces, dropped = rewritten(body, found, fields, renames)
    view = memoryview(body)
    return b"".join((view[: found[0].start], *pieces, view[found[-1].end :])), dropped


def without_in_messages(body: bytes, fields: Collection[str]) -> tuple[bytes, tuple[str, ...]]:
    """The same for the members of each message in the top-level `messages`; each name is told once."""
    if _are_without(body, fields):
        return body, ()
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    gone: dict[str, None] = {}
    done = 0
    for found in _messages(body):
        if not any(member.name in fields for member in found):
            continue
        kept, dropped = rewritten(body, found, fields, {})
        pieces += (view[done : found[0].start], *kept)
        done = found[-1].end
        gone.update(dict.fromkeys(dropped))
    return (b"".join((*pieces, view[done:])), tuple(gone)) if gone else (body, ())


class Search:
    """Looks for members of some names, at the top of a body and within its messages; one decoder for all, which takes a
    tenth of the time that a search of the text for each name does."""

    __slots__ = ("_decode",)

    def __init__(self, fields: Collection[str], message_fields: Collection[str]) -> None:
        message = _searched(message_fields, [])
        within: tuple[str, type, object] = (_MESSAGES, list[message], [])  # type: ignore[valid-type]
        shape = _searched(fields, [] if _MESSAGES in fields else [within])
        self._decode = msgspec.json.Decoder(shape, dec_hook=_see).decode

    def lacks(self, body: bytes) -> bool:
        """Whether it has none of them; True is certain."""
        try:
            self._decode(outline(body))
        except _Seen:
            return False
        except UNREADABLE:
            return False  # not by this decoder: the spans tell
        return True


@lru_cache(maxsize=256)  # of what some models were seen to reject
def search(fields: frozenset[str], message_fields: frozenset[str]) -> Search:
    """A search for these names, kept for the next time."""
    return Search(fields, message_fields)


def _searched(names: Collection[str], more: list[tuple[str, type, object]]) -> type[msgspec.Struct]:
    """A shape that calls back for each member of such a name, with `more` members of other types."""
    spelled = {f"f{at}": name for at, name in enumerate(dict.fromkeys(names))}
    fields = [*((field, Sought, None) for field in spelled), *more]
    return msgspec.defstruct("_Searched", fields, rename=spelled, gc=False)


def _see(_type: type, _value: object) -> Sought:
    raise _Seen


def _is_without(body: bytes, names: Collection[str]) -> bool:
    try:
        return decode_names(body).keys().isdisjoint(names)
    except UNREADABLE:
        return False  # not by this decoder: the spans tell


def _are_without(body: bytes, names: Collection[str]) -> bool:
    try:
        return all(message.keys().isdisjoint(names) for message in decode_messages(body).messages)
    except UNREADABLE:
        return False


def _model_member(body: bytes) -> Member | None:
    start = inside(body)
    if start is None:
        return None
    if not begins_with(body, start, MODEL):
        start = body.rfind(MODEL, max(0, len(body) - _TAIL_BYTES))
        if start < 0 or not _is_top_level(body, start):
            return next((member for member in members(body) if member.name == "model"), None)
    return next(members_from(body, start), None)


def _is_top_level(body: bytes, start: int) -> bool:
    """Whether a member's name stands there, followed by whole members and the last brace alone."""
    # a backslash before it: the quote is part of a name such as `"model`
    if is_escaped(body, start) or not is_name(body, start):
        return False
    if ends_flat(body, start):
        return True
    end = start
    for member in members_from(body, start):
        end = member.end
    return ends_at(body, end)


def _messages(body: bytes) -> Iterator[list[Member]]:
    for member in members(body):
        if member.name == "messages" and body.startswith(b"[", member.value):
            yield from elements(body, member.value)
