"""One account's quota for one model (or one pool of models): which windows apply, and who may go.

Admission tests everything (windows, requests in flight, cooldown), then spends everything, in one call without an
await: a refused request costs nothing, and one event loop needs no lock. Tokens are reserved by estimate and settled by
what the provider reports; every answer teaches limits. Refuses to know keys, targets and the network (design.md,
section 4).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

from sidecar.core.budget import FOREVER_NS, HEARD_FOR_NS, Budget, Charge, LimitSpec, QuotaSpec, WindowView
from sidecar.core.limits import Axis, Cost, Reading, Usage
from sidecar.core.line import Line

__all__ = ["BLOCKED_NS", "Charge", "LimitSpec", "Quota", "QuotaSpec", "WindowView"]

BLOCKED_NS = FOREVER_NS  # "not before something happens": an answer that frees a place, or a probe's success
_UNBOUNDED = 2**62  # requests in flight where no cap is known
_MAX_WINDOWS = 16  # headers are input: no provider has more


class Gate(enum.Enum):
    """Whether a cooldown stands before the windows."""

    OPEN = "open"
    COOLING = "cooling"  # until `cooldown_until`; from then on the first request to come is the probe
    PROBING = "probing"  # one request is out; all others wait for what becomes of it


_OPEN = Gate.OPEN  # an enum's member costs a look-up through its metaclass


class Quota:
    """Windows, requests in flight, cooldown and waiting line of one account and model. Times are Unix ns."""

    __slots__ = ("_cap", "_expires_ns", "_probe", "account", "budgets", "cooldown_until", "gate", "heard_cap",
                 "inflight", "line", "spec")  # fmt: skip

    def __init__(self, account: str, spec: QuotaSpec) -> None:
        self.account = account  # "groq/org-a"
        self.spec = spec
        self.line = Line(self)
        self.inflight = 0
        self.cooldown_until = 0
        self.gate = Gate.OPEN
        self._probe: Charge | None = None
        self.budgets = tuple(Budget(limit, spec.replicas) for limit in spec.specs)
        self.heard_cap: tuple[int, int] | None = None  # requests in flight, and when that is dropped
        self._expires_ns = FOREVER_NS  # not later than the first expiry of anything heard
        self._cap = self._effective_cap()

    @property
    def model(self) -> str:
        """The upstream model, or "pool:NAME"."""
        return self.spec.key

    @property
    def has_waiters(self) -> bool:
        """Whether requests wait here, whom a newcomer must not overtake."""
        return self.line.waiting > 0

    @property
    def concurrency(self) -> int | None:
        """How many requests may be in flight at once; None: no cap known."""
        return None if self._cap == _UNBOUNDED else self._cap

    def try_admit(self, cost: Cost, now: int) -> Charge | None:
        """Test all, then spend all; None when the request has to wait or can never go (ask `free_at`)."""
        if now >= self._expires_ns:
            self._expire(now)
        if self.inflight >= self._cap or not (self.gate is _OPEN or self._may_probe(now)):
            return None
        wanted = _by_column(cost)
        spent: list[tuple[Budget, int]] = []
        for budget in self.budgets:
            amount = wanted[budget.column]
            window = budget.window
            if not window.fits(amount, now):
                # one that is estimated larger than the limit takes all of it
                if amount <= window.limit or budget.never_fits(cost) or not window.fits(window.limit, now):
                    return None
                amount = window.limit
            spent.append((budget, amount))
        return self._spend(spent, now)

    def admit(self, cost: Cost, now: int) -> Charge:
        """Spend all without a test: for who has just seen that `free_at` is now."""
        wanted = _by_column(cost)
        return self._spend([(b, min(wanted[b.column], b.window.limit)) for b in self.budgets], now)

    def free_at(self, cost: Cost, now: int) -> int | None:
        """The first instant at which everything admits this cost, were nobody else to come: `now` when it does now.

        BLOCKED_NS: an event has to come first. None: it can never fit (design.md section 4).
        """
        if now >= self._expires_ns:
            self._expire(now)
        wanted = _by_column(cost)
        when = now if self.gate is _OPEN or now > self.cooldown_until else self.cooldown_until
        for budget in self.budgets:
            amount = wanted[budget.column]
            window = budget.window
            if window.fits(amount, now):
                continue
            if amount > window.limit and budget.never_fits(cost):
                return None
            free_ns = window.free_at(min(amount, window.limit), now)
            if free_ns is not None and free_ns > when:
                when = free_ns
        return BLOCKED_NS if self.inflight >= self._cap or self.gate is Gate.PROBING else when

    def settle(self, charge: Charge, usage: Usage | None, now: int) -> None:
        """The request is over: replace what was reserved by what the provider reports, or let it stand for None."""
        if not self._close(charge):
            return
        if usage is None:
            for budget, reserved, _ in charge.spent:
                budget.reserved -= reserved
            return
        taken, written = _counted_input(usage), usage.output_tokens
        used = (0, taken + written, taken, written)
        refunds = self.spec.rule.refunds
        for budget, reserved, _ in charge.spent:
            budget.reserved -= reserved
            if 0 < budget.column < 4:  # the axes of tokens; no usage tells of others
                excess = used[budget.column] - reserved
                if excess > 0:
                    budget.window.spend(excess, now)
                elif excess and refunds:
                    budget.window.refund(-excess, now, charge.at_ns)
                else:
                    continue
                budget.total += excess

    def cancel(self, charge: Charge, now: int) -> None:
        """The request never reached the provider: give everything back."""
        if self._close(charge):
            for budget, reserved, _ in charge.spent:
                budget.reserved -= reserved
                budget.total -= reserved
                budget.window.refund(reserved, now, charge.at_ns)

    def learn(self, readings: Iterable[Reading], now: int, charge: Charge | None = None) -> None:
        """Take in what an answer said of limits, new ones too. `charge`: its request's, if counted at admission."""
        if not self.spec.learn:
            return
        for reading in readings:
            if reading.axis is Axis.CONCURRENCY:
                self._hear_cap(reading, now)
                continue
            budget = self._find(reading) or self._create(reading)
            if budget is not None:
                budget.hear(reading, now, charge)
                if self._expires_ns > now + HEARD_FOR_NS:
                    self._expires_ns = now + HEARD_FOR_NS

    def cool(self, until_ns: int) -> None:
        """Admit nothing before `until_ns` (or a later instant named earlier), then one probe."""
        self.cooldown_until = max(self.cooldown_until, until_ns)
        self.gate = Gate.COOLING
        self._probe = None

    def passed(self, charge: Charge) -> None:
        """The provider took this request. Ends probing if it was the probe; harmless for any other."""
        if charge is self._probe:
            self._probe = None
            self.gate = Gate.OPEN

    def headroom(self, now: int) -> int:
        """What is left of the tightest limit, in thousandths; 0 while cooling or probing."""
        if now < self.cooldown_until or self.gate is Gate.PROBING:
            return 0
        least = 1000 if self._cap == _UNBOUNDED else max(0, self._cap - self.inflight) * 1000 // self._cap
        for budget in self.budgets:
            window = budget.window
            left = window.remaining(now) * 1000 // (window.limit or 1)
            if left < least:
                least = left
        return least

    def largest_budget(self, axis: Axis = Axis.TOKENS) -> int | None:
        """The largest request that can ever fit here, in the unit of that axis; None: no limit known."""
        return min((budget.full_limit for budget in self.budgets if budget.axis is axis), default=None)

    def views(self, now: int) -> Iterator[WindowView]:
        """Every window, for the status page."""
        return (budget.view(now) for budget in self.budgets)

    def is_idle(self, now: int) -> bool:
        """Whether nothing would be lost by forgetting it but limits that the next answer teaches again."""
        if self.inflight or self.line.waiting or now < self.cooldown_until:
            return False
        return all(budget.window.resets_at(now) <= now for budget in self.budgets)

    def replace_specs(self, spec: QuotaSpec, now: int) -> None:
        """A reload: what was used stays used, what is in flight stays charged, a raised limit admits at once."""
        wanted = {(limit.axis, limit.window_ns): limit for limit in spec.specs}
        kept: list[Budget] = []
        for budget in self.budgets:
            if not spec.learn:
                budget.forget()
            limit = wanted.pop((budget.axis, budget.window.window_ns), None)
            if budget.configure(limit, spec.replicas, now):
                kept.append(budget)
        self.budgets = (*kept, *(Budget(limit, spec.replicas) for limit in wanted.values()))
        if not spec.learn or spec.concurrency != self.spec.concurrency:
            self.heard_cap = None
        self.spec = spec
        self._cap = self._effective_cap()

    def _may_probe(self, now: int) -> bool:
        return self.gate is Gate.COOLING and now >= self.cooldown_until

    def _spend(self, spent: list[tuple[Budget, int]], now: int) -> Charge:
        taken = []
        for budget, amount in spent:
            budget.window.spend(amount, now)
            budget.reserved += amount
            budget.total = total = budget.total + amount
            taken.append((budget, amount, total))
        charge = Charge(taken, now)
        self.inflight += 1
        if self.gate is not _OPEN:
            self.gate = Gate.PROBING
            self._probe = charge
        return charge

    def _close(self, charge: Charge) -> bool:
        if not charge.is_open:
            return False
        charge.is_open = False
        self.inflight -= 1
        if charge is self._probe:
            # over without a word of the provider (its caller left, say): the next request is the probe
            self._probe = None
            self.gate = Gate.COOLING
        return True

    def _find(self, reading: Reading) -> Budget | None:
        found = None
        for budget in self.budgets:
            if budget.axis is reading.axis:
                if budget.window.window_ns == reading.window_ns:
                    return budget
                if reading.window_ns is None:
                    if found is not None:
                        return None
                    found = budget
        return found

    def _create(self, reading: Reading) -> Budget | None:
        axis, window_ns, limit = reading[:3]
        if limit is None or not window_ns or len(self.budgets) >= _MAX_WINDOWS:
            return None
        spec = self.spec
        algorithm = spec.algorithms.get((axis, window_ns), "sliding")
        limit_spec = LimitSpec(axis, window_ns, limit, reading.source, algorithm, spec.calendar, spec.transit_ns)
        budget = Budget(limit_spec, spec.replicas, is_heard=True)
        self.budgets = (*self.budgets, budget)
        return budget

    def _hear_cap(self, reading: Reading, now: int) -> None:
        if reading.limit is not None:
            self.heard_cap = (reading.limit, now + HEARD_FOR_NS)
            self._expires_ns = min(self._expires_ns, now + HEARD_FOR_NS)
            self._cap = self._effective_cap()

    def _effective_cap(self) -> int:
        caps = [cap for cap in (self.spec.concurrency, self.heard_cap and self.heard_cap[0]) if cap is not None]
        return max(1, min(caps) // self.spec.replicas) if caps else _UNBOUNDED

    def _expire(self, now: int) -> None:
        self.budgets = tuple(budget for budget in self.budgets if budget.expire(now))
        if self.heard_cap and self.heard_cap[1] <= now:
            self.heard_cap = None
            self._cap = self._effective_cap()
        ends = [budget.expires_ns for budget in self.budgets]
        self._expires_ns = min([*ends, self.heard_cap[1] if self.heard_cap else FOREVER_NS])

    def __repr__(self) -> str:
        cap = "" if self._cap == _UNBOUNDED else f"/{self._cap}"
        gate = "" if self.gate is _OPEN else f" {self.gate.value} {self.cooldown_until}"
        budgets = "".join(f", {budget!r}" for budget in self.budgets)
        state = f"{self.inflight}{cap} in flight, {self.line.waiting} waiting{gate}"
        return f"<Quota {self.account} {self.model}: {state}{budgets}>"


def _by_column(cost: Cost) -> tuple[int, int, int, int, int]:
    """What a request takes from a window of each axis."""
    taken, declared, audio = cost
    # who reads anything also writes something: a spent output window must stop it even where output is not reserved
    return 1, taken + declared, taken, declared or (1 if taken else 0), audio


def _counted_input(usage: Usage) -> int:
    """The input tokens a provider counts against its windows: all of them, also those from its prompt cache."""
    return usage.input_tokens
