"""Every reset and retry grammar of providers.md 1.2, and that nothing else is taken for one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.durations import LONGEST_NS, duration_in_text, parse_reset, parse_retry_after
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND

MS = 1_000_000
NOW = 1_759_845_000 * SECOND  # 2025-10-07T13:50:00Z

GRAMMAR = [
    ("2m59.56s", 179_560_000_000),
    ("7.66s", 7_660_000_000),
    ("17ms", 17 * MS),
    ("23h47m36.648s", 23 * HOUR + 47 * MINUTE + 36_648 * MS),
    ("6m0s", 6 * MINUTE),
    ("60", MINUTE),
    ("2m52.8s", 172_800_000_000),
    ("1h29m16.8s", 5_356_800_000_000),
    ("8m37.681999999s", 517_681_999_999),
    ("17.399999999s", 17_399_999_999),
    ("278.999999ms", 278_999_999),
    ("26ms", 26 * MS),
    ("595ms", 595 * MS),
    ("37s", 37 * SECOND),
    ("36m0s", 36 * MINUTE),
    ("1m0s", MINUTE),
    ("0s", 0),
    ("114h18m0s", 114 * HOUR + 18 * MINUTE),
    ("2\u00b5s", 2_000),
    ("2\u03bcs", 2_000),
    ("5us", 5_000),
    ("7ns", 7),
    ("1.5h", 90 * MINUTE),
    (".5s", 500 * MS),
    ("23.606698751449585", 23_606_698_752),
    ("3563.6066987514496", 3_563_606_698_752),
    ("2", 2 * SECOND),
    ("0", 0),
    ("5e-05", 50_001),
    ("1759845420000", 420 * SECOND),
    ("1759845420", 420 * SECOND),
    ("1759845420.25", 420_250 * MS),
    ("1759844000", 0),
    ("2025-10-07T13:51:43Z", 103 * SECOND),
    ("2025-10-07T15:51:43.5+02:00", 103_500 * MS),
    ("2025-10-07t13:51:43z", 103 * SECOND),
    ("2024-01-01T00:00:00Z", 0),
    ("Tue, 07 Oct 2025 13:51:43 GMT", 103 * SECOND),
    ("Tuesday, 07-Oct-25 13:51:43 GMT", 103 * SECOND),
    ("Tue Oct  7 13:51:43 2025", 103 * SECOND),
    ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
    ("48s", 48 * SECOND),
    ('"48s"', 48 * SECOND),
    (" 60 ", MINUTE),
]

GARBAGE = [
    *(
        "",
        " ",
        '"',
        "-5",
        "-1s",
        "+5",
        "NaN",
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "1e400",
        "s",
        "ms",
        "m",
        ".s",
        ".",
        "1.2.3s",
    ),
    *("1s2", "1s 2s", "5 s", "12 seconds", "1d", "0x10", "1_000", "\u0663s", "\u0663", "soon"),
    *(
        "1S",
        "9" * 30,
        "9" * 5000,
        "9" * 5000 + "s",
        "999999h",
        "9999-12-31T23:59:59Z",
        "2025-10-07",
        "2025-10-07T13:51:43",
    ),
    *("2025-13-07T13:51:43Z", "2025-10-07T13:51:60Z", "Tue, 99 Oct 2025 13:51:43 GMT", "Tue, 07 Oct 2025 99:51:43 GMT"),
    *("Tue, 07 Xxx 2025 13:51:43 GMT", "99999999999999", "1m0.36s.", "\ud800"),
]


@pytest.mark.parametrize(("value", "expected"), GRAMMAR)
def test_A11_reset_grammar(value, expected):
    assert parse_reset(value, NOW) == expected
    assert parse_reset(value.encode(), NOW) == expected


@pytest.mark.parametrize("value", GARBAGE)
def test_A11_garbage_is_not_a_duration(value):
    assert parse_reset(value, NOW) is None
    assert parse_reset(value.encode("utf-8", "replace"), NOW) is None


def test_A11_longest_is_a_year():
    assert parse_reset(str(LONGEST_NS // SECOND), NOW) == LONGEST_NS
    assert parse_reset(f"{LONGEST_NS // SECOND}.1", NOW) is None


RETRY_AFTER = [
    ([], None),
    ([(b"retry-after", b"54")], 54 * SECOND),
    ([(b"retry-after", b"1.5")], 1_500 * MS),
    ([(b"retry-after", b"Tue, 07 Oct 2025 13:51:43 GMT")], 103 * SECOND),
    ([(b"retry-after-ms", b"250")], 250 * MS),
    ([(b"retry-after-ms", b"250.5")], 250_500_000),
    ([(b"retry-after", b"0")], 0),
    ([(b"retry-after", b"10800")], 3 * HOUR),
    ([(b"retry-after", b"86399")], 86399 * SECOND),
    ([(b"retry-after", b"-5")], None),
    ([(b"retry-after", b"NaN")], None),
    ([(b"retry-after", b"inf")], None),
    ([(b"retry-after", b"tomorrow")], None),
    ([(b"retry-after-ms", b"-1")], None),
    ([(b"retry-after-ms", b"NaN")], None),
    ([(b"retry-after-ms", b"2s")], None),
    ([(b"retry-after-ms", b"9" * 60)], None),
    ([(b"retry-after", b"1"), (b"retry-after-ms", b"0")], SECOND),
    ([(b"retry-after-ms", b"0"), (b"retry-after", b"1")], SECOND),
    ([(b"retry-after", b"soon"), (b"retry-after-ms", b"1500")], 1_500 * MS),
    ([(b"retry-after", b"2"), (b"retry-after", b"9")], 9 * SECOND),
    ([(b"x-retry-after", b"9")], None),
]


@pytest.mark.parametrize(("headers", "expected"), RETRY_AFTER)
def test_A9_retry_after(headers, expected):
    assert parse_retry_after(headers, NOW) == expected


TEXTS = [
    ("Please try again in 2m59.56s.", 179_560 * MS),
    ("Please try again in 789.6ms. Visit", 789_600_000),
    ("Please try again in 9m38.016s. Need more tokens?", 578_016 * MS),
    ("Please try again in 114h18m0s", 114 * HOUR + 18 * MINUTE),
    ("Please try again in 1m0.363142857s.", 60_363_142_857),
    ("Requested 9855. Please try again in 1.984999999s.", 1_984_999_999),
    ("Please retry in 48.939935699s.", 48_939_935_699),
    ("Please retry in 48.9399356991234s.", 48_939_935_700),
    ("Rate limit is exceeded. Try again in 2 seconds.", 2 * SECOND),
    ("Please retry after 86400 seconds. To increase", DAY),
    ("Please retry after 20 seconds.", 20 * SECOND),
    ("please wait 1 minute and 30 seconds", 90 * SECOND),
    ("please wait for about 5 minutes before retrying", 5 * MINUTE),
    ("Your quota resets in 1h 30m", 90 * MINUTE),
    ("Try again in 250 milliseconds", 250 * MS),
    ("Try again in 2 days, 3 hours", 2 * DAY + 3 * HOUR),
    ("TRY AGAIN IN 2 SECONDS", 2 * SECOND),
    ("Retry 3 times, then wait 5s", 5 * SECOND),
    ("Please retry 3 times.", None),
    ("Limit 8000, Used 5536, Requested 5599.", None),
    ("took 12 seconds", None),
    ("try again in 5 months", None),
    ("try again in 9999999 days", None),
    ("Resource exhausted. Please try again later.", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_A10_wait_in_text(text, expected):
    assert duration_in_text(text) == expected


DATED = [
    ("The limit will reset at 2025-10-07T13:51:43Z.", 103 * SECOND),
    ("will reset at 2025-10-07 13:51:43 UTC", 103 * SECOND),
    ("will reset on 2025-10-07 at 13:51 GMT", MINUTE),
    ("You will regain access on 2025-10-08 at 00:00 UTC.", 10 * HOUR + 10 * MINUTE),
    ("resets at 2025-10-07T15:51:43+02:00", 103 * SECOND),
    ("will reset at Tue, 07 Oct 2025 13:51:43 GMT", 103 * SECOND),
    ("will reset at 2025-10-07 13:51:43", None),
    ("will reset at 2025-99-07T13:51:43Z", None),
    ("try again in 7s, it will reset at 2025-10-07T13:51:43Z", 7 * SECOND),
]


@pytest.mark.parametrize(("text", "expected"), DATED)
def test_A10_date_in_text(text, expected):
    assert duration_in_text(text, NOW) == expected


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(st.binary(max_size=80), st.from_regex(r"[0-9.eE+:TZsmh, -]{0,40}").map(str.encode)), st.integers(0, 2**62)
)
def test_A11_no_bytes_raise(value, now_ns):
    reset = parse_reset(value, now_ns)
    assert reset is None or 0 <= reset <= LONGEST_NS
    wait = parse_retry_after([(b"retry-after", value), (b"retry-after-ms", value)], now_ns)
    assert wait is None or 0 <= wait <= LONGEST_NS


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80))
def test_A10_no_text_raises(text):
    for told in (text, f"try again in {text}", f"resets at {text}"):
        wait = duration_in_text(told, NOW)
        assert wait is None or 0 <= wait <= LONGEST_NS


def go(duration_ns: int) -> str:
    """As Go's Duration.String writes it, from one second up."""
    hours, rest = divmod(duration_ns, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds = f"{rest // SECOND}.{rest % SECOND:09d}".rstrip("0").rstrip(".")
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{seconds}s"


@settings(deadline=None, max_examples=300)
@given(st.integers(0, LONGEST_NS))
def test_A11_go_durations_are_exact(duration_ns):
    assert parse_reset(go(duration_ns), NOW) == duration_ns
