"""Windows aligned to a clock end on it; rolling ones do not."""

import pytest

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND
from sidecar.core.window_ends import wait

NOW = 1_759_845_015 * SECOND  # 2025-10-07T13:50:15Z
TO_UTC_MIDNIGHT = 10 * HOUR + 9 * MINUTE + 45 * SECOND

CASES = [
    ("cerebras", MINUTE, 45 * SECOND),
    ("cerebras", DAY, TO_UTC_MIDNIGHT),
    ("cerebras", HOUR, None),
    ("openrouter", DAY, TO_UTC_MIDNIGHT),
    ("openrouter", MINUTE, None),
    ("gemini", DAY, TO_UTC_MIDNIGHT + 8 * HOUR),
    ("gemini", MINUTE, None),
    ("groq", DAY, None),
    ("openai", DAY, None),
    ("acme", DAY, None),
]


@pytest.mark.parametrize(("dialect", "window_ns", "expected"), CASES)
def test_ends(dialect, window_ns, expected):
    assert wait(dialect, window_ns, None, NOW) == expected


def test_at_a_boundary_the_next_one_counts():
    midnight = NOW + TO_UTC_MIDNIGHT
    assert wait("cerebras", DAY, None, midnight) == DAY
    assert wait("cerebras", DAY, None, midnight - 1) == 1


def test_a_known_midnight_is_believed_for_days_that_end():
    assert wait("gemini", DAY, NOW + HOUR, NOW) == HOUR
    assert wait("acme", DAY, NOW + HOUR, NOW) == HOUR
    assert wait("gemini", DAY, NOW, NOW) == TO_UTC_MIDNIGHT + 8 * HOUR
    assert wait("cerebras", MINUTE, NOW + HOUR, NOW) == 45 * SECOND
    assert wait("groq", DAY, NOW + HOUR, NOW) is None
