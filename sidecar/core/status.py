"""What the proxy knows now, as `/status.json` tells it: every key, every quota, and why something is not called.

Labels, numbers and reasons; never a secret, a prompt or an answer (acceptance I3).
"""

from __future__ import annotations

import msgspec

from sidecar.core.breaker import Breaker, State
from sidecar.core.health import FOREVER_NS, Standing
from sidecar.core.limits import SECOND
from sidecar.core.quota import Quota, WindowView
from sidecar.core.roster import Roster
from sidecar.core.snapshot import Key, Provider


class Window(msgspec.Struct, omit_defaults=True):
    """One window. `resets_in_s`: seconds until it is whole again; `source`: config, header or body. `drift`: how far
    our count was from the provider's own when it last told it, in percent of the limit; absent where it tells none."""

    counts: str
    per_s: int
    limit: int
    remaining: int
    resets_in_s: float
    source: str
    drift: float | None = None


class QuotaStatus(msgspec.Struct, omit_defaults=True):
    """One account at one model (or pool of models). `concurrency`: how many may be in flight, where that is known."""

    model: str
    in_flight: int
    waiting: int
    windows: list[Window]
    concurrency: int | None = None
    cooldown_s: float = 0.0


class Bench(msgspec.Struct, omit_defaults=True):
    """Why something is not called, and for how long (None: until the configuration changes)."""

    reason: str
    for_s: float | None
    message: str = ""


class BreakerStatus(msgspec.Struct, omit_defaults=True):
    """A breaker that is not closed. `for_s`: how long nobody calls; the next who does is a probe."""

    state: str
    reason: str
    for_s: float
    trips: int
    message: str = ""


class KeyStatus(msgspec.Struct, omit_defaults=True):
    """One key, by its label."""

    name: str
    account: str
    present: bool
    benched: Bench | None = None
    benched_at: dict[str, Bench] = {}


class ProviderStatus(msgspec.Struct, omit_defaults=True):
    """One provider. `benched`: by model, "" for requests without one; `breakers` likewise. `usable_keys`: how many may
    be called now, by their own standing. `merged`: accounts whose quota is that of another, found to be the same
    organisation."""

    name: str
    url: str
    keys: list[KeyStatus]
    accounts: dict[str, list[QuotaStatus]]
    benched: dict[str, Bench] = {}
    usable_keys: int = 0
    merged: dict[str, str] = {}
    breakers: dict[str, BreakerStatus] = {}


def status_of(roster: Roster, now_ns: int) -> list[ProviderStatus]:
    """Every configured provider, in order."""
    quotas: dict[str, list[Quota]] = {}
    for quota in roster.ledger:
        quotas.setdefault(quota.account, []).append(quota)
    benches = _benches(roster, now_ns)
    return [_provider(roster, provider, (quotas, benches), now_ns) for provider in roster.snapshot.providers.values()]


_Quotas = dict[str, list[Quota]]  # by account
_Benches = dict[str, dict[str, Bench]]  # by key, then by model


def _benches(roster: Roster, now_ns: int) -> _Benches:
    """What stands against keys at single models: gone through once, not once for each key."""
    benches: _Benches = {}
    for name, standing in roster.health.key_models.items():
        bench = _bench(standing, now_ns)
        if bench is not None:
            ident, _, model = name.partition(" ")
            benches.setdefault(ident, {})[model] = bench
    return benches


def _provider(roster: Roster, provider: Provider, found: tuple[_Quotas, _Benches], now_ns: int) -> ProviderStatus:
    quotas, benches = found
    accounts = dict.fromkeys(key.account for key in provider.keys)
    return ProviderStatus(
        name=provider.name,
        url=provider.url,
        keys=[_key(roster, key, benches.get(key.ident, {}), now_ns) for key in provider.keys],
        accounts={
            account.partition("/")[2]: [_quota(quota, now_ns) for quota in quotas.get(account, [])]
            for account in accounts
        },
        benched={
            name.partition("/")[2]: bench
            for name, standing in roster.health.targets.items()
            if name.partition("/")[0] == provider.name and (bench := _bench(standing, now_ns)) is not None
        },
        usable_keys=sum(roster.is_callable(key, now_ns) for key in provider.keys),
        merged={
            joined.partition("/")[2]: account.partition("/")[2]
            for joined, account in roster.accounts.items()
            if joined in accounts
        },
        breakers={
            name.partition("/")[2]: _breaker(breaker, now_ns)
            for name, breaker in roster.health.breakers.items()
            if name.partition("/")[0] == provider.name and breaker.state is not State.CLOSED
        },
    )


def _key(roster: Roster, key: Key, at_models: dict[str, Bench], now_ns: int) -> KeyStatus:
    standing = roster.health.keys.of(key.ident, now_ns)
    account = key.account.partition("/")[2]
    return KeyStatus(key.name, account, key.is_present, _bench(standing, now_ns), at_models)


def _bench(standing: Standing, now_ns: int) -> Bench | None:
    if standing.until_ns <= now_ns or standing.cause is None:
        return None
    is_final = standing.until_ns >= FOREVER_NS
    return Bench(standing.cause.value, None if is_final else _seconds(standing.until_ns - now_ns), standing.message)


def _breaker(breaker: Breaker, now_ns: int) -> BreakerStatus:
    reason = breaker.cause.value if breaker.cause else ""
    return BreakerStatus(
        breaker.state.value, reason, _seconds(breaker.until_ns - now_ns), breaker.trips, breaker.message
    )


def _quota(quota: Quota, now_ns: int) -> QuotaStatus:
    windows = [window_of(view, now_ns) for view in quota.views(now_ns)]
    cooldown = _seconds(quota.cooldown_until - now_ns)
    return QuotaStatus(quota.model, quota.inflight, quota.line.waiting, windows, quota.concurrency, cooldown)


def window_of(view: WindowView, now_ns: int) -> Window:
    """A window as it is told."""
    drift = None if view.drift is None else view.drift / 10
    resets_in_s = _seconds(view.resets_at - now_ns)
    counts = view.axis.name.lower()
    return Window(counts, view.window_ns // SECOND, view.limit, view.remaining, resets_in_s, view.source.value, drift)


def _seconds(duration_ns: int) -> float:
    return round(max(0, duration_ns) / SECOND, 3)
