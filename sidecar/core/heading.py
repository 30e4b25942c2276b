"""What the head of a request says, read once for all the requests that repeat it: surface, wishes, what may pass on.

Holds under every configuration, so it is kept with the head (`http.Notes`) and never goes stale. Refuses to know
providers: where a request goes, and which of its headers would speak for the operator there, is told. RFC 9110.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.affinity import may_create, path_ids
from sidecar.core.errors import Refusal
from sidecar.core.headers import Controls, controls
from sidecar.core.http import Header, Request, find
from sidecar.core.paths import Surface, resolve
from sidecar.core.snapshot import Target

_MOST_MODELS: Final = 32  # that are asked for with one head; those in use are found again at once
_MOST_OPENINGS: Final = 32  # targets that one head meets, in the two ways it may be sent there


class Heading:
    """A head understood. `ids`: objects that its path names; `may_create`: its answer may name objects that stay with
    the key; `is_multipart`: what it announces is a form; `destinations`: call.py's, by model; `openings`:
    outgoing.py's."""

    __slots__ = (
        "content_type",
        "destinations",
        "ids",
        "is_json",
        "is_multipart",
        "may_create",
        "openings",
        "surface",
        "wishes",
    )

    def __init__(self, surface: Surface, wishes: Controls, method: bytes, headers: list[Header]) -> None:
        self.surface = surface
        self.wishes = wishes
        self.ids = path_ids(surface.path)
        self.may_create = may_create(surface, method)
        self.content_type = find(headers, b"content-type") or b""
        self.is_multipart = self.content_type[:10].lower() == b"multipart/"
        # several texts, as in JSON Lines, are an upload like any other
        self.is_json = self.content_type.partition(b";")[0].strip().lower().endswith((b"/json", b"+json"))
        self.destinations: dict[str | None, object] = {}
        self.openings: dict[tuple[Target, bool], bytes] = {}

    def note_destination(self, model: str | None, destination: object) -> None:
        """Remember where requests for a model go. Callers name models at will."""
        if len(self.destinations) >= _MOST_MODELS:
            self.destinations.clear()
        self.destinations[model] = destination

    def keep(self, name: tuple[Target, bool], opening: bytes) -> None:
        """Remember an opening. They are few: those of a configuration that is no more go with the rest."""
        if len(self.openings) >= _MOST_OPENINGS:
            self.openings.clear()
        self.openings[name] = opening

    def __repr__(self) -> str:
        return f"<Heading {self.surface.kind.value} {self.surface.path.decode('ascii')}>"


def heading_of(request: Request) -> Heading | Refusal:
    """The heading of a request: the one noted when that head came before, or a new one, noted now."""
    noted = request.notes.heading
    if isinstance(noted, Heading):  # by itself, for that is a compare of pointers
        return noted
    if isinstance(noted, Refusal):
        return noted
    heading = _read(request)
    request.notes.heading = heading
    return heading


def _read(request: Request) -> Heading | Refusal:
    surface = resolve(request.method, request.target)
    if isinstance(surface, Refusal):
        return surface
    wishes = controls(request.headers)
    return wishes if isinstance(wishes, Refusal) else Heading(surface, wishes, request.method, request.headers)
