"""What a request asks for: path, controls, body and route read together, or the reason it is refused.

The last pure step before anything is sent. A request without a model is refused where the endpoint needs one and goes
to the first provider elsewhere; what names an object goes to the key that created it (design section 6, Bodies).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sidecar.core import body, multipart
from sidecar.core.affinity import Ownership
from sidecar.core.body import Envelope
from sidecar.core.catalog import NativeSurface
from sidecar.core.errors import Reason, Refusal
from sidecar.core.heading import Heading, heading_of
from sidecar.core.headers import Controls
from sidecar.core.http import Request
from sidecar.core.keys import Size
from sidecar.core.paths import Endpoint, Kind, Surface, needs_model, resolve
from sidecar.core.routing import Route, native_model, native_provider, pin, route_model
from sidecar.core.snapshot import Snapshot, Target
from sidecar.core.tokens import kind, text_bytes

# names and paths at all providers stay far below; what is kept by model stays bounded (E1)
_MODEL_CHARS = 512

# compressed speech is 4 to 16 kB a second; the smaller figure would charge a short clip as a long one
_AUDIO_BYTES_PER_SECOND = 16_000


class Call(msgspec.Struct, frozen=True, gc=False):
    """A request understood. `model` is as the caller named it; `native` is set on a provider's own surface."""

    heading: Heading
    envelope: Envelope
    model: str | None
    route: Route
    size: Size
    native: NativeSurface | None

    @property
    def surface(self) -> Surface:
        """Where it goes."""
        return self.heading.surface

    @property
    def controls(self) -> Controls:
        """What the caller asks of this proxy itself."""
        return self.heading.wishes

    @property
    def is_multipart(self) -> bool:
        """Whether its body is a form."""
        return self.heading.is_multipart


def understand(snapshot: Snapshot, request: Request, ownership: Ownership) -> Call | Refusal:
    """Everything there is to know about a request before a key is chosen."""
    heading = heading_of(request)
    if isinstance(heading, Refusal):
        return heading
    envelope = _peek(request, heading)
    if isinstance(envelope, Refusal):
        return envelope
    surface = heading.surface
    destination = _destination(snapshot, surface, envelope)
    if isinstance(destination, Refusal):
        return destination
    ids = heading.ids + envelope.references
    owner = ownership.owner_of(ids) if ids else None
    label = heading.wishes.key
    route = (
        Route(destination.targets) if owner is None and label is None else _route(snapshot, destination, label, owner)
    )
    if isinstance(route, Refusal):
        return route
    model = destination.model
    size = _size(request, envelope, surface, heading.is_multipart, bool(model))
    return Call(heading, envelope, model, route, size, destination.native)


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


def _peek(request: Request, heading: Heading) -> Envelope | Refusal:
    if heading.is_multipart:
        return multipart.peek(request.body, heading.content_type)
    envelope = body.peek(request.body)
    if (
        isinstance(envelope, Refusal)
        and not _is_json(heading.content_type)
        and not needs_model(heading.surface.endpoint)
    ):
        return Envelope()  # an upload of another kind: passed as it is
    return envelope


def _is_json(content_type: bytes) -> bool:
    """Whether a body claims to be one JSON text; several, as in JSON Lines, are an upload like any other."""
    return content_type.partition(b";")[0].strip().lower().endswith((b"/json", b"+json"))


def _size(request: Request, envelope: Envelope, surface: Surface, is_multipart: bool, has_model: bool) -> Size:
    if not has_model:
        return Size(0, None, 1, 0)
    if is_multipart:
        is_speech = surface.endpoint is Endpoint.TRANSCRIPTIONS
        return Size(0, None, 1, len(request.body) // _AUDIO_BYTES_PER_SECOND + 1 if is_speech else 0)
    return Size(text_bytes(request.body), envelope.declared_output, envelope.n, 0, kind(request.body))
