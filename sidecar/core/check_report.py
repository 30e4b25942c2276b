"""What a configuration amounts to, in words: who is called with which key, and every limit with where it came from;
the chain of each model, target by target; and what is allowed but hardly meant.

The text of `sidecar check` (acceptance A24: a limit that is silently inert is worse than none).
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from sidecar.core.config import Config, KeyConfig, ProviderConfig
from sidecar.core.effective import AXES, effective
from sidecar.core.snapshot import Provider, Snapshot, Target
from sidecar.core.units import format_duration


def report(snapshot: Snapshot) -> Iterator[str]:
    """The lines of the report."""
    config = snapshot.config
    yield "listen   " + ", ".join(f"http://{address}/v1" for address in config.listen)
    yield f"admin    http://{config.admin}"
    yield from _serving(config)
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
            for at, target in enumerate(chain):
                yield f"  {'then' if at else 'first'}{'' if at == 0 else ' '}  {target}   {_reach(target)}"


def notes(snapshot: Snapshot) -> Iterator[str]:
    """What is valid, and yet does nothing or not what its writer expects."""
    chained = {target for chain in snapshot.chains.values() for target in chain}
    for name, chain in snapshot.chains.items():
        if not any(key.is_present for target in chain for key in target.provider.keys):
            yield f"model {name}: no key of any of its providers is there; requests for it get 503"
    for place, provider in enumerate(snapshot.providers.values()):
        models = {target.model for target in chained if target.provider is provider}
        is_listed = provider.name in snapshot.catalog.providers
        if not models and not is_listed and provider is not snapshot.first:
            name = provider.name
            yield f"providers[{place}]: {name} is in no chain; only who asks for `{name}/MODEL` gets there"
        known = models | set(snapshot.catalog.ids_of(provider.name))
        for index, limit in enumerate(provider.limits):
            # a model that nobody lists may be asked for by its name all the same
            if limit.model != "*" and not any(fnmatchcase(model, limit.model) for model in known):
                yield (
                    f"providers[{place}].limits[{index}]: no chain names a model {limit.model!r} of {provider.name} "
                    "and the catalog lists none; the limit holds for requests that name it"
                )


def _serving(config: Config) -> Iterator[str]:
    if config.wait.max_ns:
        held = f"up to {format_duration(config.wait.max_ns)} in line for quota, at most {config.wait.queue} at once"
        yield f"wait     {held}; then 429 with Retry-After"
    else:
        yield "wait     not at all: 429 with Retry-After as soon as no target admits"
    most = config.retry.attempts
    yield f"retry    at most {most} attempts for each request, over all targets"
    yield f"state    {config.state.path or 'in memory: what was used is forgotten at a restart'}"
    count = len(config.auth.tokens)
    yield f"callers  {f'need one of {count} tokens' if count else 'whoever reaches the port'}"


def _reach(target: Target) -> str:
    """With which keys a target can be called."""
    keys = target.provider.keys
    present = [key for key in keys if key.is_present]
    if not present:
        return "NO KEY: passed over"
    accounts = len({key.account for key in present})
    if present[0].secret is None:
        return "needs no key"
    return f"{len(present)} of {len(keys)} keys, {accounts} account{'s' if accounts > 1 else ''}"


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
