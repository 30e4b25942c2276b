"""What a request asks for: path, controls, body and route read together, or the reason it is refused.

The last pure step before anything is sent. A request without a model is refused where the endpoint needs one and goes
to the first provider elsewhere; what names an object goes to the key that created it (design section 6, Bodies).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sidecar.core import envelope as envelopes
from sidecar.core import multipart
from sidecar.core.affinity import Ownership
from sidecar.core.catalog import NativeSurface
from sidecar.core.codings import Sealed, undone
from sidecar.core.envelope import Envelope
from sidecar.core.errors import Reason, Refusal
from sidecar.core.headers import Controls
from sidecar.core.heading import Heading, heading_of
from sidecar.core.http import Request, find
from sidecar.core.keys import Size
from sidecar.core.paths import Endpoint, Kind, Surface, needs_model, resolve
from sidecar.core.routing import Route, native_model, native_provider, pin, route_model
from sidecar.core.snapshot import Snapshot, Target
from sidecar.core.tokens import kind, text_bytes
from sidecar.core.units import format_size

# names and paths at all providers stay far below; what is kept by model stays bounded (E1)
_MODEL_CHARS: Final = 512

# compressed speech is 4 to 16 kB a second; the smaller figure would charge a short clip as a long one
_AUDIO_BYTES_PER_SECOND: Final = 16_000


class Call:
    """A request understood. `model` is as the caller named it; `native` is set on a provider's own surface."""

    __slots__ = ("envelope", "heading", "model", "native", "plain", "route", "size")

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self,
        heading: Heading,
        envelope: Envelope,
        model: str | None,
        route: Route,
        size: Size,
        native: NativeSurface | None,
        plain: bytes | None = None,
    ) -> None:
        self.heading: Final = heading
        self.envelope: Final = envelope
        self.model: Final = model
        self.route: Final = route
        self.size: Final = size
        self.native: Final = native
        self.plain: Final = plain  # the body, where it came packed and had to be read

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
    envelope = (
        envelopes.peek(request.body) if not heading.is_multipart else multipart.peek(request.body, heading.content_type)
    )
    plain = None
    if isinstance(envelope, Refusal):
        opened = _open(snapshot, request, heading, envelope)
        if isinstance(opened, Refusal):
            return opened
        envelope, plain = opened
    destination = heading.destinations.get(envelope.model)
    if not isinstance(destination, _Destination) or destination.snapshot is not snapshot:
        found = _destination(snapshot, heading, envelope)
        if isinstance(found, Refusal):
            return found
        destination = found
        heading.note_destination(envelope.model, destination)
    route = destination.route
    ids = heading.ids + envelope.references if envelope.references else heading.ids
    owner = ownership.owner_of(ids) if ids else None
    if owner is not None and heading.wishes.key is None:
        owned = pin(snapshot, route.targets, owner, destination.native is not None)
        if not isinstance(owned, Refusal):
            route = owned  # a key that left the configuration owns nothing any more
    size = _size(plain or request.body, envelope, heading) if destination.model else _NO_SIZE
    return Call(heading, envelope, destination.model, route, size, destination.native, plain)


def error_dialect(snapshot: Snapshot, target: bytes) -> str:
    """Whose error shape the caller of that request target parses."""
    surface = resolve(b"GET", target)
    if isinstance(surface, Refusal) or surface.provider not in snapshot.providers:
        return "openai"
    entry = snapshot.providers[surface.provider].entry
    return entry.native_surface(surface.path.decode("ascii")).error_dialect


class _Destination:
    """Where requests with one head and one model go, under one snapshot."""

    __slots__ = ("model", "native", "route", "snapshot")

    def __init__(self, snapshot: Snapshot, route: Route, model: str | None, native: NativeSurface | None) -> None:
        self.snapshot: Final = snapshot
        self.route: Final = route
        self.model: Final = model
        self.native: Final = native


def _destination(snapshot: Snapshot, heading: Heading, envelope: Envelope) -> _Destination | Refusal:
    surface, label = heading.surface, heading.wishes.key
    native: NativeSurface | None = None
    if surface.kind is Kind.NATIVE:
        provider = native_provider(snapshot, surface.provider)
        if isinstance(provider, Refusal):
            return provider
        native = provider.entry.native_surface(surface.path.decode("ascii"))
        model = native_model(native, surface.path, envelope.model)
        targets: tuple[Target, ...] = (Target(provider, model or ""),)
    else:
        model = surface.model or envelope.model or None
        if model is None and needs_model(surface.endpoint):
            message = "The request names no model; add a string field 'model' to its body."
            return Refusal(Reason.MODEL_MISSING, message, param="model")
        targets = (Target(snapshot.first, ""),)
    if model is not None and len(model) > _MODEL_CHARS:
        message = f"No model has a name of {len(model)} characters; at most {_MODEL_CHARS} are looked at."
        return Refusal(Reason.MODEL_UNAVAILABLE, message, param="model")
    if model is not None and native is None:
        targets = route_model(snapshot, model)
    route = Route(targets) if label is None else pin(snapshot, targets, label, native is not None)
    return route if isinstance(route, Refusal) else _Destination(snapshot, route, model, native)


class _Opened(NamedTuple):
    envelope: Envelope
    plain: bytes | None


def _open(snapshot: Snapshot, request: Request, heading: Heading, unread: Refusal) -> _Opened | Refusal:
    """A body that could not be read as it is, read without its coding, if it has one; else it stays `unread`."""
    if heading.is_multipart:
        return unread
    if not heading.is_json and not needs_model(heading.surface.endpoint):
        return _Opened(Envelope(), None)  # an upload of another kind: passed as it is
    coding = find(request.headers, b"content-encoding")
    if coding is None or coding.strip().lower() == b"identity":
        return unread
    most = snapshot.config.body.max_bytes
    plain = undone(request.body, coding, most)
    if not isinstance(plain, Sealed):
        envelope = envelopes.peek(plain)
        return envelope if isinstance(envelope, Refusal) else _Opened(envelope, plain)
    if not needs_model(heading.surface.endpoint):
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


def _size(content: bytes, envelope: Envelope, heading: Heading) -> Size:
    if heading.is_multipart:
        is_speech = heading.surface.endpoint is Endpoint.TRANSCRIPTIONS
        return Size(0, None, 1, len(content) // _AUDIO_BYTES_PER_SECOND + 1 if is_speech else 0)
    return Size(text_bytes(content), envelope.declared_output, envelope.n, 0, kind(content))


_NO_SIZE: Final = Size(0, None, 1, 0)
