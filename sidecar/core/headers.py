"""Which headers pass, in both directions, and the head of a request as it goes on the wire.

Everything passes but what is hop-by-hop (RFC 9110, 7.6.1), what frames the message, credentials and cookies, and our
own `x-sidecar-*`. Nothing a caller sends speaks for the operator: no second Host or Content-Length, no other key beside
the operator's, no line smuggled into a value. Knows no provider; how a key is sent is the catalog's to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from sidecar.core.errors import Reason, Refusal
from sidecar.core.http import Header
from sidecar.core.limits import SECOND
from sidecar.core.units import DURATION_GRAMMAR, parse_duration

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"cookie2"})
# the operator's account is the key's own, not the caller's
_ACCOUNT: Final = frozenset({b"openai-organization", b"openai-project"})
# `cache-control` speaks to the cache here (design section 3)
_OURS: Final = frozenset(
    {b"cache-control", b"x-sidecar-cache", b"x-sidecar-fallback", b"x-sidecar-max-wait", b"x-sidecar-key"}
)
_REQUEST = _HOP_BY_HOP | _CREDENTIALS | _ACCOUNT | _OURS | {b"host", b"content-length", b"expect"}
_RESPONSE = _HOP_BY_HOP | {b"content-length", b"set-cookie", b"set-cookie2", b"alt-svc", b"strict-transport-security"}
_DROPPED_PREFIXES: Final = (b"x-sidecar-", b"proxy-")
# names that `Connection` holds without naming a header of this message
_PLAIN_CONNECTION: Final = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close", b""})

# a body of length 0 is announced where the method gives it a meaning (RFC 9110, 8.6)
_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})

_CACHE: Final = frozenset({"on", "off", "refresh"})
_MAX_AGE: Final = re.compile(r'max-age="?([0-9]{1,9})"?')

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_LINE: Final = re.compile(_TOKEN + rb": [^\r\n\0]*+\r\n")
_LINES: Final = re.compile(rb"(?:" + _LINE.pattern + rb")*+")
_REQUEST_LINE: Final = re.compile(_TOKEN + rb" /[!-~]*+ HTTP/1\.1\r\nhost: [!-~]++\r\n")


class Controls(NamedTuple):
    """What a caller asks of this proxy itself. `max_wait_ns`: how long the request may be held; None: as configured.

    `key`: the label of the only key that may serve. `no_store`, `no_cache`, `max_age_ns`: Cache-Control of the request
    (RFC 9111 5.2.1); `cache`: on (also for answers that may differ), off, refresh.
    """

    fallback: bool = True
    max_wait_ns: int | None = None
    key: str | None = None
    no_store: bool = False
    no_cache: bool = False
    max_age_ns: int | None = None
    cache: str | None = None


_NO_WISHES: Final = Controls()


def request_headers(headers: list[Header], credentials: Collection[bytes] = ()) -> list[Header]:
    """The headers of a request that a provider may see. `credentials`: names in which that provider's key is sent."""
    kept = [header for header in headers if header[0] not in _REQUEST and not header[0].startswith(_DROPPED_PREFIXES)]
    return _without(kept, [*_named_by_connection(headers), *credentials])


def response_headers(headers: list[Header], secrets: Sequence[bytes]) -> list[Header]:
    """The headers of an answer that a caller may see; none whose value holds one of the secrets."""
    kept = [header for header in headers if not is_withheld(header[0])]
    kept = _without(kept, _named_by_connection(headers))
    if secrets:
        text = b"\n".join([value for _, value in kept])
        for secret in secrets:
            if secret and secret in text:
                kept = [header for header in kept if secret not in header[1]]
    return kept


def is_withheld(name: bytes) -> bool:
    """Whether a header of an answer never passes: it is for this hop, for browsers, or ours to set."""
    return name in _RESPONSE or name.startswith(_DROPPED_PREFIXES)


