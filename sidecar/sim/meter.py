"""The limits a simulated provider enforces: windows per account or per key, and per model; admission and settlement.

Every window of a request is tested before any is spent, and a refused request costs nothing. The windows themselves
are the ones of `core/windows.py`; which algorithm and which charge rule apply is the dialect's affair. A pure state
machine: `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from math import ceil
from typing import NamedTuple

import msgspec

from sidecar.core.windows import Calendar, Window, make
from sidecar.sim.axes import AXES, Axis, Demand, Denied, WindowState
from sidecar.sim.config import LimitRule

# Providers print waits rounded down to what a float holds (`1.984999999s`): whoever comes back then is let in.
_SLACK_NS = 1_000


class _Metered(msgspec.Struct):
    axis: Axis
    window: Window


class _Group(msgspec.Struct):
    """The windows that one owner (an account, or a key) has for one model."""

    windows: list[_Metered]
    concurrency: int | None
    in_flight: int = 0


class Ticket(msgspec.Struct):
    """What an admitted request holds until it is settled. `states` is what its answer's headers tell."""

    demand: Demand
    groups: tuple[_Group, ...]
    windows: list[_Metered]
    admitted_ns: int
    states: tuple[WindowState, ...]
    settled: bool = False


class Caller(NamedTuple):
    """Who calls: the secret it showed, and the account that secret belongs to."""

    key: str
    account: str


class _Owner(NamedTuple):
    """Whose windows: `key` is empty where the keys of the account share them."""

    account: str
    key: str


class Style(NamedTuple):
    """How a provider meters. `settles`: token windows are corrected to what was really used. `tells_before`: headers
    show the windows as they were before this call was charged."""

    algorithm: str
    settles: bool
    tells_before: bool = False


class Meter:
    """All windows of one simulated provider."""

    def __init__(self, style: Style, rules: Iterable[LimitRule] = ()) -> None:
        self._style = style
        self._rules = tuple(rules)
        self._groups: dict[tuple[_Owner, str], _Group] = {}

    def __repr__(self) -> str:
        in_flight = sum(group.in_flight for group in self._groups.values())
        return f"<Meter {self._style.algorithm} groups={len(self._groups)} in_flight={in_flight}>"

    def admit(self, caller: Caller, model: str, demand: Demand, now: int) -> Ticket | Denied:
        """Charge a request to its windows, or say which refuses it; the longest wait decides which is named."""
        groups = self._groups_of(caller, model)
        windows = [metered for group in groups for metered in group.windows]
        denied = _crowded(groups) or self._over(windows, demand, now)
        if denied is not None:
            return denied._replace(states=self._states(windows, now))
        before = self._states(windows, now) if self._style.tells_before else ()
        for metered in windows:
            metered.window.spend(demand.amount(metered.axis.counts), now)
        for group in groups:
            group.in_flight += 1
        return Ticket(demand, groups, windows, now, before or self._states(windows, now))

    def settle(self, ticket: Ticket, used: Demand, now: int) -> None:
        """End a request: free its place, and correct the token windows to what it really used where the provider
        does so. Harmless when called again."""
        if ticket.settled:
            return
        ticket.settled = True
        for group in ticket.groups:
            group.in_flight -= 1
        if not self._style.settles:
            return
        for axis, window in ((metered.axis, metered.window) for metered in ticket.windows):
            if axis.counts in ("tokens", "output"):
                delta = used.amount(axis.counts) - ticket.demand.amount(axis.counts)
                if delta > 0:
                    window.spend(delta, now)
                elif delta < 0:
                    window.refund(-delta, now, ticket.admitted_ns)

    def states(self, caller: Caller, model: str, now: int) -> tuple[WindowState, ...]:
        """The windows as they stand."""
        return self._states([metered for group in self._groups_of(caller, model) for metered in group.windows], now)

    def set_rules(self, rules: Iterable[LimitRule], now: int) -> None:
        """Change the limits at once. A window that keeps a limit keeps what was spent of it."""
        self._rules = tuple(rules)
        for (owner, model), group in self._groups.items():
            limits = self._limits(owner, model)
            group.concurrency = limits.pop("concurrency", None)
            kept = {metered.axis.name: metered for metered in group.windows if metered.axis.name in limits}
            for name, metered in kept.items():
                metered.window.set_limit(limits[name], now)
            group.windows = [kept.get(name) or self._window(name, limit) for name, limit in limits.items()]

    def _over(self, windows: Sequence[_Metered], demand: Demand, now: int) -> Denied | None:
        worst: Denied | None = None
        for axis, window in ((metered.axis, metered.window) for metered in windows):
            amount = demand.amount(axis.counts)
            free_at = window.free_at(amount, now)
            if free_at is None:
                used = window.limit - window.remaining(now)
                return Denied(axis.name, window.limit, used, amount, self._reset(window, now), never=True)
            wait = free_at - now
            if wait > _SLACK_NS and (worst is None or wait > (worst.wait_ns or 0)):
                used = self._used(window, amount, wait, now)
                worst = Denied(axis.name, window.limit, used, amount, wait, never=False)
        return worst

    def _used(self, window: Window, amount: int, wait_ns: int, now: int) -> int:
        """What is used, rounded up; a bucket may be overdrawn, which its wait tells and `remaining` does not."""
        if self._style.algorithm != "token_bucket":
            return window.limit - window.remaining(now)
        return ceil(round(wait_ns * window.limit / window.window_ns, 6)) + window.limit - amount

    def _reset(self, window: Window, now: int) -> int:
        """Time from now until it is whole; windows aligned to the clock tell their boundary also when unused."""
        if self._style.algorithm == "fixed":
            return Calendar(window.window_ns).next_after(now) - now
        return max(0, window.resets_at(now) - now)

    def _states(self, windows: Sequence[_Metered], now: int) -> tuple[WindowState, ...]:
        return tuple(
            WindowState(m.axis.name, m.window.limit, m.window.remaining(now), self._reset(m.window, now))
            for m in windows
        )

    def _groups_of(self, caller: Caller, model: str) -> tuple[_Group, ...]:
        owners = (_Owner(caller.account, ""), _Owner(caller.account, caller.key))
        return tuple(self._groups.get((owner, model)) or self._group(owner, model) for owner in owners)

    def _group(self, owner: _Owner, model: str) -> _Group:
        limits = self._limits(owner, model)
        concurrency = limits.pop("concurrency", None)
        group = _Group([self._window(name, limit) for name, limit in limits.items()], concurrency)
        self._groups[owner, model] = group
        return group

    def _limits(self, owner: _Owner, model: str) -> dict[str, int]:
        per = "key" if owner.key else "account"
        limits: dict[str, int] = {}
        for rule in self._rules:
            if rule.per == per and fnmatchcase(owner.account, rule.account) and fnmatchcase(model, rule.model):
                named = ((name, getattr(rule, name)) for name in (*AXES, "concurrency"))
                limits.update((name, limit) for name, limit in named if limit is not None)
        return {name: limits[name] for name in (*AXES, "concurrency") if name in limits}

    def _window(self, name: str, limit: int) -> _Metered:
        axis = AXES[name]
        return _Metered(axis, make(self._style.algorithm, limit, axis.window_ns))


def _crowded(groups: Sequence[_Group]) -> Denied | None:
    for group in groups:
        if group.concurrency is not None and group.in_flight >= group.concurrency:
            return Denied("concurrency", group.concurrency, group.in_flight, 1, None, never=False)
    return None
