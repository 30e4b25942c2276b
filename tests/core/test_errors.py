"""The errors this proxy makes: one status, one code, one shape for each reason."""

from __future__ import annotations

import json

import pytest

from sidecar.core.errors import Reason, Refusal, Step, render, seconds_up, stream_error
from sidecar.core.http import find
from sidecar.core.limits import SECOND

STATUSES = {
    "invalid_http": 400,
    "invalid_json": 400,
    "invalid_path": 400,
    "invalid_header": 400,
    "model_missing": 400,
    "model_duplicate": 400,
    "invalid_api_key": 401,
    "forbidden_host": 403,
    "forbidden_origin": 403,
    "unknown_path": 404,
    "unknown_provider": 404,
    "unknown_key": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "body_too_large": 413,
    "request_too_large": 413,
    "unsupported_content_encoding": 415,
    "expectation_failed": 417,
    "headers_too_large": 431,
    "rate_limit_exceeded": 429,
    "queue_full": 429,
    "overloaded": 503,
    "draining": 503,
    "no_usable_key": 503,
    "model_not_found": 404,
    "unsupported_parameter": 400,
    "provider_unavailable": 503,
    "upstream_failed": 502,
    "upstream_timeout": 504,
    "internal_error": 500,
}
MENDED_BY_TIME = {408, 429, 500, 502, 503, 504}


def test_the_set_of_reasons_is_closed():
    assert {reason.value: Refusal(reason, "").status for reason in Reason} == STATUSES


@pytest.mark.parametrize("reason", Reason)
def test_A17_who_need_not_try_again_is_told(reason):
    refusal = Refusal(reason, "no")
    told = find(render(refusal).headers, b"x-should-retry")
    assert told == (None if refusal.may_mend else b"false")
    if reason is not Reason.NO_USABLE_KEY:
        assert refusal.may_mend is (refusal.status in MENDED_BY_TIME)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", ""])
def test_A16_every_answer_is_what_sdks_parse(reason, dialect):
    answer = render(Refusal(reason, 'it says "no"\n\u2028', param="model"), dialect)
    assert answer.status == STATUSES[reason.value]
    assert find(answer.headers, b"content-type") == b"application/json"
    body = json.loads(answer.body)
    assert body["error"]["code"] == reason.value
    assert body["error"]["message"] == 'it says "no"\n\u2028'
    assert body["error"]["param"] == "model"
    assert body["error"]["type"].endswith("_error")
    assert body.get("type") == ("error" if dialect == "anthropic" else None)


def test_an_error_without_a_parameter_says_null_as_openai_does():
    error = json.loads(render(Refusal(Reason.INVALID_JSON, "no")).body)["error"]
    assert error == {"message": "no", "type": "invalid_request_error", "code": "invalid_json", "param": None}


def test_B11_the_trail_is_told():
    trail = (Step("groq/m", "team-a", "rate_limited", 429), Step("cerebras/m", "main", "connect_failed"))
    error = json.loads(render(Refusal(Reason.UPSTREAM_FAILED, "no", trail=trail)).body)["error"]
    assert error["trail"] == [
        {"target": "groq/m", "key": "team-a", "reason": "rate_limited", "status": 429},
        {"target": "cerebras/m", "key": "main", "reason": "connect_failed"},
    ]


@pytest.mark.parametrize(
    ("duration_ns", "seconds"),
    [(-SECOND, 1), (0, 1), (1, 1), (SECOND, 1), (SECOND + 1, 2), (90 * SECOND, 90), (86400 * SECOND - 1, 86400)],
)
def test_A16_retry_after_is_rounded_up(duration_ns, seconds):
    assert seconds_up(duration_ns) == seconds
    headers = render(Refusal(Reason.RATE_LIMITED, "no", duration_ns)).headers
    assert find(headers, b"retry-after") == b"%d" % seconds


def test_no_retry_after_without_a_time():
    assert find(render(Refusal(Reason.UPSTREAM_FAILED, "no")).headers, b"retry-after") is None


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_B4_a_broken_stream_ends_with_the_error_as_events(dialect):
    refusal = Refusal(Reason.UPSTREAM_FAILED, "it broke\n\ndata: [DONE]\n\n")
    events = stream_error(refusal, dialect).split(b"\n\n")
    assert events.pop() == b""
    if dialect == "openai":
        assert events.pop() == b"data: [DONE]"
    (event,) = events
    lines = event.split(b"\n")
    assert lines[:-1] == ([b"event: error"] if dialect == "anthropic" else [])
    assert lines[-1] == b"data: " + render(refusal, dialect).body
