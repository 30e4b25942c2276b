"""Who may be called: the standing of providers, targets, keys, and keys at one model.

A standing is one instant before which nobody calls, and the outcome that put it there. What a quota allows is not
decided here (quota.py), nor what to do next (attempts.py). Bench times only grow: a shorter one never replaces a
longer one (acceptance A9, A12). Every bench ends by itself, but for a key the provider calls invalid: that one is
off until its secret changes, or the address it is sent to (H6).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from sidecar.core.breaker import Breaker
from sidecar.core.outcomes import Outcome

FOREVER_NS: Final = 2**62 - 1  # until the configuration changes
# models are named by callers: of those that nobody configured, so many standings are kept (E1)
_MAX_PASSING: Final = 4096
_LOOKS: Final = 8  # standings looked at for each newcomer, so that the cost of one does not grow with the map


class Bar(Protocol):
    """What may stand before a call: a standing, or a breaker."""

    until_ns: int
    cause: Outcome | None
    message: str

    def clear(self) -> None:
        """Callable again at once."""


class Standing:
    """Whether one thing may be called. `until_ns`: not before (0 = now); `cause`: why."""

    __slots__ = ("cause", "message", "until_ns")

    def __init__(self) -> None:
        self.until_ns = 0
        self.cause: Outcome | None = None
        self.message = ""

    def bench(self, until_ns: int, cause: Outcome, message: str) -> None:
        """Not before `until_ns`, or later where a longer bench already stands."""
        if until_ns > self.until_ns:
            self.until_ns = until_ns
            self.cause = cause
            self.message = message

    def clear(self) -> None:
        """Callable again at once: what it stood for has changed."""
        self.until_ns = 0
        self.cause = None
        self.message = ""

    def __repr__(self) -> str:
        return f"<Standing {self.cause.value if self.cause else 'good'} until {self.until_ns}>"


T = TypeVar("T", bound=Bar)


class ByName(Generic[T]):
    """Bars by name. Passing ones, of models that only callers name, are bounded; good ones leave first."""

    def __init__(self, make: Callable[[], T], most: int = _MAX_PASSING) -> None:
        self._make = make
        self._by_name: dict[str, T] = {}
        self._passing: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, name: str, now_ns: int, is_passing: bool = False) -> T:
        """The one of `name`, made good when it is new."""
        standing = self._by_name.get(name)
        if standing is None:
            standing = self._by_name[name] = self._make()
            if is_passing:
                self._make_room(now_ns)
                self._passing[name] = None
        elif not is_passing:
            self._passing.pop(name, None)  # configured since
        return standing

    def _make_room(self, now_ns: int) -> None:
        if len(self._passing) < self._most:
            return
        for _ in range(_LOOKS):
            name = next(iter(self._passing))
            if self._by_name[name].until_ns <= now_ns:
                break
            self._passing.move_to_end(name)
        oldest, _ = self._passing.popitem(last=False)
        del self._by_name[oldest]

    def items(self) -> Iterator[tuple[str, T]]:
        """Every one that is kept, for the status page."""
        return iter(self._by_name.items())


class Standings(ByName[Standing]):
    """Standings by name."""

    def __init__(self, most: int = _MAX_PASSING) -> None:
        super().__init__(Standing, most)


class Health:
    """All standings of a process, by what they are about. They outlive a reload."""

    def __init__(self) -> None:
        self.keys = Standings()
        self.key_models = Standings()
        self.targets = Standings()
        self.breakers = ByName(Breaker)  # of targets; they pass so quickly that no process leaves them to the next
        self.fingerprints: dict[str, int] = {}  # by key, see `note_secret`
        self.places: dict[str, str] = {}  # by provider, see `note_place`

    def note_place(self, provider: str, place: str) -> None:
        """Where a provider is, as now configured; what was found elsewhere says nothing of a new place."""
        if self.places.get(provider, place) != place:
            bars: list[tuple[str, Bar]] = [*self.targets.items(), *self.breakers.items()]
            for name, bar in bars:
                if name.partition("/")[0] == provider:
                    bar.clear()
        self.places[provider] = place

    def note_secret(self, key: str, fingerprint: int) -> bool:
        """A key's secret and where it goes, as now loaded; a changed one gets its good standing back (H6). Whether it
        has changed."""
        is_changed = self.fingerprints.get(key, fingerprint) != fingerprint
        if is_changed:
            self.keys.of(key, 0).clear()
            for name, standing in self.key_models.items():
                if name.startswith(f"{key} "):
                    standing.clear()
        self.fingerprints[key] = fingerprint
        return is_changed
