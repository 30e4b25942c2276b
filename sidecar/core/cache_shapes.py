"""Which answers the cache knows: what a request asks for, and whether what came is a whole and proper answer to it.

Only a known shape with a proper end is ever kept: a completion that stopped by itself or calls tools, a response that
is `completed`, a message that ended its turn, a transcript, vectors, pictures in the answer itself. Errors, answers
cut off by a limit or a filter, empty ones and whatever has another form are none (acceptance J5). Knows bytes, and no
request. OpenAI and Anthropic API references; providers.md sections 2.7, 10, 13.
"""

from __future__ import annotations

import enum

import msgspec

from sidecar.core.chat_stream import assembled, events_of
from sidecar.core.http import Header, find
from sidecar.core.limits import Usage
from sidecar.core.paths import Kind, Surface
from sidecar.core.usage import decoded


class Shape(enum.Enum):
    """What a request asks for; the value is the end of its path."""

    CHAT = b"/chat/completions"
    COMPLETIONS = b"/completions"
    EMBEDDINGS = b"/embeddings"
    TRANSCRIPTIONS = b"/audio/transcriptions"
    TRANSLATIONS = b"/audio/translations"
    IMAGES = b"/images/generations"
    RESPONSES = b"/responses"
    MESSAGES = b"/messages"  # Anthropic's


# of these a stream and a whole answer tell the same, and either is made from what is kept
_CONVERTIBLE = (Shape.CHAT, Shape.COMPLETIONS)
_SPOKEN = (Shape.TRANSCRIPTIONS, Shape.TRANSLATIONS)
_OPENAI = {shape.value: shape for shape in Shape if shape is not Shape.MESSAGES}
_PROPER = frozenset({"stop", "tool_calls", "function_call"})
_PROPER_STOPS = frozenset({"end_turn", "stop_sequence", "tool_use"})
_TEXTS = (b"text/plain", b"text/vtt", b"text/srt", b"application/x-subrip")
_EVENTS = b"text/event-stream"


def shape_of(surface: Surface) -> Shape | None:
    """What is asked for there with POST; None for what is never kept."""
    if surface.kind is Kind.OPENAI:
        return _OPENAI.get(surface.path)
    if surface.path.endswith(Shape.MESSAGES.value):
        return Shape.MESSAGES
    return Shape.CHAT if surface.path.endswith(Shape.CHAT.value) else None


def is_convertible(shape: Shape) -> bool:
    """Whether one entry serves callers that stream and callers that do not."""
    return shape in _CONVERTIBLE


def keepable(shape: Shape, headers: list[Header], body: bytes, usage: Usage | None) -> tuple[bytes, bytes] | None:
    """Content type and body to keep of an answer of status 200; None where it is not one to keep.

    `body` as it came, packed or not; `usage` as far as known from elsewhere, for a stream that did not tell it.
    """
    encoding = find(headers, b"content-encoding")
    plain = body if encoding is None else decoded(body, encoding)
    content_type = find(headers, b"content-type") or b""
    if not plain:
        return None
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type == _EVENTS:
        if shape in _CONVERTIBLE:
            made = assembled(plain, usage)
            return None if made is None or not is_proper(shape, made) else (b"application/json", made)
        return (content_type, plain) if _ends_properly(shape, plain) else None
    if media_type == b"application/json":
        return (content_type, plain) if is_proper(shape, plain) else None
    return (content_type, plain) if shape in _SPOKEN and media_type in _TEXTS and plain.strip() else None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    error: object = None
    message: dict[str, object] | None = None
    text: str | None = None


class _Item(msgspec.Struct, gc=False):
    embedding: list[float] | str | None = None
    b64_json: str | None = None


class _Answer(msgspec.Struct, gc=False):
    """The members by which a whole answer of any shape is judged."""

    error: object = None
    choices: list[_Choice] | None = None
    data: list[_Item] | None = None
    text: str | None = None
    status: str | None = None
    output: list[dict[str, object]] | None = None
    type: str | None = None
    stop_reason: str | None = None
    content: list[dict[str, object]] | None = None


class _Delta(msgspec.Struct, gc=False):
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    error: object = None
    delta: _Delta | str | None = None
    response: _Answer | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def is_proper(shape: Shape, body: bytes) -> bool:
    """Whether a whole answer in JSON is of that shape, has no error and came to a proper end."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if answer.error:
        return False
    if shape in _CONVERTIBLE:
        return bool(answer.choices) and all(map(_is_proper_choice, answer.choices or ()))
    if shape in _SPOKEN:
        return bool(answer.text)
    if shape is Shape.RESPONSES:
        return answer.status == "completed" and bool(answer.output)
    if shape is Shape.MESSAGES:
        return answer.type == "message" and answer.stop_reason in _PROPER_STOPS and bool(answer.content)
    wanted = "embedding" if shape is Shape.EMBEDDINGS else "b64_json"  # the address of a picture soon leads nowhere
    return bool(answer.data) and all(getattr(item, wanted) for item in answer.data or ())


def _is_proper_choice(choice: _Choice) -> bool:
    if choice.finish_reason not in _PROPER or choice.error:
        return False
    if choice.message is None:
        return bool(choice.text)
    return any(value for name, value in choice.message.items() if name != "role")


def _ends_properly(shape: Shape, stream: bytes) -> bool:
    """Whether a stream of typed events is whole, and what it tells proper."""
    found = events_of(stream)
    if not found:
        return False
    try:
        events = [_decode_event(data) for data in found if data != b"[DONE]"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not events or any(event.error or event.type is None or event.type.endswith("error") for event in events):
        return False
    last = events[-1]
    if shape is Shape.RESPONSES:
        final = last.response
        return (
            last.type == "response.completed"
            and final is not None
            and final.status == "completed"
            and bool(final.output)
        )
    if shape is Shape.MESSAGES:
        reasons = [
            event.delta.stop_reason for event in events if isinstance(event.delta, _Delta) and event.delta.stop_reason
        ]
        has_content = any(
            event.type == "content_block_delta" or event.type == "content_block_start" for event in events
        )
        return last.type == "message_stop" and has_content and reasons[-1:] != [] and reasons[-1] in _PROPER_STOPS
    return shape in _SPOKEN and last.type == "transcript.text.done"
