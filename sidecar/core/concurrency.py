"""How many requests one quota may have in flight: what was told of it, and what refusals show (acceptance A20).

Where a cap is only documented, or was found by a refusal, the true one is searched: a step more once the present cap
was full and nobody was refused, at once less than what was still in flight when somebody was (additive increase,
multiplicative decrease; Chiu and Jain, 1989). The level that was refused is tried again after a while, then seldom.
What the operator configured is never exceeded, and taken at its word until a refusal says otherwise. Refuses to know
windows and cooldowns (quota.py).
"""

from __future__ import annotations

from typing import Final

from sidecar.core.limits import MINUTE, SECOND

UNBOUNDED: Final = 2**62 - 1  # where no cap is known

# A documented cap is trusted so far at the start: hidden ones (39 of the documented 500, acceptance A20) are higher,
# and an application seldom sends more in its first second
_START: Final = 16
_STEP: Final = 16  # one part in so many is tried more, or given up
# Providers refuse at the door, within a round trip: who is not refused by then was let in, however long it takes
_PROVEN_NS = SECOND
# The level that was refused is tried once more soon, for the refusal may have been of a passing state; then at most
# once in ten minutes (A20), with one to spare
_AGAIN_NS: Final = (15 * SECOND, 11 * MINUTE)


class Permits:
    """The cap in force and the search for it. `cap`: requests in flight at once; `top`: who holds the last permit."""

    __slots__ = ("_ceiling", "_cut_ns", "_filled_ns", "_found", "_is_proven", "_repeats", "_wall", "_wall_ns", "cap",
                 "heard", "top")  # fmt: skip

    def __init__(self, configured: int | None, documented: int | None, replicas: int) -> None:
        self.heard: tuple[int, int] | None = None  # what a provider named, and when that is dropped
        self.top: object | None = None
        self._found: int | None = None
        self._filled_ns: int | None = None  # when the last permit was taken
        self._is_proven = False  # who took it was let in
        self._cut_ns = -1  # when the cap was lowered last
        self._wall: int | None = None  # the level at which somebody was refused
        self._wall_ns = 0  # when it may be tried again
        self._repeats = 0  # how often in a row it was
        self.configure(configured, documented, replicas)

    @property
    def is_capped(self) -> bool:
        """Whether there is a cap."""
        return self.cap != UNBOUNDED

    @property
    def known(self) -> int | None:
        """The cap; None where there is none."""
        return None if self.cap == UNBOUNDED else self.cap

    def configure(self, configured: int | None, documented: int | None, replicas: int) -> None:
        """A new configuration. What was found under another one no longer counts."""
        told = [cap for cap in (documented if configured is None else configured, self._told()) if cap is not None]
        self._ceiling = max(1, min(told) // replicas) if told else UNBOUNDED
        if self._found is None and configured is None and documented is not None:
            self._found = _START
        self._apply()

    def forget(self) -> None:
        """Drop all that was heard and found; `configure` follows."""
        self.heard = self._found = self._wall = None

    def grows_at(self, now: int) -> int | None:
        """When one more than the cap may be tried; None: not before something happens."""
        if self._found is None or self.cap >= self._ceiling or self._filled_ns is None:
            return None
        when = now if self._is_proven else max(now, self._filled_ns + _PROVEN_NS)
        return max(when, self._wall_ns) if self._wall == self.cap + 1 else when

    def widen(self, now: int) -> bool:
        """Raise the cap if it is time to; whether it was."""
        when = self.grows_at(now)
        if when is None or when > now:
            return False
        if self._wall is not None and self.cap >= self._wall:
            self._wall, self._repeats = None, 0  # the level that was refused holds now
        raised = self.cap + max(1, self.cap // _STEP)
        if self._wall is not None:
            raised = min(raised, max(self._wall - 1, self.cap + 1))
        self._found = raised
        self._apply()
        return True

    def fill(self, holder: object, now: int) -> None:
        """The last permit was taken."""
        if self._found is not None and self._filled_ns is None:
            self.top, self._filled_ns = holder, now

    def prove(self) -> None:
        """The provider let in who took the last permit."""
        self.top, self._is_proven = None, True

    def refuse(self, admitted_ns: int, left: int, now: int) -> None:
        """A request admitted then was one too many; `left` others are in flight still."""
        level = left + 1
        if admitted_ns > self._cut_ns:
            self._cut_ns = now
            self._repeats = self._repeats + 1 if self._wall is not None and level >= self._wall else 0
            self._wall = level
            self._wall_ns = now + _AGAIN_NS[min(self._repeats, 1)]
            found = left - max(1, left // _STEP)
        else:
            # of the same burst: the others that are refused bring down what is in flight to what was let in
            self._wall = level if self._wall is None else min(self._wall, level)
            found = left
        self._found = max(1, found if self._found is None else min(self._found, found))
        self._apply()

    def is_full_at(self, level: int) -> bool:
        """Whether that many are close to a cap that is being searched for."""
        return self._found is not None and 4 * level >= 3 * self.cap

    def _told(self) -> int | None:
        return None if self.heard is None else self.heard[0]

    def _apply(self) -> None:
        self.cap = self._ceiling if self._found is None else min(self._ceiling, self._found)
        self.top, self._filled_ns, self._is_proven = None, None, False

    def __repr__(self) -> str:
        cap = "any number" if self.cap == UNBOUNDED else str(self.cap)
        wall = "" if self._wall is None else f", refused at {self._wall}"
        return f"<Permits {cap}{wall}>"
