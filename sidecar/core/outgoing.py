"""The request as one target gets it: its path, its key, its model name, without the fields it rejects.

Those are the catalog's, then what the target's own answers taught (rejections.py), in the names it was told. Where the
target tells a stream's usage only on request, it is asked for it. Everything else stays byte-identical to what the
caller sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import quote, unquote

from sidecar.core import body, multipart
from sidecar.core.call import Call
from sidecar.core.headers import ending, header_lines, request_headers, request_line
from sidecar.core.http import Request, find
from sidecar.core.keys import Candidate
from sidecar.core.paths import Endpoint, needs_model
from sidecar.core.rejections import AS_IT_IS, Fit
from sidecar.core.snapshot import Target
from sidecar.core.usage_strip import asking

_STREAMING: Final = (Endpoint.CHAT, Endpoint.COMPLETIONS)  # whose usage comes on request
_OPTIONS: Final = "stream_options"


class Outgoing:
    """What goes on the wire. `dropped` names the fields left out for this target.

    `asks_usage`: its stream will tell a usage that the caller did not ask for. `may_lose_fields`: should the target not
    take a field of it, it may be sent again without. `plain`: the body without a content coding.
    """

    __slots__ = ("asks_usage", "body", "dropped", "head", "may_lose_fields", "plain")

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self,
        head: bytes,
        body: bytes,
        dropped: tuple[str, ...],
        asks_usage: bool = False,
        may_lose_fields: bool = False,
        plain: bytes = b"",
    ) -> None:
        self.head: Final = head
        self.body: Final = body
        self.dropped: Final = dropped
        self.asks_usage: Final = asks_usage
        self.may_lose_fields: Final = may_lose_fields
        self.plain: Final = plain


_Fitted = tuple[bytes, tuple[str, ...], bool]
"""A body for one target, what it lost, and whether it asks for the usage."""


def prepare(call: Call, request: Request, candidate: Candidate, strict: bool, fit: Fit = AS_IT_IS) -> Outgoing:
    """Fit a request to a candidate, also as its target is known to want it. `strict`: but for the model, as it is."""
    target = candidate.target
    native, plain = call.native, request.body if call.plain is None else call.plain
    content = plain
    dropped: tuple[str, ...] = ()
    asks_usage = False
    if native is None and content and call.model is not None:
        content, dropped, asks_usage = _fit_body(call, request, target, None if strict else fit)
    fitted, is_unpacked = content, False
    if call.plain is not None:
        is_unpacked = content != plain
        if not is_unpacked:
            content = request.body  # as it came, since nothing had to be changed
    opening = call.heading.openings.get((target, asks_usage)) if not is_unpacked else None
    if opening is None:
        opening = _opening(call, request, target, asks_usage, is_unpacked)
    key_line = candidate.key_line if native is None else header_lines(candidate.key.auth(native.auth))
    # a body, even an empty one that was announced, keeps its length
    length = len(content) if content or request.is_measured else None
    head = b"".join((opening, key_line, ending(request.method, length)))
    may_lose_fields = (
        not strict
        and native is None
        and not call.heading.is_multipart
        and needs_model(call.heading.surface.endpoint)  # of other endpoints it is not known what their fields mean
    )
    return Outgoing(head, content, dropped, asks_usage, may_lose_fields, fitted)


def _opening(call: Call, request: Request, target: Target, asks_usage: bool, is_unpacked: bool) -> bytes:
    """What comes before the key: the same for all requests with that head, to that target."""
    provider, native = target.provider, call.native
    if native is not None:
        path = call.surface.path + _without_credentials(call.surface.query, native.credentials_in_query)
    else:
        path = _path(call, target) + call.surface.query
    # where no key is needed, the caller's own header of that name passes
    auth = provider.entry.auth if native is None else native.auth
    has_keys = any(key.secret is not None for key in provider.keys)
    kept = request_headers(request.headers, [auth.header.lower().encode("ascii")] if has_keys else [])
    if asks_usage:  # packed, it could not be taken out again
        kept = [header for header in kept if header[0] != b"accept-encoding"]
    if is_unpacked:
        kept = [header for header in kept if header[0] != b"content-encoding"]
    opening = request_line(request.method, path, provider.host) + header_lines(kept)
    if not is_unpacked:
        call.heading.keep((target, asks_usage), opening)
    return opening


def _fit_body(call: Call, request: Request, target: Target, fit: Fit | None) -> _Fitted:
    content = request.body if call.plain is None else call.plain
    if target.model != call.model:
        if call.is_multipart:
            media_type = find(request.headers, b"content-type") or b""
            return multipart.with_model(content, media_type, target.model), (), False
        content = body.with_model(content, target.model)
    if fit is None or call.is_multipart:
        return content, (), False
    dropped: tuple[str, ...] = ()
    provider = target.provider
    if provider.search is not None and not provider.search.lacks(content):
        entry = provider.entry
        content, dropped = _without(content, entry.drops, entry.message_drops, entry.renames)
    if fit is not AS_IT_IS and not body.search(fit.drops.union(fit.renames), fit.message_drops).lacks(content):
        content, more = _without(content, fit.drops, fit.message_drops, fit.renames)
        dropped += more
    if call.envelope.stream and provider.tells_usage_on_request and _asks_no_usage(call, fit):
        asked = asking(content)
        return asked, dropped, asked is not content
    return content, dropped, False


def _without(
    content: bytes, fields: Collection[str], message_fields: Collection[str], renames: Mapping[str, str]
) -> tuple[bytes, tuple[str, ...]]:
    content, dropped = body.without(content, fields, renames)
    if not message_fields:
        return content, dropped
    content, within = body.without_in_messages(content, message_fields)
    return content, dropped + tuple(f"messages[].{name}" for name in within)


def _asks_no_usage(call: Call, fit: Fit) -> bool:
    """Whether its caller did not ask for a usage that its target may be asked for."""
    return not call.envelope.include_usage and call.surface.endpoint in _STREAMING and _OPTIONS not in fit.drops


def _path(call: Call, target: Target) -> bytes:
    provider, model = target
    path = call.surface.path
    if call.surface.endpoint is Endpoint.MODEL:
        # asked for by a public name, it would be reported missing, and the target parked
        return provider.base_path + (path if model == call.model else b"/models/" + quote(model, "/:@").encode("ascii"))
    template = provider.entry.model_path
    if template is None or not model:
        return provider.base_path + path
    return provider.base_path + template.format(model=quote(model, safe="")).encode("ascii") + path


def _without_credentials(query: bytes, names: Collection[str]) -> bytes:
    """The query less the parameters in which a caller may have put a key of its own."""
    if not query or not names:
        return query
    kept = [part for part in query[1:].split(b"&") if unquote(part.partition(b"=")[0].decode("ascii")) not in names]
    return b"?" + b"&".join(kept) if kept else b""
