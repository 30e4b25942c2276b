"""What a simulated provider is told: its dialect, its keys, its limits, and the size and pace of its answers.

Typed and frozen; `parse_spec` and `parse_rule` make one from the words of a command line and say what is wrong in
a ValueError meant for the person who typed them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, get_args

import msgspec

from sidecar.core.limits import SECOND

DialectName = Literal["groq", "cerebras", "openai", "deepinfra"]
DIALECTS: tuple[str, ...] = get_args(DialectName)

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Amount = Annotated[int, msgspec.Meta(ge=0)]


class LimitRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits for the accounts and models whose names match (`*`, `?` and `[...]` as in fnmatch); None = no limit.

    `per`: the keys of an account share one set of windows (`account`), or each key has its own (`key`). Rules of
    both kinds apply together. Within one kind, field by field, the last rule that matches and says something wins.
    """

    account: str = "*"
    model: str = "*"
    per: Literal["account", "key"] = "account"
    rpm: _Count | None = None
    rph: _Count | None = None
    rpd: _Count | None = None
    tpm: _Count | None = None
    tph: _Count | None = None
    tpd: _Count | None = None
    itpm: _Count | None = None
    otpm: _Count | None = None
    ash: _Count | None = None
    asd: _Count | None = None
    concurrency: _Count | None = None


class SimConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One simulated provider.

    `keys` maps a secret to its account; empty = any bearer token is valid and is an account of its own. `models`
    empty = any model exists. `grace_ns`: a call that arrives this soon after a wait was announced is not counted as
    early, for it was already on its way. `keep_requests`: how many requests are kept for inspection, with bodies.
    `done`: whether streams end with `[DONE]` (Cerebras left it out in 2025).
    """

    dialect: DialectName
    keys: dict[str, str] = {}
    limits: tuple[LimitRule, ...] = ()
    models: tuple[str, ...] = ()
    tokens_per_reply: _Amount = 32
    chunk_count: _Count = 8
    latency_ns: _Amount = 0
    chunk_delay_ns: _Amount = 0
    gzip: bool = True
    done: bool = True
    grace_ns: _Amount = 0
    keep_requests: _Amount = 100
    seed: int = 0


class Pace(msgspec.Struct, frozen=True):
    """The size and speed of answers, as a command line gives them."""

    tokens_per_reply: int = 32
    chunk_count: int = 8
    latency_s: float = 0.0
    chunk_delay_s: float = 0.0


def parse_spec(
    dialect: str,
    keys: Iterable[str] = (),
    rules: Iterable[str | Mapping[str, int | None]] = (),
    models: Iterable[str] = (),
    pace: Pace | None = None,
) -> SimConfig:
    """A configuration from command-line words: keys as `SECRET=ACCOUNT` (or `SECRET`, an account of its own); rules
    as `parse_rule` reads them, or mappings of limit names to numbers for all accounts. ValueError says what is wrong.
    """
    pace = pace or Pace()
    fields = {
        "dialect": dialect,
        "keys": dict(_key(text) for text in keys),
        "limits": [msgspec.to_builtins(parse_rule(rule) if isinstance(rule, str) else _rule(rule)) for rule in rules],
        "models": list(models),
        "tokens_per_reply": pace.tokens_per_reply,
        "chunk_count": pace.chunk_count,
        "latency_ns": round(pace.latency_s * SECOND),
        "chunk_delay_ns": round(pace.chunk_delay_s * SECOND),
    }
    try:
        return msgspec.convert(fields, SimConfig)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def parse_rule(text: str) -> LimitRule:
    """`account=org-a,model=llama*,per=key,rpm=30,tpm=6000` as a rule; ValueError says what is wrong."""
    fields: dict[str, str] = {}
    for item in text.split(","):
        name, sign, value = item.partition("=")
        if not sign or not value.strip():
            raise ValueError(f"{item.strip()!r} in a limit: expected name=value")
        fields[name.strip()] = value.strip()
    return _rule(fields)


def _rule(fields: Mapping[str, object]) -> LimitRule:
    try:
        return msgspec.convert(dict(fields), LimitRule, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"limit: {error}") from None


def _key(text: str) -> tuple[str, str]:
    secret, _, account = text.partition("=")
    if not secret:
        raise ValueError("a key: expected SECRET=ACCOUNT")
    return secret, account or secret
