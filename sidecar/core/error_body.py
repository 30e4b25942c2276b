"""An error body of any provider as one plain value, whatever it is wrapped in (providers.md 1.1 rows 10 to 12).

Decides where in a body the message, the type, the code and the machine-readable details stand: nested objects, flat
ones, arrays, bare strings, FastAPI's `detail`, RFC 9457 problems, one SSE event, HTML, plain text, nothing. The content
type is trusted only to tell HTML. Never raises. Refuses to know what the words mean (error_texts.py, error_classes.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sidecar.core.error_json import (
    Object,
    as_word,
    clean,
    document_of,
    failed_response,
    first_choice,
    first_of,
    layers_of,
    list_of,
    name_of,
    object_of,
    plain_text,
    prose,
)
from sidecar.core.http import Header

MESSAGE_MAX_CHARS = 500


class Violation(NamedTuple):
    """One `google.rpc.QuotaFailure` violation: `quota_id` names axis and window, `value` is the limit."""

    quota_id: str
    value: int | None


class ErrorBody(msgspec.Struct, frozen=True):
    """What an error body says, as strings; "" where it says nothing.

    `message` is for people, shortened; `text` is what patterns are tried on. `status` is the HTTP status the body
    itself names. `wait` is a structured delay in a grammar of durations.parse_reset. `headers` are rate-limit headers
    quoted in the body, and `upstream` is the provider an error was relayed from (both OpenRouter).
    """

    message: str = ""
    text: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    reason: str = ""  # of a google.rpc.ErrorInfo
    status: int | None = None
    wait: str = ""
    violations: tuple[Violation, ...] = ()
    headers: tuple[Header, ...] = ()
    upstream: str = ""
    organization: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """Every machine-readable name of the error, in lower case."""
        return frozenset(name.lower() for name in (self.type, self.code, self.reason) if name)


def parse(body: bytes, content_type: bytes | None) -> ErrorBody:
    """Read an error body. An empty or unintelligible one gives an ErrorBody that says nothing."""
    document = document_of(body)
    layers = list(layers_of(document))
    if layers:
        return _of_layers(layers, clean(_message(layers) or plain_text(body, content_type)))
    text = clean(document if isinstance(document, str) else plain_text(body, content_type))
    return ErrorBody(message=_shortened(text), text=text, organization=_organization(text))


def hidden_error(body: bytes) -> bool:
    """Whether the body of a 200 is an error all the same (providers.md 1.1 row 12). Cheap for bodies that are not.

    The quoted word can stand in JSON only as a member or as a whole value: inside a string its quotes are escaped.
    """
    if body.find(b'"error"') < 0:
        return False
    document = document_of(body)
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return False
    if document.get("error") or document.get("object") == "error" or document.get("type") == "error":
        return True
    choice = first_choice(document)
    return bool(choice.get("error")) or choice.get("finish_reason") == "error" or bool(failed_response(document))


def _of_layers(layers: list[Object], message: str) -> ErrorBody:
    metadata = object_of(layers, "metadata")
    text = clean(" ".join((message, as_word(metadata.get("raw")), as_word(first_of(layers, "details")))))
    details = [detail for detail in list_of(layers, "details") if isinstance(detail, dict)]
    return ErrorBody(
        message=_shortened(message),
        text=text,
        type=name_of(layers, "type", "error_type") or _canonical_code(layers),
        code=name_of(layers, "code") or _flat_code(layers),
        param=name_of(layers, "param") or _refused_field(layers),
        reason=next(filter(None, (as_word(detail.get("reason")) for detail in details)), ""),
        status=_status(layers),
        wait=_wait(layers, details),
        violations=tuple(violation for detail in details for violation in _violations(detail)),
        headers=tuple(_headers(metadata.get("headers"))),
        upstream=as_word(metadata.get("provider_name")),
        organization=_organization(text),
    )


def _message(layers: list[Object]) -> str:
    """The first thing in plain words: `message` at any depth, else what other frameworks call it."""
    keys = ("message", "msg", "detail", "title", "error_description", "error")
    return next(filter(None, (prose(layer.get(key)) for key in keys for layer in layers)), "")


def _canonical_code(layers: list[Object]) -> str:
    """Google's `RESOURCE_EXHAUSTED` and the like, which stand under `status`."""
    status = name_of(layers, "status")
    return "" if status.isdigit() else status


def _flat_code(layers: list[Object]) -> str:
    """The `error` of flat bodies, where it is a name and no sentence."""
    name = name_of(layers, "error")
    return name if re.fullmatch(r"[A-Za-z_]{3,64}", name) else ""


def _refused_field(layers: list[Object]) -> str:
    """The last step of FastAPI's `loc`."""
    refusals = list_of(layers, "detail") or list_of([object_of(layers, "message")], "detail")
    location = refusals[0].get("loc") if refusals and isinstance(refusals[0], dict) else None
    return as_word(location[-1])[:MESSAGE_MAX_CHARS] if isinstance(location, list) and location else ""


def _status(layers: list[Object]) -> int | None:
    keys = ("status_code", "raw_status_code", "code", "status")
    words = (as_word(layer.get(key)) for layer in layers for key in keys)
    return next((int(word) for word in words if re.fullmatch(r"[45][0-9]{2}", word)), None)


def _wait(layers: list[Object], details: list[Object]) -> str:
    """`retryDelay` of a google.rpc.RetryInfo, or a member named after the header."""
    delays = (as_word(detail.get("retryDelay")) for detail in details)
    return next(filter(None, delays), "") or name_of(layers, "retry_after", "retryAfter")


def _violations(detail: Object) -> Iterator[Violation]:
    violations = detail.get("violations")
    for violation in violations if isinstance(violations, list) else ():
        quota_id = as_word(violation.get("quotaId")) if isinstance(violation, dict) else ""
        if quota_id:
            value = as_word(violation.get("quotaValue"))
            yield Violation(quota_id, int(value) if re.fullmatch(r"[0-9]{1,15}", value) else None)


def _headers(value: object) -> Iterator[Header]:
    for name, text in value.items() if isinstance(value, dict) else ():
        yield str(name).lower().encode("utf-8", "replace"), as_word(text).encode("utf-8", "replace")


def _shortened(text: str) -> str:
    return text if len(text) <= MESSAGE_MAX_CHARS else text[: MESSAGE_MAX_CHARS - 1] + "\u2026"


# Groq and OpenAI name it plainly; Anthropic puts a UUID in brackets, xAI calls the account a team.
_ORGANIZATION = re.compile(
    r"\borganization[ (`'\"]{1,3}(org[-_][A-Za-z0-9_-]{1,64}|[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4})"
    r"|\bteam ([0-9a-f]{8}(?:-[0-9a-f]{4,12}){4})"
)


def _organization(text: str) -> str | None:
    match = _ORGANIZATION.search(text)
    return (match[1] or match[2]) if match is not None else None
