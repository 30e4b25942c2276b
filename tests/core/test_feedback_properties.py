"""No answer of any shape makes the reading of it fail, and no refusal is read as "again at once"."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.feedback import ProviderAnswer, classify
from sidecar.core.outcomes import Outcome
from tests.core.test_feedback import NOW, ROWS, answer_of

KEYS = ["error", "message", "code", "type", "status", "details", "violations", "metadata", "headers", "raw", "choices"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.text(max_size=20) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode()))
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"retry-after", b"retry-after-ms", b"content-type", b"x-ratelimit-reset", b"x-ratelimit-limit-tokens"]
        ),
        st.binary(max_size=20) | st.integers(0, 10**14).map(lambda number: str(number).encode()),
    ),
    max_size=4,
)
DIALECTS = st.sampled_from(sorted({row["dialect"] for row in ROWS} | {"acme"}))


@settings(deadline=None, max_examples=300)
@given(DIALECTS, st.integers(100, 999), HEADERS, BODIES, st.integers(0, 10**9))
def test_B9_no_answer_raises(dialect, status, headers, body, tokens):
    feedback = classify(ProviderAnswer(dialect, status, headers, body, tokens), NOW)
    assert isinstance(feedback.outcome, Outcome)
    assert feedback.until_ns is None or feedback.until_ns > NOW
    if feedback.outcome is Outcome.RATE_LIMITED:
        assert feedback.until_ns is not None


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(ROWS), st.data())
def test_B9_no_truncated_body_raises(row, data):
    answer = answer_of(row)
    end = data.draw(st.integers(0, len(answer.body)))
    classify(answer._replace(body=answer.body[:end]), NOW)
