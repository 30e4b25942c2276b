"""The breaker of one target: CLOSED lets calls pass, OPEN rejects them, HALF_OPEN has a probe out.

One table of states and events; what counts as an event is decided here too. Fed by what is the target's own fault
alone: never by an answer of 4xx, by a key, or by a caller that left (acceptance H2, H3, I4). It trips on failures in a
row, or on their share in a window, and stays open for longer each time a probe fails. A probe passes when its 2xx
status line arrives (design section 6); one that ends without a verdict makes room for the next, and so does one that is
out for long: a single answer may take minutes, and nothing shall be worse than without a breaker. Refuses to know
quotas, keys and chains. Pattern: M. Nygard, "Release It!", 5.2; standard names (style 14).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome

if TYPE_CHECKING:
    from sidecar.core.budget import Charge

FAULTS: Final = frozenset(
    {
        Outcome.SERVER_ERROR,
        Outcome.BUSY,
        Outcome.CONNECT_FAILED,
        Outcome.HEADERS_TIMEOUT,
        Outcome.CONTENT_TIMEOUT,
        Outcome.AMBIGUOUS,
        Outcome.BROKEN,
    }
)
IN_A_ROW: Final = 5  # fewer are a blip: a deploy of the provider, one bad machine behind its balancer
WINDOW_NS: Final = 30 * SECOND  # of the share: it begins with a failure
WINDOW_LEAST: Final = 20  # verdicts; of fewer, a share says nothing
# Answers that another target, asked beside this one, gave first. Slow is not broken, so it takes more of them, and one
# answer in time begins the row anew.
OVERTAKEN_IN_A_ROW: Final = 10
OPEN_NS = SECOND  # at first: about what a restart behind a balancer takes
# Not above wait.max by default (20 s): a caller whose only target this is is held until it may be tried, not refused.
OPEN_MOST_NS: Final = 15 * SECOND
PROBE_NS = SECOND  # how long a first probe keeps others away; longer for each one that follows without a verdict


class State(enum.Enum):
    """The standard meanings."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(enum.Enum):
    """What happens to a breaker."""

    FAILED = "a failure, and not yet too many"
    TRIPPED = "one failure too many"
    CALLED = "a call is let through after the time it was open for"
    PROBE_PASSED = "a probe's 2xx status line has come"
    PROBE_FAILED = "a probe has failed"
    PROBE_LEFT = "the last probe that was out has ended without a verdict"


_CLOSED, _OPEN, _HALF_OPEN = State  # an enum's member costs a look-up through its metaclass
_OK: Final = Outcome.OK

TRANSITIONS: Final = {
    (_CLOSED, Event.FAILED): _CLOSED,
    (_CLOSED, Event.TRIPPED): _OPEN,
    (_CLOSED, Event.CALLED): _CLOSED,
    (_CLOSED, Event.PROBE_PASSED): _CLOSED,
    (_CLOSED, Event.PROBE_FAILED): _CLOSED,  # another one has passed: it counts as any failure does
    (_CLOSED, Event.PROBE_LEFT): _CLOSED,
    # what began before it opened says nothing new
    (_OPEN, Event.FAILED): _OPEN,
    (_OPEN, Event.TRIPPED): _OPEN,
    (_OPEN, Event.CALLED): _HALF_OPEN,
    (_OPEN, Event.PROBE_PASSED): _OPEN,
    (_OPEN, Event.PROBE_FAILED): _OPEN,
    (_OPEN, Event.PROBE_LEFT): _OPEN,
    (_HALF_OPEN, Event.FAILED): _HALF_OPEN,
    (_HALF_OPEN, Event.TRIPPED): _HALF_OPEN,
    (_HALF_OPEN, Event.CALLED): _HALF_OPEN,
    (_HALF_OPEN, Event.PROBE_PASSED): _CLOSED,
    (_HALF_OPEN, Event.PROBE_FAILED): _OPEN,
    (_HALF_OPEN, Event.PROBE_LEFT): _OPEN,
}


