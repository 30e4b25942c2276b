"""The request as one target gets it: its path, its key, its model name, without the fields it rejects.

Everything else stays byte-identical to what the caller sent.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import quote, unquote

from sidecar.core import body, multipart
from sidecar.core.call import Call
from sidecar.core.headers import request_headers, upstream_head
from sidecar.core.http import Request, find
from sidecar.core.keys import Candidate
from sidecar.core.paths import Endpoint, Kind
from sidecar.core.snapshot import Target


class Outgoing(NamedTuple):
    """What goes on the wire. `dropped` names the fields left out for this target."""

    head: bytes
    body: bytes
    dropped: tuple[str, ...]


def prepare(call: Call, request: Request, candidate: Candidate, strict: bool) -> Outgoing:
    """Fit a request to a candidate. `strict`: fields the target rejects are left in."""
    target = candidate.target
    provider = target.provider
    content = request.body
    dropped: tuple[str, ...] = ()
    if call.surface.kind is Kind.OPENAI and content and call.model is not None:
        content, dropped = _fit_body(call, request, candidate, strict)
    if call.native is not None:
        auth = candidate.key.auth(call.native.auth)
        path = call.surface.path + _without_credentials(call.surface.query, call.native.credentials_in_query)
    else:
        auth = provider.auth[candidate.key.ident]
        path = _path(call, target) + call.surface.query
    # a body, even an empty one that was announced, keeps its length
    has_length = bool(content) or find(request.headers, b"content-length") is not None
    kept = request_headers(request.headers, [name for name, _ in auth])
    head = upstream_head(request.method, path, provider.host, kept + auth, len(content) if has_length else None)
    return Outgoing(head, content, dropped)


def _fit_body(call: Call, request: Request, candidate: Candidate, strict: bool) -> tuple[bytes, tuple[str, ...]]:
    target, content = candidate.target, request.body
    if target.model != call.model:
        if call.is_multipart:
            return multipart.with_model(content, find(request.headers, b"content-type") or b"", target.model), ()
        content = body.with_model(content, target.model)
    entry = target.provider.entry
    if strict or call.is_multipart or not (entry.drops or entry.message_drops or entry.renames):
        return content, ()
    content, dropped = body.without(content, entry.drops, entry.renames)
    content, within = body.without_in_messages(content, entry.message_drops)
    return content, dropped + tuple(f"messages[].{name}" for name in within)


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
