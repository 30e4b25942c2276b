"""Fetches the secrets that a configuration names, from the environment and from files, each time it is asked.

A secret that is not there is a warning, not a failure: a mounted file may appear later (design.md section 6). One that
cannot be a credential (inner white space, quotes, not ASCII) is a problem. No message holds a character of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sidecar.core.config import Config, KeyConfig, Problem, TokenRef
from sidecar.core.secret import Secret
from sidecar.core.variables import PLACEHOLDER_KEY

# No credential is longer (a JWT with many claims has 8 KiB); a path that leads to something else is not read whole.
_MAX_BYTES = 64 * 1024


class Secrets(NamedTuple):
    """What was found. None stands for a credential that is missing or unusable: it must never let anybody in."""

    keys: dict[tuple[str, str], Secret | None]  # by (provider, name of the key)
    tokens: tuple[Secret | None, ...]  # in the order of auth.tokens
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    share: Secret | None = None  # the password of the shared ledger


class _Found(NamedTuple):
    secret: Secret | None
    problem: Problem | None = None
    warning: str | None = None


def read_secrets(config: Config, environ: Mapping[str, str]) -> Secrets:
    """Every secret that `config` names, as it is now."""
    keys = {(provider, key.name): _find(key, environ, path) for path, provider, key in _keys(config)}
    tokens = [_find(token, environ, f"auth.tokens[{index}]") for index, token in enumerate(config.auth.tokens)]
    password = config.share.password
    share = _Found(None) if password is None else _find(password, environ, "share.password")
    found = [*keys.values(), *tokens, share]
    return Secrets(
        {ident: one.secret for ident, one in keys.items()},
        tuple(one.secret for one in tokens),
        tuple(one.problem for one in found if one.problem is not None),
        (*(one.warning for one in found if one.warning is not None), *_twins(keys)),
        share.secret,
    )


def _keys(config: Config) -> Iterator[tuple[str, str, KeyConfig]]:
    for place, provider in enumerate(config.providers):
        for index, key in enumerate(provider.keys):
            yield f"providers[{place}].keys[{index}]", provider.name, key


def _twins(keys: Mapping[tuple[str, str], _Found]) -> Iterator[str]:
    """Warnings of one provider's keys that are the same key: counted apart, they would be spent twice."""
    first: dict[tuple[str, Secret], str] = {}
    for (provider, name), found in keys.items():
        if found.secret is not None:
            other = first.setdefault((provider, found.secret), name)
            if other != name:
                yield f"{provider}: the keys {other} and {name} are the same; its limits would be counted twice"


def _find(ref: KeyConfig | TokenRef, environ: Mapping[str, str], path: str) -> _Found:
    if ref.env is not None:
        if ref.env not in environ:
            return _Found(None, warning=f"{path}: {ref.env} is not set; it takes a restart to set it")
        return _judge(environ[ref.env], ref.env, f"{path}.env")
    try:
        with open(ref.file or "", "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        return _Found(None, warning=f"{path}: {ref.file} cannot be read ({error.strerror}); waiting for it")
    if len(content) > _MAX_BYTES:
        message = f"{ref.file} is too long to hold a credential"
        return _Found(None, Problem(f"{path}.file", message, "name the file of the key alone"))
    # latin-1 never fails, and what is not ASCII is told below
    return _judge(content.decode("latin-1"), ref.file or "", f"{path}.file")


def _judge(text: str, place: str, path: str) -> _Found:
    """The credential in what was found at `place`, without the line end that editors and `echo` leave."""
    characters = text.strip(" \t\r\n")
    if not characters:
        return _Found(None, warning=f"{path}: {place} is empty; waiting for a key")
    if characters == PLACEHOLDER_KEY:
        return _Found(None, warning=f"{path}: {place} holds what `sidecar env` puts there for SDKs, not a key")
    if not characters.isascii():
        return _Found(None, Problem(path, f"{place} holds characters that are not ASCII", "save the key as plain text"))
    if any(not "!" <= character <= "~" for character in characters):
        return _Found(None, Problem(path, f"{place} holds white space or control characters", "write the key alone"))
    if characters[0] in "\"'":
        return _Found(None, Problem(path, f"{place} holds quotes", "remove them"))
    return _Found(Secret(characters))
