"""Fetches the configuration: from a YAML file, or from the environment when there is none.

Decides nothing about fields (core/config_problems.py does) and reads no secret (credentials.py does); adds to each
problem the file and line it is in, and makes relative paths of key files relative to the configuration's own directory.
`fingerprint` tells whether any of the files has changed, also where Kubernetes swaps a link to a new directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from sidecar.core.catalog import Catalog, Provider
from sidecar.core.config import Config, KeyConfig, Known, KnownProvider, Problem, ProviderConfig, TokenRef
from sidecar.core.config_problems import build, problems
from sidecar.core.variables import PLACEHOLDER_KEY
from sidecar.yamlfile import Document, read_yaml

ENVIRONMENT = "environment"

_Ref = TypeVar("_Ref", KeyConfig, TokenRef)

# Providers whose address is the operator's own: the variable their SDKs read it from, and the path of the API there.
_ENDPOINTS = {"azure": ("AZURE_OPENAI_ENDPOINT", "/openai/v1")}
_NUMBERED = re.compile(r"_([0-9]{1,4})")
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Located(NamedTuple):
    """A problem and where it stands. `str` is the line an operator reads."""

    source: str
    line: int | None
    problem: Problem

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        path = f"{self.problem.path}: " if self.problem.path else ""
        hint = f" ({self.problem.hint})" if self.problem.hint else ""
        return f"{where}: {path}{self.problem.message}{hint}"


class Loaded(NamedTuple):
    """What came of loading: a configuration exactly when there are no problems."""

    config: Config | None
    problems: tuple[Located, ...]
    source: str  # the path of the file, or `environment`
    warnings: tuple[str, ...] = ()
    is_absent: bool = False  # the file does not exist: it may yet appear
    document: Document | None = None  # for naming the lines of what is found wrong later, in secrets

    def located(self, problem: Problem) -> Located:
        """That problem, with the line it is in where there is one."""
        return Located(self.source, self.document.line(problem.path) if self.document else None, problem)


def load(path: str | None, environ: Mapping[str, str], catalog: Catalog) -> Loaded:
    """The configuration in the file at `path`; None = what the environment has keys for."""
    if path is None:
        return _from_environment(environ, catalog)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}", "give another with --config")
        is_absent = isinstance(error, FileNotFoundError)
        return Loaded(None, (Located(path, None, problem),), path, is_absent=is_absent)
    return _from_text(content, path, catalog)


def waiting_for(absent: Loaded) -> Loaded:
    """In place of a file that is not there yet: a provider that is never called, because its key is not there either.

    So every request is answered as it is where keys are missing: 503, naming what is missing.
    """
    warning = f"{absent.source} does not exist yet: requests are answered with 503 until it does"
    key = KeyConfig("none", file=os.path.join(absent.source, "key"))  # below a file there is none
    nobody = ProviderConfig("waiting-for-configuration", base_url="http://127.0.0.1:9/v1", keys=(key,), learn=False)
    return Loaded(Config(providers=(nobody,)), (), absent.source, (warning,), is_absent=True)


def known_from(catalog: Catalog) -> Known:
    """What of the catalog a configuration is checked against."""
    providers = {
        name: KnownProvider(keyless=not entry.key_env, has_base_url=entry.base_url is not None)
        for name, entry in catalog.providers.items()
    }
    dialects = frozenset({"openai", *(entry.dialect for entry in catalog.providers.values())})
    return Known(providers, dialects, _can_trace())


def _can_trace() -> bool:
    """Whether the extra `otel` is installed; nothing of it is loaded."""
    try:
        return all(
            find_spec(name) is not None for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        )
    except ModuleNotFoundError:  # of what it is in
        return False


def watched(config: Config | None, path: str | None) -> tuple[str, ...]:
    """The files whose change calls for loading again."""
    keys = [key.file for provider in config.providers for key in provider.keys] if config else []
    tokens = [token.file for token in config.auth.tokens] if config else []
    passwords = [config.share.password.file] if config and config.share.password else []
    return tuple(dict.fromkeys(name for name in (path, *keys, *tokens, *passwords) if name is not None))


def fingerprint(paths: Iterable[str]) -> tuple[tuple[int, int, int, int] | None, ...]:
    """A value that changes when one of the files does, or another takes its place; None stands for an absent one."""
    return tuple(_identity(path) for path in paths)


def _identity(path: str) -> tuple[int, int, int, int] | None:
    try:
        status = os.stat(path)  # of what links lead to in the end
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _from_text(content: bytes, path: str, catalog: Catalog) -> Loaded:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Loaded(None, (Located(path, line, Problem("", "is not UTF-8", "save it as UTF-8 text")),), path)
    document = read_yaml(text)
    known = known_from(catalog)
    found = list(document.problems)
    if document.is_whole:
        told = {problem.path for problem in found}
        found += [problem for problem in problems(document.tree, known) if problem.path not in told]
    if found:
        located = [Located(path, document.line(problem.path), problem) for problem in found]
        located.sort(key=lambda each: each.line or 0)
        return Loaded(None, tuple(located), path, document=document)
    config = _resolved(build(document.tree, known), os.path.dirname(path))
    return Loaded(config, (), path, tuple(_unencrypted(config)), document=document)


def _resolved(config: Config, directory: str) -> Config:
    """The same with the paths of its files made independent of where the process was started."""
    providers = tuple(
        msgspec.structs.replace(provider, keys=tuple(_placed(key, directory) for key in provider.keys))
        for provider in config.providers
    )
    tokens = tuple(_placed(token, directory) for token in config.auth.tokens)
    share, state = config.share, config.state
    if share.password is not None:
        share = msgspec.structs.replace(share, password=_placed(share.password, directory))
    if state.path is not None:
        state = msgspec.structs.replace(state, path=_absolute(state.path, directory))
    return msgspec.structs.replace(
        config, providers=providers, auth=msgspec.structs.replace(config.auth, tokens=tokens), state=state, share=share
    )


def _placed(ref: _Ref, directory: str) -> _Ref:
    if ref.file is None:
        return ref
    return msgspec.structs.replace(ref, file=_absolute(ref.file, directory))


def _absolute(path: str, directory: str) -> str:
    return os.path.join(directory, os.path.expanduser(path))


def _unencrypted(config: Config) -> Iterator[str]:
    """Warnings of keys that would travel readable by others."""
    for provider in config.providers:
        url = urlsplit(provider.base_url or "")
        if provider.keys and url.scheme == "http" and url.hostname not in _LOCAL_HOSTS:
            yield f"{provider.name}: its base_url is http, so its keys travel unencrypted"


def _from_environment(environ: Mapping[str, str], catalog: Catalog) -> Loaded:
    providers: list[dict[str, object]] = []
    warnings: list[str] = []
    for entry in catalog.providers.values():
        keys = [{"name": name, "env": variable} for name, variable in _variables(entry, environ)]
        if keys and (entry.base_url is not None or entry.name in _ENDPOINTS):
            endpoint = _endpoint(entry, environ)
            if endpoint is None:
                variable, _ = _ENDPOINTS[entry.name]
                warnings.append(f"{keys[0]['env']} is set but {variable} is not: {entry.name} is left out")
            else:
                providers.append({"name": entry.name, "keys": keys, **endpoint})
    if not providers:
        usual = ", ".join(entry.key_env[0] for entry in catalog.providers.values() if entry.key_env)
        hint = f"set one of {usual}; or give a file with --config"
        problem = Problem("", "no provider's key is set", hint)
        return Loaded(None, (Located(ENVIRONMENT, None, problem),), ENVIRONMENT, tuple(warnings))
    tree, known = {"providers": providers}, known_from(catalog)
    located = tuple(Located(ENVIRONMENT, None, problem) for problem in problems(tree, known))
    config = None if located else build(tree, known)
    return Loaded(config, located, ENVIRONMENT, (*warnings, *(_unencrypted(config) if config else ())))


def _variables(entry: Provider, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The name of each key of a provider, and the variable that holds it; an empty one is as good as none.

    A provider may have several usual variables, which then hold the same key: the first that is set counts.
    """
    for usual in entry.key_env:
        # what `sidecar env` sets for SDKs that insist on a key is none
        held = [name for name, value in environ.items() if value.strip() not in ("", PLACEHOLDER_KEY)]
        suffixes = [name[len(usual) :] for name in held if name.startswith(usual)]
        numbers = sorted(match[1] for suffix in suffixes if (match := _NUMBERED.fullmatch(suffix)))
        numbers.sort(key=int)
        found = [("key", usual)] if "" in suffixes else []
        found += [(f"key-{number}", f"{usual}_{number}") for number in numbers]
        if found:
            return found
    return []


def _endpoint(entry: Provider, environ: Mapping[str, str]) -> dict[str, object] | None:
    """The fields that say where a provider is: none when the catalog knows; None when nobody does."""
    if entry.base_url is not None:
        return {}
    variable, api_path = _ENDPOINTS[entry.name]
    address = environ.get(variable, "").strip().rstrip("/")
    if not address:
        return None
    # some give the whole path, most the origin that the portal shows
    has_path = "/" in address.partition("://")[2]
    return {"base_url": address if has_path else address + api_path}
