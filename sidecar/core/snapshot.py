"""Everything one configuration amounts to, compiled once: providers, keys with their headers, chains, limits.

Immutable and swapped whole on reload; a request keeps the one it started with. What changes while serving (quotas,
standings) lives elsewhere and outlives it. Secrets enter here as ready-made header values and never show in a repr.
A key is bound to its provider's scheme, host and port (acceptance G2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sidecar.core.body import Search
from sidecar.core.catalog import Auth, Catalog
from sidecar.core.catalog import Provider as CatalogProvider
from sidecar.core.config import Config, KeyConfig, ProviderConfig
from sidecar.core.effective import AXES, effective
from sidecar.core.http import Header, Origin
from sidecar.core.leased_window import PREFIX
from sidecar.core.limits import SECOND, Source
from sidecar.core.quota import LimitSpec, QuotaSpec
from sidecar.core.secret import Secret
from sidecar.core.terms import Terms
from sidecar.core.windows import Calendar

# How much later than we a provider may count a request: name, TCP, TLS on a cold connection, and a burst's own queue.
# A window of a minute loses less than one in a hundred of its requests to it.
TRANSIT_NS: Final = SECOND // 2
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Key:
    """One operator's key of one provider. `ident` is its scoped name, `account` the scoped account it draws on."""

    __slots__ = ("account", "ident", "is_present", "name", "provider", "secret")

    def __init__(self, provider: str, name: str, account: str | None, secret: Secret | None, is_keyless: bool) -> None:
        self.provider = provider
        self.name = name
        self.ident = f"{provider}/{name}"
        self.account = f"{provider}/{account or name}"
        self.secret = secret
        self.is_present = is_keyless or secret is not None

    def auth(self, auth: Auth) -> list[Header]:
        """The header that carries this key, as `auth` says; none for a provider without keys."""
        if self.secret is None:
            return []
        return [(auth.header.lower().encode("ascii"), f"{auth.prefix}{self.secret.reveal()}".encode("ascii"))]

    @property
    def secret_bytes(self) -> bytes | None:
        """The secret as it may stand in a header, to be looked for where it must not be."""
        return self.secret.reveal().encode("ascii") if self.secret is not None else None

    def fingerprint(self, place: str) -> int:
        """A number that changes with the secret and with where it is sent, and tells nothing of either."""
        text = self.secret.reveal() if self.secret is not None else ""
        return int.from_bytes(hashlib.sha256(f"{text} {place}".encode()).digest()[:8])

    def __repr__(self) -> str:
        return f"<Key {self.ident} {'present' if self.is_present else 'missing'}>"


class Provider:
    """One configured provider: where it is, how it is spoken to, its keys and limits."""

    def __init__(self, config: ProviderConfig, entry: CatalogProvider, keys: tuple[Key, ...]) -> None:
        url = urlsplit(config.base_url or entry.base_url or "")
        host = url.hostname or ""
        port = url.port or _DEFAULT_PORTS[url.scheme]
        self.name = config.name
        self.entry = entry
        self.dialect = config.dialect or entry.dialect
        self.keys = keys
        self.limits = config.limits
        self.learns = config.learn
        self.origin = Origin(url.scheme, host, port)
        self.base_path = url.path.rstrip("/").encode("ascii")
        literal = f"[{host}]" if ":" in host else host
        self.host = (literal if port == _DEFAULT_PORTS[url.scheme] else f"{literal}:{port}").encode("ascii")
        self.auth = {key.ident: key.auth(entry.auth) for key in keys}
        # for what bodies are to be rid of there
        unwanted = (*entry.drops, *entry.renames)
        self.search = Search(unwanted, entry.message_drops) if unwanted or entry.message_drops else None
        self.tells_usage_on_request = entry.usage_in_stream == "on_request" and "stream_options" not in entry.drops

    @property
    def url(self) -> str:
        """Where its OpenAI surface is: the base URL, normalised."""
        return f"{self.origin.scheme}://{self.host.decode()}{self.base_path.decode()}"

    def __repr__(self) -> str:
        return f"<Provider {self.name} at {self.url} {list(self.keys)}>"


