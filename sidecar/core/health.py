"""Who may be called: the standing of providers, targets, keys, and keys at one model.

A standing is one instant before which nobody calls, and the outcome that put it there. What a quota allows is not
decided here (quota.py), nor what to do next (attempts.py). Bench times only grow: a shorter one never replaces a
longer one (acceptance A9, A12). Every bench ends by itself, but for a key the provider calls invalid: that one is
off until its secret changes (H6).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from sidecar.core.outcomes import Outcome

FOREVER_NS = 2**62  # until the configuration changes
# models are named by callers: the map of their standings is bounded, the longest unused leave (E1)
_MAX_NAMED = 4096


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


class Standings:
    """Standings by name; those of callers' own models in a bounded map."""

    def __init__(self, most: int = _MAX_NAMED) -> None:
        self._by_name: OrderedDict[str, Standing] = OrderedDict()
        self._most = most

    def of(self, name: str, now_ns: int) -> Standing:
        """The standing of `name`, made good when it is new."""
        standing = self._by_name.get(name)
        if standing is None:
            standing = self._by_name[name] = Standing()
            self._shrink(now_ns)
        return standing

    def _shrink(self, now_ns: int) -> None:
        if len(self._by_name) > self._most:
            idle = next((name for name, standing in self._by_name.items() if standing.until_ns <= now_ns), None)
            if idle is not None:
                del self._by_name[idle]

    def items(self) -> Iterator[tuple[str, Standing]]:
        """Every standing that is kept, for the status page."""
        return iter(self._by_name.items())


class Health:
    """All standings of a process, by what they are about. They outlive a reload."""

    def __init__(self) -> None:
        self.keys = Standings(2**62)  # bounded by the configuration
        self.key_models = Standings()
        self.targets = Standings()
        self._secrets: dict[str, int] = {}

    def note_secret(self, key: str, fingerprint: int) -> None:
        """A key's secret as now loaded; a changed one gets its good standing back (H6)."""
        if self._secrets.get(key, fingerprint) != fingerprint:
            self.keys.of(key, 0).clear()
            for name, standing in self.key_models.items():
                if name.startswith(f"{key} "):
                    standing.clear()
        self._secrets[key] = fingerprint
