"""The request as one target gets it: its path, its key, its model name, without the fields it rejects.

Those are the catalog's, then what the target's own answers taught (rejections.py), in the names it was told. Where the
target tells a stream's usage only on request, it is asked for it. Everything else stays byte-identical to what the
caller sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

from sidecar.core import body, multipart
from sidecar.core.call import Call
from sidecar.core.catalog import Provider as CatalogProvider
from sidecar.core.headers import request_headers, upstream_head
from sidecar.core.http import Request, find
from sidecar.core.keys import Candidate
from sidecar.core.paths import Endpoint, Kind, needs_model
from sidecar.core.rejections import AS_IT_IS, Fit
from sidecar.core.snapshot import Target
from sidecar.core.usage_strip import asking

_STREAMING = (Endpoint.CHAT, Endpoint.COMPLETIONS)  # whose usage comes on request
_OPTIONS = "stream_options"


class Outgoing(NamedTuple):
    """What goes on the wire. `dropped` names the fields left out for this target.

    `asks_usage`: its stream will tell a usage that the caller did not ask for. `may_lose_fields`: should the target not
    take a field of it, it may be sent again without. `plain`: the body without a content coding.
    """

    head: bytes
    body: bytes
    dropped: tuple[str, ...]
    asks_usage: bool = False
    may_lose_fields: bool = False
    plain: bytes = b""


class _Fitted(NamedTuple):
    content: bytes
    dropped: tuple[str, ...] = ()
    asks_usage: bool = False


def prepare(call: Call, request: Request, candidate: Candidate, strict: bool, fit: Fit = AS_IT_IS) -> Outgoing:
    """Fit a request to a candidate, also as its target is known to want it. `strict`: but for the model, as it is."""
    target = candidate.target
    provider = target.provider
    plain = request.body if call.plain is None else call.plain
    fitted = _Fitted(plain)
    if call.surface.kind is Kind.OPENAI and plain and call.model is not None:
        fitted = _fit_body(call, request, candidate.target, None if strict else fit)
    is_packed = call.plain is not None and fitted.content == plain  # as it came, since nothing had to be changed
    if call.native is not None:
        auth = candidate.key.auth(call.native.auth)
        path = call.surface.path + _without_credentials(call.surface.query, call.native.credentials_in_query)
    else:
        auth = provider.auth[candidate.key.ident]
        path = _path(call, target) + call.surface.query
    # a body, even an empty one that was announced, keeps its length
    content = request.body if is_packed else fitted.content
    has_length = bool(content) or find(request.headers, b"content-length") is not None
    kept = request_headers(request.headers, [name for name, _ in auth])
    if call.plain is not None and not is_packed:
        kept = [header for header in kept if header[0] != b"content-encoding"]
    if fitted.asks_usage:  # packed, it could not be taken out again
        kept = [header for header in kept if header[0] != b"accept-encoding"]
    head = upstream_head(request.method, path, provider.host, kept + auth, len(content) if has_length else None)
    may_lose_fields = (
        not strict
        and call.surface.kind is Kind.OPENAI
        and not call.is_multipart
        and needs_model(call.surface.endpoint)  # of other endpoints it is not known what their fields mean
    )
    return Outgoing(
        head, content, fitted.dropped, fitted.asks_usage, may_lose_fields, fitted.content if is_packed else content
    )


def _fit_body(call: Call, request: Request, target: Target, fit: Fit | None) -> _Fitted:
    content = request.body if call.plain is None else call.plain
    if target.model != call.model:
        if call.is_multipart:
            media_type = find(request.headers, b"content-type") or b""
            return _Fitted(multipart.with_model(content, media_type, target.model))
        content = body.with_model(content, target.model)
    if fit is None or call.is_multipart:
        return _Fitted(content)
    entry = target.provider.entry
    dropped: tuple[str, ...] = ()
    if entry.drops or entry.message_drops or entry.renames:
        content, dropped = _without(content, entry.drops, entry.message_drops, entry.renames)
    if fit is not AS_IT_IS:
        content, more = _without(content, fit.drops, fit.message_drops, fit.renames)
        dropped += more
    if _tells_usage_on_request(call, entry, fit):
        asked = asking(content)
        return _Fitted(asked, dropped, asked is not content)
    return _Fitted(content, dropped)


def _without(
    content: bytes, fields: Collection[str], message_fields: Collection[str], renames: Mapping[str, str]
) -> tuple[bytes, tuple[str, ...]]:
    content, dropped = body.without(content, fields, renames)
    if not message_fields:
        return content, dropped
    content, within = body.without_in_messages(content, message_fields)
    return content, dropped + tuple(f"messages[].{name}" for name in within)


def _tells_usage_on_request(call: Call, entry: CatalogProvider, fit: Fit) -> bool:
    envelope = call.envelope
    return (
        envelope.stream
        and not envelope.include_usage
        and entry.usage_in_stream == "on_request"
        and call.surface.endpoint in _STREAMING
        and _OPTIONS not in fit.drops
        and _OPTIONS not in entry.drops
    )


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
