"""Which limits an error names: axis, window, limit, used, requested (providers.md 2.4 and the texts of every section).

Decides what the prose and the quota ids of providers say about their limits. Headers never show most axes (1.1 row 7),
so for those this is the only source. What is not said is None: nothing is taken for a day that does not say so
(acceptance A5). Refuses to know status, provider and what follows from a limit (feedback.py).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sidecar.core.error_body import ErrorBody, Violation
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis

MONTH = 31 * DAY


class NamedLimit(NamedTuple):
    """One limit as an error names it."""

    axis: Axis | None
    window_ns: int | None
    limit: int | None = None
    used: int | None = None
    requested: int | None = None


def named_limits(body: ErrorBody) -> tuple[NamedLimit, ...]:
    """Every limit the body names, those of machine-readable details before the one in the prose."""
    told = tuple(_of_quota_id(violation) for violation in body.violations)
    return told or _in_prose(body)


_Kind = tuple[Axis | None, int | None]

_ABBREVIATIONS: dict[str, _Kind] = {
    "RPS": (Axis.REQUESTS, SECOND),
    "RPM": (Axis.REQUESTS, MINUTE),
    "RPH": (Axis.REQUESTS, HOUR),
    "RPD": (Axis.REQUESTS, DAY),
    "TPM": (Axis.TOKENS, MINUTE),
    "TPH": (Axis.TOKENS, HOUR),
    "TPD": (Axis.TOKENS, DAY),
    "ITPM": (Axis.INPUT_TOKENS, MINUTE),
    "ITPD": (Axis.INPUT_TOKENS, DAY),
    "OTPM": (Axis.OUTPUT_TOKENS, MINUTE),
    "OTPD": (Axis.OUTPUT_TOKENS, DAY),
    "ASPH": (Axis.AUDIO_SECONDS, HOUR),
    "ASPD": (Axis.AUDIO_SECONDS, DAY),
    "ASH": (Axis.AUDIO_SECONDS, HOUR),
    "ASD": (Axis.AUDIO_SECONDS, DAY),
}
_ABBREVIATION = re.compile(rf"\b({'|'.join(_ABBREVIATIONS)})\b")

_COUNTED = {
    "requests": Axis.REQUESTS,
    "queries": Axis.REQUESTS,
    "calls": Axis.REQUESTS,
    "tokens": Axis.TOKENS,
    "input tokens": Axis.INPUT_TOKENS,
    "prompt tokens": Axis.INPUT_TOKENS,
    "output tokens": Axis.OUTPUT_TOKENS,
    "generated tokens": Axis.OUTPUT_TOKENS,
    "seconds of audio": Axis.AUDIO_SECONDS,
    "audio seconds": Axis.AUDIO_SECONDS,
}
_PERIODS = {"sec": SECOND, "min": MINUTE, "hou": HOUR, "day": DAY, "mon": MONTH}
_PER = re.compile(
    r"(?:\b([0-9][0-9,]{0,18}) )?\b((?:input |prompt |output |generated )?tokens|requests|queries|calls"
    r"|seconds of audio|audio seconds) per (second|min|hour|day|month)",
    re.IGNORECASE | re.ASCII,
)
_FREE_MODELS = re.compile(r"\bfree-models-per-(min|day)")  # OpenRouter: requests to all free models together
_AZURE = re.compile(r"\bexceeded (token|call) rate limit of your current")  # per deployment, always of a minute
_BARE_PERIOD = re.compile(r"\b(?:per[ -](second|min|hour|day|month)|(daily|monthly) (?:limit|quota))", re.IGNORECASE)

_NUMBER = r"[\s:]*~?([0-9][0-9,]{0,18})\b"
_LIMIT = re.compile(rf"\blimit{_NUMBER}", re.IGNORECASE)
_USED = re.compile(rf"\bused{_NUMBER}", re.IGNORECASE)
_REQUESTED = re.compile(rf"\brequested{_NUMBER}", re.IGNORECASE)
_ACTUAL_OF_LIMIT = re.compile(r"\(actual/limit\): ?([0-9][0-9,]{0,18})/([0-9][0-9,]{0,18})")  # xAI

# what a type or a code alone says; the window it leaves open
_NAMES = {
    "requests": Axis.REQUESTS,
    "request_quota_exceeded": Axis.REQUESTS,
    "dynamic_request_limited": Axis.REQUESTS,
    "tokens": Axis.TOKENS,
    "token_quota_exceeded": Axis.TOKENS,
    "dynamic_token_limited": Axis.TOKENS,
    "seconds": Axis.AUDIO_SECONDS,
}

# Gemini's metrics, where only the prose has them
_METRIC = re.compile(r"/generate_content_\w{0,40}?(input_token_count|requests)\b")

_CONCURRENCY = re.compile(
    r"\b(?:concurren\w*|simultaneous|parallel)[^0-9.]{0,40}\b([0-9]{1,6})\b(?!\.[0-9])"
    r"|\b([0-9]{1,6}) (?:concurrent|simultaneous|parallel)\b",
    re.IGNORECASE | re.ASCII,
)


def concurrency_limit(text: str) -> int | None:
    """How many requests at once a text allows ("limit of 39 concurrent requests"), or None."""
    match = _CONCURRENCY.search(text)
    return int(match[1] or match[2]) if match is not None else None


def _of_quota_id(violation: Violation) -> NamedLimit:
    """Google's quota ids are sentences in camel case: `GenerateContentPaidTierInputTokensPerModelPerMinute`."""
    quota_id = violation.quota_id
    axis = Axis.TOKENS if "Token" in quota_id else Axis.REQUESTS if "Request" in quota_id else None
    if "InputToken" in quota_id:
        axis = Axis.INPUT_TOKENS
    periods = {"PerDay": DAY, "PerHour": HOUR, "PerMinute": MINUTE}
    window_ns = next((period for word, period in periods.items() if word in quota_id), None)
    return NamedLimit(axis, window_ns, violation.value)


