"""The network part of `sidecar doctor`: looks names up, dials, shakes hands, asks for model lists; judges nothing.

So many at once and no more, each with a patience of its own. Names go to both resolvers, for a request may meet either;
connections go to the addresses that were found. A key goes into the one request for its provider's model list, and
nowhere else. No proxy is asked, for sidecar asks none.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import socket
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from sidecar.core.limits import SECOND
from sidecar.core.measured import (
    ConnectFacts,
    KeyFacts,
    ListRequest,
    NameFacts,
    ProviderFacts,
    TlsFacts,
    list_request,
    model_ids,
)
from sidecar.core.snapshot import Key, Provider
from sidecar.upstream.lookup import Address, Lookup

_AT_ONCE = 8
_MOST_ADDRESSES = 4
_LONGEST_LIST = 8 << 20  # bytes; OpenRouter's has half a MiB

Lookups = Mapping[str, Lookup]
"""The resolvers by name."""


class Means(NamedTuple):
    """What is measured with. `patience_s`: for each step."""

    lookups: Lookups
    tls: ssl.SSLContext
    patience_s: float = 5.0


class Way(NamedTuple):
    """What was found on the way to a provider, and the addresses that answer."""

    facts: ProviderFacts
    addresses: list[Address]


class _Found(AbstractResolver):
    """The addresses that were found already, for aiohttp."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Them, whatever the name."""
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=each, proto=0, flags=socket.AI_NUMERICHOST)
            for each, ip in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Prober:
    """Measures providers and keys."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def way(self, provider: Provider) -> Way:
        """Name, connection and certificate of a provider."""
        async with self._turn:
            origin = provider.origin
            names, addresses = await self._names(origin.host)
            facts = ProviderFacts(provider.name, origin.host, origin.port, names)
            connects = await asyncio.gather(*(self._connect(each, origin.port) for each in addresses))
            answering = [each for each, found in zip(addresses, connects, strict=True) if not found.error]
            facts = facts._replace(connects=tuple(connects))
            if answering and origin.scheme == "https":
                facts = facts._replace(tls=await self._handshake(answering[0], origin.host, origin.port))
            is_open = facts.tls is None or not (facts.tls.error or facts.tls.code)
            return Way(facts, answering if is_open else [])

    async def key(self, provider: Provider, key: Key, source: str, way: Way) -> KeyFacts:
        """What the model list says to a key."""
        facts = KeyFacts(provider.name, key.name, source, key.is_present)
        if not key.is_present or not way.addresses:
            return facts
        async with self._turn:
            facts = await self._ask(provider, list_request(provider, key), facts, way.addresses)
            if facts.status == 200 and key.secret is not None:
                anybody = await self._ask(provider, list_request(provider, None), facts, way.addresses)
                facts = facts._replace(is_public=anybody.status == 200)
            return facts

    async def _names(self, host: str) -> tuple[tuple[NameFacts, ...], list[Address]]:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            return (), [(int(family), host)]
        lookups = self._means.lookups
        answers = await asyncio.gather(*(self._look_up(lookup, host) for lookup in lookups.values()))
        names = tuple(
            NameFacts(name, tuple(ip for _, ip in addresses), error)
            for name, (addresses, error) in zip(lookups, answers, strict=True)
        )
        found = dict.fromkeys(address for addresses, _ in answers for address in addresses)
        return names, list(found)[:_MOST_ADDRESSES]

    async def _look_up(self, lookup: Lookup, host: str) -> tuple[list[Address], str]:
        try:
            async with asyncio.timeout(self._means.patience_s):
                return (await lookup(host)).addresses, ""
        except TimeoutError:
            return [], f"no answer in {self._means.patience_s:g} s"
        except OSError as error:
            return [], _why(error)

    async def _connect(self, address: Address, port: int) -> ConnectFacts:
        try:
            async with asyncio.timeout(self._means.patience_s):
                _, writer = await asyncio.open_connection(address[1], port)
        except TimeoutError:
            return ConnectFacts(address[1], f"no answer in {self._means.patience_s:g} s")
        except OSError as error:
            return ConnectFacts(address[1], _why(error))
        writer.transport.abort()
        return ConnectFacts(address[1])

    async def _handshake(self, address: Address, host: str, port: int) -> TlsFacts:
        try:
            async with asyncio.timeout(self._means.patience_s):
                _, writer = await asyncio.open_connection(address[1], port, ssl=self._means.tls, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            return TlsFacts(code=error.verify_code, error=error.verify_message)
        except TimeoutError:
            return TlsFacts(error=f"no answer in {self._means.patience_s:g} s")
        except OSError as error:
            return TlsFacts(error=_why(error))
        certificate = writer.get_extra_info("ssl_object").getpeercert()
        writer.transport.abort()
        ends_s = ssl.cert_time_to_seconds(certificate["notAfter"])
        return TlsFacts(ends_ns=int(ends_s) * SECOND)

    async def _ask(
        self, provider: Provider, wanted: ListRequest, facts: KeyFacts, addresses: list[Address]
    ) -> KeyFacts:
        origin = provider.origin
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        url = URL(f"{origin.scheme}://{host}:{origin.port}{wanted.path}", encoded=True)
        headers = {name.decode(): value.decode() for name, value in wanted.headers}
        timeout = aiohttp.ClientTimeout(self._means.patience_s)
        connector = aiohttp.TCPConnector(ssl=self._means.tls, resolver=_Found(addresses), force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as client,
                client.get(url, headers=headers, allow_redirects=False) as answer,
            ):
                offset_ns = _offset_ns(answer.headers.get("date"))
                body = await answer.content.read(_LONGEST_LIST) if answer.status == 200 else b""
                while answer.status == 200 and len(body) < _LONGEST_LIST and (more := await answer.content.readany()):
                    body += more
        except TimeoutError:
            return facts._replace(error=f"no answer in {self._means.patience_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return facts._replace(error=type(error).__name__)  # its text may hold what was sent
        return facts._replace(status=answer.status, models=model_ids(body), offset_ns=offset_ns)


def _offset_ns(date: str | None) -> int | None:
    """Our time less the one in a `Date` header, whose seconds are cut off."""
    try:
        told = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return None
    return time.time_ns() - int((told + 0.5) * SECOND)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)
