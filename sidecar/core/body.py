"""How a JSON body is fitted to a target: another model, fields dropped or renamed; everything else is left as it came.

A rewrite is a splice: members are found by their spans, and everything outside a changed span keeps its bytes: unknown
fields, big numbers, lone surrogates, odd white space (acceptance C16). What a field means to a provider is the
catalog's to know. RFC 8259.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache

import msgspec

from sidecar.core.envelope import ESCAPED_ASCII, MODEL, SEARCHED_BYTES, UNREADABLE
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
_TAIL_BYTES = 1 << 16
_MESSAGES = "messages"


class _Messages(msgspec.Struct, gc=False):
    messages: list[dict[str, msgspec.Raw]] = []


class _Sought:
    """Stands where a member is not wanted, so that the decoder calls back for it."""


class _Seen(Exception):
    """There is one."""


_decode_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_messages = msgspec.json.Decoder(_Messages).decode


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


def may_name(body: bytes, marks: Collection[bytes]) -> bool:
    """Whether a member of one of these names (each as a JSON text) may stand anywhere in a body; False is certain."""
    text = body if len(body) <= SEARCHED_BYTES else outline(body)
    if len(text) > SEARCHED_BYTES:
        return True  # many searches of a large text take longer than one decoder
    for mark in marks:  # written out: a generator costs as much as the search
        if mark in text:
            return True
    return ESCAPED_ASCII in text  # a name may be spelled with it


def lacks(body: bytes, fields: Collection[str], message_fields: Collection[str]) -> bool:
    """Whether it has no member of these names, at its top and within its messages; one decoder for all. True is
    certain."""
    if _MESSAGES in fields:
        return False
    try:
        _search(tuple(fields), tuple(message_fields)).decode(outline(body))
    except _Seen:
        return False
    except UNREADABLE:
        return False  # not by this decoder: the spans tell
    return True


@lru_cache(maxsize=256)  # of the catalog, and of what some models were seen to reject
def _search(fields: tuple[str, ...], message_fields: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    """A decoder that ends with `_Seen` at the first member of such a name."""
    message = _searched(message_fields, [])
    return msgspec.json.Decoder(_searched(fields, [(_MESSAGES, list[message], [])]), dec_hook=_see)  # type: ignore[valid-type]


def _searched(names: tuple[str, ...], more: list[tuple[str, type, object]]) -> type[msgspec.Struct]:
    spelled = {f"f{at}": name for at, name in enumerate(dict.fromkeys(names))}
    fields = [*((field, _Sought, None) for field in spelled), *more]
    return msgspec.defstruct("_Searched", fields, rename=spelled, gc=False)


def _see(_type: type, _value: object) -> _Sought:
    raise _Seen


def _is_without(body: bytes, names: Collection[str]) -> bool:
    try:
        return _decode_names(body).keys().isdisjoint(names)
    except UNREADABLE:
        return False  # not by this decoder: the spans tell


def _are_without(body: bytes, names: Collection[str]) -> bool:
    try:
        return all(message.keys().isdisjoint(names) for message in _decode_messages(body).messages)
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