def upstream_head(method: bytes, path: bytes, host: bytes, headers: list[Header], length: int | None) -> bytes:
    """The head of a request in HTTP/1.1, with the empty line.

    `headers` have passed `request_headers` and hold the operator's own besides; one that is not a line of its own is
    left out. `length` of the body in bytes, None where there is none. ValueError when the request line is malformed.
    """
    return request_line(method, path, host) + header_lines(headers) + ending(method, length)


def request_line(method: bytes, path: bytes, host: bytes) -> bytes:
    """The first line of a request, and the host. ValueError when it is malformed."""
    start = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, path, host)
    if not _REQUEST_LINE.fullmatch(start):
        raise ValueError("the method, path or host is no part of a request line")
    return start


def header_lines(headers: list[Header]) -> bytes:
    """These headers as lines; one that is not a line of its own is left out."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if not _LINES.fullmatch(lines) or lines.count(b"\n") != len(headers):
        return b"".join([line for line in (b"%b: %b\r\n" % header for header in headers) if _LINE.fullmatch(line)])
    return lines


def ending(method: bytes, length: int | None) -> bytes:
    """The last lines of a request's head: the length of its body in bytes, None where there is none."""
    if length is not None:
        return b"content-length: %d\r\n\r\n" % length
    return b"content-length: 0\r\n\r\n" if method in _WITH_BODY else b"\r\n"


def controls(headers: list[Header]) -> Controls | Refusal:
    """What the control headers ask; INVALID_HEADER, naming header and value, for one that cannot be understood."""
    said = [header for header in headers if header[0] in _OURS]
    if not said:
        return _NO_WISHES
    wishes = _NO_WISHES
    for name, value in said:
        read = _read(wishes, name, value.decode("ascii", "replace").strip())
        if isinstance(read, str):
            shown = value[:64].decode("ascii", "replace")
            return Refusal(Reason.INVALID_HEADER, f"{name.decode()}: {shown!r} is not {read}.")
        wishes = read
    return wishes


def _read(wishes: Controls, name: bytes, value: str) -> Controls | str:
    """The wishes with one header read into them, or what the header should have been."""
    if name == b"cache-control":
        directives = {directive.strip().lower() for directive in value.split(",")}
        no_store, no_cache = "no-store" in directives, "no-cache" in directives
        return wishes._replace(
            no_store=wishes.no_store or no_store,
            no_cache=wishes.no_cache or no_cache,
            max_age_ns=_max_age_ns(directives, wishes.max_age_ns),
        )
    if name == b"x-sidecar-cache":
        cache = value.lower()
        return wishes._replace(cache=cache) if cache in _CACHE else "'on', 'off' or 'refresh'"
    if name == b"x-sidecar-fallback":
        fallback = {"off": False, "on": True}.get(value.lower())
        return "'off' or 'on'" if fallback is None else wishes._replace(fallback=fallback)
    if name == b"x-sidecar-max-wait":
        max_wait_ns = parse_duration(value)
        return DURATION_GRAMMAR if max_wait_ns is None else wishes._replace(max_wait_ns=max_wait_ns)
    if not value.isprintable() or not value or "\ufffd" in value:
        return "the label of a key"
    return wishes._replace(key=value)


def _max_age_ns(directives: set[str], before: int | None) -> int | None:
    """The least age that was asked for; what is no number of seconds is passed over, as caches do (RFC 9111 5.2)."""
    asked = [] if before is None else [before]
    for directive in directives:
        match = _MAX_AGE.fullmatch(directive)
        if match:
            asked.append(int(match[1]) * SECOND)
    return min(asked, default=None)


def _named_by_connection(headers: list[Header]) -> list[bytes]:
    """The headers that `Connection` says are for this hop alone."""
    values = [value for name, value in headers if name == b"connection" and value not in _PLAIN_CONNECTION]
    return [option.strip().lower() for value in values for option in value.split(b",")]


def _without(headers: list[Header], names: Collection[bytes]) -> list[Header]:
    return [header for header in headers if header[0] not in names] if names else headers
