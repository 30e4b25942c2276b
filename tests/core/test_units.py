from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import HOUR, MINUTE, SECOND
from sidecar.core.units import format_duration, format_size, parse_duration, parse_size

MS = SECOND // 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 250 * MS),
        ("20s", 20 * SECOND),
        ("10m", 10 * MINUTE),
        ("24h", 24 * HOUR),
        ("0s", 0),
        ("1.5s", 1500 * MS),
        ("0.25ms", 250_000),
        ("0.000001ms", 1),
        ("20 s", 20 * SECOND),
    ],
)
def test_duration(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "20", "s", "-1s", "+1s", "1m30s", "20S", "1 day", "1d", "1e3s", ".5s", "5.s", " 20s", "20s ", "20s\n",
     "1\u0660s",
     "NaNs", "0.0000001ms", "1234567890123456s", "20  s", "64MiB"],
)  # fmt: skip
def test_not_a_duration(text):
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0B", 0), ("512B", 512), ("1KiB", 1024), ("64MiB", 64 << 20), ("1GiB", 1 << 30), ("1.5KiB", 1536)],
)
def test_size(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "64", "64MB", "64M", "64mib", "64Mi", "1.5B", "-1B", "20s", "1TiB", "1MiB\n"])
def test_not_a_size(text):
    assert parse_size(text) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0s"), (1, "0.000001ms"), (250 * MS, "250ms"), (90 * SECOND, "90s"), (10 * MINUTE, "10m"), (24 * HOUR, "24h")],
)
def test_format_duration(value, text):
    assert format_duration(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0B"), (1000, "1000B"), (1536, "1536B"), (64 << 20, "64MiB")])
def test_format_size(value, text):
    assert format_size(value) == text


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 366 * 24 * HOUR))
def test_what_is_formatted_reads_back(value):
    assert parse_duration(format_duration(value)) == value


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 40))
def test_sizes_read_back(value):
    assert parse_size(format_size(value)) == value


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    for value in (parse_duration(text), parse_size(text)):
        assert value is None or value >= 0
