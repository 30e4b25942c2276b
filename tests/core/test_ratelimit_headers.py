"""Each provider's header family (providers.md 1.3): which window a name means, and what its values mean there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Reading, Source
from sidecar.core.ratelimit_headers import _FAMILIES, read

MS = 1_000_000
NOW = 1_759_845_000 * SECOND  # 2025-10-07T13:50:00Z


def headers(**values):
    """Headers by keyword: `x_ratelimit_limit_requests="30"`."""
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


def family(suffix, limit=None, remaining=None, reset=None, prefix="x-ratelimit"):
    told = {"limit": limit, "remaining": remaining, "reset": reset}
    return [(f"{prefix}-{part}{suffix}".encode(), value.encode()) for part, value in told.items() if value is not None]


def said(axis, window_ns, limit, remaining, reset_ns):
    return Reading(axis, window_ns, limit, remaining, reset_ns, Source.HEADER)


GROQ = family("-requests", "14400", "14397", "17.399999999s") + family("-tokens", "6000", "5536", "4.64s")

CASES = {
    "groq requests are of a day, tokens of a minute": (
        "groq",
        GROQ,
        [
            said(Axis.REQUESTS, DAY, 14400, 14397, 17_399_999_999),
            said(Axis.TOKENS, MINUTE, 6000, 5536, 4_640 * MS),
        ],
    ),
    "groq full": (
        "groq",
        family("-requests", "1000", "1000", "0s") + family("-tokens", "12000", "12000", "0s"),
        [said(Axis.REQUESTS, DAY, 1000, 1000, 0), said(Axis.TOKENS, MINUTE, 12000, 12000, 0)],
    ),
    "openai requests of a day": (
        "openai",
        family("-requests", "10000", "9999", "8.64s") + family("-tokens", "200000", "199990", "3ms"),
        [said(Axis.REQUESTS, DAY, 10000, 9999, 8_640 * MS), said(Axis.TOKENS, MINUTE, 200000, 199990, 3 * MS)],
    ),
    "openai requests of a minute": (
        "openai",
        family("-requests", "5000", "4999", "12ms"),
        [said(Axis.REQUESTS, MINUTE, 5000, 4999, 12 * MS)],
    ),
    "openai window unknown while nothing is used": (
        "openai",
        family("-requests", "5000", "5000", "0s"),
        [said(Axis.REQUESTS, None, 5000, 5000, 0)],
    ),
    "openai window that is none of the three": (
        "openai",
        family("-requests", "100", "50", "150s"),
        [said(Axis.REQUESTS, None, 100, 50, 150 * SECOND)],
    ),
    "openai window of an hour, half of a request already refilled": (
        "openai",
        family("-requests", "60", "58", "90s"),
        [said(Axis.REQUESTS, HOUR, 60, 58, 90 * SECOND)],
    ),
    "openai project and image headers are not ours": (
        "openai",
        family("-project-tokens", "1", "1", "1s") + family("-input-images", "1", "1", "1s"),
        [],
    ),
    "unknown dialect reads as openai": (
        "acme",
        family("-requests", "1000", "999", "1m26.4s"),
        [said(Axis.REQUESTS, DAY, 1000, 999, 86_400 * MS)],
    ),
    "cerebras": (
        "cerebras",
        family("-requests-day", "1440000", "1439999", "3563.6066987514496")
        + family("-tokens-minute", "1000000", "999000", "23.606698751449585"),
        [
            said(Axis.REQUESTS, DAY, 1440000, 1439999, 3_563_606_698_752),
            said(Axis.TOKENS, MINUTE, 1000000, 999000, 23_606_698_752),
        ],
    ),
    "cerebras, every window of 2026": (
        "cerebras",
        [
            header
            for axis in ("requests", "tokens")
            for period in ("minute", "hour", "day")
            for header in family(f"-{axis}-{period}", "10", "9", "1.5")
        ],
        [
            said(axis, window, 10, 9, 1_500 * MS)
            for axis in (Axis.REQUESTS, Axis.TOKENS)
            for window in (MINUTE, HOUR, DAY)
        ],
    ),
    "cerebras does not send openai's names": ("cerebras", GROQ, []),
    "azure, reset in ms": (
        "azure",
        [*family("-requests", "100", "99", "500"), (b"x-ratelimit-renewalperiod-requests", b"60")],
        [said(Axis.REQUESTS, MINUTE, 100, 99, 500 * MS)],
    ),
    "azure, a small reset in ms": (
        "azure",
        [*family("-tokens", "1000000", "999880", "7"), (b"x-ratelimit-renewalperiod-tokens", b"60")],
        [said(Axis.TOKENS, MINUTE, 1000000, 999880, 7 * MS)],
    ),
    "azure, reset in truncated seconds": (
        "azure",
        [*family("-requests", "100", "98", "1"), (b"x-ratelimit-renewalperiod-requests", b"60")],
        [said(Axis.REQUESTS, MINUTE, 100, 98, SECOND)],
    ),
    "azure, zero": (
        "azure",
        [*family("-requests", "100", "99", "0"), (b"x-ratelimit-renewalperiod-requests", b"60")],
        [said(Axis.REQUESTS, MINUTE, 100, 99, 0)],
    ),
    "azure, another period": (
        "azure",
        [*family("-requests", "100", "50", "5"), (b"x-ratelimit-renewalperiod-requests", b"10")],
        [said(Axis.REQUESTS, 10 * SECOND, 100, 50, 5 * SECOND)],
    ),
    "azure, without a limit the longer reading": (
        "azure",
        family("-requests", None, "99", "7"),
        [said(Axis.REQUESTS, MINUTE, None, 99, 7 * SECOND)],
    ),
    "azure, without a limit but no minute lasts 500 s": (
        "azure",
        family("-requests", None, "99", "500"),
        [said(Axis.REQUESTS, MINUTE, None, 99, 500 * MS)],
    ),
    "azure, a reset with its unit": (
        "azure",
        family("-requests", "100", "99", "1s"),
        [said(Axis.REQUESTS, MINUTE, 100, 99, SECOND)],
    ),
    "azure before 2025-08": (
        "azure",
        family("-requests", None, "99") + family("-tokens", None, "1014"),
        [said(Axis.REQUESTS, MINUTE, None, 99, None), said(Axis.TOKENS, MINUTE, None, 1014, None)],
    ),
    "anthropic": (
        "anthropic",
        [
            (f"anthropic-ratelimit-{name}-{part}".encode(), value)
            for name in ("requests", "tokens", "input-tokens", "output-tokens")
            for part, value in (("limit", b"4000"), ("remaining", b"3000"), ("reset", b"2025-10-07T13:50:43Z"))
        ],
        [
            said(axis, MINUTE, 4000, 3000, 43 * SECOND)
            for axis in (Axis.REQUESTS, Axis.TOKENS, Axis.INPUT_TOKENS, Axis.OUTPUT_TOKENS)
        ],
    ),
    "anthropic's odd names on the openai surface": (
        "anthropic",
        headers(
            x_ratelimit_requests="50",
            x_ratelimit_remaining_requests="49",
            x_ratelimit_reset_requests="0s",
            x_ratelimit_tokens="30000",
            x_ratelimit_remaining_tokens="29000",
            x_ratelimit_reset_tokens="0s",
        ),
        [said(Axis.REQUESTS, MINUTE, 50, 49, 0), said(Axis.TOKENS, MINUTE, 30000, 29000, 0)],
    ),
    "mistral": (
        "mistral",
        family("-req-minute", "60", "59")
        + family("-tokens-minute", "500000", "499980")
        + family("-req-10-second", "10", "9")
        + family("-tokens-month", "1000000000", "999999980")
        + family("-audio-seconds-minute", "3600", "3500")
        + headers(x_ratelimit_tokens_query_cost="20", x_max_retry_attempts_reached="false"),
        [
            said(Axis.REQUESTS, 10 * SECOND, 10, 9, None),
            said(Axis.REQUESTS, MINUTE, 60, 59, None),
            said(Axis.TOKENS, MINUTE, 500000, 499980, None),
            said(Axis.TOKENS, 31 * DAY, 1000000000, 999999980, None),
            said(Axis.AUDIO_SECONDS, MINUTE, 3600, 3500, None),
        ],
    ),
    "mistral, no allowance": (
        "mistral",
        family("-req-minute", "0", "0"),
        [said(Axis.REQUESTS, MINUTE, 0, 0, None)],
    ),
    "mistral 2024": (
        "mistral",
        family("", "2000000", "1999000", "33", prefix="ratelimitbysize"),
        [said(Axis.TOKENS, MINUTE, 2000000, 1999000, 33 * SECOND)],
    ),
    "xai, no reset": (
        "xai",
        family("-requests", "1800", "1788") + family("-tokens", "10000000", "9999000"),
        [said(Axis.REQUESTS, MINUTE, 1800, 1788, None), said(Axis.TOKENS, MINUTE, 10000000, 9999000, None)],
    ),
    "together says nothing that may be held to": (
        "together",
        headers(
            x_ratelimit_limit="10",
            x_ratelimit_remaining="19",
            x_ratelimit_reset="2",
            x_ratelimit_limit_tokens="3000",
            x_ratelimit="false",
            retry_after="2",
        ),
        [],
    ),
    "openrouter": (
        "openrouter",
        family("", "20", "0", "1759845420000"),
        [said(Axis.REQUESTS, None, 20, 0, 420 * SECOND)],
    ),
    "fireworks": (
        "fireworks",
        family("-tokens-prompt", "60000", "59000")
        + family("-tokens-generated", "600", "590")
        + family("-tokens-cache-adjusted-prompt", "1", "1")
        + headers(x_ratelimit_over_limit="yes"),
        [said(Axis.INPUT_TOKENS, None, 60000, 59000, None), said(Axis.OUTPUT_TOKENS, None, 600, 590, None)],
    ),
    "fireworks, the older names": (
        "fireworks",
        family("-requests", "6000", "5999"),
        [said(Axis.REQUESTS, MINUTE, 6000, 5999, None)],
    ),
    "sambanova": (
        "sambanova",
        family("-requests", "240", "239", "1759845060") + family("-requests-day", "48000", "47999", "1759881600"),
        [
            said(Axis.REQUESTS, MINUTE, 240, 239, 60 * SECOND),
            said(Axis.REQUESTS, DAY, 48000, 47999, 36600 * SECOND),
        ],
    ),
    "ietf draft": (
        "generic",
        headers(ratelimit='"api";r=499;t=112', ratelimit_policy='"fixed window";"api";q=500;w=300'),
        [said(Axis.REQUESTS, 300 * SECOND, 500, 499, 112 * SECOND)],
    ),
    "malformed values cost only themselves": (
        "groq",
        family("-requests", "many", "998", "soon") + family("-tokens", "12000", "-5", "3s"),
        [said(Axis.REQUESTS, DAY, None, 998, None), said(Axis.TOKENS, MINUTE, 12000, None, 3 * SECOND)],
    ),
    "a reset alone is no reading": ("groq", family("-tokens", None, None, "3s"), []),
    "digits beyond counting": ("groq", family("-tokens", "9" * 5000, "9" * 16, "3s"), []),
    "digits that int() takes and HTTP does not": ("groq", family("-tokens", "1_000", "\u0663", "3s"), []),
    "nothing known": ("groq", headers(date="x", retry_after="12", x_ratelimit_limit="3"), []),
    "no headers": ("groq", [], []),
}


@pytest.mark.parametrize(("dialect", "given_headers", "expected"), CASES.values(), ids=CASES)
def test_A11_header_families(dialect, given_headers, expected):
    assert read(dialect, given_headers, NOW) == tuple(expected)
    unknown = [(b"date", b"Tue, 07 Oct 2025 13:50:00 GMT"), (b"x-request-id", b"req_1")]
    assert read(dialect, unknown + given_headers[::-1] + unknown, NOW) == tuple(expected)


@pytest.mark.parametrize(
    ("limit", "used", "window_ns"), [(30, 1, MINUTE), (3, 3, MINUTE), (200, 7, DAY), (40, 2, HOUR)]
)
@pytest.mark.parametrize("elapsed", [0, 0.4, 0.9])
def test_A11_window_is_found_from_any_partly_refilled_bucket(limit, used, window_ns, elapsed):
    # the request just made is in it whole, those before have partly run off; `remaining` is rounded down
    level = max(1, used - elapsed)
    reset_ns = int(level * window_ns / limit)
    got = read("openai", family("-requests", str(limit), str(int(limit - level)), f"{reset_ns}ns"), NOW)
    assert got[0].window_ns == window_ns


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([*_FAMILIES, "generic"]),
    st.lists(
        st.tuples(
            st.sampled_from(
                sorted(
                    {name for family in _FAMILIES.values() for name in family.places}
                    | {b"ratelimit", b"ratelimit-policy"}
                )
            ),
            st.one_of(st.binary(max_size=40), st.integers(-5, 10**19).map(lambda number: str(number).encode())),
        ),
        max_size=12,
    ),
)
def test_A11_no_headers_raise(dialect, given_headers):
    for reading in read(dialect, given_headers, NOW):
        assert reading.limit is None or reading.limit >= 0
        assert reading.remaining is None or reading.remaining >= 0
        assert reading.reset_ns is None or reading.reset_ns >= 0
        assert reading.window_ns is None or reading.window_ns > 0
