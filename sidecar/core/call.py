"""What a request asks for: path, controls, body and route read together, or the reason it is refused.

The last pure step before anything is sent. A request without a model is refused where the endpoint needs one and goes
to the first provider elsewhere; what names an object goes to the key that created it (design section 6, Bodies).
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core import body, multipart
from sidecar.core.affinity import Ownership, path_ids
from sidecar.core.body import Envelope
from sidecar.core.catalog import NativeSurface
from sidecar.core.codings import Sealed, undone
from sidecar.core.errors import Reason, Refusal
from sidecar.core.headers import Controls, controls
from sidecar.core.http import Request, find
from sidecar.core.keys import Size
from sidecar.core.paths import Endpoint, Kind, Surface, needs_model, resolve
from sidecar.core.routing import Route, native_model, native_provider, pin, route_model
from sidecar.core.snapshot import Snapshot, Target
from sidecar.core.tokens import kind, text_bytes
from sidecar.core.units import format_size

# names and paths at all providers stay far below; what is kept by model stays bounded (E1)
_MODEL_CHARS = 512

# compressed speech is 4 to 16 kB a second; the smaller figure would charge a short clip as a long one
_AUDIO_BYTES_PER_SECOND = 16_000


class Call(NamedTuple):
    """A request understood. `model` is as the caller named it; `native` is set on a provider's own surface."""

    surface: Surface
    controls: Controls
    envelope: Envelope
    model: str | None
    route: Route
    size: Size
    is_multipart: bool
    native: NativeSurface | None
    plain: bytes | None = None  # the body, where it came packed and had to be read


def understand(snapshot: Snapshot, request: Request, ownership: Ownership) -> Call | Refusal:
    """Everything there is to know about a request before a key is chosen."""
    surface = resolve(request.method, request.target)
    if isinstance(surface, Refusal):
        return surface
    wishes = controls(request.headers)
    if isinstance(wishes, Refusal):
        return wishes
    content_type = find(request.headers, b"content-type") or b""
    is_multipart = content_type[:10].lower() == b"multipart/"
    envelope = _peek(request, content_type, is_multipart, surface)
    plain = None
    if isinstance(envelope, Refusal):
        opened = _open(snapshot, request, surface, envelope)
        if isinstance(opened, Refusal):
            return opened
        envelope, plain = opened
    destination = _destination(snapshot, surface, envelope)
    if isinstance(destination, Refusal):
        return destination
    owner = ownership.owner_of(path_ids(surface.path) + envelope.references)
    route = _route(snapshot, destination, wishes.key, owner)
    if isinstance(route, Refusal):
        return route
    model = destination.model
    size = _size(plain or request.body, envelope, surface, is_multipart, bool(model))
    return Call(surface, wishes, envelope, model, route, size, is_multipart, destination.native, plain)


def error_dialect(snapshot: Snapshot, target: bytes) -> str:
    """Whose error shape the caller of that request target parses."""
    surface = resolve(b"GET", target)
    if isinstance(surface, Refusal) or surface.provider not in snapshot.providers:
        return "openai"
    entry = snapshot.providers[surface.provider].entry
    return entry.native_surface(surface.path.decode("ascii")).error_dialect


class _Destination(NamedTuple):
    targets: tuple[Target, ...]
    model: str | None
    native: NativeSurface | None = None


def _destination(snapshot: Snapshot, surface: Surface, envelope: Envelope) -> _Destination | Refusal:
    if surface.kind is Kind.NATIVE:
        provider = native_provider(snapshot, surface.provider)
        if isinstance(provider, Refusal):
            return provider
        native = provider.entry.native_surface(surface.path.decode("ascii"))
        model = native_model(native, surface.path, envelope.model)
        return _too_long(model) or _Destination((Target(provider, model or ""),), model, native)
    model = surface.model or envelope.model or None
    if model is not None:
        return _too_long(model) or _Destination(route_model(snapshot, model), model)
    if needs_model(surface.endpoint):
        message = "The request names no model; add a string field 'model' to its body."
        return Refusal(Reason.MODEL_MISSING, message, param="model")
    return _Destination((Target(snapshot.first, ""),), None)


def _too_long(model: str | None) -> Refusal | None:
    if model is None or len(model) <= _MODEL_CHARS:
        return None
    message = f"No model has a name of {len(model)} characters; at most {_MODEL_CHARS} are looked at."
    return Refusal(Reason.MODEL_UNAVAILABLE, message, param="model")


def _route(snapshot: Snapshot, destination: _Destination, label: str | None, owner: str | None) -> Route | Refusal:
    targets, is_native = destination.targets, destination.native is not None
    if label is not None:
        return pin(snapshot, targets, label, is_native)
    if owner is not None:
        owned = pin(snapshot, targets, owner, is_native)
        if not isinstance(owned, Refusal):
            return owned  # a key that left the configuration owns nothing any more
    return Route(targets)


def _peek(request: Request, content_type: bytes, is_multipart: bool, surface: Surface) -> Envelope | Refusal:
    if is_multipart:
        return multipart.peek(request.body, content_type)
    if not request.body:
        return Envelope()
    envelope = body.peek(request.body)
    if isinstance(envelope, Refusal) and not _is_json(content_type) and not needs_model(surface.endpoint):
        return Envelope()  # an upload of another kind: passed as it is
    return envelope


class _Opened(NamedTuple):
    envelope: Envelope
    plain: bytes | None


def _open(snapshot: Snapshot, request: Request, surface: Surface, unread: Refusal) -> _Opened | Refusal:
    """A body that could not be read as it is, read without its coding, if it has one; else it stays `unread`."""
    coding = find(request.headers, b"content-encoding")
    if coding is None or coding.strip().lower() == b"identity":
        return unread
    most = snapshot.config.body.max_bytes
    plain = undone(request.body, coding, most)
    if not isinstance(plain, Sealed):
        envelope = body.peek(plain)
        return envelope if isinstance(envelope, Refusal) else _Opened(envelope, plain)
    if not needs_model(surface.endpoint):
        return _Opened(Envelope(), None)
    shown = coding[:64].decode("ascii", "replace")
    if plain is Sealed.TOO_LARGE:
        return Refusal(
            Reason.BODY_TOO_LARGE, f"Unpacked, the body is larger than body.max_bytes ({format_size(most)})."
        )
    if plain is Sealed.BROKEN:
        return Refusal(Reason.INVALID_JSON, f"The body is not what its content-encoding says ({shown!r}).")
    message = f"The model in a body of content-encoding {shown!r} cannot be read; send it as it is, or as gzip."
    return Refusal(Reason.UNREADABLE_CODING, message, param="model")


def _is_json(content_type: bytes) -> bool:
    """Whether a body claims to be one JSON text; several, as in JSON Lines, are an upload like any other."""
    return content_type.partition(b";")[0].strip().lower().endswith((b"/json", b"+json"))


def _size(content: bytes, envelope: Envelope, surface: Surface, is_multipart: bool, has_model: bool) -> Size:
    if not has_model:
        return Size(0, None, 1, 0)
    if is_multipart:
        is_speech = surface.endpoint is Endpoint.TRANSCRIPTIONS
        return Size(0, None, 1, len(content) // _AUDIO_BYTES_PER_SECOND + 1 if is_speech else 0)
    return Size(text_bytes(content), envelope.declared_output, envelope.n, 0, kind(content))
