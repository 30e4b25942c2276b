"""What is wrong with a configuration beyond its shape: names that do not match, contradictions, dangers.

Everything at once, each with its path and a remedy. A complaint that may only follow from a misshapen field nearby is
held back until that field is mended. No message repeats a URL or the name of a variable or file: a secret may have been
pasted there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import SplitResult, urlsplit

from sidecar.core.config import ANY, Address, Config, Known, KnownProvider, Problem, ProviderConfig, is_loopback
from sidecar.core.config_limits import limit_problems
from sidecar.core.config_shape import item, nearest, shape
from sidecar.core.config_share import share_problems
from sidecar.core.config_traces import trace_problems
from sidecar.core.secret import looks_like_secret
from sidecar.core.units import format_duration

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # POSIX 8.1, with the lower case that shells allow
_VISIBLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")
_ANY = frozenset({"0.0.0.0", "::"})
_DEFAULTS = Config()
_EXAMPLE_KEY = "such as keys: [{name: main, env: NAME_OF_THE_VARIABLE}]"
_EXAMPLE = "such as providers: [{name: groq, keys: [{name: main, env: GROQ_API_KEY}]}]"


def problems(tree: object, known: Known) -> list[Problem]:
    """Everything that is wrong with a tree of lists, mappings and scalars; empty when it is a configuration."""
    config, found = shape(tree)
    shapeless = [problem.path for problem in found]
    return found + [problem for problem in _meaning(config, known) if not _follows(problem.path, shapeless)]


def build(tree: object, known: Known) -> Config:
    """The configuration in a tree in which `problems` finds none; ValueError otherwise."""
    found = problems(tree, known)
    if found:
        raise ValueError("; ".join(f"{problem.path}: {problem.message}" for problem in found))
    return shape(tree)[0]


def _follows(path: str, shapeless: list[str]) -> bool:
    """Whether one of the paths contains the other."""
    return any(_contains(path, other) or _contains(other, path) for other in shapeless)


def _contains(outer: str, inner: str) -> bool:
    return inner == outer or not outer or inner.startswith((f"{outer}.", f"{outer}["))


def _meaning(config: Config, known: Known) -> Iterator[Problem]:
    yield from address_problems(config)
    yield from _provider_problems(config, known)
    yield from _model_problems(config)
    yield from _timing_problems(config)
    yield from _state_problems(config)
    yield from share_problems(config)
    yield from trace_problems(config, known)
    yield from _auth_problems(config)


def address_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with where it would listen."""
    if not config.listen:
        yield Problem("listen", "no address to listen on", "leave it out for 127.0.0.1:8787")
    exposed = [str(address) for address in config.listen if address.host and not is_loopback(address)]
    if exposed and not config.auth.tokens:
        yield Problem(
            "listen",
            f"{exposed[0]} is reachable by others, who could spend your quota",
            "listen on 127.0.0.1, or set auth.tokens",
        )
    for index, address in enumerate(config.listen):
        if any(_overlap(address, other) for other in config.listen[:index]):
            yield Problem(item("listen", index), f"{address} is listed already")
    if any(_overlap(address, config.admin) for address in config.listen):
        yield Problem("admin", f"{config.admin} is the data port too", "give it a port of its own, such as 8788")


def _overlap(one: Address, other: Address) -> bool:
    """Whether binding both would fail. Port 0 is a different port each time."""
    return bool(one.port) and one.port == other.port and (_covers(one, other) or _covers(other, one))


def _covers(one: Address, other: Address) -> bool:
    is_same_family = (":" in one.host) == (":" in other.host)  # asyncio binds IPv6 sockets for IPv6 alone
    return one.host in (other.host, ANY) or (one.host in _ANY and is_same_family)


def _provider_problems(config: Config, known: Known) -> Iterator[Problem]:
    if not config.providers:
        yield Problem("providers", "no provider, and so no key, is declared", _EXAMPLE)
    yield from _repeated("providers", (provider.name for provider in config.providers))
    for index, provider in enumerate(config.providers):
        path = item("providers", index)
        yield from _target_problems(provider, known, path)
        yield from _base_url_problems(provider, config, f"{path}.base_url")
        yield from _key_problems(provider, known.providers.get(provider.name), path)
        yield from limit_problems(provider, path)


def _target_problems(provider: ProviderConfig, known: Known, path: str) -> Iterator[Problem]:
    listed = known.providers.get(provider.name)
    if provider.name and provider.base_url is None:
        if listed is None:
            hint = f"{nearest(provider.name, known.providers)}; any other name needs a base_url"
            yield Problem(f"{path}.name", f"{provider.name} is not a provider of the catalog", hint)
        elif not listed.has_base_url:
            yield Problem(path, f"{provider.name} has no common address", "give the base_url of your own")
    if provider.dialect is not None and provider.dialect not in known.dialects:
        yield Problem(f"{path}.dialect", "unknown dialect", nearest(provider.dialect, sorted(known.dialects)))


def _base_url_problems(provider: ProviderConfig, config: Config, path: str) -> Iterator[Problem]:
    if provider.base_url is None:
        return
    url = _split(provider.base_url)
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        yield Problem(path, "is not an http or https URL", "such as https://api.groq.com/openai/v1")
        return
    if url.username is not None or url.password is not None:
        yield Problem(path, "holds credentials", "name them under keys, with env or file")
    if "?" in provider.base_url or "#" in provider.base_url:
        yield Problem(path, "holds a query or a fragment", "end it with the path, such as /v1")
    if any(url.hostname in _names(address) and _port(url) == address.port for address in config.listen):
        yield Problem(path, "is the sidecar's own address", "give the provider's")