class Target(NamedTuple):
    """A model at a provider: `model` is that provider's own id, or "" where the request names none."""

    provider: Provider
    model: str

    def __str__(self) -> str:
        return f"{self.provider.name}/{self.model}" if self.model else self.provider.name


class Snapshot:
    """One configuration, compiled."""

    def __init__(self, config: Config, catalog: Catalog, providers: tuple[Provider, ...], zones: Zones) -> None:
        self.config = config
        self.terms = Terms(config)
        self.catalog = catalog
        self.providers = {provider.name: provider for provider in providers}
        self.names = tuple(self.providers)
        self.first = providers[0]
        self.chains = {model.name: tuple(self._target(entry) for entry in model.chain) for model in config.models}
        self.zones = zones
        self.routes: dict[str, tuple[Target, ...]] = {}  # routing.py's, of models asked for lately
        self._accounts = {key.account for key in self.each_key()}
        chained = {target.model for chain in self.chains.values() for target in chain}
        limited = {limit.model for provider in providers for limit in provider.limits}
        self._known_models = chained | limited | {""}

    def _target(self, entry: str) -> Target:
        name, _, model = entry.partition("/")
        return Target(self.providers[name], model)

    def each_key(self) -> Iterator[Key]:
        """Every key of every provider, in the order of the configuration."""
        for provider in self.providers.values():
            yield from provider.keys

    def quota_spec(self, account: str, model: str) -> QuotaSpec | None:
        """What limits `account` at `model`, by the configuration; None when that account is not configured."""
        name, _, own_name = account.partition("/")
        provider = self.providers.get(name)
        if provider is None or account not in self._accounts:
            return None
        applied = effective(provider.limits, own_name, model)
        share = self.config.share
        prefix = PREFIX if share.url is not None else ""
        algorithms = {AXES[field]: prefix + name for field, name in provider.entry.windows.items()}
        calendar = self.zones.get(provider.entry.timezone)
        specs: list[LimitSpec] = []
        concurrency: int | None = None
        for field, (limit, _) in applied.values.items():
            if field == "concurrency":
                concurrency = limit
                continue
            axis, window_ns = AXES[field]
            algorithm = algorithms.get((axis, window_ns), f"{prefix}sliding")
            specs.append(LimitSpec(axis, window_ns, limit, Source.CONFIG, algorithm, calendar, TRANSIT_NS))
        return QuotaSpec(
            key=f"pool:{applied.pool}" if applied.pool else model,
            specs=tuple(specs),
            concurrency=concurrency,
            algorithms=algorithms,
            calendar=calendar,
            transit_ns=TRANSIT_NS,
            learn=provider.learns,
            rule=provider.entry.charge,
            is_known=self.is_known(model),
            documented=provider.entry.concurrency,
            replicas=share.replicas if share.url is None else 1,
            unknown=f"{prefix}sliding",
        )

    def is_known(self, model: str) -> bool:
        """Whether the configuration or the catalog names that model; others are named by callers alone."""
        return model in self._known_models or model in self.catalog.listed

    def __repr__(self) -> str:
        return f"<Snapshot of {', '.join(self.names)}; {len(self.chains)} models>"


Zones = Mapping[str, Calendar]
Secrets = Mapping[tuple[str, str], Secret | None]


def compile_snapshot(config: Config, catalog: Catalog, secrets: Secrets, zones: Zones) -> Snapshot:
    """Compile a configuration without problems. `secrets` by (provider, key name); a missing one is None."""
    return Snapshot(config, catalog, tuple(_provider(each, catalog, secrets) for each in config.providers), zones)


def _provider(config: ProviderConfig, catalog: Catalog, secrets: Secrets) -> Provider:
    entry = catalog.providers.get(config.name) or CatalogProvider(name=config.name, base_url=config.base_url)
    declared = config.keys or (KeyConfig(name="none"),)
    keys = tuple(
        Key(config.name, key.name, key.account, secrets.get((config.name, key.name)), is_keyless=not config.keys)
        for key in declared
    )
    return Provider(config, entry, keys)
