"""The one line a request leaves: what it says, how long it can be, and what it never holds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.access import line_of, timestamp
from sidecar.core.errors import Step
from sidecar.core.limits import SECOND, Usage
from sidecar.core.scribe import Scribe
from tests.core.house import NOW
from tests.values import record as record_of


def line(now_ns=NOW, **fields):
    record = record_of("req_1", NOW, **({"method": b"POST", "path": b"/v1/chat/completions"} | fields))
    return msgspec.json.decode(msgspec.json.encode(line_of(record, now_ns)))


def test_I5_the_shortest_line():
    assert line() == {
        "time": "2023-11-14T22:13:20.000Z",
        "id": "req_1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 0,
        "outcome": "",
        "duration_ms": 0.0,
        "wait_ms": 0.0,
    }


def test_I5_the_longest_line():
    fields = {
        "caller": "token-0",
        "model": "fast",
        "is_streamed": True,
        "provider": "groq",
        "target_model": "m",
        "key": "team-a",
        "attempts": 2,
        "wait_ns": 1_234_567_890,
        "status": 200,
        "outcome": "ok",
        "content_ns": NOW + SECOND // 4,
        "usage": Usage(10, 20, 5),
        "dropped": ("store",),
        "trail": (Step("groq/m", "team-b", "busy", 503),),
    }
    told = line(NOW + 2 * SECOND + 1_499, **fields)
    assert {name: told[name] for name in told if name not in ("time", "id", "method", "path")} == {
        "caller": "token-0",
        "model": "fast",
        "stream": True,
        "provider": "groq",
        "target_model": "m",
        "key": "team-a",
        "attempts": 2,
        "wait_ms": 1234.568,
        "status": 200,
        "outcome": "ok",
        "duration_ms": 2000.001,
        "first_content_ms": 250.0,
        "tokens_in": 10,
        "tokens_out": 20,
        "dropped": ["store"],
        "trail": [{"target": "groq/m", "key": "team-b", "reason": "busy", "status": 503}],
    }


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/v1/x?key=SECRET", "/v1/x"),
        (b"/v1/x?", "/v1/x"),
        (b"/" + b"x" * 500 + b"?key=SECRET", "/" + "x" * 127),
        (b"/caf\xc3\xa9", "/caf\ufffd\ufffd"),
        (b"*", "*"),
        (b"", ""),
    ],
)
def test_G3_of_a_path_the_query_is_not_told(path, shown):
    assert line(path=path)["path"] == shown


@pytest.mark.parametrize("name", ["model", "target_model"])
def test_I1_a_name_of_any_length_makes_a_short_line(name):
    assert line(**{name: "m" * 5000})[name] == "m" * 128
    assert name not in line(**{name: ""})
    assert line(**{name: 'a"\n\u2028é'})[name] == 'a"\n\u2028é'


def test_a_method_of_any_bytes_is_shown():
    assert line(method=b"G\xffT")["method"] == "G\ufffdT"


def test_one_request_is_one_line():
    encoded = msgspec.json.encode(line_of(record_of("r", NOW, b"POST", b"/", model="a\nb\r"), NOW))
    assert encoded.count(b"\n") == encoded.count(b"\r") == 0


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999_999_999, "1970-01-01T00:00:00.999Z"),
        (1_709_251_199 * SECOND + 5_000_000, "2024-02-29T23:59:59.005Z"),
    ],
)
def test_time_is_told_in_utc_to_the_millisecond(unix_ns, text):
    assert timestamp(unix_ns) == text


TEXTS = st.one_of(st.none(), st.text(max_size=40))
MOMENTS = st.integers(0, 10**11)


@given(
    path=st.binary(max_size=40).map(lambda rest: b"/" + rest),
    names=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    moments=st.tuples(MOMENTS, MOMENTS, MOMENTS),
    tokens=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    is_streamed=st.booleans(),
)
def test_the_short_way_to_a_line_says_the_same_as_the_long_one(path, names, moments, tokens, is_streamed):
    model, provider, target_model, key = names
    ours_ns, content_ns, rest_ns = moments
    record = record_of("req_1", NOW, b"POST", path, model=model, provider=provider, target_model=target_model, key=key,
                    is_streamed=is_streamed, attempts=1, status=200, outcome="ok", ours_ns=ours_ns,
                    content_ns=NOW + ours_ns + content_ns, usage=Usage(*tokens))  # fmt: skip
    now_ns = NOW + ours_ns + content_ns + rest_ns
    scribe = Scribe()
    for _ in range(2):
        line = scribe.line(record, now_ns)
        assert line.endswith(b"}\n")
        assert line.count(b"\n") == 1
        expected = msgspec.json.decode(msgspec.json.encode(line_of(record, now_ns)))
        assert msgspec.json.decode(line) == pytest.approx(expected, abs=0.0011)


@pytest.mark.parametrize("took_ns", [-1_500_000, -1, 0, 499, 500, 999_499, 999_500, 1_000_000, 1_234_567, 10**15 + 1])
def test_durations_are_told_to_the_microsecond(took_ns):
    record = record_of("r", NOW, b"POST", b"/", attempts=1, status=200, outcome="ok", ours_ns=0, content_ns=NOW,
                       usage=Usage(1, 1), key="k", is_streamed=True)  # fmt: skip
    told = msgspec.json.decode(Scribe().line(record, NOW + took_ns))["duration_ms"]
    assert abs(told - took_ns / 1_000_000) <= 0.0005 + 1e-6


def test_a_scribe_forgets_before_it_grows():
    scribe = Scribe()
    for at in range(10_000):
        record = record_of("r", NOW, b"POST", b"/%d" % at, attempts=1, status=200, outcome="ok", ours_ns=1,
                           content_ns=NOW, usage=Usage(1, 1), key="k")  # fmt: skip
        assert msgspec.json.decode(scribe.line(record, NOW))["path"] == f"/{at}"
    assert len(scribe._phrases) <= 4096


@given(model=TEXTS, moments=st.tuples(MOMENTS, MOMENTS), is_streamed=st.booleans(), wait_ns=st.sampled_from([0, 5]))
def test_J5_so_does_the_short_way_to_the_line_of_a_hit(model, moments, is_streamed, wait_ns):
    record = record_of("req_1", NOW + moments[0], b"POST", b"/v1/x?y", model=model, is_streamed=is_streamed, status=200,
                    outcome="ok", cache="hit", wait_ns=wait_ns)  # fmt: skip
    now_ns = record.arrived_ns + moments[1]
    expected = msgspec.json.decode(msgspec.json.encode(line_of(record, now_ns)))
    scribe = Scribe()
    for _ in range(2):
        assert msgspec.json.decode(scribe.line(record, now_ns)) == pytest.approx(expected, abs=0.0011)