def _split(text: str) -> SplitResult | None:
    if not _VISIBLE.fullmatch(text):
        return None
    try:
        url = urlsplit(text)
        return url if url.port != 0 else None  # reading the port is what checks it
    except ValueError:
        return None


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _names(address: Address) -> tuple[str, ...]:
    return (address.host, "localhost") if is_loopback(address) else (address.host,)


def _key_problems(provider: ProviderConfig, listed: KnownProvider | None, path: str) -> Iterator[Problem]:
    if not provider.keys and listed is not None and not listed.keyless:
        yield Problem(f"{path}.keys", f"{provider.name} needs a key, and none is declared", _EXAMPLE_KEY)
    yield from _repeated(f"{path}.keys", (key.name for key in provider.keys))
    for index, key in enumerate(provider.keys):
        yield from _source_problems(key.env, key.file, item(f"{path}.keys", index))


def _source_problems(env: str | None, file: str | None, path: str) -> Iterator[Problem]:
    """What is wrong with where a secret is to be found."""
    if env is None and file is None:
        yield Problem(path, "has neither env nor file", "say where the secret is found")
    if env is not None and file is not None:
        yield Problem(path, "has both env and file", "keep one of them")
    if env is not None:
        if looks_like_secret(env):
            yield Problem(f"{path}.env", "holds a secret, it seems", "give the NAME of the variable that holds it")
        elif not _VARIABLE.fullmatch(env):
            yield Problem(f"{path}.env", "is not the name of an environment variable", "such as GROQ_API_KEY")
    if file is not None:
        if looks_like_secret(file):
            yield Problem(f"{path}.file", "holds a secret, it seems", "give the path of the file that holds it")
        elif not file.strip() or "\0" in file:
            yield Problem(f"{path}.file", "is not the path of a file", "such as /var/run/secrets/groq/key")


def _model_problems(config: Config) -> Iterator[Problem]:
    yield from _repeated("models", (model.name for model in config.models))
    providers = [provider.name for provider in config.providers]
    for index, model in enumerate(config.models):
        path = f"{item('models', index)}.chain"
        if not model.chain:
            yield Problem(path, "has no targets", "list at least one provider/model-id")
        for place, target in enumerate(model.chain):
            yield from _chain_problems(target, providers, item(path, place))
            if target and target in model.chain[:place]:
                yield Problem(item(path, place), "is in this chain already", "remove one of the two")


def _chain_problems(target: str, providers: list[str], path: str) -> Iterator[Problem]:
    provider, slash, model_id = target.partition("/")
    if not slash or not provider or not _VISIBLE.fullmatch(model_id):
        yield Problem(path, "is not of the form provider/model-id", "such as groq/llama-3.3-70b-versatile")
    elif provider not in providers and "" not in providers:  # "" is one whose name was misshapen: it may be this
        yield Problem(path, f"provider {provider[:64]} is not configured", nearest(provider, providers))


def _timing_problems(config: Config) -> Iterator[Problem]:
    retry, timeouts = config.retry, config.timeouts
    if retry.cap_ns < retry.base_ns:
        message = f"{format_duration(retry.cap_ns)} is below retry.base, {format_duration(retry.base_ns)}"
        yield Problem("retry.cap", message, "the pauses grow from base to cap")
    steps = {f"timeouts.{name}": name for name in ("connect", "headers", "first_content", "answer")}
    chosen = {path: (getattr(timeouts, name), getattr(_DEFAULTS.timeouts, name)) for path, name in steps.items()}
    chosen["wait.max"] = (config.wait.max_ns, _DEFAULTS.wait.max_ns)
    for path, (value, default) in chosen.items():
        if timeouts.total < value != default:  # a default that total cuts short is what a short total is for
            message = f"{format_duration(value)} is more than timeouts.total, {format_duration(timeouts.total)}"
            yield Problem(path, message, "total ends it first: raise total or lower this")
    if config.hedge.after is not None and config.hedge.after >= timeouts.total:
        message = f"{format_duration(config.hedge.after)} is not less than timeouts.total"
        yield Problem("hedge.after", message, "total ends a request first: lower this, or leave it out")
    if config.body.max_bytes > config.inflight.bytes:
        yield Problem("body.max_bytes", "is more than inflight.bytes", "one such body would never be let in")


def _state_problems(config: Config) -> Iterator[Problem]:
    path = config.state.path
    if path is not None and (not path.strip() or "\0" in path or path.endswith("/")):
        yield Problem("state.path", "is not the path of a file", "such as /var/lib/sidecar/state.db")


def _auth_problems(config: Config) -> Iterator[Problem]:
    for index, token in enumerate(config.auth.tokens):
        yield from _source_problems(token.env, token.file, item("auth.tokens", index))
    for index, host in enumerate(config.auth.hosts):
        if not _HOST.fullmatch(host):
            yield Problem(item("auth.hosts", index), "is not a host name", "without scheme, port and path: my-service")
    for index, origin in enumerate(config.auth.origins):
        if not _ORIGIN.fullmatch(origin):
            hint = "scheme, host and port, without a path: https://app.example.org"
            yield Problem(item("auth.origins", index), "is not an origin", hint)


def _repeated(path: str, names: Iterable[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name and name in seen:
            yield Problem(f"{item(path, index)}.name", f"{name} is taken already", "each name once")
        seen.add(name)
