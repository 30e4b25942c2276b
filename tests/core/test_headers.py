"""Which headers pass, what a control header asks, and a head that no caller can add a line to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.errors import Reason, Refusal
from sidecar.core.headers import Controls, controls, request_headers, response_headers, upstream_head
from sidecar.core.limits import SECOND

SECRET = b"gsk_operators-own"
PASSING = [(b"accept", b"*/*"), (b"user-agent", b"OpenAI/Python"), (b"x-stainless-lang", b"python"), (b"accept", b"b")]


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "proxy-anything",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "host",
        "content-length",
        "expect",
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "openai-organization",
        "openai-project",
        "x-sidecar-key",
        "x-sidecar-anything",
        "cache-control",
    ],
)
def test_C11_dropped_from_a_request(name):
    assert request_headers([*PASSING, (name.encode(), b"close")]) == PASSING


@pytest.mark.parametrize("value", [b"x-a", b"X-A, close", b"close ,x-b,\tx-a ", b"keep-alive,x-a,,"])
def test_C11_what_connection_names_is_dropped(value):
    headers = [(b"x-a", b"1"), *PASSING, (b"connection", value), (b"x-a", b"2")]
    assert request_headers(headers) == PASSING
    assert response_headers(headers, ()) == PASSING


def test_headers_in_which_a_provider_gets_its_key_are_dropped():
    assert request_headers([*PASSING, (b"x-key", b"mine")], (b"x-key",)) == PASSING


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "set-cookie",
        "alt-svc",
        "strict-transport-security",
        "x-sidecar-key",
    ],
)
def test_dropped_from_an_answer(name):
    kept = [(b"x-ratelimit-limit-tokens", b"6000"), (b"content-encoding", b"gzip"), (b"x-request-id", b"r")]
    assert response_headers([*kept, (name.encode(), b"x")], (SECRET,)) == kept


def test_G3_no_header_of_an_answer_holds_a_secret():
    headers = [*PASSING, (b"x-echo", b"Bearer " + SECRET), (b"x-other", b"key two!"), (b"x-part", SECRET[:-1])]
    assert response_headers(headers, (SECRET, b"two", b"")) == [*PASSING, (b"x-part", SECRET[:-1])]
    assert response_headers(headers, ()) == headers


@pytest.mark.parametrize(
    ("method", "length", "expected"),
    [
        (b"POST", 3, b"content-length: 3\r\n"),
        (b"POST", 0, b"content-length: 0\r\n"),
        (b"POST", None, b"content-length: 0\r\n"),
        (b"PUT", None, b"content-length: 0\r\n"),
        (b"GET", None, b""),
        (b"GET", 0, b"content-length: 0\r\n"),
        (b"DELETE", None, b""),
        (b"DELETE", 9, b"content-length: 9\r\n"),
    ],
)
def test_upstream_head(method, length, expected):
    head = upstream_head(method, b"/v1/x?y=1", b"api.example", [(b"a", b"1"), (b"b", b"")], length)
    assert head == method + b" /v1/x?y=1 HTTP/1.1\r\nhost: api.example\r\na: 1\r\nb: \r\n" + expected + b"\r\n"


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"1\r\nhost: evil"),
        (b"x", b"1\ny"),
        (b"x", b"1\ry"),
        (b"x", b"1\0"),
        (b"x: 1\r\nhost", b"evil"),
        (b"host ", b"evil"),
        (b" host", b"evil"),
        (b"", b"evil"),
        (b"x:", b"evil"),
    ],
)
def test_C11_a_header_that_is_not_one_line_is_left_out(header):
    head = upstream_head(b"GET", b"/", b"api.example", [(b"a", b"1"), header, (b"b", b"2")], None)
    assert head == b"GET / HTTP/1.1\r\nhost: api.example\r\na: 1\r\nb: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "path", "host"),
    [
        (b"GET /x HTTP/1.1\r\nhost: evil\r\n\r\nGET", b"/", b"a"),
        (b"", b"/", b"a"),
        (b"GET", b"", b"a"),
        (b"GET", b"http://evil/", b"a"),
        (b"GET", b"/x HTTP/1.1\r\nx: y", b"a"),
        (b"GET", b"/a b", b"a"),
        (b"GET", b"/", b"a\r\nx: y"),
        (b"GET", b"/", b""),
    ],
)
def test_C11_a_malformed_request_line_is_never_written(method, path, host):
    with pytest.raises(ValueError, match="request line"):
        upstream_head(method, path, host, [], None)


NAMES = st.sampled_from(
    b"host content-length transfer-encoding connection authorization x-api-key cookie x-sidecar-key x-a x-b".split()
) | st.binary(max_size=6).map(bytes.lower)
VALUES = st.sampled_from([b"close, x-a", b"authorization", b"chunked", b"7", b"x\r\nhost: evil"]) | st.binary(
    max_size=9
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_G2_no_callers_header_speaks_for_the_operator(headers):
    own = [(b"authorization", b"Bearer " + SECRET)]
    head = upstream_head(b"POST", b"/v1/x", b"api.example", request_headers(headers) + own, 5)
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1
    lines = head[:-4].split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    assert lines[:2] == [b"POST /v1/x HTTP/1.1", b"host: api.example"]
    names = [line.partition(b":")[0].strip().lower() for line in lines[1:]]
    assert names.count(b"host") == names.count(b"content-length") == names.count(b"authorization") == 1
    assert not {b"transfer-encoding", b"connection", b"x-api-key", b"cookie", b"x-sidecar-key"} & set(names)
    assert head.count(SECRET) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"accept", b"*/*")], Controls()),
        ([(b"x-sidecar-fallback", b"off")], Controls(fallback=False)),
        ([(b"x-sidecar-fallback", b" ON ")], Controls()),
        ([(b"x-sidecar-max-wait", b"5s")], Controls(max_wait_ns=5 * SECOND)),
        ([(b"x-sidecar-max-wait", b"0s")], Controls(max_wait_ns=0)),
        ([(b"x-sidecar-key", b"groq/team-a")], Controls(key="groq/team-a")),
        ([(b"cache-control", b"max-age=0, No-Store")], Controls(no_store=True, max_age_ns=0)),
        ([(b"cache-control", b"max-age=60"), (b"cache-control", b"max-age=5")], Controls(max_age_ns=5 * SECOND)),
        ([(b"cache-control", b"max-age=soon, max-stale=3")], Controls()),
        ([(b"x-sidecar-cache", b"Refresh")], Controls(cache="refresh")),
        ([(b"cache-control", b"no-cache"), (b"cache-control", b"no-store")], Controls(no_store=True, no_cache=True)),
        ([(b"cache-control", b"no-storeroom")], Controls()),
        (
            [(b"x-sidecar-key", b"a"), (b"x-sidecar-fallback", b"off"), (b"x-sidecar-max-wait", b"1m")],
            Controls(False, 60 * SECOND, "a"),
        ),
    ],
)
def test_B15_controls(headers, expected):
    assert controls(headers) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-sidecar-fallback", b"no"),
        (b"x-sidecar-fallback", b""),
        (b"x-sidecar-max-wait", b"5"),
        (b"x-sidecar-max-wait", b"-5s"),
        (b"x-sidecar-max-wait", b"\xff" * 500),
        (b"x-sidecar-key", b""),
        (b"x-sidecar-key", b"a\x01"),
        (b"x-sidecar-key", b"\xe9"),
    ],
)
def test_a_control_header_that_means_nothing_is_refused(name, value):
    refusal = controls([(b"accept", b"*/*"), (name, value)])
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.INVALID_HEADER
    assert refusal.message.startswith(name.decode() + ": ")
    assert repr(value[:64].decode("ascii", "replace")) in refusal.message
    assert len(refusal.message) < 400
