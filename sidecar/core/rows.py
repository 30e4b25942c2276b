"""One row for each account and model: its windows, its keys, and in one word how it stands, the worst first.

What the status page shows of very many keys follows from the order decided here: who is stopped comes before who is
held, who is low, and who is well. Made row by row, so that a shell may let others have their turn in between. Refuses
to know chains and requests (board.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sidecar.core.activity import Activity
from sidecar.core.breaker import State
from sidecar.core.gate import Gate
from sidecar.core.health import FOREVER_NS, Bar
from sidecar.core.limits import SECOND
from sidecar.core.quota import BLOCKED_NS, Quota
from sidecar.core.roster import Roster
from sidecar.core.snapshot import Key, Provider
from sidecar.core.status import Window, window_of

READY, LOW, HELD, STOPPED = range(4)
"""How bad it is. LOW: little is left; HELD: time mends it; STOPPED: nothing is called here for now."""

_LOW_PERCENT = 10
_MOST_KEYS = 6  # told of one row; the rest are counted
_MOST_MODELS = 8
_SHOWN = 128


class KeyMark(msgspec.Struct, omit_defaults=True):
    """A key by its label. `reason`: why it is not called; `for_s`: how long (None with a reason: until it changes)."""

    name: str
    reason: str = ""
    for_s: float | None = None
    message: str = ""


class Row(msgspec.Struct, omit_defaults=True):
    """An account at a model (or pool); `model` empty: nothing was sent yet. `for_s`: when `state` ends, where that is
    a matter of time. `left`: of the tightest window, in thousandths."""

    provider: str
    account: str
    model: str
    level: int
    state: str
    keys: list[KeyMark]
    more_keys: int = 0
    models: list[str] = []
    for_s: float | None = None
    message: str = ""
    in_flight: int = 0
    concurrency: int | None = None
    waiting: int = 0
    windows: list[Window] = []
    left: int = 1000
    last_error: str = ""
    last_error_s: float | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """The worst first, when sorted by it."""
        return -self.level, -self.waiting, self.left

    def holds(self, text: str) -> bool:
        """Whether any of its names, or its state, holds that text (in lower case)."""
        words = (self.provider, self.account, self.model, self.state, *self.models, *(key.name for key in self.keys))
        return any(text in word.lower() for word in words)


class Stop(msgspec.Struct):
    """Why something is not called: a standing or a breaker, as one. `until_ns`: FOREVER_NS = until it changes."""

    reason: str
    until_ns: int
    message: str

    def for_s(self, now_ns: int) -> float | None:
        """How long it lasts, None where no time ends it."""
        return None if self.until_ns >= FOREVER_NS else seconds(self.until_ns - now_ns)


class Stops:
    """Everything that stands against somebody now, by name: looked up once, not once for each row."""

    def __init__(self, roster: Roster, now_ns: int) -> None:
        health = roster.health
        self.keys = _standing(health.keys.items(), now_ns)
        self.at_models = _standing(health.key_models.items(), now_ns)
        self.targets = _standing(health.targets.items(), now_ns)
        self.breakers = {
            name: Stop(f"breaker {_word(each.state)}: {_cause(each)}", each.until_ns, each.message)
            for name, each in list(health.breakers.items())
            if each.state is not State.CLOSED
        }

    def of_key(self, key: Key) -> Stop | None:
        """What stands against a key at every model."""
        if not key.is_present:
            return Stop("missing", FOREVER_NS, "the key is not where the configuration says")
        return self.keys.get(key.ident)

    def of_target(self, name: str) -> Stop | None:
        """What stands against `provider/model`; the breaker counts for less than a bench."""
        return self.targets.get(name) or self.breakers.get(name)


def _standing(bars: Iterator[tuple[str, Bar]], now_ns: int) -> dict[str, Stop]:
    return {
        name: Stop(_cause(bar), bar.until_ns, bar.message[: 2 * _SHOWN])
        for name, bar in list(bars)
        if bar.until_ns > now_ns and bar.cause is not None
    }


def rows(roster: Roster, activity: Activity, stops: Stops, now_ns: int) -> Iterator[Row]:
    """Every account of every provider at every model it was asked for, one by one. What changes in the meantime is
    seen or not."""
    quotas: dict[str, list[Quota]] = {}
    for quota in list(roster.ledger):
        quotas.setdefault(quota.account, []).append(quota)
    models = roster.ledger.models()
    for provider in list(roster.snapshot.providers.values()):
        for account, keys in accounts_of(roster, provider).items():
            marks = _marks(keys, stops, now_ns)
            for quota in quotas.get(account, []):
                row = _row(provider, keys, marks)
                _fill(row, quota, models.get(quota, [quota.model]), now_ns)
                _judge(row, quota, _against(row, keys, stops), now_ns)
                _recall(row, keys, activity, now_ns)
                yield row
            if account not in quotas:
                yield _unused(_row(provider, keys, marks))


def accounts_of(roster: Roster, provider: Provider) -> dict[str, list[Key]]:
    """A provider's keys by the account whose quotas they draw on."""
    accounts: dict[str, list[Key]] = {}
    for key in provider.keys:
        accounts.setdefault(roster.accounts.root(key.account), []).append(key)
    return accounts


