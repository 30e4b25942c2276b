"""Every error this proxy makes itself: one closed set of reasons, one renderer for each API dialect.

A reason fixes the status, the machine-readable code, the OpenAI error type and whether the same call may succeed later.
Errors a provider made are relayed, not rendered, except where they are part of the trail of a request that failed
everywhere. Shape of the body: OpenAI API reference, "Error codes"; Anthropic API reference, "Errors".
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from sidecar.core.http import Header
from sidecar.core.limits import SECOND


class _Facts(NamedTuple):
    status: int
    type: str
    may_mend: bool  # the same call may succeed when repeated later


_CALLER = "invalid_request_error"


class Reason(enum.Enum):
    """Why a request was refused here. The value is the `code` the caller sees."""

    __hash__ = object.__hash__  # of members there is one each; the enum module's own is slow

    INVALID_HTTP = "invalid_http"
    INVALID_JSON = "invalid_json"
    INVALID_PATH = "invalid_path"
    INVALID_HEADER = "invalid_header"
    MODEL_MISSING = "model_missing"
    MODEL_DUPLICATE = "model_duplicate"
    UNAUTHORIZED = "invalid_api_key"
    FORBIDDEN_HOST = "forbidden_host"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_PROVIDER = "unknown_provider"
    UNKNOWN_KEY = "unknown_key"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "body_too_large"
    NEVER_FITS = "request_too_large"
    UNREADABLE_CODING = "unsupported_content_encoding"
    EXPECTATION_FAILED = "expectation_failed"
    HEADERS_TOO_LARGE = "headers_too_large"
    RATE_LIMITED = "rate_limit_exceeded"
    QUEUE_FULL = "queue_full"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    NO_USABLE_KEY = "no_usable_key"
    MODEL_UNAVAILABLE = "model_not_found"  # what SDK users look for
    FIELD_UNSUPPORTED = "unsupported_parameter"
    UNAVAILABLE = "provider_unavailable"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    INTERNAL = "internal_error"


_FACTS = {
    Reason.INVALID_HTTP: _Facts(400, _CALLER, False),
    Reason.INVALID_JSON: _Facts(400, _CALLER, False),
    Reason.INVALID_PATH: _Facts(400, _CALLER, False),
    Reason.INVALID_HEADER: _Facts(400, _CALLER, False),
    Reason.MODEL_MISSING: _Facts(400, _CALLER, False),
    Reason.MODEL_DUPLICATE: _Facts(400, _CALLER, False),
    Reason.FIELD_UNSUPPORTED: _Facts(400, _CALLER, False),
    Reason.UNAUTHORIZED: _Facts(401, "authentication_error", False),
    Reason.FORBIDDEN_HOST: _Facts(403, "permission_error", False),
    Reason.FORBIDDEN_ORIGIN: _Facts(403, "permission_error", False),
    Reason.UNKNOWN_PATH: _Facts(404, _CALLER, False),
    Reason.UNKNOWN_PROVIDER: _Facts(404, _CALLER, False),
    Reason.UNKNOWN_KEY: _Facts(400, _CALLER, False),
    Reason.NOT_FOUND: _Facts(404, _CALLER, False),
    Reason.METHOD_NOT_ALLOWED: _Facts(405, _CALLER, False),
    Reason.BODY_TIMEOUT: _Facts(408, "timeout_error", True),
    Reason.BODY_TOO_LARGE: _Facts(413, _CALLER, False),
    Reason.NEVER_FITS: _Facts(413, _CALLER, False),
    Reason.UNREADABLE_CODING: _Facts(415, _CALLER, False),
    Reason.EXPECTATION_FAILED: _Facts(417, _CALLER, False),
    Reason.HEADERS_TOO_LARGE: _Facts(431, _CALLER, False),
    Reason.RATE_LIMITED: _Facts(429, "rate_limit_error", True),
    Reason.QUEUE_FULL: _Facts(429, "rate_limit_error", True),
    Reason.OVERLOADED: _Facts(503, "overloaded_error", True),
    Reason.DRAINING: _Facts(503, "overloaded_error", True),
    Reason.NO_USABLE_KEY: _Facts(503, "api_error", False),
    Reason.MODEL_UNAVAILABLE: _Facts(404, _CALLER, False),
    Reason.UNAVAILABLE: _Facts(503, "api_error", True),
    Reason.UPSTREAM_FAILED: _Facts(502, "api_error", True),
    Reason.UPSTREAM_TIMEOUT: _Facts(504, "timeout_error", True),
    Reason.INTERNAL: _Facts(500, "api_error", True),
}


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the trail of a failed request: where it went, with which key (its label), and what came of it."""

    target: str
    key: str
    reason: str
    status: int | None = None


class Refusal(NamedTuple):
    """A refusal as a value; `render` makes the answer of it."""

    reason: Reason
    message: str
    retry_after_ns: int | None = None  # from now; told in whole seconds, rounded up
    param: str | None = None
    trail: tuple[Step, ...] = ()
    dialect: str = "openai"  # whose error shape the caller parses, where that is known before its body is read
    allow: str = ""  # the methods that would do (RFC 9110, 15.5.6)

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return _FACTS[self.reason].status

    @property
    def may_mend(self) -> bool:
        """Whether the same call may succeed when repeated later."""
        return _FACTS[self.reason].may_mend


class Answer(NamedTuple):
    """A whole answer, ready to be sent."""

    status: int
    headers: list[Header]
    body: bytes


class _OpenAIError(msgspec.Struct, omit_defaults=True):
    message: str
    type: str
    code: str
    param: str | None
    trail: tuple[Step, ...] = ()


_encode = msgspec.json.Encoder().encode


def render(refusal: Refusal, dialect: str = "openai") -> Answer:
    """The answer to a refusal, in the shape callers of that dialect's SDK parse (`anthropic`, else OpenAI's)."""
    facts = _FACTS[refusal.reason]
    error = _OpenAIError(refusal.message, facts.type, refusal.reason.value, refusal.param, refusal.trail)
    body = {"type": "error", "error": error} if dialect == "anthropic" else {"error": error}
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after_ns is not None:
        headers.append((b"retry-after", b"%d" % seconds_up(refusal.retry_after_ns)))
    if refusal.allow:
        headers.append((b"allow", refusal.allow.encode("ascii")))
    if not facts.may_mend:
        # openai-python and others obey it: no retries of what cannot succeed
        headers.append((b"x-should-retry", b"false"))
    return Answer(facts.status, headers, _encode(body))


def stream_error(refusal: Refusal, dialect: str = "openai") -> bytes:
    """The last events of a stream that broke after its first byte was passed on: the error, then the end marker."""
    body = render(refusal, dialect).body
    if dialect == "anthropic":
        return b"event: error\ndata: " + body + b"\n\n"
    return b"data: " + body + b"\n\ndata: [DONE]\n\n"


def seconds_up(duration_ns: int) -> int:
    """Whole seconds, rounded up, at least 1: the unit of `Retry-After` (RFC 9110, 10.2.3)."""
    return max(1, -(-duration_ns // SECOND))
