"""Streamed answers of the simulated providers, as server-sent events, with usage where that provider puts it.

Groq: in the first chunk its request id, in the last chunk usage twice (top level and `x_groq`), once more in a chunk of
its own when asked. Cerebras and DeepInfra: in the chunk with the finish reason. OpenAI: only when asked, in a chunk
without choices, and `usage: null` in all others. (providers.md 2.7, 3, 4 and 8; responses: OpenAI API reference.)
"""

from __future__ import annotations

import msgspec

from sidecar.sim.dialects import Dialect
from sidecar.sim.faults import Frame
from sidecar.sim.refusals import Error, wrapped
from sidecar.sim.replies import Json, Plan, response, response_item, response_part, time_info, tool_call, usage

DONE = Frame(b"data: [DONE]\n\n")
_encode = msgspec.json.Encoder().encode


def chat_frames(dialect: Dialect, plan: Plan, chunk_count: int) -> list[Frame]:
    """The events of a streamed chat completion, without the end marker."""
    frames = []
    for choice in range(plan.choices):
        opening: Json = {"role": "assistant", "content": None if plan.tool else ""}
        first = {"x_groq": {"id": plan.name("req_")}} if dialect.name == "groq" and choice == 0 else {}
        frames.append(_frame(_chunk(dialect, plan, choice, opening) | first))
        for delta, tokens in _deltas(plan, choice, chunk_count):
            frames.append(_frame(_chunk(dialect, plan, choice, delta), tokens))
        closing = _closing(dialect, plan) if choice == plan.choices - 1 else {}
        frames.append(_frame(_chunk(dialect, plan, choice, {}, plan.finish) | closing))
    return frames + _usage_chunk(dialect, plan, "chat.completion.chunk", "chatcmpl-")


def completion_frames(dialect: Dialect, plan: Plan, chunk_count: int) -> list[Frame]:
    """The events of a streamed text completion, without the end marker."""
    frames = []
    for choice in range(plan.choices):
        for words in _split(plan.words(choice), chunk_count):
            frames.append(_frame(_text(dialect, plan, choice, "".join(words), None), len(words)))
        closing = _closing(dialect, plan) if choice == plan.choices - 1 else {}
        frames.append(_frame(_text(dialect, plan, choice, "", plan.finish) | closing))
    return frames + _usage_chunk(dialect, plan, "text_completion", "cmpl-")


def response_frames(plan: Plan, chunk_count: int) -> list[Frame]:
    """The typed events of a streamed response; there is no end marker."""
    place: Json = {"item_id": plan.name("msg_"), "output_index": 0, "content_index": 0}
    text = "".join(plan.words())
    events: list[tuple[str, Json, int]] = [
        ("response.created", {"response": response(plan, "in_progress")}, 0),
        ("response.in_progress", {"response": response(plan, "in_progress")}, 0),
        ("response.output_item.added", {"output_index": 0, "item": response_item(plan, done=False)}, 0),
        ("response.content_part.added", place | {"part": response_part("")}, 0),
    ]
    for words in _split(plan.words(), chunk_count):
        events.append(("response.output_text.delta", place | {"delta": "".join(words), "logprobs": []}, len(words)))
    events += [
        ("response.output_text.done", place | {"text": text, "logprobs": []}, 0),
        ("response.content_part.done", place | {"part": response_part(text)}, 0),
        ("response.output_item.done", {"output_index": 0, "item": response_item(plan)}, 0),
        ("response.completed", {"response": response(plan)}, 0),
    ]
    return [
        _frame({"type": name, "sequence_number": number, **value}, tokens, name)
        for number, (name, value, tokens) in enumerate(events)
    ]


def error_frame(dialect: Dialect) -> Frame:
    """The event by which a stream fails after its 200; at Groq a named event."""
    error = Error("The server had an error while generating.", "internal_server_error", "internal_error")
    return _frame(wrapped(dialect, error), name="error" if dialect.name == "groq" else "")


def _deltas(plan: Plan, choice: int, chunk_count: int) -> list[tuple[Json, int]]:
    if not plan.tool:
        return [({"content": "".join(words)}, len(words)) for words in _split(plan.words(choice), chunk_count)]
    call = tool_call(plan, choice)
    opened = {"index": 0, **call, "function": {"name": plan.tool, "arguments": ""}}
    pieces: list[Json] = [opened, *({"index": 0, "function": {"arguments": piece}} for piece in "{}")]
    return [({"tool_calls": [piece]}, plan.length if place == 0 else 0) for place, piece in enumerate(pieces)]


def _chunk(dialect: Dialect, plan: Plan, choice: int, delta: Json, finish: str | None = None) -> Json:
    head = _head(dialect, plan, "chat.completion.chunk", "chatcmpl-")
    head["choices"] = [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}]
    if dialect.name == "openai":
        head["obfuscation"] = "sim" * (1 + plan.seed % 3)
    return head


def _text(dialect: Dialect, plan: Plan, choice: int, text: str, finish: str | None) -> Json:
    head = _head(dialect, plan, "text_completion", "cmpl-")
    head["choices"] = [{"index": choice, "text": text, "logprobs": None, "finish_reason": finish}]
    return head


def _head(dialect: Dialect, plan: Plan, kind: str, prefix: str) -> Json:
    head: Json = {"id": plan.name(prefix), "object": kind, "created": plan.created, "model": plan.model}
    head["system_fingerprint"] = "fp_sim"
    if dialect.name == "openai" and plan.include_usage:
        head["usage"] = None
    return head


def _closing(dialect: Dialect, plan: Plan) -> Json:
    """What the last chunk with a finish reason carries besides."""
    counts = usage(dialect, plan)
    if dialect.name == "groq":
        return {"x_groq": {"id": plan.name("req_"), "usage": counts}, "usage": counts}
    if dialect.name == "cerebras":
        return {"usage": counts, "time_info": time_info(plan)}
    return {"usage": counts} if dialect.name == "deepinfra" else {}


def _usage_chunk(dialect: Dialect, plan: Plan, kind: str, prefix: str) -> list[Frame]:
    if not plan.include_usage or dialect.name not in ("groq", "openai"):
        return []
    chunk = _head(dialect, plan, kind, prefix) | {"choices": [], "usage": usage(dialect, plan)}
    if dialect.name == "groq":
        chunk["service_tier"] = "on_demand"
    return [_frame(chunk)]


def _split(words: list[str], count: int) -> list[list[str]]:
    """The words in at most `count` pieces of nearly equal length."""
    size = max(1, -(-len(words) // count))
    return [words[start : start + size] for start in range(0, len(words), size)]


def _frame(value: Json, tokens: int = 0, name: str = "") -> Frame:
    event = f"event: {name}\n".encode() if name else b""
    return Frame(event + b"data: " + _encode(value) + b"\n\n", tokens)
