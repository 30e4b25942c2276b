"""The envelope of a JSON body: what routing and quota need to know of it, and nothing else of it is decoded.

Fields of a wrong type pass through: the provider will judge them. On an error of the strict decoder the body is tried
with the standard library's; only if that fails too is it none (design section 6, Bodies; acceptance C16). RFC 8259.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from sidecar.core.envelope_shapes import NAME, Fields, Name, Named, Object
from sidecar.core.errors import Reason, Refusal
from sidecar.core.outline import outline

MODEL: Final = b'"model"'
# bad UTF-8 is an error of its own (acceptance C16), too deep a nesting another
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Envelope:
    """What a body says about its request. Fields of a wrong type count as absent; the provider will judge them.

    `declared_output`: the most output tokens the caller allows. `include_usage`: stream_options.include_usage as asked.
    `references`: objects a key created that the request names. `file_bytes`: length of the files in a form.
    """

    __slots__ = ("declared_output", "file_bytes", "include_usage", "model", "n", "references", "store", "stream")

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self,
        model: str | None = None,
        stream: bool = False,
        declared_output: int | None = None,
        n: int = 1,
        include_usage: bool | None = None,
        store: bool | None = None,
        references: tuple[str, ...] = (),
        file_bytes: int = 0,
    ) -> None:
        self.model: Final = model
        self.stream: Final = stream
        self.declared_output: Final = declared_output
        self.n: Final = n
        self.include_usage: Final = include_usage
        self.store: Final = store
        self.references: Final = references
        self.file_bytes: Final = file_bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Envelope) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[object, ...]:
        limits = self.declared_output, self.n, self.file_bytes
        return self.model, self.stream, limits, self.include_usage, self.store, self.references


_EMPTY: Final = Envelope()
_DUPLICATE: Final = Refusal(Reason.MODEL_DUPLICATE, "The body names 'model' more than once.", param="model")


class _Reader:
    """Decodes what an envelope is made of, and notes each model that it comes by. One for all bodies: to make one for
    each takes as long as to decode it."""

    __slots__ = ("decode", "models")

    def __init__(self) -> None:
        self.models: list[object] = []
        self.decode = msgspec.json.Decoder(Named, dec_hook=self._note).decode

    def _note(self, _type: type, model: object) -> Name:
        self.models.append(model)
        return NAME


_reader: Final = _Reader()


def peek(body: bytes) -> Envelope | Refusal:
    """The envelope of a body; INVALID_JSON when no parser accepts it as an object, MODEL_DUPLICATE for two models.

    An empty body has an empty envelope.
    """
    if not body:
        return _EMPTY
    text = outline(body)
    if text is not body:
        found = _peek(text, body)
        # an empty name may have been a long one
        if not isinstance(found, Envelope) or found.model != "":
            return found
    return _peek(body, body)


def _peek(text: bytes, body: bytes) -> Envelope | Refusal:
    """The envelope of a body of which that is the text, or the outline."""
    models = _reader.models
    try:
        fields = _reader.decode(text)
    except UNREADABLE:
        models.clear()
        return _peek_leniently(body)
    count = len(models)
    model = models[0] if count else None
    models.clear()  # nothing of a body is kept
    return _DUPLICATE if count > 1 else _envelope(fields, model if isinstance(model, str) else None)


def _envelope(fields: Fields, model: str | None) -> Envelope:
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


def _references(fields: Fields) -> tuple[str, ...]:
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
        conversation.id if isinstance(conversation, Object) else conversation,
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


def _well_typed(value: dict[str, object]) -> Fields:
    good: dict[str, object] = {}
    for name in Fields.__struct_fields__:
        try:
            msgspec.convert({name: value.get(name)}, Fields)
        except msgspec.ValidationError:
            continue
        good[name] = value.get(name)
    return msgspec.convert(good, Fields)
