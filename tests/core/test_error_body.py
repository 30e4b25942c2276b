"""Every wrapper of providers.md 1.1 row 10, content types that lie, errors inside a 200, and bodies nobody expects."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.error_body import MESSAGE_MAX_CHARS, ErrorBody, Violation, hidden_error, parse

JSON = b"application/json"


def parsed(body, content_type=JSON):
    return parse(body if isinstance(body, bytes) else json.dumps(body).encode(), content_type)


# body -> what it says beside its text
WRAPPERS = {
    "openai": (
        {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
        {"message": "m", "type": "t", "param": "p", "code": "c"},
    ),
    "flat (cerebras)": (
        {"message": "m", "type": "t", "param": "quota", "code": "c"},
        {"message": "m", "type": "t", "param": "quota", "code": "c"},
    ),
    "flat object error (mistral)": (
        {"object": "error", "message": "m", "type": "t", "param": None, "code": "1300", "raw_status_code": 429},
        {"message": "m", "type": "t", "code": "1300", "status": 429},
    ),
    "flat object error (vllm)": (
        {"object": "error", "message": "m", "type": "NotFoundError", "param": None, "code": 404},
        {"message": "m", "type": "NotFoundError", "code": "404", "status": 404},
    ),
    "codes that are no status": ({"message": "m", "code": "3051", "status": 200}, {"message": "m", "code": "3051"}),
    "detail": ({"detail": "Invalid API Key"}, {"message": "Invalid API Key"}),
    "detail list": (
        {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}, {"msg": "two"}]},
        {"message": "Field required; two", "param": "messages"},
    ),
    "detail object": ({"detail": {"message": "m", "code": "c"}}, {"message": "m", "code": "c"}),
    "message object (mistral 422)": (
        {
            "object": "error",
            "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "Extra inputs"}]},
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        {"message": "Extra inputs", "type": "invalid_request_error", "param": "n"},
    ),
    "code and error (xai)": (
        {"code": "invalid-argument", "error": "Incorrect API key provided."},
        {"message": "Incorrect API key provided.", "code": "invalid-argument"},
    ),
    "error and message (fireworks)": (
        {"error": "Too Many Requests", "message": "You have exceeded"},
        {"message": "You have exceeded"},
    ),
    "error name and message": (
        {"error": "rate_limit_exceeded", "message": "m"},
        {"message": "m", "code": "rate_limit_exceeded"},
    ),
    "error string (ollama)": ({"error": "model 'x' not found"}, {"message": "model 'x' not found"}),
    "array (gemini)": (
        [{"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}],
        {"message": "m", "code": "503", "type": "UNAVAILABLE", "status": 503},
    ),
    "anthropic": (
        {"type": "error", "error": {"type": "rate_limit_error", "message": "m"}, "request_id": "r"},
        {"message": "m", "type": "rate_limit_error"},
    ),
    "anthropic without a type": ({"type": "error", "error": {"message": "m"}}, {"message": "m"}),
    "problem (nvidia)": (
        {"status": 429, "title": "Too Many Requests"},
        {"message": "Too Many Requests", "status": 429},
    ),
    "errors list": ({"errors": [{"code": "c", "message": "m"}]}, {"message": "m", "code": "c"}),
    "error type beside (together)": (
        {"error": {"message": "m"}, "error_type": "dynamic_token_limited"},
        {"message": "m", "type": "dynamic_token_limited"},
    ),
    "error in an error": (
        {"error": {"error": {"message": "m", "status_code": 400}, "code": 500}},
        {"message": "m", "code": "500", "status": 400},
    ),
    "choice": ({"choices": [{"error": {"code": 502, "message": "m"}}]}, {"message": "m", "code": "502", "status": 502}),
    "response.failed": (
        {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "m"}}},
        {"message": "m", "code": "rate_limit_exceeded", "type": "response.failed"},
    ),
    "retry_after": ({"error": {"message": "m", "retry_after": 12.5}}, {"message": "m", "wait": "12.5"}),
    "status as a string (azure)": (
        {"error": {"code": "429", "message": "m"}},
        {"message": "m", "code": "429", "status": 429},
    ),
}


@pytest.mark.parametrize(("body", "says"), WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("content_type", [JSON, b"application/octet-stream", b"text/plain; charset=utf-8", None])
def test_wrappers(body, says, content_type):
    expected = ErrorBody(text=says["message"], **says)
    assert parsed(body, content_type) == expected
    assert parsed(b"\r\n " + json.dumps(body).encode() + b"\n", content_type) == expected


def test_event_of_a_stream_is_unwrapped():
    body = b'event: error\r\ndata: {"error":{"message":"m","status_code":400}}\r\n\r\n'
    assert parsed(body, b"text/event-stream") == ErrorBody(message="m", text="m", status=400)
    assert parsed(b'data:{"error":"m"}\n\n').message == "m"
    assert parsed(b"event: ping\n\n").code == ""


NOT_JSON = [
    (b"", None, ""),
    (b"  \n", JSON, ""),
    (b"Too Many Requests", b"text/plain", "Too Many Requests"),
    (b"error code: 1015", None, "error code: 1015"),
    (b"upstream\n connect   error", JSON, "upstream connect error"),
    (b"<html><head><title>502 Bad Gateway</title></head>", b"text/html", "502 Bad Gateway"),
    (b"<!DOCTYPE html><title>Just a moment...</title>", None, "Just a moment..."),
    (b"<html>no title</html>", b"text/html", ""),
    (b'"plain string"', JSON, "plain string"),
    (b'{"error": {"message": "cut', JSON, '{"error": {"message": "cut'),
    (b"\xff\xfe", None, "\ufffd\ufffd"),
    (b"{}", JSON, "{}"),
    (b"[]", JSON, "[]"),
    (b"null", JSON, "null"),
    (b'{"balance": 0}', JSON, '{"balance": 0}'),
]


@pytest.mark.parametrize(("body", "content_type", "message"), NOT_JSON)
def test_bodies_that_are_no_error_object(body, content_type, message):
    assert parsed(body, content_type) == ErrorBody(message=message, text=message)


def test_broken_unicode_is_replaced():
    assert parsed(b'{"error":"a\\ud800b"}').message == "a?b"
    assert parsed(b'{"error":"a\xffb"}').message == "a\ufffdb"


def test_message_is_short_and_text_is_not():
    body = parsed({"error": {"message": "x " * 400 + "Please retry in 3s"}})
    assert len(body.message) == MESSAGE_MAX_CHARS
    assert body.message.endswith("\u2026")
    assert body.text.endswith("Please retry in 3s")
    assert len(parsed({"error": "y" * 100_000}).text) == 4096


def test_gemini_details():
    body = parsed(
        {
            "error": {
                "code": 429,
                "message": "m",
                "status": "RESOURCE_EXHAUSTED",
                "details": [
                    {"@type": "Help", "links": [{}]},
                    {"violations": [{"quotaId": "APerDay", "quotaValue": "250"}, {"quotaId": "BPerMinute"}, {}, 7]},
                    {"retryDelay": "48s"},
                    {"reason": "RATE_LIMIT_EXCEEDED"},
                ],
            }
        }
    )
    assert body.violations == (Violation("APerDay", 250), Violation("BPerMinute", None))
    assert (body.wait, body.reason, body.status) == ("48s", "RATE_LIMIT_EXCEEDED", 429)
    assert body.names == {"resource_exhausted", "429", "rate_limit_exceeded"}


def test_openrouter_metadata():
    metadata = {"headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Reset": 1759845420000}, "provider_name": None}
    body = parsed({"error": {"code": 429, "message": "m", "metadata": metadata}})
    assert body.headers == ((b"x-ratelimit-limit", b"20"), (b"x-ratelimit-reset", b"1759845420000"))
    assert body.upstream == ""
    relayed = parsed({"error": {"message": "m", "metadata": {"provider_name": "Chutes", "raw": "try again in 9s"}}})
    assert (relayed.upstream, relayed.message, relayed.text) == ("Chutes", "m", "m try again in 9s")


ORGANIZATIONS = [
    ("in organization `org_01abc` service tier", "org_01abc"),
    ("in project proj_x organization org-x on tokens", "org-x"),
    ("for your organization (0f1e2d3c-1111-2222-3333-444455556666) of", "0f1e2d3c-1111-2222-3333-444455556666"),
    ("tokens for team 0f1e2d3c-1111-2222-3333-444455556666 and", "0f1e2d3c-1111-2222-3333-444455556666"),
    ("for your organization (…) of 30,000", None),
    ("unavailable for the organization.", None),
    ("an org-level limit of your organization", None),
]


@pytest.mark.parametrize(("text", "organization"), ORGANIZATIONS)
def test_A7_organization(text, organization):
    assert parsed({"error": {"message": text}}).organization == organization


HIDDEN = [
    {"error": {"code": 502, "message": "m"}},
    {"error": "m"},
    {"error": {"code": 400}, "choices": [{}], "usage": {}},
    {"type": "error", "error": {"type": "overloaded_error"}},
    {"object": "error", "message": "m"},
    {"type": "error", "code": "server_error", "message": "m"},
    {"choices": [{"error": {"code": 502}, "finish_reason": "stop"}]},
    {"choices": [{"finish_reason": "error"}]},
    {"type": "response.failed", "response": {"error": {"code": "server_error"}}},
    [{"error": {"code": 503}}],
]

CLEAN = [
    {"id": "resp_1", "object": "response", "status": "completed", "error": None, "output": []},
    {"choices": [{"message": {"content": '{"error": {"code": 500}}'}, "finish_reason": "stop"}]},
    {"choices": [{"logprobs": {"content": [{"token": "error"}]}, "finish_reason": "stop"}]},
    {"choices": [{"error": None, "finish_reason": "stop"}]},
    {"choices": [], "error": {}},
    {"data": [{"id": "error"}]},
    {"choices": "error"},
    {"choices": ["error"]},
    ["error"],
    [],
    "error",
    None,
]


@pytest.mark.parametrize("body", HIDDEN)
def test_B5_hidden_errors(body):
    assert hidden_error(json.dumps(body).encode())
    assert hidden_error(json.dumps(body, separators=(",", ":")).encode())


@pytest.mark.parametrize("body", CLEAN)
def test_B5_answers_are_no_errors(body):
    assert not hidden_error(json.dumps(body).encode())


def test_B5_bytes_that_are_no_json():
    assert not hidden_error(b"")
    assert not hidden_error(b'RIFF\x00"error"')
    assert not hidden_error(b'{"error": {"message": "cut')
    assert hidden_error(b'event: error\ndata: {"error":{"code":1}}\n\n')


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=80), st.sampled_from([b"", b"{", b'{"error":', b'[{"error":{"details":[', b"data: "]))
def test_no_bytes_raise(body, beginning):
    parse(beginning + body, None)
    hidden_error(beginning + body)


def test_deep_nesting_is_refused_quietly():
    for depth in (100, 900, 990, 1000, 5000, 200_000):
        body = b'{"error":' * depth + b"1" + b"}" * depth
        parse(body, JSON)
        hidden_error(body)
        parse(b"[" * depth + b'"error"' + b"]" * depth, JSON)