def row_of(provider: Provider, keys: list[Key], quota: Quota, stops: Stops, now_ns: int) -> Row:
    """The row of one quota, which those keys draw on; without its last error."""
    row = _row(provider, keys, _marks(keys, stops, now_ns))
    _fill(row, quota, [quota.model], now_ns)
    _judge(row, quota, _against(row, keys, stops), now_ns)
    return row


def _marks(keys: list[Key], stops: Stops, now_ns: int) -> list[KeyMark]:
    """The keys, those in trouble first."""
    marks = []
    for key in keys:
        stop = stops.of_key(key)
        told = (stop.reason, stop.for_s(now_ns), stop.message) if stop else ("", None, "")
        marks.append(KeyMark(key.name, *told))
    return sorted(marks, key=lambda mark: not mark.reason)


def _row(provider: Provider, keys: list[Key], marks: list[KeyMark]) -> Row:
    account = keys[0].account.partition("/")[2]
    return Row(provider.name, account, "", READY, "ready", marks[:_MOST_KEYS], max(0, len(marks) - _MOST_KEYS))


def _unused(row: Row) -> Row:
    row.state = "not used yet"
    if row.keys and all(key.reason for key in row.keys):
        _stop_by_key(row)
    return row


def _stop_by_key(row: Row) -> None:
    first = row.keys[0]
    row.level, row.state, row.for_s, row.message = STOPPED, f"no key: {first.reason}", first.for_s, first.message


def _fill(row: Row, quota: Quota, models: list[str], now_ns: int) -> None:
    row.model = quota.model[:_SHOWN]
    row.models = [] if models == [quota.model] else [model[:_SHOWN] for model in models[:_MOST_MODELS]]
    row.in_flight, row.concurrency, row.waiting = quota.inflight, quota.concurrency, quota.line.waiting
    row.windows = [window_of(view, now_ns) for view in quota.views(now_ns)]
    row.left = min((each.remaining * 1000 // (each.limit or 1) for each in row.windows), default=1000)


def _against(row: Row, keys: list[Key], stops: Stops) -> Stop | None:
    """What stands against the whole row: its target, or each of its keys at this model."""
    stop = stops.of_target(f"{row.provider}/{row.model}" if row.model else row.provider)
    if stop is not None or not stops.at_models:
        return stop
    barred = [stops.at_models.get(f"{key.ident} {row.model}") for key in keys]
    return barred[0] if all(barred) else None


def _judge(row: Row, quota: Quota, stop: Stop | None, now_ns: int) -> None:
    """How it stands, in a word: the worst there is."""
    if row.more_keys == 0 and all(key.reason for key in row.keys):
        _stop_by_key(row)
    elif stop is not None:
        row.level, row.state, row.message = STOPPED, stop.reason, stop.message
        row.for_s = stop.for_s(now_ns)
    elif now_ns < quota.cooldown_until:
        row.level, row.state = HELD, "cooling down"
        row.for_s = None if quota.cooldown_until >= BLOCKED_NS else seconds(quota.cooldown_until - now_ns)
    elif quota.gate is Gate.PROBING:
        row.level, row.state = HELD, "probing"
    elif row.windows and row.left <= 0:
        spent = min(row.windows, key=lambda each: each.remaining * 1000 // (each.limit or 1))
        row.level, row.state, row.for_s = HELD, "spent", spent.resets_in_s
    elif row.waiting:
        row.level, row.state = HELD, "waiting"
    elif row.concurrency is not None and row.in_flight >= row.concurrency:
        row.level, row.state = HELD, "full"
    elif row.left < 10 * _LOW_PERCENT:
        row.level, row.state = LOW, "low"


def _recall(row: Row, keys: list[Key], activity: Activity, now_ns: int) -> None:
    """The last error of any of its keys that are shown."""
    target = f"{row.provider}/{row.model}" if row.model else row.provider
    found = [activity.last_error(key.name, target) for key in keys[:_MOST_KEYS]]
    last = max((error for error in found if error is not None), key=lambda error: error.at_ns, default=None)
    if last is not None:
        row.last_error = last.reason if last.status is None else f"{last.reason} {last.status}"
        row.last_error_s = seconds(now_ns - last.at_ns)


def _cause(bar: Bar) -> str:
    return bar.cause.value.replace("_", " ") if bar.cause else ""


def _word(state: State) -> str:
    return state.value.replace("_", " ")


def seconds(duration_ns: int) -> float:
    """Seconds with a tenth, never negative."""
    return round(max(0, duration_ns) / SECOND, 1)
