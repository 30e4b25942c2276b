"""Where days begin in the time zones of providers: the part of the calendar that needs the system's zone data."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sidecar.core.limits import DAY, SECOND
from sidecar.core.windows import Calendar

_DAYS_AHEAD = 800  # a process that runs longer without a reload goes on in steps of 24 h


def calendars(names: Iterable[str], now_ns: int) -> dict[str, Calendar]:
    """The calendar of each zone that is not UTC, DST-aware. Raises ZoneInfoNotFoundError without zone data."""
    return {name: Calendar(DAY, _midnights(name, now_ns)) for name in set(names) - {"UTC"}}


def _midnights(name: str, now_ns: int) -> tuple[int, ...]:
    zone = ZoneInfo(name)
    today = datetime.fromtimestamp(now_ns // SECOND, UTC).astimezone(zone).date()
    days = (today + timedelta(days=ahead) for ahead in range(_DAYS_AHEAD))
    return tuple(int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * SECOND for day in days)
