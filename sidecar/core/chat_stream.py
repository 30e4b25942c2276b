"""A stream of chat or completions as one whole answer, and one whole answer as a stream (acceptance J2).

What is kept of either is the whole answer; a caller that streams gets it in events, its text in pieces, with its
usage only where it asked and `[DONE]` at the end. Texts, thinking, tool calls, log probabilities and whatever else
stands in a message survive both ways. A stream that is not whole, tells of an error, or holds a delta of a form that
cannot be added up is not put together: None. OpenAI API reference, "The chat completion chunk object"; WHATWG HTML,
9.2.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from sidecar.core.limits import Usage

Json = dict[str, object]

_PIECE_CHARS = 64  # of text in one event: several words, as providers send them
_ADDED = frozenset({"content", "reasoning", "reasoning_content", "refusal", "arguments", "text"})  # texts that grow
_LISTED = frozenset({"tool_calls", "reasoning_details", "annotations"})
_PASSING = frozenset({"channel"})  # told in a stream alone (Groq: which voice of the model a delta is of)
_OF_CHUNKS = frozenset({"choices", "usage", "object", "obfuscation"})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, object]).decode


class _Unknown(ValueError):
    """Something cannot be added up."""


def events_of(stream: bytes) -> list[bytes]:
    """The data of each event, without comments and names. An event that was not ended counts for nothing."""
    if b"\r" in stream:
        stream = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found = []
    for event in stream.split(b"\n\n")[:-1]:
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(lines))
    return found


def assembled(stream: bytes, usage: Usage | None) -> bytes | None:
    """The whole answer that a stream amounts to; None where it does not end in `[DONE]`, fails, or is of an odd form.

    `usage` stands in where the stream itself tells none.
    """
    found = events_of(stream)
    if not found or found[-1] != b"[DONE]":
        return None
    head: Json = {}
    choices: dict[int, Json] = {}
    said: object = None
    try:
        for data in found[:-1]:
            chunk = _decode(data)
            if chunk.get("error"):
                return None
            said = chunk.get("usage") or said
            for name, value in chunk.items():
                if name not in _OF_CHUNKS:
                    head[name] = value
            head.setdefault("object", chunk.get("object"))
            for choice in cast("list[Json]", chunk.get("choices") or []):
                _add_choice(choices, choice)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Unknown, TypeError, AttributeError):
        return None
    if not choices:
        return None
    if head.get("object") == "chat.completion.chunk":
        head["object"] = "chat.completion"
    head["choices"] = [choices[index] for index in sorted(choices)]
    said = said or (None if usage is None else _usage(usage))
    return _encode(head | ({} if said is None else {"usage": said}))


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _add_choice(choices: dict[int, Json], more: Json) -> None:
    index = more.get("index", 0)
    if not isinstance(index, int):
        raise _Unknown
    choice = choices.setdefault(index, {"index": index})
    for name, value in more.items():
        if name == "delta":
            _add(cast("Json", choice.setdefault("message", {})), cast("Json", value or {}))
        elif name == "logprobs" and isinstance(value, dict):
            _add_logprobs(choice, value)
        elif name == "text":
            choice[name] = _text(choice.get(name)) + _text(value)
        elif name != "index" and (value is not None or name not in choice):
            choice[name] = value


def _text(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise _Unknown
    return value or ""


def _add(message: Json, delta: Json) -> None:
    """Add a delta to what there is: texts grow, lists are added to by index, the rest is said once."""
    for name, value in delta.items():
        before = message.get(name)
        if name in _PASSING:
            continue
        if name in _ADDED and isinstance(before, str):
            message[name] = before + _text(value)
        elif name in _LISTED and isinstance(value, list):
            message[name] = _added_list(cast("list[Json]", before or []), value)
        elif isinstance(before, dict) and isinstance(value, dict):
            _add(before, value)
        elif before is None or value is None or before == value or (name == "role" and not value):
            message[name] = value if before is None else before
        else:
            raise _Unknown


def _added_list(before: list[Json], more: list[object]) -> list[Json]:
    for entry in more:
        if not isinstance(entry, dict):
            raise _Unknown
        index = entry.get("index", len(before))
        if not isinstance(index, int) or not 0 <= index <= len(before):
            raise _Unknown
        if index == len(before):
            before.append({})
        _add(before[index], {name: value for name, value in entry.items() if name != "index"})
    return before


def _add_logprobs(choice: Json, more: Json) -> None:
    before = choice.get("logprobs")
    if not isinstance(before, dict):
        choice["logprobs"] = more
        return
    for name, value in more.items():
        known = before.get(name)
        if isinstance(known, list) and isinstance(value, list):
            before[name] = known + value
        elif known is None or value is None:
            before[name] = value if known is None else known
        else:
            raise _Unknown


def replayed(answer: bytes, include_usage: bool) -> bytes | None:
    """A whole answer as the stream of it; None where it is of an odd form."""
    try:
        whole = _decode(answer)
        return b"".join(_events(whole, include_usage))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Unknown, TypeError, AttributeError):
        return None


def _events(whole: Json, include_usage: bool) -> Iterator[bytes]:
    choices = cast("list[Json]", whole.get("choices"))
    is_chat = any("message" in choice for choice in choices)
    kind = "chat.completion.chunk" if is_chat else whole.get("object")
    head = {name: value for name, value in whole.items() if name not in ("choices", "usage")} | {"object": kind}
    nothing = {"usage": None} if include_usage else {}
    for choice in choices:
        for event in _chat(choice) if is_chat else _words(choice):
            yield b"data: %b\n\n" % _encode(head | {"choices": [event]} | nothing)
    if include_usage and whole.get("usage"):
        yield b"data: %b\n\n" % _encode(head | {"choices": [], "usage": whole["usage"]})
    yield b"data: [DONE]\n\n"


def _chat(choice: Json) -> Iterator[Json]:
    """The events of one choice of a chat: who speaks, the texts in pieces, what is no text, the end."""
    index = choice.get("index", 0)
    rest = {
        name: value for name, value in choice.items() if name not in ("index", "message", "finish_reason", "logprobs")
    }
    odds = choice.get("logprobs")
    for delta in _deltas(cast("Json", choice["message"])):
        event: Json = {"index": index, "delta": delta, "finish_reason": None}
        if odds is not None and delta.get("content"):
            event["logprobs"] = odds  # of the whole text, with its first piece
            odds = None
        yield event
    yield {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason"), **rest} | (
        {} if odds is None else {"logprobs": odds}
    )


def _deltas(message: Json) -> Iterator[Json]:
    content = message.get("content")
    yield {"role": message.get("role", "assistant"), "content": None if content is None else ""}
    for name, value in message.items():
        if name in ("role", "content") or value is None:
            continue
        if isinstance(value, str) and name in _ADDED:
            for piece in _pieces(value):
                yield {name: piece}
        elif name == "tool_calls" and isinstance(value, list):
            yield {name: [{"index": place, **call} for place, call in enumerate(value)]}
        else:
            yield {name: value}
    for piece in _pieces(_text(content)):
        yield {"content": piece}


def _words(choice: Json) -> Iterator[Json]:
    """The events of one choice of a completion."""
    rest = {name: value for name, value in choice.items() if name not in ("text", "finish_reason", "logprobs")}
    odds = choice.get("logprobs")
    for piece in _pieces(_text(choice.get("text"))):
        yield rest | {"text": piece, "logprobs": odds, "finish_reason": None}
        odds = None
    yield rest | {"text": "", "logprobs": odds, "finish_reason": choice.get("finish_reason")}


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), _PIECE_CHARS):
        yield text[at : at + _PIECE_CHARS]
