"""Which requests the cache is asked about, and under which key (acceptance J1, design section 6, Cache).

The key is a SHA-256 over everything that can make a difference to the answer: whose the request is, where it goes,
the path and query, headers in which a provider takes options, and the whole body but for a short list of members that
do not. White space and the order of top-level members count for nothing; every other byte of the body does, so that
numbers, escapes and unknown members are never mistaken for one another. A body that a strict parser does not take, or
that has a member twice, is not cached, and neither is a request that creates something, or builds on what was
created.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from sidecar.core.cache_shapes import Shape, is_convertible, shape_of
from sidecar.core.call import Call
from sidecar.core.http import Request, find
from sidecar.core.multipart import fields
from sidecar.core.routing import Route

_VERSION = b"1"  # of the key and of what is kept under it
# what changes how an answer is told or accounted for, not what it says; a true `store` is not cached at all
IGNORED = frozenset({"stream", "stream_options", "user", "safety_identifier", "prompt_cache_key", "store"})
_OPTION_HEADERS = (b"anthropic-", b"openai-beta", b"groq-")
# who searches the web finds something else tomorrow
_VOLATILE = ("web_search_options", "search_parameters", "plugins")
_RARE = frozenset({"store", "background", *_VOLATILE})
_DETERMINISTIC = frozenset({Shape.EMBEDDINGS, Shape.TRANSCRIPTIONS, Shape.TRANSLATIONS})
_FALSE = (b"false", b"null")
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_Members = dict[str, msgspec.Raw]


class Lookup(NamedTuple):
    """What a request asks of the cache.

    `flight`: requests for which this is equal as well get the very same bytes. `may_read`: what is kept may answer it,
    unless it is older than `max_age_ns` (None: than the configuration says).
    """

    shape: Shape
    key: bytes
    flight: tuple[bytes, bool, bool, bytes, int | None]
    may_read: bool
    max_age_ns: int | None
    is_streamed: bool
    includes_usage: bool


def lookup(call: Call, request: Request, owner: bytes, only_deterministic: bool) -> Lookup | None:
    """What to look up for a request; None: it is none of the cache's business. `owner`: see `owner_of`."""
    shape = shape_of(call.surface) if request.method == b"POST" else None
    wishes, envelope = call.controls, call.envelope
    if shape is None or wishes.no_store or wishes.cache == "off" or envelope.references:
        return None
    if only_deterministic and wishes.cache == "on":
        only_deterministic = False
    if call.is_multipart:
        content = _form(request) if shape in _DETERMINISTIC else None
    else:
        content = _object(request.body, call, shape, only_deterministic)
    if content is None:
        return None
    streams, options = envelope.stream, envelope.include_usage is True
    surface = call.surface
    words = [_VERSION, owner, surface.provider.encode(), surface.path, surface.query]
    words.append(b"%d%d" % (wishes.fallback, streams and not is_convertible(shape)))
    words += [b"%b:%b" % header for header in request.headers if header[0].startswith(_OPTION_HEADERS)]
    words.append(b"")
    key = hashlib.sha256(b"\n".join(words + content)).digest()
    packing = find(request.headers, b"accept-encoding") or b""
    reads = not (wishes.no_cache or wishes.cache == "refresh" or wishes.max_age_ns == 0)
    flight = (key, streams, options, packing, wishes.max_wait_ns)
    return Lookup(shape, key, flight, reads, wishes.max_age_ns, streams, options)


def owner_of(tenant: bytes, route: Route) -> bytes:
    """Whose a request is and where it may go, as a part of the key: the caller's token (its digest; empty where none is
    asked for), and the chain of targets by provider, address and model, or the one key it is bound to."""
    words = [tenant.hex(), "" if route.key is None else route.key.ident]
    for target in route.targets:
        words += (target.provider.name, target.provider.url, target.model)
    return hashlib.sha256("\n".join(words).encode()).digest().hex().encode()


def _object(body: bytes, call: Call, shape: Shape, only_deterministic: bool) -> list[bytes] | None:
    """The members of a JSON body in the order of their names, or None where it is not to be cached."""
    try:
        text = msgspec.json.format(body, indent=-1)
        members = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Less than all of it: a member stands there twice, or its name is written with escapes.
    if 1 + 4 * len(members) + sum(map(len, members)) + sum(map(len, members.values())) != len(text):
        return None
    if shape is Shape.RESPONSES and "store" not in members:
        return None  # the Responses API stores unless told not to
    if not _RARE.isdisjoint(members) and _is_never_the_same(members, only_deterministic):
        return None
    if only_deterministic and not (shape in _DETERMINISTIC or _is_deterministic(members, call)):
        return None
    return [b"%b:%b" % (name.encode(), members[name]) for name in sorted(members) if name not in IGNORED]


def _is_never_the_same(members: _Members, only_deterministic: bool) -> bool:
    """Whether the request makes something (what is stored is a thing of its own), or looks elsewhere."""
    if _is_set(members, "store") or _is_set(members, "background"):
        return True
    return only_deterministic and any(_is_set(members, name) for name in _VOLATILE)


def _is_deterministic(members: _Members, call: Call) -> bool:
    try:
        return call.envelope.n <= 1 and float(bytes(members.get("temperature", b"1"))) == 0
    except ValueError:
        return False


def _is_set(members: _Members, name: str) -> bool:
    value = members.get(name)
    return value is not None and bytes(value) not in _FALSE


def _form(request: Request) -> list[bytes] | None:
    """The parts of a form in their order, without the boundary, which is another one each time."""
    parts = fields(request.body, find(request.headers, b"content-type") or b"")
    if parts is None:
        return None
    kept = [part for part in parts if part[0] not in (b"stream", b"user")]
    return [b"%d %d\n%b\n%b" % (len(head), len(content), head, content) for _, head, content in kept]
