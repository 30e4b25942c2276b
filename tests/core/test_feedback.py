"""What answers of providers are read as: the table of recorded errors, the order of announced times."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from sidecar.core.feedback import ProviderAnswer, classify
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Reading, Source
from sidecar.core.outcomes import Outcome, Scope

MS = 1_000_000
NOW = 1_759_845_015 * SECOND  # 2025-10-07T13:50:15Z
TO_UTC_MIDNIGHT = 10 * HOUR + 9 * MINUTE + 45 * SECOND

ROWS = yaml.safe_load(Path(__file__).with_name("recorded_errors.yaml").read_text(encoding="utf-8"))
WINDOWS = {MINUTE: "minute", HOUR: "hour", DAY: "day", None: "-"}
AXES = {
    Axis.REQUESTS: "requests",
    Axis.TOKENS: "tokens",
    Axis.INPUT_TOKENS: "input",
    Axis.OUTPUT_TOKENS: "output",
    Axis.AUDIO_SECONDS: "audio",
    Axis.CONCURRENCY: "concurrency",
}


def answer_of(row):
    headers = [(name.encode(), value.encode()) for name, value in row.get("headers", {}).items()]
    return ProviderAnswer(
        row["dialect"],
        row["status"],
        headers,
        row["body"].encode(),
        row.get("tokens", 0),
        sent=row.get("sent", "").encode(),
    )


def remedy_of(remedy):
    name = f"messages[].{remedy.name}" if remedy.is_in_messages else remedy.name
    return name if remedy.instead is None else f"{name} -> {remedy.instead}"


def short(reading):
    figures = ("-" if figure is None else str(figure) for figure in (reading.limit, reading.remaining))
    return " ".join((AXES[reading.axis], WINDOWS[reading.window_ns], *figures))


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_A5_B9_recorded_errors(row):
    feedback = classify(answer_of(row), NOW)
    wait_ns = None if "wait" not in row else int(Decimal(row["wait"]) * SECOND)
    assert (feedback.outcome.value, feedback.scope.value) == (row["outcome"], row["scope"])
    assert feedback.until_ns == (None if wait_ns is None else NOW + wait_ns)
    assert [short(reading) for reading in feedback.readings if reading.source is Source.BODY] == row.get("limits", [])
    assert feedback.organization == row.get("organization")
    assert len(feedback.message) <= 500
    assert [remedy_of(remedy) for remedy in feedback.remedies] == row.get("remedies", [])


def test_A5_table_is_no_smaller_than_promised():
    assert len(ROWS) >= 45
    assert {row["outcome"] for row in ROWS} == {outcome.value for outcome in list(Outcome)[1:14]}


def limited(dialect="openai", body=b"", **headers):
    """What a 429 is read as."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(ProviderAnswer(dialect, 429, pairs, payload), NOW)


ANNOUNCED = [
    ("54", 54 * SECOND),
    ("1.5", 1_500 * MS),
    ("Tue, 07 Oct 2025 13:51:43 GMT", 88 * SECOND),
    ("10800", 3 * HOUR),
    ("432000", 5 * DAY),
    ("0", 10 * SECOND),
    ("-5", 10 * SECOND),
    ("NaN", 10 * SECOND),
    ("inf", 10 * SECOND),
    ("Tue, 07 Oct 2025 13:49:43 GMT", 10 * SECOND),
]


@pytest.mark.parametrize(("value", "wait_ns"), ANNOUNCED)
def test_A9_A12_retry_after_is_kept_to_the_nanosecond_and_never_capped(value, wait_ns):
    assert limited(retry_after=value).until_ns == NOW + wait_ns


def test_A9_retry_after_ms_of_zero_is_no_hot_loop():
    assert limited("azure", retry_after="1", retry_after_ms="0").until_ns == NOW + SECOND
    assert limited("azure", retry_after_ms="0").until_ns == NOW + 10 * SECOND
    assert limited("azure", retry_after_ms="350").until_ns == NOW + 350 * MS


STRUCTURED = {"error": {"message": "try again in 30s", "details": [{"retryDelay": "20s"}]}}
PROSE = {"error": {"message": "try again in 30s"}}
UNKNOWN = {"error": {"message": "Come back when the moon is full."}}


def test_A10_order_of_announced_times():
    assert limited(body=STRUCTURED, retry_after="10", x_ratelimit_reset="15").until_ns == NOW + 10 * SECOND
    assert limited(body=STRUCTURED, x_ratelimit_reset="15").until_ns == NOW + 15 * SECOND
    assert limited(body=STRUCTURED).until_ns == NOW + 20 * SECOND
    assert limited(body=PROSE).until_ns == NOW + 30 * SECOND
    assert limited(body={"error": {"message": "will reset at 2025-10-07T13:51:15Z"}}).until_ns == NOW + MINUTE
    assert limited(body={"error": {"message": "x", "retry_after": 12}}).until_ns == NOW + 12 * SECOND
    assert limited(body=UNKNOWN).until_ns == NOW + 10 * SECOND


