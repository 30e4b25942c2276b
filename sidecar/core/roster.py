"""Who can serve a target: its keys, each with the quota it draws on and the standings it depends on.

Built once per target and kept; models named by callers alone are kept in a bounded map. On reload the snapshot is
swapped, while quotas, standings and calibrations live on under their names.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sidecar.core.accounts import Accounts, Merger
from sidecar.core.backlog import Backlog
from sidecar.core.conversation import Pins
from sidecar.core.health import Health
from sidecar.core.keys import Candidate, Keys, Shared
from sidecar.core.ledger import Ledger
from sidecar.core.outcomes import Outcome
from sidecar.core.quota import Quota
from sidecar.core.snapshot import Key, Snapshot, Target
from sidecar.core.tokens import Calibration, Kind

_MAX_CANDIDATES: Final = 1 << 14  # about 1 kB each; a target that was left out is built again when it is asked for
_MAX_CHAINS: Final = 1024
_MAX_CALIBRATIONS: Final = 4096


class Roster:
    """The candidates of every target that has been asked for, under the present snapshot."""

    def __init__(self, snapshot: Snapshot, now_ns: int) -> None:
        self.snapshot = snapshot
        self.ledger = Ledger(snapshot.quota_spec)
        self.accounts = Accounts()
        self.health = Health()
        self.shared = Shared(Pins(), Backlog())
        self._keys: OrderedDict[Target, Keys] = OrderedDict()
        self._hops: dict[tuple[Target, ...], list[Keys]] = {}  # of `_keys`, for chains asked for lately
        self.candidates = 0  # of all targets that are kept
        self.calibrations: OrderedDict[str, Calibration] = OrderedDict()  # as `provider/model KIND`
        self.reload(snapshot, now_ns)

    def reload(self, snapshot: Snapshot, now_ns: int) -> None:
        """Serve by another configuration from now on; what was used stays used."""
        self.snapshot = snapshot
        self._keys.clear()
        self._hops.clear()
        self.candidates = 0
        for provider in snapshot.providers.values():
            self.health.note_place(provider.name, provider.url)
            for key in provider.keys:
                if self.health.note_secret(key.ident, key.fingerprint(provider.url)):
                    self.accounts.forget(key.account)
        self.ledger.reconfigure(snapshot.quota_spec, now_ns)

    def keys(self, target: Target, now_ns: int) -> Keys:
        """All keys of a target."""
        keys = self._keys.get(target)
        if keys is None:
            keys = self._build(target, target.provider.keys, now_ns)
            self.candidates += len(keys.candidates)
            while self._keys and self.candidates > _MAX_CANDIDATES:
                self._hops.clear()
                _, oldest = self._keys.popitem(last=False)
                self.candidates -= len(oldest.candidates)
            self._keys[target] = keys
        return keys

    def hops(self, targets: tuple[Target, ...], now_ns: int) -> list[Keys]:
        """All keys of each target of a chain. Not to be changed."""
        hops = self._hops.get(targets)
        if hops is None:
            hops = [self.keys(target, now_ns) for target in targets]
            if len(self._hops) >= _MAX_CHAINS:
                self._hops.clear()
            self._hops[targets] = hops
        return hops

    def only(self, target: Target, key: Key, now_ns: int) -> Keys:
        """One key of a target, where no other may serve."""
        keys = self.keys(target, now_ns)
        candidate = keys.named[key.ident]
        return Keys(target, (candidate,), keys.calibrations, self.shared)

    def note_organization(
        self, candidate: Candidate, organization: str, now_ns: int
    ) -> tuple[Merger, list[Quota]] | None:
        """An error named whose account a key is; where that makes two accounts one, what is to be told, and the quotas
        that nobody is served at any more."""
        key = candidate.key
        merger = self.accounts.note(key.provider, key.account, organization)
        if merger is None:
            return None
        gone = self.ledger.merge(merger.account, merger.joined, now_ns)
        for keys in self._keys.values():
            for each in keys.candidates:
                each.quota = gone.get(each.quota, each.quota)
        return merger, list(gone)

    def _build(self, target: Target, keys: tuple[Key, ...], now_ns: int) -> Keys:
        name = str(target)
        is_passing = not self.snapshot.is_known(target.model)
        candidates = tuple(
            Candidate(
                target,
                key,
                self.ledger.quota(self.accounts.root(key.account), target.model, now_ns),
                (
                    self.health.targets.of(name, now_ns, is_passing),
                    self.health.keys.of(key.ident, now_ns),
                    self.health.key_models.of(f"{key.ident} {target.model}", now_ns, is_passing),
                ),
                self.health.breakers.of(name, now_ns, is_passing),
            )
            for key in keys
        )
        calibrations = {kind: self.calibration(f"{name} {kind.value}".rstrip()) for kind in Kind}
        return Keys(target, candidates, calibrations, self.shared)

    def calibration(self, name: str) -> Calibration:
        """What has been learned of a target's tokenizer and one kind of text; of a new target nothing."""
        calibration = self.calibrations.get(name)
        if calibration is None:
            calibration = self.calibrations[name] = Calibration()
            if len(self.calibrations) > _MAX_CALIBRATIONS:
                self.calibrations.popitem(last=False)
        return calibration

    def is_callable(self, key: Key, now_ns: int) -> bool:
        """Whether the key is there and nothing is known against it."""
        return key.is_present and self.health.keys.of(key.ident, now_ns).until_ns <= now_ns

    def reached(self, now_ns: int) -> set[str]:
        """The providers that may be called with at least one key."""
        return {key.provider for key in self.snapshot.each_key() if self.is_callable(key, now_ns)}

    def usable_names(self, now_ns: int) -> list[str]:
        """The public names of which at least one target may be called."""
        parked, reached = self.parked(now_ns), self.reached(now_ns)
        return [
            name
            for name, chain in self.snapshot.chains.items()
            if any(target.provider.name in reached and str(target) not in parked for target in chain)
        ]

    def parked(self, now_ns: int) -> set[str]:
        """The targets (`provider/model`) that were found not to exist, for as long as that is believed."""
        return {
            name
            for name, standing in self.health.targets.items()
            if standing.until_ns > now_ns and standing.cause is Outcome.MODEL_UNAVAILABLE
        }
