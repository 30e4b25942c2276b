"""What a request target names: which surface, which endpoint, and whether it may be passed on at all.

A path goes to the provider as it was received, never decoded or normalised; so one that a server could normalise into
another place (dot segments, however encoded, backslashes, empty segments) is refused here, and what passes stays below
the provider's base path. Whether a provider of that name exists is the configuration's to say. RFC 3986, 3.3 and 5.2.4;
RFC 9112, 3.2.1; OpenAI API reference.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from sidecar.core.errors import Reason, Refusal


class Kind(enum.Enum):
    """Whose API a path belongs to."""

    __hash__ = object.__hash__  # of members there is one each; the enum module's own is slow

    OPENAI = "openai"
    NATIVE = "native"  # the provider's own, from its origin


class Endpoint(enum.Enum):
    """What is asked of the OpenAI surface, as far as it makes a difference here."""

    __hash__ = object.__hash__  # of members there is one each; the enum module's own is slow

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MODELS = "models"
    MODEL = "model"
    TRANSCRIPTIONS = "transcriptions"  # and translations
    SPEECH = "speech"
    OTHER = "other"


class Surface(NamedTuple):
    """Where a request goes. `path` and `query` (with its `?`, or empty) are as received, the path less the prefix that
    chose the surface. `provider`: of a native path, else ''. `model`: named in the path of endpoint MODEL, decoded."""

    kind: Kind
    path: bytes
    query: bytes = b""
    endpoint: Endpoint = Endpoint.OTHER
    provider: str = ""
    model: str | None = None


_PREFIXES: Final = (b"/v1", b"/openai/v1")  # the second is what the groq SDK appends
_POST_ONLY: Final = {
    b"/completions": Endpoint.COMPLETIONS,
    b"/embeddings": Endpoint.EMBEDDINGS,
    b"/responses": Endpoint.RESPONSES,
    b"/audio/transcriptions": Endpoint.TRANSCRIPTIONS,
    b"/audio/translations": Endpoint.TRANSCRIPTIONS,
    b"/audio/speech": Endpoint.SPEECH,
}
# these also list what is stored: GET there is another endpoint
_POST_OR_GET: Final = {b"/chat/completions": Endpoint.CHAT}
_MODEL_BOUND: Final = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.RESPONSES})

# what nearly every request asks for is known before it comes
_HOT: Final = {
    prefix + path: Surface(Kind.OPENAI, path, endpoint=endpoint)
    for prefix in _PREFIXES
    for path, endpoint in (_POST_ONLY | _POST_OR_GET).items()
}

_TARGET: Final = re.compile(rb"(/[!-\"$->@-~]*+)(\?[!-\"$-~]*+)?")  # visible ASCII, no fragment
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(rb"[\0-\x1f\x7f]")
_PROVIDER: Final = re.compile(rb"/p/([0-9A-Za-z][0-9A-Za-z._-]*+)(/.*+)")

_WHERE: Final = (
    "the OpenAI API is served below /v1/ (also /openai/v1/), each provider's own API below /p/{provider}/; "
    "a base URL for an SDK ends in /v1"
)


def resolve(method: bytes, target: bytes) -> Surface | Refusal:
    """The surface of a request; INVALID_PATH, UNKNOWN_PATH or METHOD_NOT_ALLOWED where it has none."""
    if method == b"POST":
        hot = _HOT.get(target)
        if hot is not None:
            return hot
    match = _TARGET.fullmatch(target)
    if match is None:
        return _invalid("it is not an absolute path of visible ASCII characters")
    path, query = match[1], match[2] or b""
    wrong = _why_unsafe(path)
    if wrong is not None:
        return _invalid(wrong)
    for prefix in _PREFIXES:
        # the prefix alone names nothing
        if path.startswith(prefix + b"/") and len(path) > len(prefix) + 1:
            return _openai(method, path[len(prefix) :], query)
    native = _PROVIDER.fullmatch(path)
    if native:
        return Surface(Kind.NATIVE, native[2], query, provider=native[1].decode())
    return Refusal(Reason.UNKNOWN_PATH, f"Unknown path {path[:128].decode()}: {_WHERE}.")


def needs_model(endpoint: Endpoint) -> bool:
    """Whether a request without a model is refused there (design section 6, Bodies)."""
    return endpoint in _MODEL_BOUND


def segments(path: bytes) -> tuple[str, ...]:
    """The segments of an accepted path, percent-decoded; a slash that was encoded stays within its segment."""
    return tuple(unquote_to_bytes(segment).decode("utf-8", "replace") for segment in path.split(b"/")[1:])


def _openai(method: bytes, path: bytes, query: bytes) -> Surface | Refusal:
    if method == b"POST":
        endpoint = _POST_ONLY.get(path) or _POST_OR_GET.get(path) or Endpoint.OTHER
        if path != b"/models":
            return Surface(Kind.OPENAI, path, query, endpoint)
    elif path in _POST_ONLY:
        return _not_allowed(method, path, "POST")
    elif path in _POST_OR_GET and method != b"GET":
        return _not_allowed(method, path, "GET, POST")
    if path == b"/models":
        if method not in (b"GET", b"HEAD"):
            return _not_allowed(method, path, "GET, HEAD")
        return Surface(Kind.OPENAI, path, query, Endpoint.MODELS)
    if path.startswith(b"/models/") and method in (b"GET", b"HEAD"):
        model = unquote_to_bytes(path[len(b"/models/") :]).decode()
        return Surface(Kind.OPENAI, path, query, Endpoint.MODEL, model=model or None)
    return Surface(Kind.OPENAI, path, query)


def _why_unsafe(path: bytes) -> str | None:
    """What would let a server read the path as another one than we do, or None."""
    while True:
        if not _is_utf8(path):
            return "its escapes are not UTF-8"
        if b"\\" in path:
            return "it holds a backslash"
        if b"//" in path:
            return "it holds an empty segment"
        if _CONTROL.search(path):
            return "it holds a control character"
        # what follows a semicolon is a parameter to some servers, and `..;` a dot segment
        if any(segment.partition(b";")[0] in (b".", b"..") for segment in path.split(b"/")):
            return "it holds a dot segment"
        if b"%" not in path:
            return None
        if _BAD_ESCAPE.search(path):
            return "it holds a '%' that escapes nothing"
        # again, for a server that decodes more than once; every turn makes it shorter
        path = unquote_to_bytes(path)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _invalid(wrong: str) -> Refusal:
    return Refusal(Reason.INVALID_PATH, f"The request's path is refused: {wrong}.")


def _not_allowed(method: bytes, path: bytes, allowed: str) -> Refusal:
    shown = method[:32].decode("ascii", "replace")
    message = f"{shown} is not allowed at {path.decode()}; it takes {allowed}."
    return Refusal(Reason.METHOD_NOT_ALLOWED, message, allow=allowed)
