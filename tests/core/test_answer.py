"""The head of an answer: what the provider said, how it was served, and never a key."""

from __future__ import annotations

import pytest

from sidecar.core.answer import answer_headers, cleaned, redacted, refusal_headers
from sidecar.core.errors import Reason, Refusal, Step
from sidecar.core.limits import SECOND
from tests.core.house import NOW, roster_of, snapshot_of, target_of
from tests.values import record as record_of

SECRET = b"secret-of-groq-a"
TRAIL = (Step("groq/m", "a", "rate_limited", 429), Step("cerebras/m", "c", "connect_failed"))


def told(**fields):
    return record_of("req_1", NOW, b"POST", b"/v1/x", attempts=2, wait_ns=1_500_000_000, **fields)


def headers_of(headers, model="m", **fields):
    roster = roster_of()
    candidate = roster.keys(target_of(roster, f"groq/{model}"), NOW).candidates[0]
    return answer_headers(headers, told(**fields), candidate)


OURS = [
    (b"x-sidecar-provider", b"groq"),
    (b"x-sidecar-model", b"m"),
    (b"x-sidecar-key", b"a"),
    (b"x-sidecar-attempts", b"2"),
    (b"x-sidecar-wait-ms", b"1500"),
]
OUR_ID = (b"x-request-id", b"req_1")


def test_B11_an_answer_says_how_it_was_served():
    assert headers_of([]) == [*OURS, OUR_ID]


def test_B11_and_what_went_wrong_before():
    assert headers_of([], trail=TRAIL, dropped=("store", "messages[].name")) == [
        *OURS,
        (b"x-sidecar-reason", b"groq/m a: rate_limited, cerebras/m c: connect_failed"),
        (b"x-sidecar-dropped", b"store, messages[].name"),
        OUR_ID,
    ]


def test_the_providers_own_request_id_passes():
    head = headers_of([(b"x-request-id", b"theirs")])
    assert [value for name, value in head if name == b"x-request-id"] == [b"theirs"]


@pytest.mark.parametrize(
    ("header", "passes"),
    [
        ((b"content-type", b"application/json"), True),
        ((b"x-ratelimit-remaining-tokens", b"7"), True),
        ((b"retry-after", b"7"), True),
        ((b"set-cookie", b"a=b"), False),
        ((b"alt-svc", b"h3"), False),
        ((b"content-length", b"7"), False),
        ((b"x-sidecar-key", b"forged"), False),
        ((b"x-echo", b"Bearer " + SECRET), False),
        ((b"x-echo", b"Bearer secret-of-groq-b"), True),
    ],
)
def test_G3_what_of_the_providers_head_passes(header, passes):
    assert (header in headers_of([header])) is passes
    assert not any(SECRET in value for _, value in headers_of([header]))


@pytest.mark.parametrize(
    ("model", "shown"),
    [("a\r\nx-evil: 1", b"a??x-evil: 1"), ("modèle", b"mod?le"), ("m" * 500, b"m" * 256), ("a\0b", b"a?b")],
)
def test_a_callers_model_adds_no_header(model, shown):
    head = headers_of([], model, trail=(Step(f"groq/{model}", "a", "busy"),))
    assert dict(head)[b"x-sidecar-model"] == shown
    assert len(dict(head)[b"x-sidecar-reason"]) <= 256
    assert not any(b"\r" in value or b"\n" in value for _, value in head)


def test_a_key_without_a_secret_hides_nothing():
    roster = roster_of("providers: [{name: ollama}]\n")
    candidate = roster.keys(target_of(roster, "ollama/m"), NOW).candidates[0]
    assert (b"x-echo", SECRET) in answer_headers([(b"x-echo", SECRET)], told(), candidate)


def test_A16_a_refusal_says_how_often_and_how_long_it_was_tried():
    plain = [OUR_ID, (b"x-sidecar-attempts", b"2"), (b"x-sidecar-wait-ms", b"1500")]
    assert refusal_headers(told(), Refusal(Reason.RATE_LIMITED, "no", SECOND)) == plain
    assert refusal_headers(told(), Refusal(Reason.RATE_LIMITED, "no", trail=TRAIL)) == [
        *plain,
        (b"x-sidecar-reason", b"groq/m a: rate_limited, cerebras/m c: connect_failed"),
    ]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", b""),
        (b"Incorrect API key", b"Incorrect API key"),
        (b"key %b, again %b" % (SECRET, SECRET), b"key [key withheld], again [key withheld]"),
        (b"secret-of-groq-b", b"secret-of-groq-b"),
    ],
)
def test_G3_a_key_that_a_provider_repeats_is_taken_out(body, shown):
    assert redacted(body, snapshot_of().providers["groq"].keys[0]) == shown


def test_a_missing_key_has_nothing_to_take_out():
    assert redacted(b"body", snapshot_of(missing=("a",)).providers["groq"].keys[0]) == b"body"


PACKED = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]


@pytest.mark.parametrize(
    ("plain", "head", "body"),
    [
        (b"no key in it", PACKED, b"packed"),
        (b"key: " + SECRET, PACKED[:1], b"key: [key withheld]"),
    ],
)
def test_G3_a_packed_error_is_unpacked_where_it_holds_the_key(plain, head, body):
    assert cleaned(PACKED, b"packed", plain, snapshot_of().providers["groq"].keys[0]) == (head, body)


def test_without_a_key_an_error_stays_packed():
    missing = snapshot_of(missing=("a",)).providers["groq"].keys[0]
    assert cleaned(PACKED, b"packed", SECRET, missing) == (PACKED, b"packed")
