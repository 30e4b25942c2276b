"""What a configuration amounts to, in words: who is called with which key, and every limit with where it came from.

The text of `sidecar check` (acceptance A24: a limit that is silently inert is worse than none).
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.core.config import KeyConfig, ProviderConfig
from sidecar.core.effective import AXES, effective
from sidecar.core.snapshot import Provider, Snapshot


def report(snapshot: Snapshot) -> Iterator[str]:
    """The lines of the report."""
    config = snapshot.config
    yield "listen   " + ", ".join(f"http://{address}/v1" for address in config.listen)
    yield f"admin    http://{config.admin}"
    for place, (each, provider) in enumerate(zip(config.providers, snapshot.providers.values(), strict=True)):
        yield ""
        yield f"provider {provider.name}   {provider.url}"
        yield f"  speaks {provider.dialect}; limits are {'learned as well' if provider.learns else 'taken as given'}"
        yield from _keys(each, provider)
        if provider.entry.concurrency is not None:
            most = provider.entry.concurrency
            yield f"  limit  each account x model   concurrency {most}   from the catalog, where none is configured"
        yield from _limits(snapshot, place, provider)
    if config.models:
        yield ""
        for name, chain in snapshot.chains.items():
            yield f"model    {name} -> " + " -> ".join(str(target) for target in chain)


def _keys(config: ProviderConfig, provider: Provider) -> Iterator[str]:
    sources = {key.name: source_of(key) for key in config.keys}
    for key in provider.keys:
        state = "present" if key.is_present else "MISSING"
        source = sources.get(key.name, "needs no key")
        yield f"  key    {key.name}   account {key.account.partition('/')[2]}   {source}   {state}"


def source_of(key: KeyConfig) -> str:
    """Where a key comes from: `env NAME` or `file PATH`."""
    return f"env {key.env}" if key.env is not None else f"file {key.file}"


def _limits(snapshot: Snapshot, place: int, provider: Provider) -> Iterator[str]:
    accounts = dict.fromkeys(key.account.partition("/")[2] for key in provider.keys)
    models = dict.fromkeys(limit.model for limit in provider.limits)
    for chain in snapshot.chains.values():
        models.update((target.model, None) for target in chain if target.provider is provider)
    if not provider.limits:
        yield "  limit  none configured: learned from headers and errors" if provider.learns else "  limit  none"
        return
    for account in accounts:
        for model in models:
            applied = effective(provider.limits, account, model)
            if not applied.values:
                yield f"  limit  {account} x {model}   none configured"
            for field, (limit, index) in applied.values.items():
                counted = f"   counted by {_algorithm(provider, field)}" if field in AXES else ""
                shared = f"   shared by pool {applied.pool}" if applied.pool else ""
                source = f"from providers[{place}].limits[{index}]"
                yield f"  limit  {account} x {model}   {field} {limit}   {source}{counted}{shared}"


def _algorithm(provider: Provider, field: str) -> str:
    counts = next((counted for name, counted in provider.entry.windows.items() if name == field), "sliding")
    return counts.replace("_", " ")