def test_A10_headers_quoted_in_a_body_come_before_its_prose():
    metadata = {
        "headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1759845420000"}
    }
    message = "Rate limit exceeded: free-models-per-min. Try again in 3s."
    feedback = limited("openrouter", {"error": {"code": 429, "message": message, "metadata": metadata}})
    assert feedback.until_ns == NOW + 405 * SECOND
    assert feedback.readings == (Reading(Axis.REQUESTS, MINUTE, 20, 0, 405 * SECOND, Source.BODY),)


def test_A10_a_header_that_says_nothing_leaves_it_to_the_body():
    assert limited(body=PROSE, retry_after="0").until_ns == NOW + 30 * SECOND
    assert limited(body=STRUCTURED, retry_after="soon").until_ns == NOW + 20 * SECOND


NAMED = [
    ("tokens per minute limit", 10 * SECOND),
    ("requests per hour limit", 2 * MINUTE),
    ("requests per day limit", 10 * MINUTE),
    ("tokens per month limit", 6 * HOUR),
    ("quota", 10 * SECOND),
    ("too many requests per minute; paid plans have no requests per day", 10 * SECOND),
]


@pytest.mark.parametrize(("text", "wait_ns"), NAMED)
def test_A5_default_follows_the_window_and_the_ambiguous_is_a_minute(text, wait_ns):
    for _ in range(3):  # the same refusal again does not escalate
        assert limited(body={"error": {"message": text}}).until_ns == NOW + wait_ns


def test_A5_rolling_day_without_a_wait_is_computed_from_its_figures():
    text = "Rate limit reached on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619."
    assert limited("groq", {"error": {"message": text}}).until_ns == NOW + 578_016 * MS


def test_A5_calendar_day_ends_when_the_caller_says_it_does():
    body = {"error": {"message": "Tokens per day limit exceeded"}}
    day_resets_ns = NOW + 3 * HOUR
    for dialect, wait_ns in (("cerebras", 3 * HOUR), ("acme", 3 * HOUR), ("groq", 10 * MINUTE)):
        answer = ProviderAnswer(dialect, 429, [], json.dumps(body).encode(), 0, day_resets_ns)
        assert classify(answer, NOW).until_ns == NOW + wait_ns
    past = ProviderAnswer("cerebras", 429, [], json.dumps(body).encode(), 0, NOW - 1)
    assert classify(past, NOW).until_ns == NOW + TO_UTC_MIDNIGHT


def test_A5_spent_day_in_the_headers_alone():
    headers = {
        "x_ratelimit_limit_requests_day": "100",
        "x_ratelimit_remaining_requests_day": "0",
        "x_ratelimit_reset_requests_day": "3563.5",
        "x_ratelimit_limit_tokens_minute": "100",
        "x_ratelimit_remaining_tokens_minute": "90",
        "x_ratelimit_reset_tokens_minute": "45",
    }
    assert limited("cerebras", **headers).until_ns == NOW + 3_563_500 * MS


def test_A5_of_several_spent_windows_the_longest_governs():
    violations = [
        {"quotaId": "RequestsPerMinute", "quotaValue": "9"},
        {"quotaId": "RequestsPerDay", "quotaValue": "90"},
    ]
    for listed in (violations, violations[::-1]):
        body = {"error": {"message": "m", "details": [{"violations": listed}, {"retryDelay": "37s"}]}}
        assert limited("gemini", body).until_ns == NOW + TO_UTC_MIDNIGHT + 8 * HOUR


def test_A5_full_reset_of_a_bucket_is_not_waited_for():
    headers = {"x_ratelimit_limit_requests": "60", "x_ratelimit_remaining_requests": "0"}
    assert limited("openai", x_ratelimit_reset_requests="1m0s", **headers).until_ns == NOW + 10 * SECOND
    assert limited("openai", x_ratelimit_reset_requests="2s", **headers).until_ns == NOW + 2 * SECOND


