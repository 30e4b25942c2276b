"""Estimates before anyone has counted."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import ChargeRule, Cost
from sidecar.core.tokens import Calibration, Kind, cost, kind, text_bytes


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_starts_at_four_bytes_a_token_rounded_up(size, tokens):
    assert Calibration().estimate(size) == tokens


@pytest.mark.parametrize("bytes_per_token", [1.5, 2.5, 4, 6, 12])
def test_converges_to_what_is_reported(bytes_per_token):
    calibration = Calibration()
    for _ in range(100):
        calibration.report(int(1000 * bytes_per_token), 1000)
    assert calibration.estimate(int(10_000 * bytes_per_token)) == pytest.approx(10_000, rel=0.05)


def test_follows_more_tokens_faster_than_fewer():
    dense, light = Calibration(), Calibration()
    for _ in range(5):
        dense.report(3000, 1000)
        light.report(5000, 1000)
    assert 4000 - dense.milli_bytes > 2 * (light.milli_bytes - 4000)


@pytest.mark.parametrize(("size", "tokens"), [(10, 15), (0, 1000), (-5, 1000), (1000, 0), (1000, -1)])
def test_reports_that_say_nothing_are_ignored(size, tokens):
    calibration = Calibration()
    calibration.report(size, tokens)
    assert calibration.milli_bytes == 4000


@pytest.mark.parametrize(("size", "tokens"), [(10**9, 16), (1, 10**9)])
def test_one_odd_report_moves_it_by_an_eighth(size, tokens):
    calibration = Calibration()
    calibration.report(size, tokens)
    assert abs(calibration.milli_bytes - 4000) <= 500


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), max_size=100))
def test_stays_within_bounds_whatever_is_reported(reports):
    calibration = Calibration()
    for size, tokens in reports:
        calibration.report(size, tokens)
    assert 1000 <= calibration.milli_bytes <= 16_000


@pytest.mark.parametrize(
    ("rule", "declared", "n", "output"),
    [
        (ChargeRule("none"), 500, 2, 0),
        (ChargeRule("declared"), 500, 1, 500),
        (ChargeRule("declared"), 500, 3, 1500),
        (ChargeRule("declared"), None, 3, 0),
        (ChargeRule("declared", 16384), None, 1, 0),
        (ChargeRule("assumed", 16384), None, 1, 16384),
        (ChargeRule("assumed", 16384), None, 2, 32768),
        (ChargeRule("assumed", 16384), 0, 1, 0),
        (ChargeRule("assumed", 16384), 500, 0, 500),
        (ChargeRule("declared"), -500, 1, 0),
    ],
)
def test_A8_output_is_reserved_by_the_charge_rule(rule, declared, n, output):
    assert cost(100, declared, n, rule) == Cost(100, output)


def picture(size: int) -> str:
    return "data:image/png;base64," + base64.b64encode(bytes(size)).decode()


def body(*urls: str, text: str = "") -> bytes:
    return json.dumps({"text": text, "images": urls}).encode()


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        (body(text="x" * 100_000), 100_000, 100_100),  # text counts in full
        (body(picture(1_000_000)), 1024, 1200),
        (body(picture(1_000_000), picture(500_000), text="x" * 5000), 7048, 7300),
        (body(picture(9_000)), 12_000, 12_100),  # a small body is not searched
        (body(*[picture(300)] * 50), 20_000, 25_000),  # short runs count as they are
        (body(picture(1_000_000))[:-4], 1024, 1200),  # broken off
        (b"x" * 20_000 + b";base64,", 20_008, 20_008),
    ],
)
def test_base64_counts_lightly(given, least, most):
    assert least <= text_bytes(given) <= most


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([b";base64,", b'"', b"A" * 3000, b"\xc3\xa9"]), max_size=40))
def test_text_bytes_is_never_negative_nor_more_than_the_body(parts):
    whole = b" " * 17_000 + b"".join(parts)
    assert 17_000 <= text_bytes(whole) <= len(whole)
    assert text_bytes(whole[17_000:20_000]) == len(whole[17_000:20_000])


PROSE = "A request that no target can admit now is held, in order, until the earliest admission. "
CODE = "    for name, value in headers:\n        if name == wanted and value:\n            return value\n"
RECORDS = json.dumps([{"id": n, "price": n * 1.25, "at": f"2026-01-{n:02d}"} for n in range(10, 30)])
CHINESE = "限流的目的不是拒绝请求而是让请求在合适的时间到达合适的地方。"


def chat(text: str, escapes: bool = False) -> bytes:
    request = {"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": text}], "temperature": 0.2}
    return json.dumps(request, ensure_ascii=escapes).encode()


@pytest.mark.parametrize("times", [1, 3, 40, 4000])
@pytest.mark.parametrize(
    ("text", "escapes", "expected"),
    [
        (PROSE * 3, False, Kind.PROSE),
        (PROSE * 3 + "Ça coûte 3 €.", False, Kind.PROSE),  # a few letters beyond ASCII
        (PROSE * 3 + "Ça coûte 3 €.", True, Kind.PROSE),
        (CODE * 3, False, Kind.PROSE),
        (RECORDS, False, Kind.SYMBOLS),
        ("3.14, 2.72; " * 20, False, Kind.SYMBOLS),
        (CHINESE * 3, False, Kind.SCRIPT),
        (CHINESE + PROSE, False, Kind.SCRIPT),
        (CHINESE * 3, True, Kind.ESCAPES),
    ],
)
def test_the_bytes_tell_the_kind_of_text(text, escapes, expected, times):
    assert kind(chat(text * times, escapes)) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Kind.PROSE),
        (b"x" * 7 + b"!" * 3, Kind.PROSE),
        (b"x" * 6 + b"!" * 4, Kind.SYMBOLS),
        (b"x" * 6 + b"\xe9" * 2, Kind.PROSE),
        (b"x" * 5 + b"\xe9" * 2, Kind.SCRIPT),
        (b"x" * 18 + b"\\u4e00", Kind.PROSE),
        (b"x" * 17 + b"\\u4e00", Kind.ESCAPES),
        (b"!" * 1025 + b"x" * 8000, Kind.PROSE),
        (b"x" * 500 + b"!" * 3600 + b"x" * 500, Kind.SYMBOLS),  # what is not at an end counts as well
    ],
)
def test_bounds_between_kinds(body, expected):
    assert kind(body) is expected


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_of_some_kind(body):
    assert kind(body) in Kind


def test_repr():
    assert repr(Calibration()) == "<Calibration 4 bytes per token>"
