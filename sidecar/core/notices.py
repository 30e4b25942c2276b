"""What has happened to keys, targets, breakers and limits since the last look, for the log: found by comparing.

Nothing that serves a request takes note of any of it. Whoever owns this looks soon after a failure, and now and then.
Tells labels, causes and times, never the provider's own words: an error may quote the request. Refuses to know where
events are written. A quota that is only learned of once is told in one line, all its windows together.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from sidecar.core.breaker import Breaker, State
from sidecar.core.health import FOREVER_NS, Standing, Standings
from sidecar.core.limits import MINUTE, SECOND, Source
from sidecar.core.outcomes import Outcome
from sidecar.core.quota import Quota
from sidecar.core.roster import Roster
from sidecar.core.units import format_duration

MOST = 50  # lines of one look: callers name models, and no log is to be flooded by names
_SLICE = 256  # quotas in one look; a thousand are through in four
_NAME_CHARS = 128
_LONGER_NS = MINUTE  # a bench that grows is told again from here on
_BACK = "it is called again"


class Notice(NamedTuple):
    """One event. `subject`: a key (`groq/team-a`), a target (`groq/model`) or a quota; `until_ns`: when it ends by
    itself, None where it does not."""

    event: str
    subject: str
    message: str
    reason: str | None = None
    until_ns: int | None = None


_Bench = tuple[int, Outcome | None]  # until when, and why
_Limits = tuple[tuple[int, int, int, Source], ...]  # axis, window, limit, where it comes from


class Notices:
    """Compares a roster with what it was."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        health = roster.health
        self._benched: dict[Standings, dict[str, _Bench]] = {
            each: {} for each in (health.keys, health.key_models, health.targets)
        }
        self._open: dict[str, int] = {}  # breakers: how often in a row
        self._limits: dict[Quota, _Limits] = {}
        self._rest: list[Quota] = []  # quotas that are still to be looked at in this round

    def start(self, now_ns: int) -> None:
        """What is so now is no event: it was taken up from a process before this one."""
        self._rest = []
        for quota in self._roster.ledger:
            self._limits[quota] = _limits(quota)
        self._standings(now_ns)

    def look(self, now_ns: int) -> list[Notice]:
        """What is to be told."""
        told = [*self._standings(now_ns), *self._breakers(), *self._learned()]
        if len(told) > MOST:
            told[MOST:] = [Notice("more_events", "", f"{len(told) - MOST} more events are not told one by one")]
        return told

    def _standings(self, now_ns: int) -> list[Notice]:
        health = self._roster.health
        told: list[Notice] = []
        for what, standings in (("key", health.keys), ("key", health.key_models), ("target", health.targets)):
            present = {name: each for name, each in standings.items() if each.until_ns > now_ns}
            noted = self._benched[standings]
            told += [_benched(what, name, each) for name, each in present.items() if _is_news(noted.get(name), each)]
            told += [Notice(f"{what}_back", _clipped(name), _BACK) for name in noted.keys() - present.keys()]
            self._benched[standings] = {name: (each.until_ns, each.cause) for name, each in present.items()}
        return told

    def _breakers(self) -> Iterator[Notice]:
        breakers = dict(self._roster.health.breakers.items())
        for name, breaker in breakers.items():
            noted = self._open.get(name)
            if breaker.state is State.CLOSED:
                if noted is not None:
                    yield Notice("breaker_closed", _clipped(name), _BACK)
                    del self._open[name]
            elif noted != breaker.trips:
                self._open[name] = breaker.trips
                yield _opened(name, breaker)
        for name in self._open.keys() - breakers.keys():
            del self._open[name]

    def _learned(self) -> Iterator[Notice]:
        if not self._rest:
            self._rest = list(self._roster.ledger)
            known = self._limits
            self._limits = {quota: known[quota] for quota in self._rest if quota in known}
        present, self._rest = self._rest[:_SLICE], self._rest[_SLICE:]
        for quota in present:
            limits, before = _limits(quota), self._limits.get(quota, ())
            if limits == before:
                continue
            self._limits[quota] = limits
            new = [limit for limit in limits if limit not in before and limit[3] is not Source.CONFIG]
            if new:
                subject = _clipped(f"{quota.account} {quota.model}")
                yield Notice("limit_learned", subject, ", ".join(map(_limit, new)), new[0][3].value)

    def __repr__(self) -> str:
        benched = sum(map(len, self._benched.values()))
        return f"<Notices of {benched} benched, {len(self._open)} open, {len(self._limits)} quotas>"


def _is_news(noted: _Bench | None, standing: Standing) -> bool:
    """Whether it was callable before, or is not for another reason or for much longer."""
    return noted is None or noted[1] is not standing.cause or standing.until_ns >= noted[0] + _LONGER_NS


def _benched(what: str, name: str, standing: Standing) -> Notice:
    cause = standing.cause.value if standing.cause else ""
    if standing.until_ns >= FOREVER_NS:
        return Notice(f"{what}_benched", _clipped(name), f"{cause}: not used until it changes", cause)
    when = _clock_time(standing.until_ns)
    return Notice(f"{what}_benched", _clipped(name), f"{cause}: not called before {when}", cause, standing.until_ns)


def _opened(name: str, breaker: Breaker) -> Notice:
    cause = breaker.cause.value if breaker.cause else ""
    message = f"{cause}: not called before {_clock_time(breaker.until_ns)}; opened {breaker.trips} times in a row"
    return Notice("breaker_opened", _clipped(name), message, cause, breaker.until_ns)


def _limits(quota: Quota) -> _Limits:
    return tuple((each.column, each.window.window_ns, each.full_limit, each.source) for each in quota.budgets)


_UNITS = ("requests", "tokens", "input tokens", "output tokens", "seconds of audio")


def _limit(limit: tuple[int, int, int, Source]) -> str:
    return f"{limit[2]} {_UNITS[limit[0]]} in {format_duration(limit[1])}"


def _clipped(name: str) -> str:
    return name[:_NAME_CHARS]


def _clock_time(unix_ns: int) -> str:
    return f"{datetime.fromtimestamp(unix_ns // SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}"
