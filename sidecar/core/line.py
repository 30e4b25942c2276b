"""The waiting line: who goes next when no target admits a request now (design.md section 6, Waiting).

One ticket stands in the line of every eligible quota; the first quota to admit takes it out of all of them. Each line
is in order of arrival: whoever was admitted, refused by the provider and has to wait again stands before all who came
later. Whoever is not in it asks `quota.has_waiters` and does not overtake. Pacing comes from the
windows. Refuses to know time: `release` is called when something changed or when a wake it returned is due, and says
for every line it touched when to call again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.core.backlog import Backlog, Least, least
from sidecar.core.limits import Cost

if TYPE_CHECKING:
    from sidecar.core.quota import Charge, Quota

_SLACK: Final = 16  # entries of tickets long gone that a line may hold beside as many as still wait


class Place:
    """One way a ticket can be served. `token` is the caller's own and comes back untouched."""

    __slots__ = ("cost", "quota", "token")

    def __init__(self, quota: Quota, cost: Cost, token: object = None) -> None:
        self.quota = quota
        self.cost = cost
        self.token = token

    def __repr__(self) -> str:
        return f"<Place {self.cost!r} at {self.quota.account} {self.quota.model}>"


class Ticket:
    """One waiting request, made by `Lines.enlist`. `number`: its place among all requests, by arrival; `since_ns`: when
    it came to wait (Unix ns)."""

    __slots__ = ("charge", "counted", "granted", "left", "lines", "number", "places", "quotas", "since_ns")

    def __init__(self, number: int, places: tuple[Place, ...], since_ns: int = 0) -> None:
        self.number = number
        self.since_ns = since_ns  # when it was enlisted (Unix ns)
        self.places = places  # one for each quota
        self.quotas = frozenset(place.quota for place in places)
        self.counted: Least | None = None  # in the backlog
        self.granted: Place | None = None
        self.charge: Charge | None = None  # what was spent at the granted place
        self.left = False  # gone without being served: the caller left, or it fits nowhere any more
        self.lines: list[Line] = []  # where it stands

    @property
    def is_waiting(self) -> bool:
        """Whether it still stands in any line."""
        return self.granted is None and not self.left

    def __repr__(self) -> str:
        state = "waiting" if self.is_waiting else "left" if self.left else "granted"
        return f"<Ticket {self.number} {state}, in {len(self.lines)} lines>"


class LineRelease(NamedTuple):
    """What one line let go. `next_ns`: when its head can be admitted; `quota.BLOCKED_NS`: by an event; None: empty."""

    granted: list[Ticket]
    stranded: list[Ticket]  # fit none of their quotas any more: to be refused
    next_ns: int | None


class Release(NamedTuple):
    """What a change set free. `wakes` replaces the timer of each quota in it; None and BLOCKED_NS need none."""

    granted: list[Ticket]
    stranded: list[Ticket]
    wakes: dict[Quota, int | None]