class Breaker:
    """The breaker of one target. `until_ns`: no call before (0: closed); `cause`: the failure that was one too many.

    A call is told by its charge: `enter` when it is admitted, `heard` at a 2xx status line, `ended` in any case.
    """

    __slots__ = ("_began_ns", "_failures", "_overtaken", "_probes", "_row", "_trips", "_verdicts", "cause", "message",
                 "state", "until_ns")  # fmt: skip

    def __init__(self) -> None:
        self.state = _CLOSED
        self.until_ns = 0
        self.cause: Outcome | None = None
        self.message = ""  # how many failures it took
        self._row = 0  # failures since the last 2xx
        self._overtaken = 0  # since the last answer
        self._began_ns = 0  # of the window
        self._verdicts = 0  # in the window; 0: none is open
        self._failures = 0  # of them
        self._trips = 0  # since it was last closed
        self._probes: list[Charge] = []

    @property
    def trips(self) -> int:
        """How often it has opened since it was last closed."""
        return self._trips

    @property
    def is_quiet(self) -> bool:
        """Nothing is counted: closed, and no failure lately."""
        return not self._verdicts and not self._probes

    def enter(self, charge: Charge, now_ns: int) -> None:
        """A call is admitted: after an open time, it is a probe."""
        if self.state is _CLOSED:
            return
        self._move(Event.CALLED)
        self.until_ns = now_ns + (PROBE_NS << min(len(self._probes), 16))
        self._probes.append(charge)

    def heard(self, charge: Charge) -> None:
        """The status line of a call has come, and it is 2xx."""
        self._row = 0
        if self.is_probe(charge):
            self._move(Event.PROBE_PASSED)
            if self.state is _CLOSED:
                self.clear()

    def is_probe(self, charge: Charge) -> bool:
        """Whether this call is out to see how the target is."""
        return bool(self._probes) and charge in self._probes

    def ended(self, charge: Charge, outcome: Outcome, now_ns: int, draw: float) -> None:
        """A call is over. `draw` in [0, 1) spreads the open times of several processes."""
        is_probe = self.is_probe(charge)
        if outcome in FAULTS:
            self._failed(outcome, is_probe, now_ns, draw)
        elif is_probe:
            self._probes.remove(charge)
            if not self._probes:
                self._move(Event.PROBE_LEFT)
                self.until_ns = now_ns if self.state is _OPEN else self.until_ns
        elif outcome is _OK:
            self._overtaken = 0
            if self._verdicts:
                self._verdicts += 1

    def overtaken(self, charge: Charge, now_ns: int, draw: float) -> None:
        """A call is over because it was so slow that another target was asked beside it, which was faster. As good as a
        failure only when it is always so: then each request pays twice for nothing."""
        self._overtaken += 1
        is_last_straw = self._overtaken >= OVERTAKEN_IN_A_ROW
        event = Event.PROBE_FAILED if self.is_probe(charge) else Event.TRIPPED if is_last_straw else Event.FAILED
        if self._opens(event, now_ns, draw):
            self.cause = Outcome.HEDGED
            self.message = f"another target was faster {self._overtaken} times in a row"

    def clear(self) -> None:
        """Closed, and nothing known against it."""
        self.state = _CLOSED
        self.until_ns = self._row = self._overtaken = self._trips = self._verdicts = self._failures = 0
        self.cause = None
        self.message = ""
        self._probes.clear()

    def _failed(self, outcome: Outcome, is_probe: bool, now_ns: int, draw: float) -> None:
        tells = Event.TRIPPED if self._is_one_too_many(now_ns) else Event.FAILED
        event = Event.PROBE_FAILED if is_probe else tells
        if self._opens(event, now_ns, draw):
            self.cause = outcome
            if event is Event.TRIPPED:
                self.message = f"{self._row} failures in a row, {self._failures} of {self._verdicts} calls"

    def _opens(self, event: Event, now_ns: int, draw: float) -> bool:
        """Whether that opens it, for longer each time."""
        before = self.state
        self._move(event)
        if self.state is not _OPEN or before is _OPEN:
            return False
        self._probes.clear()
        open_ns = min(OPEN_NS << min(self._trips, 16), OPEN_MOST_NS)
        self._trips += 1
        self.until_ns = now_ns + open_ns - int(draw * (open_ns // 4))
        return True

    def _is_one_too_many(self, now_ns: int) -> bool:
        if not self._verdicts or now_ns - self._began_ns > WINDOW_NS:
            self._began_ns = now_ns
            self._verdicts = self._failures = 0
        self._row += 1
        self._verdicts += 1
        self._failures += 1
        return self._row >= IN_A_ROW or (self._verdicts >= WINDOW_LEAST and 2 * self._failures >= self._verdicts)

    def _move(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]

    def __repr__(self) -> str:
        cause = f" {self.cause.value}" if self.cause else ""
        return f"<Breaker {self.state.value}{cause} until {self.until_ns}, {len(self._probes)} probes>"
