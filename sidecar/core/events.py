"""What one event of a stream means, in whichever dialect it is told: content, an end, an error, or none of these.

Chat and completions (OpenAI and who speaks it), Anthropic's messages, the Responses API, speech and transcription,
Gemini's own. An event of no known shape is taken for content unless it tells of an error. Knows nothing of the stream
around it. providers.md sections 2.7, 3, 8, 10, 11, 13; OpenAI API reference, "Streaming events".
"""

from __future__ import annotations

import json
from typing import NamedTuple

import msgspec

_PREAMBLE = frozenset(
    {
        "ping",
        "message_start",
        "content_block_start",
        "content_block_stop",
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)
_LAST = frozenset(
    {
        "message_stop",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "speech.audio.done",
        "transcript.text.done",
    }
)
_KNOWN_TYPES = ("response.", "message_", "content_block_", "transcript.", "speech.")


class _Choice(msgspec.Struct, gc=False):
    delta: dict[str, object] | None = None
    text: str | None = None
    finish_reason: str | None = None
    error: object = None


class _Content(msgspec.Struct, gc=False):
    parts: list[dict[str, object]] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Identified(msgspec.Struct, gc=False):
    id: str | None = None


class Event(msgspec.Struct, gc=False):
    """The data of an event, in whichever dialect."""

    id: str | None = None
    kind: str | None = msgspec.field(name="object", default=None)
    error: object = None
    choices: list[_Choice] | None = None  # chat and completions
    type: str | None = None  # Anthropic, Responses, audio
    delta: dict[str, object] | str | None = None
    response: _Identified | str | None = None
    message: _Identified | str | None = None
    candidates: list[_Candidate] | None = None  # Gemini


class _GlancedChoice(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    error: msgspec.Raw | None = None


class _Glance(msgspec.Struct, gc=False):
    """The members that can make an event more than a piece of content."""

    type: str | None = None
    choices: list[_GlancedChoice] | None = None
    usage: msgspec.Raw | None = None
    error: msgspec.Raw | None = None
    x_groq: msgspec.Raw | None = None


class Meaning(NamedTuple):
    """What an event amounts to. `finishes`: a reason to finish is given; `is_last`: nothing follows it."""

    commits: bool = False
    finishes: bool = False
    is_last: bool = False
    fails: bool = False
    is_known: bool = True


_decode = msgspec.json.Decoder(Event).decode
_glance = msgspec.json.Decoder(_Glance).decode
FAILURE = Meaning(fails=True)


def is_plain(text: bytes) -> bool:
    """Whether the text of one event, or of several, is certainly one more piece of content and nothing else.

    Two events in one text are no JSON together, so they are never plain.
    """
    is_nameless = text.startswith(b"data: ")
    start = 6 if is_nameless else text.find(b"\ndata: ") + 7
    try:
        seen = _glance(text[start:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if seen.usage is not None or seen.error is not None or seen.x_groq is not None:
        return False
    if seen.choices is not None:
        if not is_nameless:
            return False
        # written out: a generator would cost as much as all the rest
        for choice in seen.choices:  # noqa: SIM110
            if choice.finish_reason is not None or choice.error is not None:
                return False
        return True
    return seen.type is not None and seen.type.endswith("delta") and seen.type != "message_delta"


def read(data: bytes) -> Event | None:
    """The event; one of a shape we do not know has no known member; None: it is not JSON."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        value: object = json.loads(data.decode("utf-8", "replace"))
        return msgspec.convert(value, Event)
    except msgspec.ValidationError:
        first = value[0] if isinstance(value, list) and value else value  # Gemini wraps errors in an array
        return Event(error=first.get("error") if isinstance(first, dict) else None)
    except (ValueError, RecursionError):
        return None


def identity(said: Event) -> str | None:
    """The id of the answer that the event is part of, or None."""
    for holder in (said, said.response, said.message):
        if holder is not None and not isinstance(holder, str) and holder.id:
            return holder.id
    return None


def meaning(said: Event) -> Meaning:
    """What the event amounts to."""
    if said.error or said.kind == "error":
        return FAILURE
    if said.choices is not None:
        return _chat(said.choices)
    if said.type is not None:
        return _typed(said.type, said.delta)
    if said.candidates is not None:
        return _gemini(said.candidates)
    return Meaning(commits=True, is_known=False)


def _chat(choices: list[_Choice]) -> Meaning:
    if any(choice.error or choice.finish_reason == "error" for choice in choices):
        return Meaning(fails=True, finishes=True)
    reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
    # `stop` without content may be an empty completion, which is no answer (design section 6, Commit)
    commits = any(reason != "stop" for reason in reasons) or any(
        choice.text or (choice.delta and _has_payload(choice.delta, "role")) for choice in choices
    )
    return Meaning(commits=commits, finishes=bool(reasons))


def _typed(kind: str, delta: dict[str, object] | str | None) -> Meaning:
    if kind.endswith("error") or kind == "response.failed":
        return Meaning(fails=True, finishes=True, is_last=kind == "response.failed")
    is_known = kind.startswith(_KNOWN_TYPES)
    if kind in _PREAMBLE:
        return Meaning(is_known=is_known)
    if kind in _LAST:
        return Meaning(commits=True, finishes=True, is_last=True)
    if kind.endswith("delta"):
        # speech has its payload in another member
        payload = _has_payload(delta, "type") if isinstance(delta, dict) else delta != ""
        return Meaning(commits=payload, finishes=kind == "message_delta" and payload, is_known=is_known)
    return Meaning(commits=True, is_known=is_known)


def _gemini(candidates: list[_Candidate]) -> Meaning:
    finishes = any(candidate.finish_reason for candidate in candidates)
    parts = [part for each in candidates if each.content is not None for part in each.content.parts or ()]
    return Meaning(commits=finishes or any(any(part.values()) for part in parts), finishes=finishes)


def _has_payload(delta: dict[str, object], label: str) -> bool:
    """Whether a delta carries anything but its label."""
    return any(value for name, value in delta.items() if name != label)
