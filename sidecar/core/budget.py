"""One limit of a quota: its window, where the limit came from, and what each request in flight has reserved of it.

Decides which limit is in force (the smallest of what was configured and what the provider was heard to say) and how far
the provider's own count is believed. Refuses to know the other limits of the same account and model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sidecar.core.durations import parse_reset
from sidecar.core.leased_window import make_window as make
from sidecar.core.limits import DAY, MINUTE, Axis, ChargeRule, Cost, Reading, Source
from sidecar.core.windows import Calendar

HEARD_FOR_NS = DAY  # what was heard once and never again is dropped, so that no wrong limit lasts
_HEADER: Final = Source.HEADER  # an enum's member costs a look-up through its metaclass
_NOTED_NS: Final = HEARD_FOR_NS - MINUTE  # what is heard again is noted once a minute
# later than any instant, and the largest number that is no object when compiled; see also quota.BLOCKED_NS
FOREVER_NS: Final = 2**62 - 1


class LimitSpec(NamedTuple):
    """A limit as configuration or the catalog gives it. `limit` is the provider's, undivided, also under a share."""

    axis: Axis
    window_ns: int
    limit: int
    source: Source = Source.CONFIG
    algorithm: str = "sliding"
    calendar: Calendar | None = None
    transit_ns: int = 0  # how much later than we the provider may count, see windows.py


class QuotaSpec(NamedTuple):
    """What configuration and catalog say of one quota."""

    key: str  # the model, or "pool:NAME" where models share
    specs: Sequence[LimitSpec] = ()
    concurrency: int | None = None  # requests in flight at once; None: no cap known
    algorithms: Mapping[tuple[Axis, int], str] = {}  # of windows that are only learned; "sliding" where absent
    calendar: Calendar | None = None  # for fixed windows of its length that are only learned
    transit_ns: int = 0  # of windows that are only learned
    learn: bool = True
    rule: ChargeRule = ChargeRule()
    replicas: int = 1  # sidecars that share this account by division: each takes limit / replicas
    is_known: bool = True  # configured or in the catalog; else the ledger may forget it when idle
    documented: int | None = None  # `concurrency` as the catalog has it: where the search for the true one ends
    unknown: str = "sliding"  # the algorithm of windows that are only learned, where `algorithms` names none


class WindowView(NamedTuple):
    """A window as the status page shows it. `resets_at` is Unix ns, not later than now when the window is whole.
    `drift`: how far our count was from the provider's after it last told its own, in thousandths of the limit."""

    axis: Axis
    window_ns: int
    limit: int
    remaining: int
    resets_at: int
    source: Source
    drift: int | None = None


