"""Who waits for quota, and for what: the words for a ticket's places, and the first instant one may open.

Read from what the lines and quotas hold; nothing is spent and nobody is moved (line.py does that). Of very many who
wait, the first ones are told one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from sidecar.core.candidate import Candidate
from sidecar.core.gate import Gate
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Cost
from sidecar.core.line import Place, Ticket
from sidecar.core.quota import BLOCKED_NS, Quota

MOST_TOLD = 20
_MOST_PLACES = 4
_SHOWN = 128
_PER = {MINUTE: "minute", HOUR: "hour", DAY: "day"}


class WaitPlace(msgspec.Struct, omit_defaults=True):
    """One place where a request may be served. `wants`: what it waits for there; `opens_in_s`: when that comes at the
    earliest, were nobody ahead (None: not a matter of time)."""

    target: str
    account: str
    wants: str
    ahead: int = 0
    opens_in_s: float | None = None


class Waiting(msgspec.Struct, omit_defaults=True):
    """One request in line. `number`: its place among all requests by arrival; `tokens`: what it is expected to take."""

    number: int
    for_s: float
    tokens: int
    places: list[WaitPlace]
    more_places: int = 0


def waits(tickets: Iterable[Ticket], now_ns: int) -> list[Waiting]:
    """The first of those who wait, in order of arrival."""
    standing = sorted((ticket for ticket in tickets if ticket.is_waiting), key=_number)
    ahead: dict[Quota, int] = {}
    told = []
    for ticket in islice(standing, MOST_TOLD):
        told.append(_waiting(ticket, ahead, now_ns))
        for quota in ticket.quotas:
            ahead[quota] = ahead.get(quota, 0) + 1
    return told


def wants(quota: Quota, cost: Cost, now_ns: int) -> str:
    """What stands between a request of that cost and this quota, in words."""
    lacking = list(_lacking(quota, cost, now_ns))
    if quota.gate is Gate.PROBING:
        return "the answer to a probe"
    if now_ns < quota.cooldown_until:
        return "the end of a cooldown"
    if lacking:
        return ", ".join(lacking)
    if quota.concurrency is not None and quota.inflight >= quota.concurrency:
        return f"one of {quota.inflight} requests in flight to end"
    return "its turn"


def per(window_ns: int) -> str:
    """The length of a window in a word."""
    return _PER.get(window_ns, f"{window_ns // SECOND} s")


def _lacking(quota: Quota, cost: Cost, now_ns: int) -> Iterator[str]:
    for view in quota.views(now_ns):
        if view.remaining < min(cost.taken(view.axis), view.limit):
            yield f"{view.axis.name.lower().replace('_', ' ')} per {per(view.window_ns)}"


def _waiting(ticket: Ticket, ahead: dict[Quota, int], now_ns: int) -> Waiting:
    places = [_place(place, ahead.get(place.quota, 0), now_ns) for place in ticket.places[:_MOST_PLACES]]
    tokens = max((place.cost.input_tokens + place.cost.output_tokens for place in ticket.places), default=0)
    waited_s = round((now_ns - ticket.since_ns) / SECOND, 1)
    return Waiting(ticket.number, waited_s, tokens, places, max(0, len(ticket.places) - _MOST_PLACES))


def _place(place: Place, ahead: int, now_ns: int) -> WaitPlace:
    quota = place.quota
    target = str(place.token.target) if isinstance(place.token, Candidate) else quota.model
    free_ns = quota.free_at(place.cost, now_ns)
    opens_s = None if free_ns is None or free_ns >= BLOCKED_NS else round(max(0, free_ns - now_ns) / SECOND, 1)
    account = quota.account.partition("/")[2]
    return WaitPlace(target[:_SHOWN], account, wants(quota, place.cost, now_ns), ahead, opens_s)


def _number(ticket: Ticket) -> int:
    return ticket.number