def test_A5_daily_refusal_is_not_cleared_by_full_minute_headers():
    row = next(row for row in ROWS if row["id"] == "groq TPD behind full minute headers")
    feedback = classify(answer_of(row), NOW)
    assert feedback.until_ns == NOW + 578_016 * MS
    day = Reading(Axis.TOKENS, DAY, 100000, 2950, 97050 * DAY // 100000, Source.BODY)
    assert feedback.readings == (
        Reading(Axis.REQUESTS, DAY, 1000, 1000, 0, Source.HEADER),
        Reading(Axis.TOKENS, MINUTE, 12000, 12000, 0, Source.HEADER),
        day,
    )


def test_A5_text_is_believed_over_the_header_of_the_same_window():
    text = "Rate limit reached on tokens per minute (TPM): Limit 12000, Used 11000, Requested 2000. Try again in 5s."
    headers = {"x_ratelimit_limit_tokens": "12000", "x_ratelimit_remaining_tokens": "12000"}
    feedback = limited("groq", {"error": {"message": text}}, **headers)
    assert feedback.readings == (Reading(Axis.TOKENS, MINUTE, 12000, 1000, 55 * SECOND, Source.BODY),)


def test_A4_request_that_never_fits_teaches_the_limit():
    row = next(row for row in ROWS if row["id"] == "groq 413")
    feedback = classify(answer_of(row), NOW)
    assert (feedback.outcome, feedback.scope, feedback.until_ns) == (Outcome.TOO_LARGE, Scope.REQUEST, None)
    assert feedback.readings == (Reading(Axis.TOKENS, MINUTE, 8000, None, None, Source.BODY),)


def test_A4_a_limit_that_was_not_spent_leaves_the_header_its_word():
    text = "Request too large on tokens per minute (TPM): Limit 12000, Requested 14137, please reduce"
    headers = {"x_ratelimit_limit_tokens": "12000", "x_ratelimit_remaining_tokens": "11000"}
    assert limited("groq", {"error": {"message": text}}, **headers).readings == (
        Reading(Axis.TOKENS, MINUTE, 12000, 11000, None, Source.HEADER),
        Reading(Axis.TOKENS, MINUTE, 12000, None, None, Source.BODY),
    )


def test_A4_requested_above_the_limit_needs_no_other_words():
    for requested, outcome in ((12000, Outcome.RATE_LIMITED), (12001, Outcome.TOO_LARGE)):
        text = f"Busy on tokens per minute (TPM): Limit 12000, Used 1, Requested {requested}. Try again in 1s."
        assert limited("groq", {"error": {"message": text}}).outcome is outcome


def test_A4_own_estimate_counts_with_thirty_percent_off():
    body = b'{"error":{"message":"Tokens per minute limit: 7000"}}'
    for tokens, outcome in ((10000, Outcome.RATE_LIMITED), (10001, Outcome.TOO_LARGE)):
        assert classify(ProviderAnswer("acme", 429, [], body, tokens), NOW).outcome is outcome


def test_A7_organization_is_named():
    text = "Rate limit reached for model `m` in organization `org_01abcDEF` service tier `on_demand` on x"
    assert limited("groq", {"error": {"message": text}}).organization == "org_01abcDEF"


def test_H2_only_a_message_that_opens_with_it_condemns_a_key():
    quoted = {"error": {"message": "property 'Incorrect API key provided' is unsupported"}}
    answer = ProviderAnswer("openai", 400, [], json.dumps(quoted).encode())
    assert classify(answer, NOW).outcome is Outcome.BAD_REQUEST


@pytest.mark.parametrize("status", [200, 201, 204, 302, 304])
def test_A9_retry_after_on_a_success_blocks_nothing(status):
    headers = [(b"retry-after", b"62"), (b"anthropic-ratelimit-requests-remaining", b"0")]
    feedback = classify(ProviderAnswer("anthropic", status, headers, b'{"type":"message"}'), NOW)
    assert (feedback.outcome, feedback.until_ns) == (Outcome.OK, None)
    assert feedback.readings == (Reading(Axis.REQUESTS, MINUTE, None, 0, None, Source.HEADER),)


def test_B5_error_inside_a_200_does_not_take_its_retry_after():
    body = b'{"error":{"code":429,"message":"Rate limit exceeded"}}'
    feedback = classify(ProviderAnswer("anthropic", 200, [(b"retry-after", b"62")], body), NOW)
    assert (feedback.outcome, feedback.until_ns) == (Outcome.RATE_LIMITED, NOW + 10 * SECOND)


HIDDEN = [
    ({"error": {"type": "overloaded_error", "message": "x"}}, Outcome.BUSY),
    ({"error": {"type": "rate_limit_error", "message": "x"}}, Outcome.RATE_LIMITED),
    ({"error": {"type": "authentication_error", "message": "x"}}, Outcome.KEY_INVALID),
    ({"error": {"type": "invalid_request_error", "message": "x"}}, Outcome.BAD_REQUEST),
    ({"error": {"type": "api_error", "message": "x"}}, Outcome.SERVER_ERROR),
    ({"error": {"message": "x"}}, Outcome.SERVER_ERROR),
    ({"error": "x"}, Outcome.SERVER_ERROR),
    ({"error": {"code": 503, "message": "x"}}, Outcome.BUSY),
]


@pytest.mark.parametrize(("body", "outcome"), HIDDEN)
def test_B5_error_inside_a_200_is_the_status_it_carries(body, outcome):
    assert classify(ProviderAnswer("openai", 200, [], json.dumps(body).encode()), NOW).outcome is outcome


def test_A20_concurrency_limit_is_read_from_the_text():
    body = {"error": {"message": "You have reached your limit of 39 concurrent requests."}}
    feedback = limited("acme", body)
    assert feedback.outcome is Outcome.CONCURRENCY
    assert feedback.readings == (Reading(Axis.CONCURRENCY, None, 39, 0, None, Source.BODY),)


@pytest.mark.parametrize(("requested", "outcome"), [(2, Outcome.BUSY), (12001, Outcome.TOO_LARGE)])
def test_relayed_limits_of_another_account_teach_nothing(requested, outcome):
    text = f"Rate limit reached on tokens per minute (TPM): Limit 12000, Used 1, Requested {requested}."
    body = {"error": {"code": 429, "message": text, "metadata": {"provider_name": "Groq"}}}
    feedback = limited("openrouter", body)
    assert (feedback.outcome, feedback.readings) == (outcome, ())
