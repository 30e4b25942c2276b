"""Finding one's way in error JSON: the value in a body, the objects an error is spread over, and words in them.

Decides which object is the innermost one, and what counts as a name or as prose. Providers nest errors three deep, wrap
them in lists, put numbers where names belong and objects where sentences belong (providers.md 1.1 rows 10 to 12), so
nothing here trusts a type. Never raises. Refuses to know which members matter (error_body.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import msgspec

TEXT_MAX_CHARS = 4096  # of prose that patterns are tried on: a wait can stand behind the first 500 characters
_NAME_MAX_CHARS = 256
_JSON_MAX_BYTES = 1 << 20  # larger is not an error body; its beginning is read as text
_DEPTH = 4  # objects within objects that are still looked into; three have been seen

Object = dict[str, object]


def document_of(body: bytes) -> object:
    """The JSON value in a body, or in its first SSE event; None where there is none."""
    text = body.strip()
    if text.startswith((b"data:", b"event:")):
        text = next((line[5:].strip() for line in text.splitlines() if line.startswith(b"data:")), b"")
    if not text.startswith((b"{", b"[", b'"')) or len(text) > _JSON_MAX_BYTES:
        return None
    try:
        document: object = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        document = _lenient(text)
    return document


def _lenient(text: bytes) -> object:
    """What the standard library lets pass: lone surrogates, NaN, broken UTF-8 once it is replaced."""
    try:
        document: object = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return document


def layers_of(document: object) -> Iterator[Object]:
    """The objects an error is spread over, innermost first."""
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict):
        return
    outermost_first = [document]
    while len(outermost_first) < _DEPTH and (inner := _inner(outermost_first[-1])) is not None:
        outermost_first.append(inner)
    yield from reversed(outermost_first)


def _inner(layer: Object) -> Object | None:
    errors = layer.get("errors")
    candidates = (
        layer.get("error"),
        errors[0] if isinstance(errors, list) and errors else None,
        first_choice(layer).get("error"),
        failed_response(layer),
        layer.get("detail"),
    )
    return next((candidate for candidate in candidates if isinstance(candidate, dict) and candidate), None)


def first_choice(document: Object) -> Object:
    """`choices[0]`, or an empty object."""
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def failed_response(document: Object) -> object:
    """The error of a `response.failed` event (OpenAI's Responses API)."""
    response = document.get("response")
    return response.get("error") if isinstance(response, dict) else None


def first_of(layers: list[Object], key: str) -> object:
    """The innermost value of `key`, or None."""
    return next((value for layer in layers if (value := layer.get(key)) is not None), None)


def object_of(layers: list[Object], key: str) -> Object:
    """The innermost value of `key` if that is an object, else an empty one."""
    value = first_of(layers, key)
    return value if isinstance(value, dict) else {}


def list_of(layers: list[Object], key: str) -> list[object]:
    """The innermost value of `key` if that is a list, else an empty one."""
    value = first_of(layers, key)
    return value if isinstance(value, list) else []


def as_word(value: object) -> str:
    """A string, or a number as one; anything else is empty."""
    if isinstance(value, str):
        return value[:TEXT_MAX_CHARS]
    return f"{value:.15g}" if isinstance(value, float) or _is_count(value) else ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def name_of(layers: list[Object], *keys: str) -> str:
    """The innermost machine-readable name under one of `keys`. `"error"` as the type of a wrapper names nothing."""
    names = (as_word(layer.get(key)) for layer in layers for key in keys)
    return next((name for name in names if name and name != "error"), "")[:_NAME_MAX_CHARS]


def prose(value: object, depth: int = _DEPTH) -> str:
    """The sentences in a string, in a list of validation errors, or in an object around either."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "; ".join(filter(None, (prose(item, depth - 1) for item in value[:3])))
    if depth and isinstance(value, dict):
        return next(filter(None, (prose(value.get(key), depth - 1) for key in ("message", "msg", "detail"))), "")
    return ""


def plain_text(body: bytes, content_type: bytes | None) -> str:
    """A body that is no JSON as text; of HTML its title."""
    text = body[: 4 * TEXT_MAX_CHARS].decode("utf-8", "replace")
    if b"html" in (content_type or b"").lower() or text.lstrip()[:1] == "<":
        title = re.search(r"<title>([^<]{1,500})", text, re.IGNORECASE)
        return title[1] if title is not None else ""
    return text


def clean(text: str) -> str:
    """One line of bounded length, without lone surrogates."""
    return " ".join(text[: 2 * TEXT_MAX_CHARS].encode("utf-8", "replace").decode().split())[:TEXT_MAX_CHARS]