def _in_prose(body: ErrorBody) -> tuple[NamedLimit, ...]:
    text = body.text
    (axis, window_ns), counted = _kind(text)
    if axis is None:
        axis = next((_NAMES[name] for name in sorted(body.names) if name in _NAMES), _of_metric(text))
    limit, used = _count(_LIMIT.search(text)), _count(_USED.search(text))
    ratio = _ACTUAL_OF_LIMIT.search(text)
    if ratio is not None:
        used, limit = _integer(ratio[1]), _integer(ratio[2])
    if axis is None and window_ns is None:
        return ()
    return (NamedLimit(axis, window_ns, counted if limit is None else limit, used, _count(_REQUESTED.search(text))),)


def _kind(text: str) -> tuple[_Kind, int | None]:
    """Axis and window in a text, and the number that stands before them ("30,000 input tokens per minute")."""
    per = _PER.search(text)
    counted = _integer(per[1]) if per is not None and per[1] else None
    abbreviation = _ABBREVIATION.search(text)
    if abbreviation is not None:
        return _ABBREVIATIONS[abbreviation[1]], counted
    if per is not None:
        return (_COUNTED[per[2].lower()], _PERIODS[per[3][:3].lower()]), counted
    free = _FREE_MODELS.search(text)
    if free is not None:
        return (Axis.REQUESTS, _PERIODS[free[1]]), None
    azure = _AZURE.search(text)
    if azure is not None:
        return (Axis.TOKENS if azure[1] == "token" else Axis.REQUESTS, MINUTE), None
    bare = _BARE_PERIOD.search(text)
    word = "" if bare is None else (bare[1] or bare[2]).lower()
    return (None, _PERIODS["day" if word == "daily" else word[:3]] if word else None), None


def _of_metric(text: str) -> Axis | None:
    match = _METRIC.search(text)
    if match is None:
        return None
    return Axis.REQUESTS if match[1] == "requests" else Axis.INPUT_TOKENS


def _integer(digits: str) -> int:
    return int(digits.replace(",", ""))


def _count(match: re.Match[str] | None) -> int | None:
    return _integer(match[1]) if match is not None else None
