"""A sidecar's lease of one shared quota: when the ledger is asked, for how much, and what its reply means here.

About one second's worth is held, as demand is; what is not spent in a second is confirmed or given back. Whatever a
lost reply granted the ledger tells again: it always says what is held in all. Without the ledger every window becomes a
static share. Refuses to know the wire (lease_call.py), the store, and what else is shared (sharing.py).
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.core import lease_call as wire
from sidecar.core.budget import HEARD_FOR_NS, Budget
from sidecar.core.gate import Gate
from sidecar.core.lease_call import US, Amounts, Answer, Batch, Call, Heard, Outage
from sidecar.core.leased_window import LeasedWindow, Term
from sidecar.core.limits import HOUR, SECOND, Reading
from sidecar.core.quota import Quota, QuotaSpec

LIFE_NS = SECOND  # a lease may be spent for so long; windows of the ledger refill later by as much
BEAT_NS = 2 * SECOND // 5  # between calls at a quota in use: news take two of them to reach everybody
IDLE_NS = 10 * SECOND  # without use: from then on it is looked at seldom, and its place is given up
_PAUSE_NS = SECOND // 200  # between two calls at one quota, whatever the hurry
_AHEAD_NS = SECOND // 10  # between them while nobody waits
_CROWDED_NS = SECOND // 6  # while all is spent: what comes back meanwhile is had by one call
_FIRST = 32  # waiting requests that are told; the others come when these are served
_BATCHES = 4  # that are not known to have arrived
_FRESHER_S = 60  # a limit heard again is told when its end has moved by so much
FOREVER_NS = 2**62


class Lease:
    """The lease of one quota. `wake(lease)` is called when it wants to call before its next beat."""

    __slots__ = ("_batches", "_budgets", "_cool_told", "_demand", "_divided", "_epoch", "_heard", "_is_prober",
                 "_next_ns", "_outage", "_seq", "_unit", "called_ns", "is_calling", "is_static", "members", "quota",
                 "term", "used_ns", "wake", "windows")  # fmt: skip

    def __init__(self, quota: Quota, wake: Callable[[Lease], None]) -> None:
        self.quota = quota
        self.wake = wake
        self.term = Term(lambda: wake(self))
        self.windows: dict[str, LeasedWindow] = {}
        self.is_calling = False
        self.is_static = False
        self.called_ns = 0
        self.used_ns = 0
        self.members = 1  # sidecars at this quota
        self._budgets: tuple[Budget, ...] = ()
        self._batches: list[Batch] = []
        self._seq = 0
        self._epoch = ""
        self._next_ns = 0
        self._demand = 0.0  # requests in the last second
        self._unit: dict[str, int] = {}  # what a request takes, lately
        self._heard: dict[str, tuple[int, int]] = {}  # as last told or heard
        self._cool_told = 0
        self._is_prober = False  # the one probe over all sidecars is ours
        self._divided: tuple[int, QuotaSpec] = (1, quota.spec)
        self._outage: tuple[int, int] | None = None  # since when, among how many

    def bind(self, now: int, replicas: int | None) -> None:
        """Take in windows that are new. `replicas`: without the ledger, among how many its limits are divided."""
        budgets = tuple(self.quota.budgets)
        if budgets == self._budgets and all(w.is_bound for w in self.windows.values()):
            return
        self._budgets, self.windows = budgets, {}
        for budget in budgets:
            window = budget.window
            if isinstance(window, LeasedWindow):
                self.windows[wire.window_name(budget.column, window.window_ns)] = window
                if not window.is_bound:
                    window.bind(self.term, now)
                    if replicas is not None:
                        window.divide(replicas, now)

    def due_ns(self, now: int) -> int:
        """When to call next; FOREVER_NS: not before something happens."""
        if self.is_calling or self.is_static:
            return FOREVER_NS
        hurry_ns = self.called_ns + (_PAUSE_NS if self.quota.line.waiting else _AHEAD_NS)
        if self._has_news():
            return hurry_ns
        if self.term.is_asked:
            spent_ns = max(self.called_ns + _CROWDED_NS, min(self._next_ns, self.called_ns + BEAT_NS))
            return spent_ns if self._next_ns > self.called_ns else hurry_ns
        if self.is_active(now):
            return self.called_ns + BEAT_NS
        return self.called_ns + IDLE_NS if self._epoch else FOREVER_NS

    def is_active(self, now: int) -> bool:
        """Whether it is in use, or was a short while ago."""
        if self.quota.inflight or self.quota.line.waiting or now < self.used_ns + IDLE_NS:
            return True
        return any(window.held or window.used for window in self.windows.values())

    @property
    def is_known(self) -> bool:
        """Whether the ledger has heard of it."""
        return bool(self._epoch)

    def call(self, member: str, prefix: str, now: int, *, is_last: bool = False) -> Call:
        """What to tell and to ask. The reply goes to `take`; where none comes, `miss`."""
        self.is_calling, self.term.is_asked = True, False
        quota, windows = self.quota, self.windows
        needs = self._needs(now)
        self._measure(now)
        ahead = -int(-self._demand // 1)
        self._give_back(needs, ahead)
        self._note_batch(now)
        told = {name: window.told for name, window in windows.items() if window.told is not None}
        for window in windows.values():
            window.told = None
        cool_ns = quota.cooldown_until - now if quota.cooldown_until > self._cool_told else 0
        self._cool_told = max(self._cool_told, quota.cooldown_until)
        return Call(
            m=member,
            s=self._seq,
            e=self._epoch,
            p=prefix,
            w=[(name, *window.terms(LIFE_NS, now)) for name, window in windows.items()],
            b=self._batches,
            n=needs,
            x=ahead,
            a=self._unit,
            t=told,
            h=self._fresh(now),
            c=max(0, cool_ns) // US,
            g=quota.gate.value,
            l={n: w.full_limit - w.left + max(0, w.static_used) for n, w in windows.items() if w.window_ns > HOUR},
            o=self._told_outage(now),
            bye=int(is_last or not self.is_active(now)),
        )

    def take(self, answer: Answer, sent_ns: int, now: int) -> bool:
        """A reply to the call sent then. Whether the ledger turned out to be another one, without what it knew."""
        self.is_calling, self.called_ns = False, sent_ns
        is_another = self._epoch not in ("", answer.e)
        if is_another:
            self._cool_told = 0
            self._heard.clear()
        self._epoch = answer.e
        self._batches, self._outage = [], None
        self._divide_permits(max(1, int(answer.n)))
        self._next_ns = sent_ns + int(answer.x) * US if answer.x >= 0 else 0
        self.term.expires_ns, self.term.granted_ns = sent_ns + LIFE_NS, sent_ns
        for name, (out, left, whole) in answer.w.items():
            window = self.windows.get(name)
            if window is not None and not window.is_static:
                window.held = int(out) - window.used - window.back
                window.low = (window.held + 1) // 2
                window.left = int(left)
                window.whole_ns = sent_ns + int(whole) * US
                window.next_ns = self._next_ns
        self._take_gate(answer, sent_ns, now)
        for name, told in answer.h.items():
            self._hear(wire.heard(name, told), now)
        return is_another

    def miss(self, sent_ns: int) -> None:
        """No reply came; the call may have arrived."""
        self.is_calling, self.called_ns = False, sent_ns
        self._cool_told = 0
        self._heard.clear()

    def divide(self, replicas: int, now: int) -> None:
        """The ledger is out of reach: a static share of each window, by so many sidecars."""
        self.bind(now, None)
        self.is_static, self.term.is_asked = True, False
        self._divide_permits(replicas)
        self._outage = self._outage or (now, replicas)
        for window in self.windows.values():
            if not window.is_static:
                window.divide(replicas, now)

    def unite(self) -> None:
        """The ledger is back."""
        self.is_static, self._next_ns = False, 0
        for window in self.windows.values():
            if window.is_static:
                if window.window_ns > HOUR:  # short windows are settled for all at once, see Outage
                    window.used += window.static_used
                window.unite()
        self.term.want()

    def _needs(self, now: int) -> list[tuple[int, Amounts]]:
        """The first of those that wait, with what they take."""
        quota = self.quota
        if quota.gate is Gate.PROBING:
            return []
        needs = []
        for since_ns, cost in quota.line.first(_FIRST):
            amounts = wire.wanted(cost)
            need = {}
            for budget in self._budgets:
                window = budget.window
                name = wire.window_name(budget.column, window.window_ns)
                if name in self.windows and amounts[budget.column]:
                    need[name] = min(amounts[budget.column], window.limit)
            needs.append((max(0, now - since_ns) // US, need))
        return needs

    def _measure(self, now: int) -> None:
        """How many requests the last second brought, and what one takes."""
        count = 0
        for name, window in self.windows.items():
            if window.spends and window.used > 0:
                self._unit[name] = -(-window.used // window.spends)
                count = max(count, window.spends)
            window.spends = 0
        self._unit = {name: unit for name, unit in self._unit.items() if name in self.windows}
        if count:
            self.used_ns = now
        passed = min(1.0, max(0, now - self.called_ns) / SECOND)
        self._demand = self._demand * (1 - passed) + count if count or now < self.used_ns + LIFE_NS else 0.0

    def _give_back(self, needs: list[tuple[int, Amounts]], ahead: int) -> None:
        for name, window in self.windows.items():
            wanted_here = sum(need.get(name, 0) for _, need in needs) + ahead * self._unit.get(name, 0)
            window.give_back(window.held - wanted_here)

    def _note_batch(self, now: int) -> None:
        """Everything since the last call, under this call's number."""
        self._seq += 1
        batch = Batch(self._seq, {}, {}, [])
        for name, window in self.windows.items():
            batch.u.update({name: window.used} if window.used else {})
            batch.k.update({name: window.back} if window.back else {})
            batch.r += [(name, amount, max(0, now - at_ns) // US) for amount, at_ns in window.refunds]
            window.used = window.back = 0
            window.refunds = []
        self._batches = [*self._batches, batch]
        if len(self._batches) > _BATCHES:
            self._batches = wire.folded(self._batches)

    def _fresh(self, now: int) -> dict[str, tuple[int, int]]:
        """Limits heard here that the ledger may not know."""
        fresh = {}
        for budget in self._budgets:
            for source, (limit, until_ns) in budget.heard.items():
                name = wire.heard_name(budget.column, budget.window.window_ns, source)
                told, until_s = self._heard.get(name), until_ns // SECOND
                if told is None or told[0] != limit or until_s > told[1] + _FRESHER_S:
                    fresh[name] = self._heard[name] = (limit, until_s)
        return fresh

    def _hear(self, told: Heard | None, now: int) -> None:
        if told is None or told.until_s * SECOND <= now:
            return
        name = wire.heard_name(told.axis, told.window_ns, told.source)
        before = self._heard.get(name) or self._known(told)
        if before is None or (told.limit != before[0] and told.until_s >= before[1]):
            self._heard[name] = (told.limit, told.until_s)
            reading = Reading(told.axis, told.window_ns, told.limit, None, None, told.source)
            self.quota.learn((reading,), told.until_s * SECOND - HEARD_FOR_NS)

    def _divide_permits(self, members: int) -> None:
        """Requests in flight are not leased: a cap on them is divided among those who are at the quota."""
        quota, self.members = self.quota, members
        if self._divided != (members, quota.spec):
            self._divided = (members, quota.spec)
            quota.permits.configure(quota.spec.concurrency, quota.spec.documented, members)

    def _known(self, told: Heard) -> tuple[int, int] | None:
        for budget in self._budgets:
            if (budget.axis, budget.window.window_ns) == told[:2] and told.source in budget.heard:
                return budget.heard[told.source][0], budget.heard[told.source][1] // SECOND
        return None

    def _take_gate(self, answer: Answer, sent_ns: int, now: int) -> None:
        quota = self.quota
        until_ns = sent_ns + int(answer.c) * US
        if answer.g == "cooling" and until_ns > quota.cooldown_until + SECOND // 1000:
            quota.cool(until_ns)
            self._cool_told = quota.cooldown_until
        self._is_prober = answer.g == "mine"
        if self._is_prober and quota.gate is Gate.OPEN:
            quota.cool(sent_ns)  # it had heard nothing of the cooldown: its next request is the probe all the same
            self._cool_told = quota.cooldown_until
        if answer.g == "open" and quota.gate is Gate.COOLING and quota.cooldown_until <= max(now, self._cool_told):
            quota.cooldown_until = min(quota.cooldown_until, now)
            quota.gate = Gate.OPEN  # another sidecar's probe has passed

    def _has_news(self) -> bool:
        """What others should know before the next beat: a cooldown, or what became of a probe."""
        if not self._epoch:
            return False
        return self.quota.cooldown_until > self._cool_told or (self._is_prober and self.quota.gate is Gate.OPEN)

    def _told_outage(self, now: int) -> Outage | None:
        if self._outage is None:
            return None
        since_ns, replicas = self._outage
        worst = {name: amount for name, w in self.windows.items() if (amount := w.worst(since_ns, now))}
        return Outage(max(0, now - since_ns) // US, worst, replicas)

    def __repr__(self) -> str:
        state = "static" if self.is_static else f"{self.members} sidecars"
        return f"<Lease {self.quota.account} {self.quota.model}: {state}, {list(self.windows.values())!r}>"
