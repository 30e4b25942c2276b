"""Where days begin in the zones of providers: 23 and 25 hours twice a year."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfoNotFoundError

import pytest

from sidecar.core.limits import DAY, HOUR, SECOND
from sidecar.zones import calendars

PACIFIC = "America/Los_Angeles"


def ns(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def calendar(now, name=PACIFIC):
    return calendars([name], ns(now))[name]


@pytest.mark.parametrize(
    ("now", "resets"),
    [
        ("2026-01-15T07:59:59", "2026-01-15T08:00:00"),  # 23:59:59 there
        ("2026-01-15T08:00:00", "2026-01-16T08:00:00"),
        ("2026-07-15T07:00:00", "2026-07-16T07:00:00"),
        ("2026-03-08T08:00:00", "2026-03-09T07:00:00"),  # the day that begins then has 23 hours
        ("2026-03-09T06:59:59", "2026-03-09T07:00:00"),
        ("2026-11-01T07:00:00", "2026-11-02T08:00:00"),  # and this one 25
        ("2026-11-02T07:30:00", "2026-11-02T08:00:00"),  # 23:30 there, still the long day
    ],
)
def test_A5_a_day_ends_at_the_providers_midnight(now, resets):
    for looked_from in (now, "2026-01-01T00:00:00"):
        assert calendar(looked_from).next_after(ns(now)) == ns(resets)


def test_two_years_of_midnights():
    lengths = [(later - sooner) // HOUR for sooner, later in pairwise(calendar("2026-01-15T12:00:00").boundaries)]
    assert len(lengths) >= 730
    assert (lengths.count(23), lengths.count(25)) == (3, 2)
    assert set(lengths) == {23, 24, 25}


def test_the_day_under_way_is_the_first():
    first = calendar("2026-01-15T12:00:00").boundaries[0]
    assert first == ns("2026-01-15T08:00:00")
    assert calendar("2026-01-15T12:00:00").window_ns == DAY


def test_past_the_last_midnight_known_days_have_24_hours():
    pacific = calendar("2026-01-15T12:00:00")
    last = pacific.boundaries[-1]
    assert pacific.next_after(last) == last + DAY
    assert pacific.next_after(last + 10 * DAY - 1) == last + 10 * DAY


@pytest.mark.parametrize(("names", "found"), [([], set()), (["UTC", "UTC"], set()), ([PACIFIC, "UTC"], {PACIFIC})])
def test_utc_needs_no_calendar(names, found):
    assert set(calendars(names, ns("2026-01-15T12:00:00"))) == found


def test_where_midnight_does_not_exist_the_day_begins_when_it_would_have():
    # Cairo skips from 00:00 to 01:00 on 2026-04-24
    assert calendar("2026-04-23T12:00:00", "Africa/Cairo").next_after(ns("2026-04-23T12:00:00")) == ns(
        "2026-04-23T22:00:00"
    )


def test_an_unknown_zone_is_said_so():
    with pytest.raises(ZoneInfoNotFoundError):
        calendars(["Mars/Olympus"], 0)
