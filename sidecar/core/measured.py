"""What `sidecar doctor` measures, as values: names, connections, certificates, keys, ports, files, variables.

And what it asks a provider: its model list, which costs no tokens anywhere. No value here holds a key but the headers
of that one request. What the facts mean decides diagnosis.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from sidecar.core.http import Header
from sidecar.core.model_list import listed
from sidecar.core.snapshot import Key, Provider

_ANTHROPIC_VERSION = (b"anthropic-version", b"2023-06-01")  # Anthropic API reference, "Versions": required


class NameFacts(NamedTuple):
    """One lookup of a host. `error`: why it has no addresses."""

    resolver: str
    addresses: tuple[str, ...]
    error: str = ""


class ConnectFacts(NamedTuple):
    """One address that was dialled. `error`: why it does not answer."""

    address: str
    error: str = ""


class TlsFacts(NamedTuple):
    """A handshake. `code`: OpenSSL's verification error; `error`: what else went wrong; `ends_ns`: of the leaf."""

    ends_ns: int | None = None
    code: int | None = None
    error: str = ""


class ProviderFacts(NamedTuple):
    """What was found on the way to a provider; what could not be reached any more is empty or None."""

    name: str
    host: str
    port: int
    names: tuple[NameFacts, ...] = ()
    connects: tuple[ConnectFacts, ...] = ()
    tls: TlsFacts | None = None


class KeyFacts(NamedTuple):
    """What the model list said to a key. `source`: where the key is from (`env X`, `file Y`); `is_public`: whether the
    same list is told without any key. `offset_ns`: our time less the provider's `Date`."""

    provider: str
    name: str
    source: str
    is_present: bool = True
    status: int | None = None
    error: str = ""
    models: tuple[str, ...] = ()
    is_public: bool = False
    offset_ns: int | None = None


class PortFacts(NamedTuple):
    """An address to listen at. `state`: who has it."""

    field: str  # listen or admin
    address: str
    state: Literal["free", "sidecar", "taken", "refused"]
    error: str = ""


class FileFacts(NamedTuple):
    """A file that holds a credential. `mode`: its permission bits."""

    path: str
    whose: str
    mode: int


class ProxyFacts(NamedTuple):
    """The proxy variables that are set, by name. `spares_loopback`: no_proxy names 127.0.0.1 or localhost."""

    names: tuple[str, ...]
    spares_loopback: bool


class Facts(NamedTuple):
    """All that was measured. `targets`: the (provider, model) of the configured chains."""

    now_ns: int
    providers: Sequence[ProviderFacts]
    keys: Sequence[KeyFacts]
    ports: Sequence[PortFacts]
    files: Sequence[FileFacts]
    proxy: ProxyFacts
    targets: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()  # of the configuration


class ListRequest(NamedTuple):
    """The request for a provider's model list. `headers` carry the key, where one is given."""

    path: str  # with its query
    headers: list[Header]


class _Paged(msgspec.Struct):
    has_more: bool = False


def list_request(provider: Provider, key: Key | None) -> ListRequest:
    """What is asked of a provider about a key; None: without any. The key goes as its own API takes it."""
    path = f"{provider.base_path.decode()}/models"
    auth = provider.entry.native_surface(path).auth if provider.entry.native else provider.entry.auth
    headers: list[Header] = [(b"accept", b"application/json")]
    if key is not None:
        headers += key.auth(auth)
    if provider.dialect == "anthropic":
        return ListRequest(f"{path}?limit=1000", [*headers, _ANTHROPIC_VERSION])
    return ListRequest(path, headers)


def model_ids(body: bytes) -> tuple[str, ...]:
    """The ids in a whole model list; none where it is no list, or only a page of one."""
    try:
        if not body.lstrip().startswith(b"[") and msgspec.json.decode(body, type=_Paged).has_more:
            return ()
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return ()
    return tuple(name for name, _ in listed(body) or () if name)
