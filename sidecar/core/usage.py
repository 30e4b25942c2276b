"""What an answer says it used, whichever provider's words it says it in.

Reads OpenAI's chat, completions, embeddings and Responses shapes (and who speaks them: `x_groq`, hidden thinking that
only the total shows), Anthropic's messages and Gemini's own. A number that is not there is not guessed: None, never 0
(acceptance I2). providers.md sections 2.7, 8, 10, 11; Anthropic API reference, "Prompt caching".
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.codings import Sealed, undone
from sidecar.core.limits import Usage
from sidecar.core.usage_shapes import Answer, Metadata, Reported, decode

# an answer that unpacks to more is not an answer to read: memory stays bounded
_MAX_PLAIN_BYTES: Final = 4 << 20


def from_body(body: bytes, content_encoding: bytes | None = None) -> Usage | None:
    """The usage in a JSON answer; None where it reports none, is no JSON, or is packed in a way we do not read."""
    plain = body if content_encoding is None else decoded(body, content_encoding)
    return None if plain is None else from_event(plain)


def from_event(data: bytes) -> Usage | None:
    """The usage in the data of one event of a stream, or None."""
    try:
        answer = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(answer, list):  # Gemini's stream as one array; the last of it counts all
        return _usage(answer[-1]) if answer else None
    return _usage(answer)


def decoded(body: bytes, content_encoding: bytes) -> bytes | None:
    """The body without its gzip or deflate; None for another encoding, a broken one, or more than 4 MiB."""
    plain = undone(body, content_encoding, _MAX_PLAIN_BYTES)
    return None if isinstance(plain, Sealed) else plain


def _usage(answer: Answer) -> Usage | None:
    if answer.usage_metadata is not None:
        return _gemini(answer.usage_metadata)
    said = answer.usage if answer.usage is not None else _elsewhere(answer)
    return None if said is None else _reported(said)


def _elsewhere(answer: Answer) -> Reported | None:
    for holder in (answer.x_groq, answer.response, answer.message):
        if holder is not None and not isinstance(holder, str) and holder.usage is not None:
            return holder.usage
    return None


def _reported(said: Reported) -> Usage | None:
    prompt, completion = said.prompt_tokens, said.completion_tokens
    if prompt is not None or completion is not None:
        details = said.prompt_tokens_details
        cached = details.cached_tokens if details is not None else said.cached_tokens or said.prompt_cache_hit_tokens
        return _sum(prompt, completion, said.total_tokens, cached)
    if said.input_tokens is None and said.output_tokens is None:
        return None
    if said.cache_read_input_tokens is None and said.cache_creation_input_tokens is None:
        details = said.input_tokens_details
        cached = None if details is None else details.cached_tokens
        return _sum(said.input_tokens, said.output_tokens, said.total_tokens, cached)
    # Anthropic counts what was read from or written to its cache beside `input_tokens`, not within
    read = said.cache_read_input_tokens or 0
    return _sum(
        (said.input_tokens or 0) + read + (said.cache_creation_input_tokens or 0), said.output_tokens, None, read
    )


def _gemini(said: Metadata) -> Usage | None:
    if said.prompt_token_count is None and said.total_token_count is None:
        return None
    output = (said.candidates_token_count or 0) + (said.thoughts_token_count or 0)
    prompt = (said.prompt_token_count or 0) + (said.tool_use_prompt_token_count or 0)
    return _sum(prompt, output, said.total_token_count, said.cached_content_token_count)


def _sum(prompt: int | None, output: int | None, total: int | None, cached: int | None) -> Usage:
    """Hidden thinking is in the total alone (providers.md section 11, 14): whatever is not input was put out."""
    given = 0 if prompt is None or prompt < 0 else prompt
    written = 0 if output is None or output < 0 else output
    if total is not None and total - given > written:
        written = total - given
    read = 0 if cached is None or cached < 0 else cached
    return Usage(given, written, read if read < given else given)
