"""What spans say: names and numbers, by the conventions."""

import pytest

from sidecar.core.limits import SECOND, Usage
from sidecar.core.outcomes import Outcome
from sidecar.core.spans_of import Begun, attempt_span, request_span
from sidecar.core.trace import End
from tests.core.house import NOW, hops_of, roster_of
from tests.values import record as record_of

PATH = b"/v1/chat/completions?key=hunter2"


def record(**fields):
    return record_of("req_1", NOW, b"POST", PATH, **{"status": 200, "outcome": "ok", **fields})


def test_I4_a_request_that_went_well():
    told = record(
        model="fast", provider="groq", key="a", attempts=1, wait_ns=SECOND // 2, ours_ns=1000, is_streamed=True,
        content_ns=NOW + SECOND, usage=Usage(20, 10), caller="token-0", cache="miss",
    )  # fmt: skip
    span = request_span(told, NOW + 2 * SECOND)
    assert (span.name, span.has_failed) == ("chat fast", False)
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "groq",
        "gen_ai.request.model": "fast",
        "gen_ai.response.time_to_first_chunk": 1.0,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 10,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "sidecar.request.id": "req_1",
        "sidecar.outcome": "ok",
        "sidecar.attempts": 1,
        "sidecar.wait.duration": 0.5,
        "sidecar.overhead.duration": 1e-6,
        "sidecar.stream": True,
        "sidecar.key": "a",
        "sidecar.caller": "token-0",
        "sidecar.cache": "miss",
    }


@pytest.mark.parametrize(
    ("outcome", "has_failed"),
    [("unknown_path", False), ("client_gone", False), ("rate_limited", True), ("server_error", True), ("ok", False)],
)
def test_I4_only_what_is_not_the_callers_fault_is_an_error(outcome, has_failed):
    span = request_span(record(outcome=outcome), NOW)
    assert span.has_failed is has_failed
    assert span.attributes.get("error.type") == (None if outcome == "ok" else outcome)
    assert span.name == "chat", "no model was named"


def test_I5_what_callers_choose_is_cut():
    span = request_span(record(model="m" * 1000), NOW)
    assert span.attributes["gen_ai.request.model"] == "m" * 128
    assert "hunter2" not in repr(span)


@pytest.mark.parametrize(
    ("outcome", "status", "has_failed"),
    [
        (Outcome.OK, 200, False),
        (Outcome.HEDGED, None, False),
        (Outcome.CLIENT_GONE, None, False),
        (Outcome.RATE_LIMITED, 429, True),
        (Outcome.CONNECT_FAILED, None, True),
        (Outcome.BAD_REQUEST, 400, True),
    ],
)
def test_I4_an_attempt(outcome, status, has_failed):
    candidate = hops_of(roster_of())[0].candidates[0]
    usage = Usage(3, 4) if outcome is Outcome.OK else None
    span = attempt_span(record(model="fast"), Begun(candidate, 1), End(NOW, outcome, status, usage))
    assert (span.name, span.has_failed) == ("chat openai/gpt-oss-120b", has_failed)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "groq",
        "gen_ai.request.model": "openai/gpt-oss-120b",
        "server.address": "api.groq.com",
        "server.port": 443,
        "http.request.method": "POST",
        "http.request.resend_count": 1,
        "sidecar.key": "a",
        "sidecar.outcome": outcome.value,
    }
    expected |= {"http.response.status_code": status} if status else {}
    expected |= {"error.type": outcome.value} if has_failed else {}
    expected |= {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4} if usage else {}
    assert span.attributes == expected
    assert "secret" not in repr(span)
