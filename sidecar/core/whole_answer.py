"""Whether a whole answer to a request that asks a model is an answer at all (acceptance B3, B5).

No byte, broken JSON, and a completion without a word are failures, just as they are in a stream (sse.py); an empty
completion only without a `finish_reason`, or with `stop` and zero completion tokens (design section 6, Commit).
Knows the shapes of chat and completions; of any other it knows only whether it is JSON.
"""

from __future__ import annotations

import json

import msgspec


class _Choice(msgspec.Struct, gc=False):
    message: dict[str, object] | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    completion_tokens: int | None = None


class _Completion(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    id: str | None = None
    message: str | None = None
    code: str | int | None = None


_decode = msgspec.json.Decoder(_Completion).decode


def flaw(body: bytes) -> str:
    """What makes the body of a 200 no answer, in words; '' where nothing does."""
    try:
        completion = _decode(body)
    except msgspec.ValidationError:
        return ""  # JSON of another shape
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "" if _is_json(body) else "the answer is not JSON"
    choices = completion.choices
    if not choices:
        # flat, as Cerebras and Mistral send errors (providers.md 1.1 row 10); what was created has an id
        is_error = completion.message and completion.code is not None and completion.id is None
        return f"the answer is an error: {completion.message}" if is_error else ""
    has_tokens = completion.usage is None or completion.usage.completion_tokens != 0
    return "" if any(_says_something(choice, has_tokens) for choice in choices) else "the answer is empty"


def _says_something(choice: _Choice, has_tokens: bool) -> bool:
    if choice.text or any(value for name, value in (choice.message or {}).items() if name != "role"):
        return True
    return choice.finish_reason is not None and (choice.finish_reason != "stop" or has_tokens)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True
