"""Where the shared ledger is, read from `share.url`.

`redis://HOST:PORT/DB`, the same with `rediss` for TLS, `unix:///PATH?db=DB`; with `+sentinel` several hosts and the
name of the service (`redis+sentinel://A:26379,B:26379/SERVICE/DB`), with `+cluster` several hosts
(`redis+cluster://A,B`). A user may stand before the hosts; a password may not, since this text is shown to operators.
Refuses to know the client.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

GRAMMAR = "redis://HOST:PORT, rediss://, unix:///PATH, redis+sentinel://HOST,HOST/SERVICE or redis+cluster://HOST,HOST"

_URL = re.compile(r"(rediss?)(\+sentinel|\+cluster)?://(?:([^@/:\s]*)@)?([^/\s@?#]+)((?:/[^/\s?#]*){0,2})")
_UNIX = re.compile(r"unix://(?:([^@/:\s]*)@)?(/[^\s?#]+)(?:\?db=([0-9]{1,5}))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_PORTS = {"": 6379, "+sentinel": 26379, "+cluster": 6379}


class StoreUrl(NamedTuple):
    """`kind`: "", "+sentinel" or "+cluster"; `path`: of a Unix socket, else ""; `service`: Sentinel's name for it."""

    kind: str
    is_tls: bool
    user: str | None
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    db: int


def parse(text: str) -> StoreUrl | None:
    """What a URL says; None: it is none of these forms."""
    if (unix := _UNIX.fullmatch(text)) is not None:
        user, path, number = unix.groups()
        return StoreUrl("", False, unquote(user) if user else None, (), unquote(path), "", int(number or 0))
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, kind, user, places, tail = match.groups()
    kind = kind or ""
    hosts = _hosts(places, _PORTS[kind])
    parts = [part for part in tail.split("/") if part]
    service = parts.pop(0) if kind == "+sentinel" and parts else ""
    if not hosts or (kind == "+sentinel") != bool(service) or (not kind and len(hosts) > 1) or len(parts) > 1:
        return None
    if parts and (kind == "+cluster" or not re.fullmatch(r"[0-9]{1,5}", parts[0])):
        return None
    return StoreUrl(
        kind, scheme == "rediss", unquote(user) if user else None, hosts, "", service, int(parts[0]) if parts else 0
    )


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    found = [_HOST.fullmatch(each) for each in text.split(",")]
    hosts = tuple((match[1].strip("[]"), int(match[2] or port)) for match in found if match is not None)
    return hosts if len(hosts) == len(found) and all(0 < number < 65536 for _, number in hosts) else ()
