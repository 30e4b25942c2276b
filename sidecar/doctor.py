"""`sidecar doctor`: measures everything a request will meet, and prints what that means and what to do.

Tokens are not spent: keys are tried at their provider's model list. Exit codes: 0 when nothing is broken (there may be
warnings), 1 when something is, 64 for a configuration that cannot be read.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException

import click
import msgspec

from sidecar.app import Prepared, Source, prepare
from sidecar.catalog_file import read_catalog
from sidecar.core.check_report import source_of
from sidecar.core.config import Address, Config, KeyConfig, TokenRef
from sidecar.core.diagnosis import diagnose, is_broken, lines
from sidecar.core.measured import Facts, FileFacts, KeyFacts, PortFacts, ProviderFacts, ProxyFacts
from sidecar.core.snapshot import Key, Provider, Snapshot
from sidecar.edge.listening import CannotListen, open_sockets
from sidecar.probing import Means, Prober
from sidecar.serving import OK, USAGE, complain, environment
from sidecar.upstream.cares import Cares
from sidecar.upstream.lookup import Answer, Lookup, in_hosts, system_lookup
from sidecar.upstream.tls import client_context

BROKEN = 1
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_LOCAL = frozenset({"127.0.0.1", "localhost", "*"})
_PATIENCE_S = 2
_OURS = frozenset({"unknown_path", "invalid_api_key", "forbidden_host"})  # codes a sidecar answers `GET /` with


def examine(path: str | None, as_json: bool) -> int:
    """Examine the configuration at `path` (None: the environment's) and all it depends on; the exit code."""
    environ = environment()
    prepared = prepare(Source(path, environ), read_catalog(), time.time_ns())
    if isinstance(prepared, list):
        complain(prepared)
        return USAGE
    findings = diagnose(asyncio.run(measure(prepared, environ)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"findings": findings}), indent=2).decode())
    else:
        for line in lines(findings):
            click.echo(line)
    return BROKEN if is_broken(findings) else OK


async def measure(prepared: Prepared, environ: Mapping[str, str], means: Means | None = None) -> Facts:
    """Everything there is to measure."""
    config, snapshot = prepared.config, prepared.snapshot
    ways, keys = await _network(prepared, means)
    chains = snapshot.chains.values()
    return Facts(
        now_ns=time.time_ns(),
        providers=ways,
        keys=keys,
        ports=[port for field, address in _addresses(config) if (port := _port(field, address)) is not None],
        files=list(_files(config)),
        proxy=_proxies(environ),
        targets=[(target.provider.name, target.model) for chain in chains for target in chain],
        warnings=[each for each in prepared.warnings if "keys[" not in each],  # of keys tells their own finding
    )


async def _network(prepared: Prepared, means: Means | None) -> tuple[list[ProviderFacts], list[KeyFacts]]:
    cares = None
    if means is None:
        lookups: dict[str, Lookup] = {"the system": system_lookup}
        if prepared.config.dns.resolver == "auto":
            cares = Cares()
            lookups["c-ares"] = _absolute(cares)
        means = Means(lookups, client_context())
    prober = Prober(means)
    try:
        providers = list(prepared.snapshot.providers.values())
        ways = await asyncio.gather(*(prober.way(provider) for provider in providers))
        asked = [
            prober.key(provider, key, source, way)
            for provider, way in zip(providers, ways, strict=True)
            for key, source in _sources(provider, prepared.snapshot)
        ]
        return [way.facts for way in ways], list(await asyncio.gather(*asked))
    finally:
        if cares is not None:
            await cares.close()


def _absolute(lookup: Lookup) -> Lookup:
    """As the proxy asks c-ares: for absolute names; what stands in /etc/hosts, and short names, are the system's."""

    async def look_up(host: str) -> Answer:
        if "." not in host or in_hosts(host):
            return await system_lookup(host)
        return await lookup(host.rstrip(".") + ".")

    return look_up


def _sources(provider: Provider, snapshot: Snapshot) -> Iterator[tuple[Key, str]]:
    configured = next(each for each in snapshot.config.providers if each.name == provider.name)
    sources = {key.name: source_of(key) for key in configured.keys}
    for key in provider.keys:
        yield key, sources.get(key.name, "needs no key")


def _addresses(config: Config) -> Iterator[tuple[str, Address]]:
    for address in (*config.listen, config.admin):
        if address.port:
            yield ("admin" if address is config.admin else "listen"), address


def _port(field: str, address: Address) -> PortFacts | None:
    """Who has an address; None where this machine does not have it and may do without."""
    try:
        bound = open_sockets([address])
    except CannotListen as error:
        if not isinstance(error.__cause__, OSError) or "another process" not in str(error):
            return PortFacts(field, str(address), "refused", str(error.__cause__))
        return PortFacts(field, str(address), "sidecar" if _is_sidecar(address) else "taken")
    for each in bound:
        each.close()
    return PortFacts(field, str(address), "free") if bound else None


def _is_sidecar(address: Address) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    connection = HTTPConnection(host, address.port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/")
        with connection.getresponse() as response:
            return json.loads(response.read(1 << 16))["error"]["code"] in _OURS
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()


def _files(config: Config) -> Iterator[FileFacts]:
    credentials: list[tuple[str, KeyConfig | TokenRef]] = [
        (f"key {provider.name}/{key.name}", key) for provider in config.providers for key in provider.keys
    ]
    credentials += [("a token of auth.tokens", token) for token in config.auth.tokens]
    for whose, each in credentials:
        if each.file is not None:
            try:
                mode = stat.S_IMODE(os.stat(each.file).st_mode)
            except OSError:
                continue  # that it is missing says the key itself
            yield FileFacts(each.file, whose, mode)


def _proxies(environ: Mapping[str, str]) -> ProxyFacts:
    """The proxy variables by name: their values may hold passwords."""
    names = tuple(name for each in _PROXIES for name in (each, each.lower()) if environ.get(name))
    spared = {host.strip() for name in ("NO_PROXY", "no_proxy") for host in environ.get(name, "").split(",")}
    return ProxyFacts(names, bool(spared & _LOCAL))
