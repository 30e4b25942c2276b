"""What the decoder fills in of an answer, or of an event of one: where providers put what was used.

Apart from usage.py because decoders read the types of fields at run time, which compiled modules do not keep.
"""

from __future__ import annotations

import msgspec


class Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class Reported(msgspec.Struct, gc=False):
    """`usage` in the words of OpenAI (chat, then Responses) and of Anthropic."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    cached_tokens: int | None = None  # Together
    prompt_cache_hit_tokens: int | None = None  # DeepSeek
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class Metadata(msgspec.Struct, gc=False, rename="camel"):
    """`usageMetadata` of Gemini."""

    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    total_token_count: int | None = None
    cached_content_token_count: int | None = None


class Holder(msgspec.Struct, gc=False):
    usage: Reported | None = None


class Answer(msgspec.Struct, gc=False):
    usage: Reported | None = None
    usage_metadata: Metadata | None = msgspec.field(name="usageMetadata", default=None)
    x_groq: Holder | None = None
    response: Holder | str | None = None  # an event of the Responses API
    message: Holder | str | None = None  # Anthropic's first event


decode = msgspec.json.Decoder(Answer | list[Answer]).decode
