"""The successful answers of the simulated providers, as JSON values: the same request always gets the same words.

Shapes: OpenAI API reference; extras of each provider from providers.md 2.1, 3 and 8. Streams are in streams.py.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import NamedTuple

from sidecar.sim.calls import Body, Form
from sidecar.sim.dialects import Dialect

# fmt: off
_WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet",
    "juniper", "kelp", "lotus", "maple", "north", "ocean", "pearl", "quartz", "river",
    "stone", "tidal", "umber", "vale", "willow", "xenon", "yarrow", "zephyr",
)
# fmt: on
Json = dict[str, object]


class Plan(NamedTuple):
    """One completion to be written. `cap`: the most output tokens a choice may have; `seed` chooses the words."""

    serial: int
    created: int
    model: str
    seed: int
    input_tokens: int
    tokens: int
    cap: int | None = None
    choices: int = 1
    tool: str | None = None
    include_usage: bool = False

    @property
    def length(self) -> int:
        """Output tokens of one choice."""
        return self.tokens if self.cap is None else min(self.tokens, self.cap)

    @property
    def output_tokens(self) -> int:
        """Output tokens of all choices."""
        return self.length * self.choices

    @property
    def finish(self) -> str:
        """The finish reason."""
        if self.length < self.tokens:
            return "length"
        return "tool_calls" if self.tool else "stop"

    def words(self, choice: int = 0) -> list[str]:
        """The text of a choice, one word a token."""
        state, words = self.seed + choice, []
        for _ in range(self.length):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF  # the C standard's example generator
            words.append(_WORDS[(state >> 16) % len(_WORDS)] + " ")
        return words

    def name(self, prefix: str) -> str:
        """An id of its own for this answer."""
        return f"{prefix}{self.seed:08x}{self.serial:08d}"


def usage(dialect: Dialect, plan: Plan) -> Json:
    """The usage object of a completion."""
    counts: Json = {
        "prompt_tokens": plan.input_tokens,
        "completion_tokens": plan.output_tokens,
        "total_tokens": plan.input_tokens + plan.output_tokens,
    }
    if dialect.name == "groq":
        counts |= {"queue_time": 0.001, "prompt_time": 0.002, "completion_time": 0.05, "total_time": 0.052}
    elif dialect.name in ("openai", "cerebras"):
        counts["prompt_tokens_details"] = {"cached_tokens": 0}
    return counts


def chat(dialect: Dialect, plan: Plan) -> Json:
    """`chat.completion`."""
    choices = [
        {"index": index, "message": _message(plan, index), "logprobs": None, "finish_reason": plan.finish}
        for index in range(plan.choices)
    ]
    value: Json = {
        "id": plan.name("chatcmpl-"),
        "object": "chat.completion",
        "created": plan.created,
        "model": plan.model,
        "choices": choices,
        "usage": usage(dialect, plan),
    }
    return value | extras(dialect, plan)


def _message(plan: Plan, index: int) -> Json:
    if plan.tool:
        return {"role": "assistant", "content": None, "tool_calls": [tool_call(plan, index)]}
    return {"role": "assistant", "content": "".join(plan.words(index))}


def tool_call(plan: Plan, index: int) -> Json:
    """A call of the first tool, without arguments."""
    function = {"name": plan.tool, "arguments": "{}"}
    return {"id": f"{plan.name('call_')}{index}", "type": "function", "function": function}


def extras(dialect: Dialect, plan: Plan) -> Json:
    """What a provider adds to a whole completion."""
    if dialect.name == "groq":
        request = {"id": plan.name("req_")}
        return {"usage_breakdown": None, "system_fingerprint": "fp_sim", "x_groq": request, "service_tier": "on_demand"}
    if dialect.name == "cerebras":
        return {"system_fingerprint": "fp_sim", "time_info": time_info(plan)}
    return {"system_fingerprint": "fp_sim", "service_tier": "default"} if dialect.name == "openai" else {}


def time_info(plan: Plan) -> Json:
    """Cerebras' account of where the time went, in seconds."""
    times = {"queue_time": 0.001, "prompt_time": 0.002, "completion_time": 0.01, "total_time": 0.013}
    return {**times, "created": plan.created}


