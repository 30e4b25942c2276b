"""What an operator is told by one process: the line of each request, the line of each event, and the metrics.

Decides nothing: which requests leave a line is core.log_choice's, what has happened core.notices', what is counted
core.tally's. Looks for what has happened soon after a failed attempt, and whenever `look` is called.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from sidecar.admin.event import Event
from sidecar.admin.log import LineLog
from sidecar.core.access import timestamp
from sidecar.core.activity import Activity
from sidecar.core.config import Config
from sidecar.core.limits import SECOND
from sidecar.core.log_choice import LogChoice
from sidecar.core.notices import Notices
from sidecar.core.record import Record
from sidecar.core.roster import Roster
from sidecar.core.scribe import Scribe
from sidecar.core.tally import Tally
from sidecar.interfaces import Clock, Timer

# After a failure; what fails comes in swarms, and one look sees all of it
_SOON_NS: Final = SECOND // 4
# counted from the start, so that a rate sees also the first of them
_COUNTED: Final = (
    *("key_benched", "key_back", "target_benched", "target_back", "breaker_opened", "breaker_closed", "limit_learned"),
    *("reloaded", "reload_refused", "accounts_merged", "state_not_saved", "traces_not_sent", "warning"),
)


class Observer:
    """Takes what happens, and tells it to a log. `tally` and `events` are for whoever scrapes, `activity` for whoever
    watches."""

    def __init__(self, roster: Roster, clock: Clock, log: LineLog) -> None:
        self.roster = roster
        self._clock = clock
        self._log = log
        self._notices = Notices(roster)
        self._timer: Timer | None = None
        self.activity = Activity()
        self._scribe = Scribe()
        self.tally = Tally(roster.snapshot)
        self.events: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
        self._choice = _choice(roster.snapshot.config)

    def start(self) -> None:
        """What was taken up from a process before this one is no event."""
        self._notices.start(self._clock.now_ns())

    def reload(self) -> None:
        """The roster has another configuration."""
        snapshot = self.roster.snapshot
        self._choice = _choice(snapshot.config)
        self.tally.reload(snapshot)

    def finished(self, record: Record, now_ns: int) -> None:
        """A request is over."""
        self.activity.note(record, now_ns)
        self.tally.note(record, now_ns)
        if self._choice.tells(record, now_ns):
            self._log.request(self._scribe.line(record, now_ns))
        if record.trail and self._timer is None:
            self._timer = self._clock.call_at(now_ns + _SOON_NS, self.look)

    def tell(self, event: str, message: str, subject: str | None = None) -> None:
        """An event."""
        self.events[event] += 1
        self._log.event(Event(timestamp(self._clock.now_ns()), event, message, subject))

    def look(self) -> None:
        """Tell what has happened to keys, targets, breakers and limits."""
        self._forget_timer()
        now_ns = self._clock.now_ns()
        for event, subject, message, reason, until_ns in self._notices.look(now_ns):
            self.events[event] += 1
            until = None if until_ns is None else timestamp(until_ns)
            self._log.event(Event(timestamp(now_ns), event, message, subject or None, reason, until))

    def stop(self) -> None:
        """The last event of a process, and all lines written."""
        self.look()
        self.tell("stopped", "bye")
        self._log.flush()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __repr__(self) -> str:
        return f"<Observer {self.tally!r}, {self.events.total()} events>"


def _choice(config: Config) -> LogChoice:
    return LogChoice(config.log.sample, config.log.slow)
