"""Which fields of a request a 400 or 422 says this provider does not take, and what may be done about them (B10).

Three answers. A field that the answer can do without is left out, or gets the name that the provider gave instead:
FIELD_REJECTED with the remedies. A field without which the answer would be another one (tools, `response_format`,
`stop`, `n`, ...) is never left out: FIELD_NEEDED, another target may take it. What is wrong with `model`, `messages`,
`input` or `prompt` is the caller's own. A text counts only where it has the form a provider is known to use, at its
beginning, and names a field that was really sent: providers quote the caller's words. Refuses to know what is
remembered of it (rejections.py). providers.md sections 2.6, 2.8, 3, 8, 12, 14 and 18.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.core.body import without_in_messages
from sidecar.core.error_body import ErrorBody
from sidecar.core.error_json import as_word, document_of, layers_of, list_of, object_of
from sidecar.core.outcomes import Outcome, Remedy
from sidecar.core.spans import members

_STATUSES = frozenset({400, 422})

_CALLERS = frozenset({"model", "messages", "input", "prompt"})
# fmt: off
_NEEDED = frozenset({
    "audio", "conversation", "dimensions", "echo", "encoding_format", "function_call", "functions", "instructions",
    "max_output_tokens", "modalities", "n", "previous_response_id", "response_format", "stop", "stream", "suffix",
    "text", "tool_choice", "tools", "web_search_options",
})
# fmt: on
_NEEDED_IN_MESSAGES = frozenset({"role", "content", "tool_calls", "tool_call_id", "function_call"})
# the most tokens of an answer: two names of one thing, and not to be lost
_SYNONYMS = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
# what xAI calls a field, and where it stands in the Responses API (section 14)
_HOMES = {"reasoning_effort": "reasoning"}

_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_PATH = r"[A-Za-z_][A-Za-z0-9_.\[\]]{0,127}"


def _patterns(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(
        re.compile(pattern.replace("NAME", f"({_NAME})").replace("PATH", f"({_PATH})")) for pattern in patterns
    )


# each from the beginning of the message, its groups together being the path
_TEXTS = _patterns(
    r"property 'NAME' is unsupported",  # 2.8 Groq, I
    r"PATH: property '[^']*' is unsupported",  # 3 Cerebras, I
    r"Un(?:supported|known) parameter: '?PATH",  # 8 OpenAI, R
    r"Unsupported value: '?PATH'? does not support .{1,100} Only the default ",  # 8: no value but its default
    r"Unrecognized request arguments? supplied: PATH",  # OpenAI before 2024 and Azure
    r"Model \S{1,200} does not support parameter NAME",  # 14 xAI, R
    r"Argument not supported on this model: NAME",  # xAI, I (2025)
    r"`NAME` is not supported with this model",  # 2.6 Groq
)
# what a provider calls by words of its own
_PHRASES = (
    (re.compile(r"`tool calling` is not supported with this model"), "tools"),  # 2.6 Groq, R
    (re.compile(r"This model does not support response format"), "response_format"),  # Groq, I
)
# Groq names the object, then the rule that it breaks, then the member (2.8)
_WITHIN = re.compile(rf"\('({_PATH})' : property '({_NAME})' is unsupported\)")
_INSTEAD = re.compile(rf"(?:\bUse|\bhas moved to) '({_NAME})'")
_PARAMETER_NAMES = frozenset({"unsupported_parameter", "unknown_parameter"})
_EXTRA = frozenset({"extra_forbidden", "value_error.extra"})  # pydantic 2 and 1

_STEP = re.compile(r"[A-Za-z0-9_]+")
_CAPITAL = re.compile(r"(?<=[a-z0-9])[A-Z]")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


class Judgement(NamedTuple):
    """FIELD_REJECTED with what to change, or FIELD_NEEDED."""

    outcome: Outcome
    remedies: tuple[Remedy, ...] = ()


class _Field(NamedTuple):
    """A field of a request. `is_whole`: the field itself is refused and not something within it."""

    name: str
    is_in_messages: bool = False
    is_whole: bool = True


def judge(status: int, said: ErrorBody, body: bytes, sent: bytes) -> Judgement | None:
    """What a refusal says of fields of the JSON body `sent`; None where it is about something else, or the caller's."""
    if status not in _STATUSES or not sent:
        return None
    names = frozenset(member.name for member in members(sent))
    paths = dict.fromkeys(_named(said, body))
    fields = [field for path in paths if (field := _field(path, names, sent)) is not None]
    if not fields or any(field.name in _CALLERS and not field.is_in_messages for field in fields):
        return None
    if not all(_can_go(field) for field in fields):
        return Judgement(Outcome.FIELD_NEEDED)
    instead = _INSTEAD.search(said.text)
    return Judgement(
        Outcome.FIELD_REJECTED, tuple(_remedy(field, instead[1] if instead is not None else None) for field in fields)
    )


def _named(said: ErrorBody, body: bytes) -> Iterator[str]:
    """The paths of the fields that the error names, steps divided by anything."""
    if not said.names.isdisjoint(_PARAMETER_NAMES) and said.param:
        yield said.param
        return
    text = said.text
    for pattern in _TEXTS:
        match = pattern.match(text)
        if match is not None:
            yield match[1]
            return
    for phrase, name in _PHRASES:
        if phrase.match(text):
            yield name
    if text.startswith("'messages."):
        yield from (f"{match[1]}.{match[2]}" for match in _WITHIN.finditer(text))
    yield from _forbidden_places(body)


def _forbidden_places(body: bytes) -> Iterator[str]:
    """The places that pydantic calls forbidden, in the `detail` of FastAPI or in Mistral's `message` around it (12)."""
    layers = list(layers_of(document_of(body)))
    for detail in list_of(layers, "detail") or list_of([object_of(layers, "message")], "detail"):
        if isinstance(detail, dict) and as_word(detail.get("type")) in _EXTRA:
            place = detail.get("loc")
            yield ".".join(as_word(step) for step in place) if isinstance(place, list) else ""


def _field(path: str, names: frozenset[str], sent: bytes) -> _Field | None:
    """The field at a path, in the spelling in which it was sent; None where it was not."""
    steps = _STEP.findall(path)
    if steps[:1] == ["body"]:
        steps = steps[1:]
    if not steps:
        return None
    if steps[0] == "messages" and len(steps) > 1:
        return _field_in_messages(steps[1:], sent)
    name = steps[0]
    snake = _CAPITAL.sub(lambda capital: f"_{capital[0]}", name).lower()
    spelling = next((each for each in (name, snake, _HOMES.get(snake)) if each in names), None)
    return None if spelling is None else _Field(spelling, is_whole=len(steps) == 1)


def _field_in_messages(steps: list[str], sent: bytes) -> _Field | None:
    inner = [step for step in steps if not step.isdigit() and step not in _ROLES]
    if not inner:
        return None
    is_whole = len(inner) == 1 and not steps[-1].isdigit()
    is_sent = bool(without_in_messages(sent, {inner[0]})[1])
    return _Field(inner[0], is_in_messages=True, is_whole=is_whole) if is_sent else None


def _can_go(field: _Field) -> bool:
    if field.is_in_messages:
        return field.is_whole and field.name not in _NEEDED_IN_MESSAGES
    return field.name not in _NEEDED


def _remedy(field: _Field, instead: str | None) -> Remedy:
    if field.is_in_messages or not field.is_whole:
        return Remedy(field.name, field.is_in_messages)
    instead = instead or _SYNONYMS.get(field.name)
    return Remedy(field.name, instead=None if instead in (field.name, *_CALLERS, *_NEEDED) else instead)
