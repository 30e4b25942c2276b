"""Every way a provider writes "how long from now", read as integer nanoseconds.

Decides what a reset header, a `Retry-After` (RFC 9110, 10.2.3) or a phrase in an error text amounts to. Grammars:
providers.md 1.2 (Go durations, bare seconds, Unix seconds and milliseconds, RFC 3339, the three HTTP dates of RFC 9110,
5.6.7, English phrases). Garbage is None, never 0: a caller must be able to tell "now" from "not said". Digits beyond
the nanosecond round up, so that nothing is tried before its time. Refuses to know which header or provider it reads.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from typing import Final

from sidecar.core.http import Header
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND

MILLISECOND: Final = 1_000_000

# Longer is garbage: the longest window any provider has is a calendar month, a spending year the longest conceivable.
LONGEST_NS: Final = 366 * DAY

_LONGEST_TEXT: Final = 64  # the longest real value is an RFC 3339 time with nanoseconds and offset, 35 characters

# A bare number above these is a point in time: 1e9 s of waiting would be 31 years, and 1e9 s of Unix time was 2001.
_EPOCH_SECONDS: Final = 1_000_000_000
_EPOCH_MILLISECONDS: Final = 1_000_000_000_000

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign, what Go prints
    "\u03bcs": 1_000,  # Greek mu, what Go also reads
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_GO_PART: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h)"
_GO: Final = re.compile(f"(?:{_GO_PART})+")
_GO_PARTS: Final = re.compile(r"([0-9]*)\.?([0-9]*)([^0-9.]+)")
# what a busy provider sends most: whole minutes and seconds with up to nine decimals
_CLOCK: Final = re.compile(r"(?:([0-9]{1,5})m)?([0-9]{1,6})(?:\.([0-9]{1,9}))?s")
_MILLIS: Final = 11  # bytes at most of whole milliseconds, the next most
_NUMBER: Final = re.compile(r"([0-9]+)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,3}))?")
_HTTP_DATE: Final = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}"
)
_RFC3339: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{5,8}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})")
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_reset(value: str | bytes, now_ns: int) -> int | None:
    """The duration from `now_ns` that a reset value means, in ns; a time already past is 0, garbage is None."""
    if isinstance(value, bytes) and value.endswith(b"ms") and len(value) <= _MILLIS:
        count = value[:-2]
        if count.isdigit():
            return int(count) * MILLISECOND
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    match = _CLOCK.fullmatch(text)
    duration = _clock(match) if match is not None else _any_form(text.strip(' \t"'), now_ns)
    return duration if duration is not None and duration <= LONGEST_NS else None


def parse_retry_after(headers: list[Header], now_ns: int) -> int | None:
    """The wait asked for by `retry-after` and `retry-after-ms`, in ns: the longest, as one may be rounded to 0."""
    longest: int | None = None
    for name, value in headers:
        if name == b"retry-after":
            wait = parse_reset(value, now_ns)
        elif name == b"retry-after-ms":
            wait = _milliseconds(value)
        else:
            continue
        if wait is not None and (longest is None or wait > longest):
            longest = wait
    return longest


def duration_in_text(text: str, now_ns: int | None = None) -> int | None:
    """The wait an error text asks for ("try again in 1m0.36s", "retry after 20 seconds"), in ns, or None.

    With `now_ns`, points in time are read as well ("will reset at 2026-01-01T00:00:00Z").
    """
    for match in _PHRASE.finditer(text):
        duration = _worded(match[1]) if match[1] else _go_duration(match[2])
        if duration is not None and duration <= LONGEST_NS:
            return duration
    return None if now_ns is None else _dated(text, now_ns)


def _any_form(text: str, now_ns: int) -> int | None:
    if not text or len(text) > _LONGEST_TEXT:
        return None
    return _go_duration(text) if text[-1] in "smh" else _number_or_date(text, now_ns)


def _clock(match: re.Match[str]) -> int:
    minutes, seconds, fraction = match.groups()
    total = int(seconds) * SECOND
    if fraction:
        total += int(fraction.ljust(9, "0"))
    return total + int(minutes) * MINUTE if minutes else total


def _go_duration(text: str) -> int | None:
    """A Go duration (`time.ParseDuration`, unsigned), exact to the nanosecond."""
    if len(text) > _LONGEST_TEXT or _GO.fullmatch(text) is None:
        return None
    return sum(_scaled(whole, fraction, _UNITS[unit]) for whole, fraction, unit in _GO_PARTS.findall(text))


def _scaled(whole: str, fraction: str, unit_ns: int) -> int:
    """`whole.fraction` units in ns without floating point, rounded up."""
    total = int(whole or "0") * unit_ns
    if fraction:
        total -= -int(fraction) * unit_ns // 10 ** len(fraction)
    return total


def _number_or_date(text: str, now_ns: int) -> int | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return _date(text, now_ns)
    seconds_ns = _decimal(match, SECOND)
    if seconds_ns is None or seconds_ns <= _EPOCH_SECONDS * SECOND:
        return seconds_ns
    if seconds_ns > _EPOCH_MILLISECONDS * SECOND:
        seconds_ns //= 1000
    return max(0, seconds_ns - now_ns)


def _decimal(match: re.Match[str], unit_ns: int) -> int | None:
    whole, fraction, exponent = match.groups()
    if exponent is None:
        return _scaled(whole, fraction or "", unit_ns)
    # Python prints floats below 1e-4 so; nobody needs their last digit
    value = float(match[0]) * unit_ns
    return int(value) + 1 if value <= LONGEST_NS else None


def _milliseconds(value: bytes) -> int | None:
    text = value.decode("latin-1").strip()
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    wait = _decimal(match, MILLISECOND) if match is not None else None
    return wait if wait is not None and wait <= LONGEST_NS else None


def _date(text: str, now_ns: int) -> int | None:
    try:
        if _RFC3339.fullmatch(text):
            moment = datetime.fromisoformat(text.upper())
        elif _HTTP_DATE.fullmatch(text) and (fields := parsedate_tz(text)) is not None:
            moment = datetime(*fields[:6], tzinfo=UTC)
        else:
            return None
        when_ns = (moment - _UNIX_EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        return None
    return max(0, when_ns - now_ns)


# What introduces a wait in the recorded texts, at most forty characters before its first digit.
_CUE: Final = r"\b(?:again|retry|retrying|wait|resets?|available|access)\b"
_AMOUNT: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_WORD: Final = r"(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b"
_WORDED: Final = re.compile(rf"({_AMOUNT}) ?({_WORD})", re.IGNORECASE | re.ASCII)
_PHRASE: Final = re.compile(
    rf"{_CUE}[^0-9]{{0,40}}?"
    rf"(?:((?:{_AMOUNT} ?{_WORD}(?:,? (?:and )?)?){{1,4}})|((?:{_GO_PART}){{1,6}})(?![A-Za-z0-9]))",
    re.IGNORECASE | re.ASCII,
)
_DATED_PHRASE: Final = re.compile(
    rf"{_CUE}[^0-9]{{0,40}}?"
    r"(?:([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]| at )([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)"
    r" ?(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})\b"
    r"|([A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT))"
)
_WORD_UNITS: Final = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND}


def _worded(run: str) -> int:
    total = 0
    for amount, word in _WORDED.findall(run):
        whole, _, fraction = amount.partition(".")
        unit = word.lower()
        unit_ns = MILLISECOND if unit.startswith(("mil", "ms")) else _WORD_UNITS[unit[0]]
        total += _scaled(whole, fraction, unit_ns)
    return total


def _dated(text: str, now_ns: int) -> int | None:
    match = _DATED_PHRASE.search(text)
    if match is None:
        return None
    day, time, zone, http_date = match.groups()
    return parse_reset(http_date or f"{day}T{time}{zone if zone[0] in '+-' else 'Z'}", now_ns)
