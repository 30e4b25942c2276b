"""When a window of a provider ends, where its windows are aligned to a clock at all (providers.md 1.1 row 4, 20).

Decides by dialect. A caller who knows the time zone's next midnight (app.py, DST-aware) passes it; without one this
file errs to the late side by at most an hour, so that nothing is tried too early. Refuses to know time zones.
"""

from __future__ import annotations

from sidecar.core.limits import DAY, HOUR, MINUTE

# Offset of the boundary from that of UTC. Gemini: midnight US Pacific is 08:00 UTC in winter, 07:00 in summer.
_OFFSETS = {
    ("cerebras", MINUTE): 0,
    ("cerebras", DAY): 0,
    ("openrouter", DAY): 0,
    ("gemini", DAY): 8 * HOUR,
}

# Their reset headers tell when the next request is admitted; elsewhere, when a bucket is full, long after it admits.
FIXED_DIALECTS = frozenset({"cerebras", "openrouter", "sambanova"})
_ROLLING_DIALECTS = frozenset({"groq", "openai"})  # token buckets, also for the day


def wait(dialect: str, window_ns: int, midnight_ns: int | None, now_ns: int) -> int | None:
    """Nanoseconds from now until that window of the provider ends; None where it rolls or is not known.

    `midnight_ns`: the next end of a day by the provider's time zone (absolute), used for windows of a day only.
    """
    if dialect in _ROLLING_DIALECTS:
        return None
    if window_ns == DAY and midnight_ns is not None and midnight_ns > now_ns:
        return midnight_ns - now_ns
    offset = _OFFSETS.get((dialect, window_ns))
    return None if offset is None else window_ns - (now_ns - offset) % window_ns
