"""The table of `sidecar status`: a hundred columns, the worst named, nothing that a terminal acts on."""

from __future__ import annotations

import unicodedata

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.activity import Activity
from sidecar.core.board import chains_of
from sidecar.core.breaker import IN_A_ROW
from sidecar.core.errors import Step
from sidecar.core.limits import HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.status import status_of
from sidecar.core.status_table import COLUMNS, fit, lasting, painted, read, table
from sidecar.core.waits import Waiting, WaitPlace
from tests.core.house import NOW, roster_of, target_of
from tests.core.test_board import TEXT, house_of
from tests.values import record as record_of

WIDE = "模型" * 40
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\u202e" + WIDE


def body_of(roster, activity=None, waits=()):
    activity = activity or Activity()
    told = {
        "configuration": "abc",
        "in_flight": 1,
        "waiting": len(waits),
        "providers": status_of(roster, NOW),
        "models": chains_of(house_of(roster, activity), NOW),
        "waits": waits,
        "requests": activity.since(0),
        "something": {"new": True},
    }
    return msgspec.json.encode(told)


def lines_of(body):
    told = read(body)
    assert told is not None
    return list(table(told, "127.0.0.1:8788"))


@pytest.fixture
def roster():
    return roster_of(TEXT, missing=("c",))


def test_I3_the_table_of_a_busy_house(roster):
    first, second = roster.keys(target_of(roster, "groq/m"), NOW).candidates
    quota = first.quota
    quota.settle(quota.try_admit(Cost(1, 0), NOW), None, NOW)
    quota.learn([Reading(Axis.TOKENS, MINUTE, 6000, 300, None, Source.HEADER)], NOW)
    second.apply(Feedback(Outcome.KEY_UNPAID, Scope.KEY, NOW + HOUR, message="pay up"), NOW)
    third = roster.keys(target_of(roster, "groq/gone"), NOW).candidates[0]
    third.apply(Feedback(Outcome.MODEL_UNAVAILABLE, Scope.TARGET, NOW + 24 * HOUR), NOW)
    activity = Activity()
    step = Step("groq/m", "b", "key_unpaid", 402)
    done = record_of("r1", NOW, b"POST", b"/v1/x", model="fast", provider="groq", target_model="m", key="a",
                  status=200, outcome="ok", trail=(step,))  # fmt: skip
    activity.note(done, NOW + SECOND)
    wait = Waiting(7, 3.0, 100, [WaitPlace("groq/m", "org", "tokens per minute")])
    text = "\n".join(painted(line, False) for line in lines_of(body_of(roster, activity, (wait,))))
    assert text.splitlines()[:3] == [
        "sidecar at 127.0.0.1:8788   configuration abc   1 in flight   1 waiting",
        "",
        "PROVIDER/ACCOUNT       MODEL                    WINDOW            LEFT OF LIMIT     WHOLE  STATE",
    ]
    rows = [line.split() for line in text.splitlines()]
    assert ["groq/org", "m", "requests/min", "19/20", "3.5s", "low"] in rows
    assert any(row[:2] == ["tokens/min", "300/6000"] for row in rows)
    assert any(row[:2] == ["groq/org", "gone"] and row[-1] == "benched" for row in rows)
    assert ["cerebras/c", "(not", "used", "yet)"] in rows
    for line in (
        "  groq: 1 of 2 may be called",
        "  cerebras: 0 of 1 may be called; missing: c",
        "  key groq/b   key unpaid, for 60min: pay up",
        "  groq/gone   model unavailable, for 24h",
        "  fast -> groq/m (low, serves now) -> cerebras/m (no usable key)",
        "  request 7 for 3.0s, at groq/m (org) for tokens per minute",
    ):
        assert line in text.splitlines()
    assert "fast by groq/m key a   200 ok in 1.0s, 1 failed attempts" in text


def test_B12_breakers_and_keys_without_an_end(roster):
    first, second = roster.keys(target_of(roster, "groq/m"), NOW).candidates
    charge = first.quota.try_admit(Cost(1, 0), NOW)
    for _ in range(IN_A_ROW):
        first.breaker.ended(charge, Outcome.CONNECT_FAILED, NOW, 0.0)
    second.apply(Feedback(Outcome.KEY_INVALID, Scope.KEY, None), NOW)
    text = [painted(line, False) for line in lines_of(body_of(roster))]
    assert "  groq/m   breaker open: connect failed, for 1.0s: 5 failures in a row, 5 of 5 calls" in text
    assert "  key groq/b   key invalid, until somebody changes it" in text


def test_colours_are_told_apart_from_text(roster):
    lines = lines_of(body_of(roster))
    plain = [painted(line, False) for line in lines]
    assert not any("\x1b" in line for line in plain)
    coloured = [painted(line, True) for line in lines]
    assert any("\x1b[31m" in line for line in coloured)
    assert [line.replace("\x1b[31m", "").replace("\x1b[0m", "") for line in coloured if "31m" in line] == [
        line for line, other in zip(plain, coloured, strict=True) if "31m" in other
    ]


def test_E1_what_callers_named_neither_moves_the_cursor_nor_breaks_the_width(roster):
    candidate = roster.keys(target_of(roster, f"groq/{HOSTILE}"), NOW).candidates[0]
    candidate.quota.learn([Reading(Axis.TOKENS, 90 * SECOND, 10**14, 10**13, None, Source.BODY)], NOW)
    candidate.apply(Feedback(Outcome.BUSY, Scope.TARGET, NOW + HOUR, message=HOSTILE), NOW)
    activity = Activity()
    hostile = record_of("r1", NOW, b"GET", b"/\x1b[2J", model=HOSTILE, outcome=HOSTILE, status=400)
    activity.note(hostile, NOW)
    for line in lines_of(body_of(roster, activity)):
        assert line.text.isprintable()
        assert sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line.text) <= COLUMNS


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=200), st.integers(1, 40))
def test_fit_never_takes_more_than_it_may(text, width):
    cut = fit(text, width)
    assert cut.isprintable()
    assert sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in cut) <= width + sum(
        1 for each in cut if unicodedata.combining(each)
    )


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"configuration": 1}', b"\xff"])
def test_what_is_no_status_is_none(body):
    assert read(body) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, ""), (-1, ""), (1.25, "1.2s"), (59.6, "60s"), (180, "3min"), (86400, "24h")]
)
def test_durations_in_few_characters(seconds, text):
    assert lasting(seconds) == text
