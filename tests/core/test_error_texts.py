"""Which limits error texts and quota ids name; what does not say so is no day."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.error_body import ErrorBody, Violation
from sidecar.core.error_texts import MONTH, NamedLimit, concurrency_limit, named_limits
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis

PROSE = [
    ("(RPM): Limit 30, Used 30, Requested 1.", NamedLimit(Axis.REQUESTS, MINUTE, 30, 30, 1)),
    ("(RPD): Limit 1000, Used 1000, Requested 1.", NamedLimit(Axis.REQUESTS, DAY, 1000, 1000, 1)),
    ("(TPM): Limit 8000, Requested 11176, please", NamedLimit(Axis.TOKENS, MINUTE, 8000, None, 11176)),
    ("(TPD): Limit 100000, Used 97050, Requested 3619", NamedLimit(Axis.TOKENS, DAY, 100000, 97050, 3619)),
    ("(ITPM): Limit 7000, Requested 14137", NamedLimit(Axis.INPUT_TOKENS, MINUTE, 7000, None, 14137)),
    ("(OTPM): Limit 1000, Used 997, Requested 192", NamedLimit(Axis.OUTPUT_TOKENS, MINUTE, 1000, 997, 192)),
    ("(ASPH): Limit 7200, Used 7170, Requested 230", NamedLimit(Axis.AUDIO_SECONDS, HOUR, 7200, 7170, 230)),
    ("(ASPD): Limit 28800, Used 28000, Requested 900", NamedLimit(Axis.AUDIO_SECONDS, DAY, 28800, 28000, 900)),
    ("(TPM): Limit 6000, Used 0, Requested ~12903", NamedLimit(Axis.TOKENS, MINUTE, 6000, 0, 12903)),
    ("tokens per minute exceeded", NamedLimit(Axis.TOKENS, MINUTE)),
    ("Tokens per day limit exceeded - too many", NamedLimit(Axis.TOKENS, DAY)),
    ("Tokens per hour limit exceeded - too many", NamedLimit(Axis.TOKENS, HOUR)),
    ("Requests per minute limit exceeded", NamedLimit(Axis.REQUESTS, MINUTE)),
    ("requests per day", NamedLimit(Axis.REQUESTS, DAY)),
    ("requests per second", NamedLimit(Axis.REQUESTS, SECOND)),
    ("tokens per month", NamedLimit(Axis.TOKENS, MONTH)),
    ("tokens per min", NamedLimit(Axis.TOKENS, MINUTE)),
    ("output tokens per minute", NamedLimit(Axis.OUTPUT_TOKENS, MINUTE)),
    ("of 30,000 input tokens per minute. For", NamedLimit(Axis.INPUT_TOKENS, MINUTE, 30000)),
    ("Your rate limit is 60 queries per minute.", NamedLimit(Axis.REQUESTS, MINUTE, 60)),
    ("Tokens per Minute (actual/limit): 65605/16000.", NamedLimit(Axis.TOKENS, MINUTE, 16000, 65605)),
    ("Rate limit exceeded: free-models-per-min. ", NamedLimit(Axis.REQUESTS, MINUTE)),
    ("Rate limit exceeded: free-models-per-day.", NamedLimit(Axis.REQUESTS, DAY)),
    ("have exceeded token rate limit of your current OpenAI S0", NamedLimit(Axis.TOKENS, MINUTE)),
    ("have exceeded call rate limit of your current OpenAI S0", NamedLimit(Axis.REQUESTS, MINUTE)),
    ("metric: x.com/generate_content_free_tier_requests, limit: 0, model", NamedLimit(Axis.REQUESTS, None, 0)),
    ("x.com/generate_content_paid_tier_input_token_count, limit: 5", NamedLimit(Axis.INPUT_TOKENS, None, 5)),
    ("You hit the daily limit", NamedLimit(None, DAY)),
    ("exceeded per-minute quota", NamedLimit(None, MINUTE)),
]


@pytest.mark.parametrize(("text", "limit"), PROSE)
def test_A5_limits_in_prose(text, limit):
    assert named_limits(ErrorBody(text=text)) == (limit,)
    assert named_limits(ErrorBody(text=f"Rate limit reached for `m`: {text}")) == (limit,)


AMBIGUOUS = [
    "",
    "Rate limit exceeded",
    "You exceeded your current quota, please check your plan and billing details. … limit: 1000000, model: g",
    "Too many requests, try again today or tomorrow",
    "Resource has been exhausted (e.g. check quota).",
    "See our daily tips on billing",
]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_A5_what_names_no_limit_names_none(text):
    assert named_limits(ErrorBody(text=text)) == ()


def test_A5_minute_beside_a_word_about_days_stays_a_minute():
    text = "tokens per minute (TPM): Limit 9. Free plans also have requests per day and a daily limit"
    assert named_limits(ErrorBody(text=text))[0].window_ns == MINUTE


def test_type_names_the_axis_where_the_text_does_not():
    body = ErrorBody(text="on : Limit 500000, Used 499000, Requested ~2000.", type="tokens")
    assert named_limits(body) == (NamedLimit(Axis.TOKENS, None, 500000, 499000, 2000),)
    assert named_limits(ErrorBody(type="dynamic_request_limited")) == (NamedLimit(Axis.REQUESTS, None),)


QUOTA_IDS = [
    ("GenerateContentPaidTierInputTokensPerModelPerMinute", Axis.INPUT_TOKENS, MINUTE),
    ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", Axis.REQUESTS, DAY),
    ("GenerateRequestsPerMinutePerProjectPerModel", Axis.REQUESTS, MINUTE),
    ("SomethingPerHour", None, HOUR),
    ("Something", None, None),
]


@pytest.mark.parametrize(("quota_id", "axis", "window_ns"), QUOTA_IDS)
def test_A5_quota_ids(quota_id, axis, window_ns):
    body = ErrorBody(text="tokens per day", violations=(Violation(quota_id, 7),))
    assert named_limits(body) == (NamedLimit(axis, window_ns, 7),)


CONCURRENCY = [
    ("your concurrency limit is 39, please", 39),
    ("limit of 39 concurrent requests", 39),
    ("Too many concurrent requests (max 200)", 200),
    ("too many concurrent requests", None),
    ("Rate limited", None),
    ("concurrent requests. Try again in 3 s", None),
]


@pytest.mark.parametrize(("text", "limit"), CONCURRENCY)
def test_A20_concurrency_limit(text, limit):
    assert concurrency_limit(text) == limit


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60), st.sampled_from(["", "limit ", "(TPM): used ", "concurrent ", "tokens per "]))
def test_no_text_raises(text, beginning):
    named_limits(ErrorBody(text=beginning + text, type=text))
    concurrency_limit(beginning + text)
