"""Where a request may go: (surface, model, controls) -> the chain of targets, in order (design section 3).

A model is, in this order: a public name of the configuration; an id the catalog lists at a configured provider, then
the same open-weights model at the others; `provider/model-id` for that provider alone; else it goes unchanged to the
first provider. What a key created stays with that key. Nothing a caller sends can name a host.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from sidecar.core.catalog import NativeSurface
from sidecar.core.errors import Reason, Refusal
from sidecar.core.snapshot import Key, Provider, Snapshot, Target

_MOST_ROUTES = 1024  # callers name models at will; those in use are found again at once
_SHOWN = 16  # keys that a message lists: it stays readable with thousands


class Route(NamedTuple):
    """The targets to try in order. `key`: the only key that may serve, where one is forced or owns the object."""

    targets: tuple[Target, ...]
    key: Key | None = None


def route_model(snapshot: Snapshot, model: str) -> tuple[Target, ...]:
    """The chain for a model as a caller names it; never empty."""
    routes = snapshot.routes
    chain = routes.get(model)
    if chain is None:
        chain = _chain(snapshot, model)
        if len(routes) >= _MOST_ROUTES:
            routes.clear()
        routes[model] = chain
    return chain


def _chain(snapshot: Snapshot, model: str) -> tuple[Target, ...]:
    chain = snapshot.chains.get(model)
    if chain is not None:
        return chain
    homes = snapshot.catalog.homes(model, snapshot.names)
    if homes:
        return tuple(Target(snapshot.providers[name], own_id) for name, own_id in homes)
    name, slash, own_id = model.partition("/")
    if slash and own_id and name in snapshot.providers:
        return (Target(snapshot.providers[name], own_id),)
    return (Target(snapshot.first, model),)


def native_provider(snapshot: Snapshot, name: str) -> Provider | Refusal:
    """The provider of a `/p/{provider}/` path."""
    provider = snapshot.providers.get(name)
    if provider is None:
        known = ", ".join(snapshot.names)
        return Refusal(Reason.UNKNOWN_PROVIDER, f"No provider {name[:64]!r} is configured here; there are: {known}.")
    return provider


def pin(snapshot: Snapshot, targets: tuple[Target, ...], label: str, is_native: bool = False) -> Route | Refusal:
    """Only the key called `label` (`team-a` or `groq/team-a`) may serve, at whichever target is its provider's.

    `is_native`: the path is the targets' own, which no other provider has.
    """
    named = [key for key in snapshot.each_key() if label in (key.name, key.ident)]
    if not named:
        return Refusal(Reason.UNKNOWN_KEY, f"x-sidecar-key: no key is called {label[:64]!r}; {_labels(snapshot)}.")
    for target in targets:
        for key in named:
            if key.provider == target.provider.name:
                return Route((target,), key)
    if is_native:
        message = f"x-sidecar-key: no key of {targets[0].provider.name} is called {label[:64]!r}."
        return Refusal(Reason.UNKNOWN_KEY, message)
    if len(named) > 1:
        choices = ", ".join(key.ident for key in named)
        return Refusal(Reason.UNKNOWN_KEY, f"x-sidecar-key: {label[:64]!r} is ambiguous; say one of {choices}.")
    # the label names another provider than the chain does: the model's name is passed on as it is
    return Route((Target(snapshot.providers[named[0].provider], targets[0].model),), named[0])


def _labels(snapshot: Snapshot) -> str:
    """The keys that could have been meant; of very many the first."""
    idents = [key.ident for key in snapshot.each_key()]
    more = f" and {len(idents) - _SHOWN} more" if len(idents) > _SHOWN else ""
    return f"there are: {', '.join(idents[:_SHOWN])}{more}"


def native_model(surface: NativeSurface, path: bytes, body_model: str | None) -> str | None:
    """The model that a request on a provider's own surface is for, where that surface says it."""
    if surface.model_in != "path":
        return body_model if surface.model_in == "body" else None
    before, _, after = surface.model_path.partition("{model}")
    _, found, rest = path.decode("ascii").partition(before)
    model = rest.partition(after)[0] if after else rest.partition("/")[0]
    return unquote(model) if found and model else None
