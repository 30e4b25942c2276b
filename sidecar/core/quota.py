"""One account's quota for one model (or one pool of models): which windows apply, and who may go.

Admission tests everything (windows, requests in flight, cooldown), then spends everything, in one call without an
await: a refused request costs nothing, and one event loop needs no lock. Tokens are reserved by estimate and settled by
what the provider reports; every answer teaches limits. Refuses to know keys, targets and the network (design.md,
section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidecar.core import budgets as sets
from sidecar.core.budget import FOREVER_NS, HEARD_FOR_NS, Charge, LimitSpec, QuotaSpec, Taken, WindowView
from sidecar.core.concurrency import UNBOUNDED, Permits
from sidecar.core.gate import Gate
from sidecar.core.hearing import Hearing
from sidecar.core.limits import Axis, Cost, Reading, Usage
from sidecar.core.line import Line

__all__ = ["BLOCKED_NS", "Charge", "Gate", "LimitSpec", "Quota", "QuotaSpec", "WindowView"]

BLOCKED_NS = FOREVER_NS  # "not before something happens": an answer that frees a place, or a probe's success
_OPEN, _PROBING = Gate.OPEN, Gate.PROBING  # an enum's member costs a look-up through its metaclass


class Quota:
    """Windows, requests in flight, cooldown and waiting line of one account and model. Times are Unix ns."""

    __slots__ = (
        "_expires_ns", "_probe", "account", "budgets", "cooldown_until", "gate", "hearing", "inflight", "learns",
        "line", "look", "permits", "spec",
    )  # fmt: skip

    def __init__(self, account: str, spec: QuotaSpec) -> None:
        self.account = account  # "groq/org-a"
        self.spec = spec
        self.learns = spec.learn
        self.line = Line(self)
        self.inflight = 0
        self.cooldown_until = 0
        self.gate = Gate.OPEN
        self._probe: Charge | None = None
        self.look = sets.Look()
        self.hearing = Hearing(self)
        self.budgets = sets.configured(spec)
        self.permits = Permits(spec.concurrency, spec.documented, spec.replicas)
        self._expires_ns = FOREVER_NS  # not later than the first expiry of anything heard

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
        return self.permits.known

    def try_admit(self, cost: Cost, now: int) -> Charge | None:
        """Test all, then spend all; None when the request has to wait or can never go (ask `free_at`)."""
        if now >= self._expires_ns:
            self._expire(now)
        if self.gate is not _OPEN and not self._may_probe(now):
            return None
        if self.inflight >= self.permits.cap and not self.permits.widen(now):
            return None
        if self.look.admits(cost, now):
            return self._spend(cost, now)
        for budget in self.budgets:
            amount = cost.taken(budget.column)
            window = budget.window
            # one that is estimated larger than the limit takes all of it
            if not window.fits(amount, now) and (
                amount <= window.limit or budget.never_fits(cost) or not window.fits(window.limit, now)
            ):
                return None
        return self._spend(cost, now)

    def free_at(self, cost: Cost, now: int) -> int | None:
        """The first instant at which everything admits this cost, were nobody else to come: `now` when it does now.

        BLOCKED_NS: an event has to come first. None: it can never fit (design.md section 4).
        """
        if now >= self._expires_ns:
            self._expire(now)
        when = now if self.gate is _OPEN or now > self.cooldown_until else self.cooldown_until
        for budget in self.budgets:
            amount = cost.taken(budget.column)
            window = budget.window
            if window.fits(amount, now):
                continue
            if amount > window.limit and budget.never_fits(cost):
                return None
            free_ns = window.free_at(min(amount, window.limit), now)
            if free_ns is not None and free_ns > when:
                when = free_ns
        if self.inflight >= self.permits.cap:
            grows_ns = self.permits.grows_at(when)
            when = BLOCKED_NS if grows_ns is None else grows_ns
        return BLOCKED_NS if self.gate is _PROBING else when

    def settle(self, charge: Charge, usage: Usage | None, now: int) -> None:
        """The request is over: replace what was reserved by what the provider reports, or let it stand for None."""
        if not self._close(charge):
            return
        for taken in charge.spent:
            taken.budget.reserved -= taken.amount
        if usage is None:
            return
        rule, written = self.spec.rule, usage.output_tokens
        read = usage.input_tokens if rule.cached == "counted" else usage.input_tokens - usage.cached_tokens
        refunds = rule.refunds
        for taken in charge.spent:
            budget = taken.budget
            column = budget.column
            if 0 < column < 4:  # the axes of tokens; no usage tells of others
                used = read + written if column == 1 else read if column == 2 else written
                excess = used - taken.amount
                if excess > 0:
                    budget.window.spend(excess, now)
                    self.look.tokens -= excess
                elif excess and refunds:
                    budget.window.refund(-excess, now, charge.at_ns)
                else:
                    continue
                budget.total += excess

    def cancel(self, charge: Charge, now: int) -> None:
        """The request never reached the provider: give everything back."""
        if self._close(charge):
            for taken in charge.spent:
                budget = taken.budget
                budget.reserved -= taken.amount
                budget.total -= taken.amount
                budget.window.refund(taken.amount, now, charge.at_ns)

    def crowd(self, charge: Charge, now: int, is_busy: bool = False) -> None:
        """The provider refused it as one too many at once. `is_busy`: only for want of capacity, which says something
        of a cap where one is being searched for."""
        if not charge.is_open:
            return
        self.cancel(charge, now)
        if not is_busy or self.permits.is_full_at(self.inflight + 1):
            self.permits.refuse(charge.at_ns, self.inflight, now)

    def learn(self, readings: Iterable[Reading], now: int, charge: Charge | None = None) -> None:
        """Take in what an answer said of limits, new ones too. `charge`: its request's, if counted at admission."""
        if not self.learns:
            return
        self.look.fresh_ns = 0
        for reading in readings:
            if reading.axis is Axis.CONCURRENCY:
                self._hear_cap(reading, now)
                continue
            budget = sets.find(self.budgets, reading)
            if budget is None and (budget := sets.opened(self.budgets, reading, self.spec)) is not None:
                self.budgets = (*self.budgets, budget)
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
        if charge is self.permits.top:
            self.permits.prove()

    def headroom(self, now: int) -> int:
        """What is left of the tightest limit, in thousandths; 0 while cooling or probing."""
        if now < self.cooldown_until or self.gate is _PROBING:
            return 0
        room = self.look.renewed(self.budgets, now)
        cap = self.permits.cap
        return room if cap == UNBOUNDED else min(room, max(0, cap - self.inflight) * 1000 // cap)

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
        self.budgets = sets.reconfigured(self.budgets, spec, now)
        self.look.fresh_ns = 0
        if not spec.learn or (spec.concurrency, spec.documented) != (self.spec.concurrency, self.spec.documented):
            self.permits.forget()
        self.spec = spec
        self.learns = spec.learn
        self._configure_permits()

    def merge(self, other: Quota, now: int) -> None:
        """Take over what another quota knows, which turns out to be of the same account; nobody uses it any more."""
        self.budgets = sets.merged(self.budgets, other.budgets, now)
        self.look.fresh_ns = 0
        self._expires_ns = min(self._expires_ns, other._expires_ns)
        self.inflight += other.inflight
        if other.gate is not _OPEN:
            self.cool(other.cooldown_until)
        if other.permits.heard is not None and self.permits.heard is None:
            self.permits.heard = other.permits.heard
            self._configure_permits()
        other.budgets = ()  # its charges keep theirs, which count here
        other.cool(BLOCKED_NS)

    def _may_probe(self, now: int) -> bool:
        return self.gate is Gate.COOLING and now >= self.cooldown_until

    def _spend(self, cost: Cost, now: int) -> Charge:
        self.look.spend(cost)
        taken: list[Taken] = []
        for budget in self.budgets:
            amount = cost.taken(budget.column)
            window = budget.window
            if amount > window.limit:
                amount = window.limit
            window.spend(amount, now)
            budget.reserved += amount
            budget.total = total = budget.total + amount
            taken.append(Taken(budget, amount, total))
        charge = Charge(taken, now)
        self.inflight += 1
        if self.inflight >= self.permits.cap:
            self.permits.fill(charge, now)
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

    def _hear_cap(self, reading: Reading, now: int) -> None:
        if reading.limit is not None:
            self.permits.heard = (reading.limit, now + HEARD_FOR_NS)
            self._expires_ns = min(self._expires_ns, now + HEARD_FOR_NS)
            self._configure_permits()

    def _configure_permits(self) -> None:
        self.permits.configure(self.spec.concurrency, self.spec.documented, self.spec.replicas)

    def _expire(self, now: int) -> None:
        self.budgets = tuple(budget for budget in self.budgets if budget.expire(now))
        self.look.fresh_ns = 0
        heard = self.permits.heard
        if heard is not None and heard[1] <= now:
            heard = self.permits.heard = None
            self._configure_permits()
        ends = [budget.expires_ns for budget in self.budgets]
        self._expires_ns = min([*ends, heard[1] if heard else FOREVER_NS])

    def __repr__(self) -> str:
        cap = "" if self.concurrency is None else f"/{self.concurrency}"
        gate = "" if self.gate is _OPEN else f" {self.gate.value} {self.cooldown_until}"
        budgets = "".join(f", {budget!r}" for budget in self.budgets)
        state = f"{self.inflight}{cap} in flight, {self.line.waiting} waiting{gate}"
        return f"<Quota {self.account} {self.model}: {state}{budgets}>"