class Line:
    """Those waiting for one quota, in order. An entry whose ticket is gone is skipped when its turn comes."""

    __slots__ = ("_entries", "_quota", "waiting")

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._entries: deque[tuple[Ticket, Place]] = deque()
        self.waiting = 0  # tickets that stand here

    def enlist(self, ticket: Ticket, place: Place) -> None:
        """Stand behind all who came before, which is nearly always at the end."""
        entries = self._entries
        if entries and entries[-1][0].number > ticket.number:
            # who comes again is older than most: its place is near the front
            entries.insert(
                next(at for at, (each, _) in enumerate(entries) if each.number > ticket.number), (ticket, place)
            )
        else:
            entries.append((ticket, place))
        self.waiting += 1
        ticket.lines.append(self)

    def release(self, now: int) -> LineRelease:
        """Admit from the head, in order, until one has to wait."""
        granted: list[Ticket] = []
        stranded: list[Ticket] = []
        next_ns = None
        while (entry := self._head()) is not None:
            ticket, place = entry
            charge = self._quota.try_admit(place.cost, now)
            if charge is not None:
                ticket.granted, ticket.charge = place, charge
                _clear(ticket)
                granted.append(ticket)
            elif (next_ns := self._quota.free_at(place.cost, now)) is not None:
                break
            elif self._strand(ticket):
                stranded.append(ticket)
        return LineRelease(granted, stranded, next_ns)

    def first(self, count: int) -> Iterator[tuple[int, Cost]]:
        """Since when the first `count` have waited (Unix ns), and what they take here."""
        waiting = ((ticket.since_ns, place.cost) for ticket, place in self._entries if ticket.is_waiting)
        return islice(waiting, count)

    def dissolve(self) -> list[Ticket]:
        """Send all away; those who stand in no other line."""
        stranded: list[Ticket] = []
        while (entry := self._head()) is not None:
            if self._strand(entry[0]):
                stranded.append(entry[0])
        return stranded

    def drop(self) -> None:
        """Count one out whose ticket says already that it waits no more."""
        self.waiting -= 1
        if not self.waiting:
            self._entries.clear()
        elif len(self._entries) > 2 * self.waiting + _SLACK:
            self._entries = deque(entry for entry in self._entries if entry[0].is_waiting)

    def _head(self) -> tuple[Ticket, Place] | None:
        entries = self._entries
        while entries:
            if entries[0][0].is_waiting:
                return entries[0]
            entries.popleft()
        return None

    def _strand(self, ticket: Ticket) -> bool:
        """Take out a head that can never be admitted here, lest all behind it wait for ever. Whether it has left."""
        self._entries.popleft()
        self.waiting -= 1
        ticket.lines.remove(self)
        ticket.left = not ticket.lines
        return ticket.left

    def __repr__(self) -> str:
        return f"<Line {self.waiting} waiting, {len(self._entries)} entries>"


class Lines:
    """All lines of a process. The caller enlists none beyond its bound."""

    __slots__ = ("backlog",)

    def __init__(self, backlog: Backlog | None = None) -> None:
        self.backlog = backlog or Backlog()

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return self.backlog.waiting

    def enlist(self, places: Iterable[Place], number: int, now: int) -> tuple[Ticket, Release]:
        """A new ticket in the line of every quota in `places` (the first place of each quota counts), behind those of
        smaller or equal `number`.

        The release is that of those lines: the ticket itself may be granted or stranded by it.
        """
        distinct: dict[Quota, Place] = {}
        for place in places:
            distinct.setdefault(place.quota, place)
        ticket = Ticket(number, tuple(distinct.values()), now)
        ticket.counted = self.backlog.add(ticket.quotas, [least(place.quota, place.cost) for place in ticket.places])
        for quota, place in distinct.items():
            quota.line.enlist(ticket, place)
        return ticket, self.release(distinct, now)

    def leave(self, ticket: Ticket, now: int) -> Release:
        """Give the place up; who stood behind may go. Harmless for a ticket that waits no more."""
        if not ticket.is_waiting:
            return Release([], [], {})
        ticket.left = True
        self._uncount(ticket)
        _clear(ticket)
        return self.release((place.quota for place in ticket.places), now)

    def release(self, quotas: Iterable[Quota], now: int) -> Release:
        """Let go who can go at `quotas`, which changed or whose wake is due, and wherever that moves a line up."""
        granted: list[Ticket] = []
        stranded: list[Ticket] = []
        wakes: dict[Quota, int | None] = {}
        agenda = dict.fromkeys(quotas)
        while agenda:
            quota = next(iter(agenda))
            del agenda[quota]
            freed = quota.line.release(now)
            wakes[quota] = freed.next_ns
            granted += freed.granted
            stranded += freed.stranded
            for ticket in freed.granted:
                agenda.update((place.quota, None) for place in ticket.places if place.quota is not quota)
        for ticket in (*granted, *stranded):
            self._uncount(ticket)
        return Release(granted, stranded, wakes)

    def dissolve(self, quota: Quota, now: int) -> Release:
        """Nobody is served at `quota` any more: who stands in no other line is stranded."""
        stranded = quota.line.dissolve()
        for ticket in stranded:
            self._uncount(ticket)
        return Release([], stranded, {quota: None})

    def _uncount(self, ticket: Ticket) -> None:
        if ticket.counted is not None:
            self.backlog.drop(ticket.quotas, ticket.counted)
            ticket.counted = None

    def __repr__(self) -> str:
        return f"<Lines {self.waiting} waiting>"


def _clear(ticket: Ticket) -> None:
    for line in ticket.lines:
        line.drop()
    ticket.lines.clear()
