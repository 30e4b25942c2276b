"""What is known of each provider before anyone configured anything, and which of them serve the same model.

The facts are data (conf/providers.yaml, its comments name their source): where a provider is, how a key is sent, how
its windows count, what it rejects, which model ids are its own. This file gives them types, refuses what contradicts
itself and answers one question: at which of the configured providers does a model live. A new provider needs no code.
Knows no file and no key: `build` takes the parsed tree, which catalog_file.py reads.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec

from sidecar.core.limits import ChargeRule

Algorithm = Literal["token_bucket", "sliding", "fixed"]
# the fields of a limit in the configuration: requests, tokens, input, output, audio seconds per minute, hour, day
WindowName = Literal["rpm", "rph", "rpd", "tpm", "tph", "tpd", "itpm", "otpm", "ash"]

Count = Annotated[int, msgspec.Meta(ge=1)]

_PLACE = "{model}"
_WILD = frozenset("*?[")


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a key travels: in `header`, after `prefix`."""

    header: str = "authorization"
    prefix: str = "Bearer "


class NativeSurface(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a provider's own HTTP API, for callers of `/p/{provider}/`."""

    prefix: str = "/"  # begins and ends with a slash; counted from the origin
    auth: Auth = Auth()
    model_in: Literal["body", "path", "none"] = "body"
    model_path: str = ""  # the piece of the path around the model, as in `/models/{model}:`
    error_dialect: str = "openai"  # whose error shape callers of this surface parse
    credentials_in_query: tuple[str, ...] = ()  # query parameters that may hold a caller's key

    def __post_init__(self) -> None:
        if (self.model_in == "path") != (_PLACE in self.model_path):
            raise ValueError(f"model_path holds {_PLACE} exactly when model_in is path")
        if not (self.prefix.startswith("/") and self.prefix.endswith("/")):
            raise ValueError(f"prefix {self.prefix!r} does not begin and end with a slash")


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider. Every field but the name has the default that suits most servers speaking the OpenAI API."""

    name: str
    base_url: str | None = None  # of the OpenAI surface, without a slash at the end; None: only the operator knows it
    key_env: tuple[str, ...] = ()  # variables that hold a key, the usual one first; none: no key needed
    dialect: str = "openai"  # whose headers and errors it speaks
    auth: Auth = Auth()
    windows: dict[WindowName, Algorithm] = {}  # absent: `algorithm` says which
    concurrency: Count | None = None  # requests in flight it documents for an account and model
    timezone: str = "UTC"  # IANA name; whose midnight ends a fixed day
    charge: ChargeRule = ChargeRule()
    drops: tuple[str, ...] = ()  # top-level fields it answers with 400 or 422
    message_drops: tuple[str, ...] = ()  # the same within a message
    renames: dict[str, str] = {}  # OpenAI's name of a field -> this provider's
    usage_in_stream: Literal["always", "on_request"] = "on_request"
    model_path: str | None = None  # OpenAI surface: the piece of the path that names the model; None: in the body
    native: tuple[NativeSurface, ...] = ()
    models: tuple[str, ...] = ()  # ids or globs of models found here alone; shared ones are in the families

    def __post_init__(self) -> None:
        if self.model_path is not None and _PLACE not in self.model_path:
            raise ValueError(f"model_path {self.model_path!r} lacks {_PLACE}")
        if any(model[:1] in _WILD for model in self.models):
            # it would also match `other-provider/model`, which names that provider
            raise ValueError("a glob of models begins with a wildcard")

    def algorithm(self, window: WindowName) -> Algorithm:
        """How that window counts. Where unknown, sliding: what it admits, the other two admit as well."""
        return self.windows.get(window, "sliding")

    def native_surface(self, path: str) -> NativeSurface:
        """The surface that `path` (from the origin, without the query) belongs to: the longest prefix wins."""
        fitting = [surface for surface in self.native if path.startswith(surface.prefix)]
        return max(fitting, key=lambda surface: len(surface.prefix), default=NativeSurface(auth=self.auth))


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    providers: tuple[Provider, ...]
    families: dict[str, dict[str, str]] = {}


class Catalog(msgspec.Struct, frozen=True):
    """All providers, in the order of the file, and the families: one open-weights model, its id at each provider."""

    providers: dict[str, Provider]
    families: dict[str, dict[str, str]]
    listed: dict[str, frozenset[str]]  # exact model id -> the providers that list it
    kin: dict[tuple[str, str], str]  # (provider, model id) -> family
    globs: dict[str, re.Pattern[str]]  # provider -> one pattern for all its globs

    def family_of(self, provider: str, model: str) -> str | None:
        """The family of a model id at that provider, or None."""
        return self.kin.get((provider, model))

    def ids_of(self, provider: str) -> list[str]:
        """The exact model ids known of a provider, shared ones first."""
        shared = [model for name, model in self.kin if name == provider]
        entry = self.providers.get(provider)
        return shared + [model for model in entry.models if not _WILD & set(model)] if entry else shared

    def homes(self, model: str, configured: Sequence[str]) -> list[tuple[str, str]]:
        """Where `model` can be asked for, as (provider, its id there), best first; empty when no provider lists it.

        First the first of the `configured` providers that lists this very id (an exact listing anywhere goes before
        a glob anywhere), then the same open-weights model at the others, in the order configured.
        """
        home = self._lister(model, configured)
        if home is None:
            return []
        members = self.families.get(self.kin.get((home, model), ""), {})
        others = [(name, members[name]) for name in configured if name != home and name in members]
        return [(home, model), *others]

    def _lister(self, model: str, configured: Sequence[str]) -> str | None:
        exact = self.listed.get(model)
        if exact is not None:
            home = next((name for name in configured if name in exact), None)
            if home is not None:
                return home
        return next((name for name in configured if name in self.globs and self.globs[name].match(model)), None)

    def __repr__(self) -> str:
        return f"<Catalog of {', '.join(self.providers)}; {len(self.families)} families>"


def build(tree: object) -> Catalog:
    """The catalog a parsed file amounts to; msgspec.ValidationError names the place of what is wrong with it."""
    file = msgspec.convert(tree, _File)
    providers = {provider.name: provider for provider in file.providers}
    if len(providers) < len(file.providers):
        raise msgspec.ValidationError("A provider is listed twice - at `$.providers`")
    kin = _kin(file.families, providers)
    listed: dict[str, frozenset[str]] = {}
    for name, model in (*kin, *_exact(file.providers)):
        listed[model] = listed.get(model, frozenset()) | {name}
    globs = {provider.name: pattern for provider in file.providers if (pattern := _pattern(provider.models))}
    return Catalog(providers, file.families, listed, kin, globs)


def _kin(families: dict[str, dict[str, str]], providers: dict[str, Provider]) -> dict[tuple[str, str], str]:
    kin: dict[tuple[str, str], str] = {}
    for family, members in families.items():
        for member in members.items():
            if member[0] not in providers:
                raise msgspec.ValidationError(f"No provider is called {member[0]!r} - at `$.families.{family}`")
            if member in kin:
                raise msgspec.ValidationError(f"{member} is also of {kin[member]!r} - at `$.families.{family}`")
            kin[member] = family
    return kin


def _exact(providers: tuple[Provider, ...]) -> Iterator[tuple[str, str]]:
    for provider in providers:
        yield from ((provider.name, model) for model in provider.models if not _WILD & set(model))


def _pattern(models: tuple[str, ...]) -> re.Pattern[str] | None:
    globs = [fnmatch.translate(model) for model in models if _WILD & set(model)]
    return re.compile("|".join(globs)) if globs else None
