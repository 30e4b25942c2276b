"""Whether all sidecars count together: over the ledger, or, while that is out of reach, each by a static share.

Holds a lease for every quota, what is known of the fleet, and what an operator is told of it. One failed call is enough
to count alone, one good one to count together again. Refuses to know the store and when calls are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from sidecar.core.access import timestamp
from sidecar.core.lease import Lease
from sidecar.core.limits import SECOND
from sidecar.core.quota import Quota

# why a call of the store brings nothing (store/redis.py)
REASONS = ("timeout", "connection", "password", "memory", "read_only", "error")
SEEN_S = 3  # a sidecar that has not been heard of for so long is not counted


class Counters(msgspec.Struct):
    """What has happened since the start, for `/status.json` and metrics. `calls`: sent to the store in all; `failures`
    by reason; `outages`: how often all quotas were divided; `ledgers_lost`: how often one had forgotten everything."""

    calls: int = 0
    failures: dict[str, int] = {}
    outages: int = 0
    ledgers_lost: int = 0


class Status(msgspec.Struct, omit_defaults=True):
    """As `/status.json` tells it. `mode`: shared, static (the store is out of reach), or divided (there is none)."""

    mode: str
    replicas: int
    store: str | None = None
    since: str | None = None
    problem: str | None = None
    counters: Counters | None = None


class News(NamedTuple):
    """Something an operator should know: an event's name, and what happened."""

    event: str
    message: str


class Sharing:
    """All leases of one process. `replicas`: sidecars that are assumed until the store has told; `place`: the store,
    for people; `wake`: called with a lease that wants to call."""

    def __init__(self, replicas: int, place: str, wake: Callable[[Lease], None]) -> None:
        self.replicas = replicas
        self.place = place
        self.counters = Counters()
        self.is_static = False
        self._wake = wake
        self._since_ns: int | None = None
        self._problem: str | None = None
        self.leases: dict[Quota, Lease] = {}

    def open(self, quota: Quota, now: int) -> Lease:
        """A quota that is new here."""
        lease = self.leases[quota] = Lease(quota, self._wake)
        lease.bind(now, self.replicas if self.is_static else None)
        lease.is_static = self.is_static
        return lease

    def drop(self, quota: Quota) -> None:
        """A quota that is no more."""
        self.leases.pop(quota, None)

    def bind(self, lease: Lease, now: int) -> None:
        """Take in what the quota has learned to have."""
        lease.bind(now, self.replicas if self.is_static else None)

    def note_members(self, count: int) -> None:
        """How many sidecars the store has heard of lately, this one included."""
        self.replicas = max(1, count)

    def fail(self, reason: str, message: str, now: int) -> News | None:
        """A call failed. `reason` is one of few words, for counting."""
        failures = self.counters.failures
        failures[reason] = failures.get(reason, 0) + 1
        self._problem = message
        if self.is_static:
            return None
        self.is_static, self._since_ns = True, now
        self.counters.outages += 1
        for lease in self.leases.values():
            lease.divide(self.replicas, now)
        counted = f"each of {self.replicas} sidecars counts 9/10 of a share by itself until it is back"
        return News("share_lost", f"{self.place}: {message}; {counted}")

    def recover(self, now: int) -> News | None:
        """A call succeeded."""
        if not self.is_static:
            return None
        lasted = (now - (self._since_ns or now)) / SECOND
        self.is_static, self._since_ns, self._problem = False, None, None
        for lease in self.leases.values():
            lease.unite()
        return News("share_back", f"{self.place}: back after {lasted:.1f} s; all sidecars count together again")

    def forgot(self, quota: Quota) -> News:
        """The ledger does not know what it knew of a quota."""
        self.counters.ledgers_lost += 1
        message = f"{self.place} has lost what {quota.account} had used of {quota.model}; short windows begin spent"
        return News("ledger_lost", message)

    def status(self) -> Status:
        """How it stands."""
        since = None if self._since_ns is None else timestamp(self._since_ns)
        mode = "static" if self.is_static else "shared"
        return Status(mode, self.replicas, self.place, since, self._problem, self.counters)

    def __repr__(self) -> str:
        mode = "static" if self.is_static else "shared"
        return f"<Sharing {mode} among {self.replicas}, {len(self.leases)} leases>"
