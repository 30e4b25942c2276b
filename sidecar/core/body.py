"""The envelope of a JSON body: what routing and quota need to know of it, and how it is fitted to a target.

Only the envelope is decoded; whatever else stands in the body reaches the provider byte for byte: unknown fields, big
numbers, lone surrogates, odd white space (acceptance C16). A rewrite is a splice: members are found by their spans and
everything outside a changed span keeps its bytes. What a field means to a provider is the catalog's to know. RFC 8259.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping

import msgspec

from sidecar.core.errors import Reason, Refusal
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
_MODEL = b'"model"'
_SEARCHED_BYTES = 4096
_ESCAPED_ASCII = b"\\u00"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What a body says about its request. Fields of a wrong type count as absent; the provider will judge them.

    `declared_output`: the most output tokens the caller allows. `include_usage`: stream_options.include_usage as asked.
    `references`: objects a key created that the request names. `file_bytes`: length of the files in a form.
    """

    model: str | None = None
    stream: bool = False
    declared_output: int | None = None
    n: int = 1
    include_usage: bool | None = None
    store: bool | None = None
    references: tuple[str, ...] = ()
    file_bytes: int = 0


class _Name:
    """Stands where the model does, so that the decoder calls back for each and two are noticed at no cost."""


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _Object(msgspec.Struct, gc=False):
    id: str


class _Fields(msgspec.Struct, gc=False):
    stream: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    stream_options: _StreamOptions | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: str | _Object | None = None
    input_file_id: str | None = None
    file_id: str | None = None
    file_ids: list[str] | None = None
    training_file: str | None = None
    validation_file: str | None = None


class _Messages(msgspec.Struct, gc=False):
    messages: list[dict[str, msgspec.Raw]] = []


_decode_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_messages = msgspec.json.Decoder(_Messages).decode
# bad UTF-8 is an error of its own (acceptance C16), too deep a nesting another
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NAME = _Name()


class _Named(_Fields, gc=False):
    model: _Name = _NAME


class _Plain(_Fields, gc=False):
    model: str | None = None


_decode_plain = msgspec.json.Decoder(_Plain).decode

_EMPTY = Envelope()
_DUPLICATE = Refusal(Reason.MODEL_DUPLICATE, "The body names 'model' more than once.", param="model")


def peek(body: bytes) -> Envelope | Refusal:
    """The envelope of a body; INVALID_JSON when no parser accepts it as an object, MODEL_DUPLICATE for two models.

    An empty body has an empty envelope.
    """
    if not body:
        return _EMPTY
    if len(body) <= _SEARCHED_BYTES and body.count(_MODEL) == 1 and _ESCAPED_ASCII not in body:
        # one name alone that could be `model`: no second one to be noticed
        try:
            plain = _decode_plain(body)
            return _envelope(plain, plain.model)
        except _UNREADABLE:
            return _peek_leniently(body)
    models: list[object] = []

    def note(_type: type, value: object) -> _Name:
        models.append(value)
        return _NAME

    try:
        fields = msgspec.json.decode(body, type=_Named, dec_hook=note)
    except _UNREADABLE:
        return _peek_leniently(body)
    if not models:
        return _envelope(fields, None)
    if len(models) > 1:
        return _DUPLICATE
    model = models[0]
    return _envelope(fields, model if isinstance(model, str) else None)


def _envelope(fields: _Fields, model: str | None) -> Envelope:
    declared = fields.max_completion_tokens
    if declared is None:
        declared = fields.max_tokens if fields.max_tokens is not None else fields.max_output_tokens
    if declared is not None and declared < 0:
        declared = None
    options, n = fields.stream_options, fields.n
    return Envelope(
        model,
        fields.stream is True,
        declared,
        n if n is not None and n > 1 else 1,
        None if options is None else options.include_usage,
        fields.store,
        _references(fields),
    )


def _references(fields: _Fields) -> tuple[str, ...]:
    if (
        fields.previous_response_id is None
        and fields.conversation is None
        and fields.input_file_id is None
        and fields.file_id is None
        and fields.file_ids is None
        and fields.training_file is None
        and fields.validation_file is None
    ):
        return ()
    conversation = fields.conversation
    named = (
        fields.previous_response_id,
        conversation.id if isinstance(conversation, _Object) else conversation,
        fields.input_file_id,
        fields.file_id,
        fields.training_file,
        fields.validation_file,
    )
    if not any(named) and not fields.file_ids:
        return ()
    return (*(name for name in named if name), *(fields.file_ids or ()))


def _peek_leniently(body: bytes) -> Envelope | Refusal:
    """What the strict decoder refused: fields of wrong types, and what only the standard library's parser takes."""
    models = 0
    value: object = None

    def note(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal models
        models = sum(name == "model" for name, _ in pairs)  # the outermost object is the last to end
        return dict(pairs)

    try:
        # an integer may have more digits than int() takes; its value is not looked at
        value = json.loads(body.decode("utf-8-sig", "surrogatepass"), object_pairs_hook=note, parse_int=_short_int)
    except (ValueError, RecursionError) as error:
        return Refusal(Reason.INVALID_JSON, f"The body is not valid JSON: {error}.")
    if not isinstance(value, dict):
        return Refusal(Reason.INVALID_JSON, "The body is JSON but not an object.")
    if models > 1:
        return _DUPLICATE
    return _envelope(_well_typed(value), _model_name(value.get("model")))


def _short_int(digits: str) -> int | None:
    return int(digits) if len(digits) < 20 else None


def _model_name(value: object) -> str | None:
    # a lone surrogate is in no model's name, and could not be written to a log
    return value if isinstance(value, str) and value == value.encode("utf-8", "ignore").decode() else None


def _well_typed(value: dict[str, object]) -> _Fields:
    good: dict[str, object] = {}
    for name in _Fields.__struct_fields__:
        try:
            msgspec.convert({name: value.get(name)}, _Fields)
        except msgspec.ValidationError:
            continue
        good[name] = value.get(name)
    return msgspec.convert(good, _Fields)


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
    if len(body) > _SEARCHED_BYTES:
        return True  # many searches of a large text take longer than one decoder
    for mark in marks:  # written out: a generator costs as much as the search
        if mark in body:
            return True
    return _ESCAPED_ASCII in body  # a name may be spelled with it


def _is_without(body: bytes, names: Collection[str]) -> bool:
    try:
        return _decode_names(body).keys().isdisjoint(names)
    except _UNREADABLE:
        return False  # not by this decoder: the spans tell


def _are_without(body: bytes, names: Collection[str]) -> bool:
    try:
        return all(message.keys().isdisjoint(names) for message in _decode_messages(body).messages)
    except _UNREADABLE:
        return False


def _model_member(body: bytes) -> Member | None:
    start = inside(body)
    if start is None:
        return None
    if not begins_with(body, start, _MODEL):
        start = body.rfind(_MODEL, max(0, len(body) - _TAIL_BYTES))
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