class Budget:
    """One window with its provenance. `full_limit` is the provider's, `window.limit` this process's share of it."""

    __slots__ = (
        "_heard_limit",
        "_heard_text",
        "_noted_ns",
        "_ours",
        "_replicas",
        "_told",
        "axis",
        "column",
        "full_limit",
        "heard",
        "reserved",
        "shape",
        "source",
        "spec",
        "total",
        "window",
    )

    def __init__(self, spec: LimitSpec, replicas: int = 1, is_heard: bool = False) -> None:
        """`is_heard`: the limit is not configured; `hear` follows and gives it its source and its end."""
        self.axis = spec.axis
        self.column = int(spec.axis)  # the plain int indexes tuples faster than the enum
        self.window = make(spec.algorithm, _share(spec.limit, replicas), spec.window_ns, spec.calendar, spec.transit_ns)
        self.full_limit = spec.limit
        self.source = spec.source
        self.spec = None if is_heard else spec
        self.reserved = 0
        self.total = 0  # all that was ever spent, less what was given back
        self.heard: dict[Source, tuple[int, int]] = {}  # by whom: the limit, and when it is dropped
        self._replicas = replicas
        self.shape = (spec.algorithm, spec.calendar)  # how its window runs
        self._told = -1  # what the provider last said is left; below 0: nothing yet
        self._ours = 0  # what we took to be left from then on
        self._heard_text = b""  # the limit that headers name, as they do, while it stands in `heard`; its number,
        self._heard_limit = 0
        self._noted_ns = 0  # and until when it need not be noted again

    def never_fits(self, cost: Cost) -> bool:
        """Whether a request of that cost cannot fit even a whole window.

        Estimates may be 30 % too high, what is declared is taken at its word. The full limit counts, not our share.
        """
        estimated, declared = (
            (1, 0),
            (cost.input_tokens, cost.output_tokens),
            (cost.input_tokens, 0),
            (0, cost.output_tokens),
            (cost.audio_seconds, 0),
        )[self.column]
        return 7 * estimated + 10 * declared > 10 * self.full_limit

    def hear(self, reading: Reading, now: int, charge: Charge | None = None) -> None:
        """Take in what a provider said of this window, in the answer to the request that `charge` was for: providers
        count when they admit, so whatever was spent since is not in it. None: it was said just now."""
        limit, source = reading.limit, reading.source
        if limit is not None:
            before = self.heard.get(source)
            self.heard[source] = (limit, now + HEARD_FOR_NS)
            self._heard_text = b""
            if before is None or before[0] != limit:
                self._apply(now)
        if reading.remaining is None:
            return
        self._hear_left(reading.remaining, limit, reading.reset_ns, now, charge)

    def hears_again(self, limit: bytes, now: int) -> bool:
        """Whether a header named that limit, in these digits, not long ago: it says nothing new."""
        return limit == self._heard_text and now < self._noted_ns

    def note_text(self, limit: bytes) -> None:
        """These are the digits of the limit that a header has just named."""
        then = self.heard.get(_HEADER)
        if then is not None:
            self._heard_text, self._heard_limit, self._noted_ns = limit, then[0], then[1] - _NOTED_NS

    def hear_remaining(self, remaining: int, reset: bytes | None, now: int, charge: Charge) -> int:
        """Take in what a header said is left of the limit that is heard again, and when the window is whole, as sent.
        How much less is left now than we thought, negative where it is more."""
        return self._hear_left(remaining, self._heard_limit, reset, now, charge)

    def expire(self, now: int) -> bool:
        """Drop what was heard too long ago. False when no limit is left."""
        self.heard = {source: heard for source, heard in self.heard.items() if heard[1] > now}
        if self.spec is None and not self.heard:
            return False
        self._apply(now)
        return True

    def forget(self) -> None:
        """Drop all that was heard; `configure` follows."""
        self.heard.clear()
        self._heard_text = b""

    @property
    def expires_ns(self) -> int:
        """When the first of what was heard is dropped."""
        return min((until for _, until in self.heard.values()), default=FOREVER_NS)

    def configure(self, spec: LimitSpec | None, replicas: int, now: int) -> bool:
        """Take a new configuration, keeping what was used. False when no limit is left."""
        edited = (spec and spec.limit) != (self.spec and self.spec.limit)
        if edited:
            self.heard.pop(Source.BODY, None)
        if spec is not None and (spec.algorithm, spec.calendar) != self.shape:
            used = self.window.limit - self.window.remaining(now)
            self.shape = (spec.algorithm, spec.calendar)
            self.window = make(spec.algorithm, self.window.limit, spec.window_ns, spec.calendar, spec.transit_ns)
            self.window.spend(used, now)
        self.spec = spec
        self._replicas = replicas
        if spec is None and not self.heard:
            return False
        self._apply(now)
        return True

    def view(self, now: int) -> WindowView:
        """This window for the status page."""
        window = self.window
        left, whole_ns = window.remaining(now), window.resets_at(now)
        drift = None if self._told < 0 else abs(self._told - self._ours) * 1000 // (window.limit or 1)
        return WindowView(self.axis, window.window_ns, window.limit, left, whole_ns, self.source, drift)

    def absorb(self, other: Budget, now: int) -> None:
        """Another count of the same window, that was held to be another account's: the more that was used counts."""
        for source, (limit, until_ns) in other.heard.items():
            before = self.heard.get(source)
            self.heard[source] = (limit, until_ns) if before is None else min(before, (limit, until_ns))
        self._heard_text = b""
        used = other.window.limit - other.window.remaining(now)
        self._apply(now)
        unknown = used - (self.window.limit - self.window.remaining(now))
        if unknown > 0:
            self.window.spend(unknown, now)
        other.window = self.window

    def _apply(self, now: int) -> None:
        limits = [(limit, source) for source, (limit, _) in self.heard.items()]
        if self.spec is not None:
            limits.append((self.spec.limit, self.spec.source))
        self.full_limit, self.source = min(limits, key=lambda pair: pair[0])
        share = _share(self.full_limit, self._replicas)
        if share != self.window.limit:
            self.window.set_limit(share, now)

    def _hear_left(
        self, remaining: int, limit: int | None, reset: int | bytes | None, now: int, charge: Charge | None
    ) -> int:
        """Follow what the provider says is left as far as it is believed; how much less that is than we
        thought, negative where it is more."""
        window = self.window
        ours = window.remaining(now)
        own, since, at_ns = (0, 0, now) if charge is None else self._since(charge)
        present = window.brought_up(remaining, at_ns, since, now)
        if present is None:
            return 0
        self._told, self._ours = present if present > 0 else 0, ours
        if present < ours:
            if 2 * present > window.limit and ours - present <= window.limit >> 10:
                return 0  # a thousandth, with half of it left: not worth a correction each time
            self._follow(self._told, reset if present == remaining else None, now)
        elif limit is not None and limit <= window.limit:
            # requests in flight may not be in the provider's count yet, so what they reserved stays off. A limit of our
            # own below the provider's, or a share of it, is ours to count: the provider's count says nothing of it
            allowed = (remaining if remaining < limit else limit) - max(self.reserved, own + since)
            if allowed > ours:
                self._follow(allowed, reset, now)
        return ours - self._ours

    def _follow(self, amount: int, reset: int | bytes | None, now: int) -> None:
        reset_ns = parse_reset(reset, now) if isinstance(reset, bytes) else reset
        self.window.observe(amount, now, None if reset_ns is None else now + reset_ns)
        self._ours = amount

    def _since(self, charge: Charge) -> tuple[int, int, int]:
        """What a request was charged here, what was spent after it, and when it went. One that went before this window
        was known is not in the total."""
        own, then = 0, 0
        for taken in charge.spent:
            if taken.budget is self:
                own, then = taken.amount, taken.total
                break
        return own, self.total - then if self.total > then else 0, charge.at_ns

    def __repr__(self) -> str:
        return f"<Budget {self.axis.name.lower()} {self.window!r} by {self.source.value}>"


class Taken:
    """What a request took of one budget, in the unit of its axis, and the budget's total with it."""

    __slots__ = ("amount", "budget", "total")

    def __init__(self, budget: Budget, amount: int, total: int) -> None:
        self.budget = budget
        self.amount = amount
        self.total = total


class Charge:
    """What one admitted request has reserved, to be settled or cancelled once; a second time is harmless."""

    __slots__ = ("at_ns", "is_open", "spent")

    def __init__(self, spent: list[Taken], at_ns: int) -> None:
        self.spent = spent
        self.at_ns = at_ns
        self.is_open = True

    def __repr__(self) -> str:
        taken = ", ".join(f"{each.amount} {each.budget.axis.name.lower()}" for each in self.spent)
        return f"<Charge {taken or 'nothing'} at {self.at_ns}{'' if self.is_open else ' closed'}>"


def _share(limit: int, replicas: int) -> int:
    return max(1, limit // replicas) if limit else 0
