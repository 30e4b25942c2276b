"""Durations and header families, against the values providers.md records."""

from __future__ import annotations

import pytest

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND
from sidecar.sim.axes import WindowState
from sidecar.sim.dialects import DIALECTS, go_duration, own_headers, printed_wait, quota_headers

MILLISECOND = SECOND // 1000


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (1, "1ms"),
        (26 * MILLISECOND, "26ms"),
        (278_999_999, "278.999999ms"),
        (789_600_000, "789.6ms"),
        (SECOND, "1s"),
        (1_984_999_999, "1.984999999s"),
        (23_512_500_000, "23.5125s"),
        (MINUTE, "1m0s"),
        (172_800 * MILLISECOND, "2m52.8s"),
        (36 * MINUTE, "36m0s"),
        (517_681_999_999, "8m37.681999999s"),
        (HOUR + 29 * MINUTE + 16_800 * MILLISECOND, "1h29m16.8s"),
        (114 * HOUR + 18 * MINUTE, "114h18m0s"),
    ],
)
def test_go_duration(duration_ns, text):
    assert go_duration(duration_ns) == text


@pytest.mark.parametrize(
    ("missing", "limit", "window_ns", "text"),
    [
        (1, 30, MINUTE, "2s"),
        (1, 1000, DAY, "1m26.4s"),
        (397, 12000, MINUTE, "1.984999999s"),
        (669, 100000, DAY, "9m38.016s"),
        (189, 1000, MINUTE, "11.34s"),
        (3135, 8000, MINUTE, "23.5125s"),
        (955, 50000, MINUTE, "1.146s"),  # OpenAI, section 8
    ],
)
def test_waits_are_printed_as_recorded(missing, limit, window_ns, text):
    exact = -(-missing * window_ns // limit)
    assert go_duration(printed_wait(exact, limit, window_ns)) == text


STATES = (
    WindowState("rpm", 30, 29, 2 * SECOND),
    WindowState("rpd", 1000, 999, 86_400 * MILLISECOND),
    WindowState("tpm", 12000, 11950, 250 * MILLISECOND),
    WindowState("tpd", 100000, 99955, 38 * SECOND),
    WindowState("otpm", 1000, 1000, 0),
)


@pytest.mark.parametrize(
    ("dialect", "states", "expected"),
    [
        (
            "groq",
            STATES,
            {
                "x-ratelimit-limit-requests": "1000",
                "x-ratelimit-limit-tokens": "12000",
                "x-ratelimit-remaining-requests": "999",
                "x-ratelimit-remaining-tokens": "11950",
                "x-ratelimit-reset-requests": "1m26.4s",
                "x-ratelimit-reset-tokens": "250ms",
            },
        ),
        (
            "openai",
            STATES,
            {
                "x-ratelimit-limit-requests": "30",
                "x-ratelimit-limit-tokens": "12000",
                "x-ratelimit-remaining-requests": "29",
                "x-ratelimit-remaining-tokens": "11950",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-reset-tokens": "250ms",
            },
        ),
        (
            "openai",
            (WindowState("rpd", 10000, 9999, 8_640 * MILLISECOND),),
            {
                "x-ratelimit-limit-requests": "10000",
                "x-ratelimit-remaining-requests": "9999",
                "x-ratelimit-reset-requests": "8.64s",
            },
        ),
        (
            "cerebras",
            (WindowState("rpd", 1440000, 1440000, 3_563_606_698_751), WindowState("tpm", 1000000, 5, 23_606_698_751)),
            {
                "x-ratelimit-limit-requests-day": "1440000",
                "x-ratelimit-limit-tokens-minute": "1000000",
                "x-ratelimit-remaining-requests-day": "1440000",
                "x-ratelimit-remaining-tokens-minute": "5",
                "x-ratelimit-reset-requests-day": "3563.606698751",
                "x-ratelimit-reset-tokens-minute": "23.606698751",
            },
        ),
        ("deepinfra", STATES, {}),
        ("groq", (), {}),
    ],
)
def test_header_families(dialect, states, expected):
    assert dict(quota_headers(DIALECTS[dialect], states)) == expected


def test_the_tighter_of_two_windows_is_told():
    account, key = WindowState("tpm", 12000, 100, SECOND), WindowState("tpm", 6000, 50, SECOND)
    headers = dict(quota_headers(DIALECTS["groq"], (account, key)))
    assert headers["x-ratelimit-remaining-tokens"] == "50"


def test_every_answer_carries_a_request_id():
    for dialect in DIALECTS.values():
        assert ("x-request-id", "req_1") in own_headers(dialect, "req_1")
    assert ("x-groq-region", "us-west-1") in own_headers(DIALECTS["groq"], "req_1")
