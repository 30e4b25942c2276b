"""All quotas of one process, made on first use from what the snapshot says of an account and a model.

Decides which requests share a quota (models of one pool do) and which quotas may be forgotten: callers choose model
names, so those nobody configured are kept in a bounded map that only idle ones leave. When it is full of busy ones, an
account's further unknown models share a single quota, which is the strict side. Refuses to know where limits come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidecar.core.quota import Quota, QuotaSpec

UNKNOWN_CAP = 4096  # about 10 MiB of quotas at their largest
_LOOKS = 8  # candidates looked at for each newcomer, so that the cost of one does not grow with the map
_OVERFLOW = "*"  # the quota that unknown models share when the map is full; whoever asks for "*" by name joins it

__all__ = ["UNKNOWN_CAP", "Ledger", "QuotaSpec", "SpecsFor"]

SpecsFor = Callable[[str, str], QuotaSpec | None]
"""(account, model) -> what applies; None: the account is not configured (any more)."""


class Ledger:
    """The quotas by account and model. Every account's overflow and every known model stays for good."""

    __slots__ = ("_cap", "_known", "_quotas", "_specs_for", "_unknown", "opened")

    def __init__(self, specs_for: SpecsFor, unknown_cap: int = UNKNOWN_CAP) -> None:
        self._specs_for = specs_for
        self._cap = unknown_cap
        self.opened: Callable[[Quota], None] | None = None  # told of each new quota
        self._quotas: dict[tuple[str, str], Quota] = {}  # by account and spec key
        self._known: dict[tuple[str, str], Quota] = {}  # by account and model, several to one quota where pooled
        self._unknown: dict[tuple[str, str], Quota] = {}  # likewise; next to be looked at first

    def quota(self, account: str, model: str, now: int) -> Quota:
        """The quota of a model at an account ("groq/org-a"); KeyError when that account is not configured."""
        found = self._known.get((account, model)) or self._unknown.get((account, model))
        return found or self._open(account, model, now)

    def merge(self, account: str, other: str, now: int) -> dict[Quota, Quota]:
        """Both accounts turn out to be one: every quota of `other` that goes, and the quota of `account` that takes
        over what it knew. Nothing is left of `other` here."""
        gone: dict[Quota, Quota] = {}
        for name, quota in [*self._known.items(), *self._unknown.items()]:
            if name[0] == other:
                self._known.pop(name, None)
                self._unknown.pop(name, None)
                heir = self.quota(account, name[1], now)
                if quota not in gone:
                    heir.merge(quota, now)
                    gone[quota] = heir
        self._quotas = {key: quota for key, quota in self._quotas.items() if key[0] != other}
        return gone

    def reconfigure(self, specs_for: SpecsFor, now: int) -> None:
        """A reload: quotas keep what was used. Those that nothing maps to any more are let go; requests in flight and
        tickets in line hold on to theirs."""
        self._specs_for = specs_for
        names = [*self._known, *self._unknown]
        old, self._quotas, self._known, self._unknown = self._quotas, {}, {}, {}
        for name in names:
            spec = specs_for(*name)
            if spec is None:
                continue
            key = (name[0], spec.key)
            if key not in self._quotas and key in old:
                self._quotas[key] = old[key]
                old[key].replace_specs(spec, now)
            if key in self._quotas:
                (self._known if spec.is_known else self._unknown)[name] = self._quotas[key]

    def named(self) -> dict[Quota, str]:
        """Every quota, with a model that draws on it: the name of a pool alone does not lead to one."""
        names = {quota: quota.model for quota in self._quotas.values()}
        for (_, model), quota in (*self._known.items(), *self._unknown.items()):
            names[quota] = model
        return names

    def models(self) -> dict[Quota, list[str]]:
        """Every model that draws on each quota: one, where no pool is."""
        models: dict[Quota, list[str]] = {}
        for (_, model), quota in (*self._known.items(), *self._unknown.items()):
            models.setdefault(quota, []).append(model)
        return models

    def __contains__(self, quota: Quota) -> bool:
        return self._quotas.get((quota.account, quota.model)) is quota

    def __iter__(self) -> Iterator[Quota]:
        """Every quota there is."""
        return iter(self._quotas.values())

    def __len__(self) -> int:
        return len(self._quotas)

    def _open(self, account: str, model: str, now: int) -> Quota:
        spec = self._specs_for(account, model)
        if spec is None:
            raise KeyError(account)
        if not spec.is_known and len(self._unknown) >= self._cap and not self._make_room(now):
            return self._join(account, spec._replace(key=_OVERFLOW))
        quota = self._join(account, spec)
        (self._known if spec.is_known else self._unknown)[account, model] = quota
        return quota

    def _join(self, account: str, spec: QuotaSpec) -> Quota:
        key = (account, spec.key)
        quota = self._quotas.get(key)
        if quota is None:
            quota = self._quotas[key] = Quota(account, spec)
            if self.opened is not None:
                self.opened(quota)
        return quota

    def _make_room(self, now: int) -> bool:
        for _ in range(min(_LOOKS, len(self._unknown))):
            name = next(iter(self._unknown))
            quota = self._unknown.pop(name)
            is_pooled = quota.model != name[1]
            if is_pooled or quota.is_idle(now):
                if not is_pooled:
                    del self._quotas[name]
                return True
            self._unknown[name] = quota
        return False

    def __repr__(self) -> str:
        return f"<Ledger {len(self._quotas)} quotas, {len(self._known)} known models, {len(self._unknown)} unknown>"
