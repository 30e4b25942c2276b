"""From where a configuration comes to one that is found good: read, its secrets found, compiled; nothing is bound yet.

Complete or refused: everything that is wrong is found first, a line each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import msgspec

from sidecar.core.catalog import Catalog
from sidecar.core.config import Address, Config, Share, is_loopback
from sidecar.core.entrance import Rules, digest
from sidecar.core.overrides import overridden
from sidecar.core.secret import Secret
from sidecar.core.snapshot import Snapshot, compile_snapshot
from sidecar.credentials import Secrets, read_secrets
from sidecar.loading import Located, fingerprint, load, waiting_for, watched
from sidecar.zones import calendars

# what is built once and not again: a change of these asks for a restart
_FIXED = ("listen", "admin", "dns", "state", "traces")
_FIXED_TIMEOUTS = ("connect", "client_headers", "client_body", "client_idle")

Identity = tuple[int, int, int, int] | None


class Source(NamedTuple):
    """Where the configuration comes from. `path` None: the environment.

    `listen`, `admin`: in place of the configured addresses. `waits`: an absent file is waited for when it starts.
    """

    path: str | None
    environ: Mapping[str, str]
    listen: tuple[Address, ...] = ()
    admin: Address | None = None
    waits: bool = False


class Prepared(NamedTuple):
    """A configuration found good. `hash` names it, without a secret in it; `seen`: the files as they were then;
    `is_absent`: its file is not there, and this stands in for it."""

    config: Config
    snapshot: Snapshot
    rules: Rules
    warnings: tuple[str, ...]
    hash: str
    seen: dict[str, Identity]
    share_password: Secret | None = None
    is_absent: bool = False


def prepare(source: Source, catalog: Catalog, now_ns: int, share: Share | None = None) -> Prepared | list[str]:
    """Everything up to binding a port; or everything that is wrong, a line each. `share`: what is in force already."""
    # looked at before they are read, so that a change in between is seen as one
    seen = identities(watched(None, source.path))
    loaded = load(source.path, source.environ, catalog)
    if loaded.is_absent and source.waits:
        loaded = waiting_for(loaded)
    if loaded.config is None:
        return [str(problem) for problem in loaded.problems]
    config, clashes = overridden(loaded.config, source.listen, source.admin)
    if clashes:
        return [str(Located("command line", None, problem)) for problem in clashes]
    seen = identities(watched(config, source.path)) | seen
    secrets = read_secrets(config, source.environ)
    if secrets.problems:
        return [str(loaded.located(problem)) for problem in secrets.problems]
    config, share_warnings = _sharing_as(config, share)
    entries = [catalog.providers[each.name] for each in config.providers if each.name in catalog.providers]
    try:
        zones = calendars((entry.timezone for entry in entries), now_ns)
    except ZoneInfoNotFoundError as error:
        return [f"{error.args[0]}: a provider's days begin there; install the system's time zone data (tzdata)"]
    snapshot = compile_snapshot(config, catalog, secrets.keys, zones)
    encoded = msgspec.json.encode(config)
    heard = loaded.warnings if loaded.is_absent else (*loaded.warnings, *secrets.warnings)
    warnings = (*heard, *share_warnings)
    name = hashlib.sha256(encoded).hexdigest()[:12]
    return Prepared(config, snapshot, _rules(config, secrets), warnings, name, seen, secrets.share, loaded.is_absent)


def _sharing_as(config: Config, share: Share | None) -> tuple[Config, tuple[str, ...]]:
    """A ledger that is in force, or none, stays until a restart: windows cannot be counted in two ways at once."""
    if share is None or share == config.share or (share.url is None and config.share.url is None):
        return config, ()
    return msgspec.structs.replace(config, share=share), ("a change of `share` takes effect after a restart",)


def identities(paths: tuple[str, ...]) -> dict[str, Identity]:
    """Each file with what changes when it does."""
    return dict(zip(paths, fingerprint(paths), strict=True))


def _rules(config: Config, secrets: Secrets) -> Rules:
    tokens = {digest(token.reveal().encode()): f"token-{at}" for at, token in enumerate(secrets.tokens) if token}
    if config.auth.tokens and not tokens:
        tokens = {b"": "nobody"}  # a token that is asked for and missing lets nobody in
    return Rules(
        config.body.max_bytes,
        config.inflight.max,
        config.inflight.bytes,
        tokens,
        frozenset(config.auth.hosts),
        frozenset(config.auth.origins),
        all(is_loopback(address) for address in config.listen),
    )


def needing_restart(old: Config, new: Config) -> list[str]:
    """The fields whose change takes effect after a restart alone."""
    fields = [field for field in _FIXED if getattr(old, field) != getattr(new, field)]
    times = [name for name in _FIXED_TIMEOUTS if getattr(old.timeouts, name) != getattr(new.timeouts, name)]
    return fields + [f"timeouts.{name}" for name in times]


def admin_rules(prepared: Prepared) -> Rules:
    """The status page's: on loopback a right Host will do, elsewhere a token is asked for."""
    is_local = is_loopback(prepared.config.admin)
    tokens = {} if is_local else prepared.rules.tokens or {b"": "nobody"}
    return prepared.rules._replace(tokens=tokens, is_loopback_only=is_local)