def completion(dialect: Dialect, plan: Plan) -> Json:
    """`text_completion`."""
    choices = [
        {"index": index, "text": "".join(plan.words(index)), "logprobs": None, "finish_reason": plan.finish}
        for index in range(plan.choices)
    ]
    value: Json = {"id": plan.name("cmpl-"), "object": "text_completion", "created": plan.created}
    return value | {"model": plan.model, "choices": choices, "usage": usage(dialect, plan)}


def response(plan: Plan, status: str = "completed") -> Json:
    """A `response` object; its output and usage only when completed."""
    done = status == "completed"
    return {
        "id": plan.name("resp_"),
        "object": "response",
        "created_at": plan.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": plan.model,
        "output": [response_item(plan)] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": response_usage(plan) if done else None,
    }


def response_item(plan: Plan, *, done: bool = True) -> Json:
    """The one message of a response."""
    content = [response_part("".join(plan.words()))] if done else []
    item: Json = {"id": plan.name("msg_"), "type": "message", "role": "assistant"}
    return item | {"status": "completed" if done else "in_progress", "content": content}


def response_part(text: str) -> Json:
    """A text part of a message of a response."""
    return {"type": "output_text", "text": text, "annotations": []}


def response_usage(plan: Plan) -> Json:
    """The usage object of the responses API."""
    return {
        "input_tokens": plan.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": plan.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": plan.input_tokens + plan.output_tokens,
    }


def embeddings(plan: Plan, body: Body) -> Json:
    """A list of embeddings, one for each input; every vector depends on its input alone."""
    vectors = [_vector(value, body.dimensions or 8) for value in _inputs(body.input)]
    packed = body.encoding_format == "base64"
    items = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    counts = {"prompt_tokens": plan.input_tokens, "total_tokens": plan.input_tokens}
    return {"object": "list", "data": items, "model": plan.model, "usage": counts}


def _inputs(value: object) -> list[object]:
    """The inputs of an embedding: one text, many, one list of token ids, or many."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return list(value)
    return [value]


def _vector(value: object, dimensions: int) -> list[float]:
    seed = zlib.crc32(repr(value).encode())
    return [((seed >> place % 24) & 0xFF) / 256 for place in range(dimensions)]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def transcription(dialect: Dialect, plan: Plan, form: Form) -> tuple[str, object]:
    """The content type of a transcription and its value: text for the text formats."""
    text = "".join(plan.words()).strip()
    wanted = form.fields.get("response_format", "json")
    end = f"00:00:{min(form.audio_seconds, 59):02d}"
    if wanted == "text":
        return "text/plain; charset=utf-8", f"{text}\n"
    if wanted == "srt":
        return "text/plain; charset=utf-8", f"1\n00:00:00,000 --> {end},000\n{text}\n"
    if wanted == "vtt":
        return "text/plain; charset=utf-8", f"WEBVTT\n\n00:00:00.000 --> {end}.000\n{text}\n"
    value: Json = {"text": text}
    if wanted == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": float(form.audio_seconds), "text": text}
        value |= {"task": "transcribe", "language": "english", "duration": float(form.audio_seconds)}
        value["segments"] = [segment]
    if dialect.name == "groq":
        value["x_groq"] = {"id": plan.name("req_")}
    return "application/json", value


def speech(plan: Plan) -> bytes:
    """Bytes that stand for audio: no text encoding survives them."""
    return bytes((plan.seed + place * 37) % 256 for place in range(1024))


def moderation(plan: Plan, body: Body) -> Json:
    """Nothing is ever flagged."""
    verdict: Json = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    results = [verdict for _ in _inputs(body.input)]
    return {"id": plan.name("modr-"), "model": body.model or "omni-moderation-latest", "results": results}


def model(dialect: Dialect, name: str) -> Json:
    """One entry of the model list."""
    value: Json = {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": dialect.name}
    return value | {"active": True, "context_window": 131072} if dialect.name == "groq" else value


def listing(items: list[Json]) -> Json:
    """A list object."""
    return {"object": "list", "data": items, "has_more": False}
