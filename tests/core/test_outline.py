"""What is told of a large body is the same whether it is read whole or in outline."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.body import Search, without, without_in_messages
from sidecar.core.envelope import Envelope, peek
from sidecar.core.errors import Reason, Refusal
from sidecar.core.outline import outline

LONG = "word " * 5000  # beyond what is read as it is
PICTURE = "data:image/png;base64," + "iVBO" * 8000
PIECES = st.sampled_from(["a", " ", '"', "\\", '\\"', "é", "{", "]", '"model":"x",', "y" * 1100, "z" * 3000, "\\" * 70])
TEXTS = st.lists(PIECES, max_size=8).map("".join)
VALUES = st.recursive(
    TEXTS | st.booleans() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def shape(text):
    """What a JSON text says but for its long strings, in order."""

    def cut(value):
        if isinstance(value, list | tuple):
            return type(value)(cut(each) for each in value)
        return "" if isinstance(value, str) and len(value) > 500 else value

    return cut(json.loads(text, object_pairs_hook=tuple))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.booleans(), st.booleans())
def test_an_outline_has_the_same_shape(value, is_first, ascii_only):
    large = {"text": LONG, **value} if is_first else {**value, "text": LONG}
    text = json.dumps(large, ensure_ascii=ascii_only).encode()
    assert shape(outline(text)) == shape(text)


@pytest.mark.parametrize(
    ("value", "most"),
    [
        ({"model": "m", "messages": [{"role": "user", "content": LONG}], "n": 2}, 100),
        ({"messages": [{"role": "user", "content": [{"image_url": {"url": PICTURE}}]}], "model": "m"}, 100),
        ({"a": '"' + LONG}, 20),  # an escaped quote
        ({"a": LONG + "\\"}, 20),
    ],
)
def test_long_strings_are_left_out(value, most):
    assert len(outline(json.dumps(value).encode())) < most


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(list(range(10_000))).encode(),
        json.dumps(["short"] * 10_000).encode(),
        json.dumps(['say "so"' * 3000]).encode(),
        b'["' + b"\\" * 20_000 + b'"]',
        b'["' + b"x" * 20_000,
        b"x" * 20_000,
        b"",
    ],
)
def test_what_has_none_or_is_not_json_stays_as_it_is(text):
    assert outline(text) is text


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ('"model":"m","stream":true,"max_tokens":7', Envelope("m", True, 7)),
        ('"mod\\u0065l":"m","n":3', Envelope("m", n=3)),
        ('"model":"m","n":"3","max_tokens":null', Envelope("m")),
        ('"model":"m","x":NaN', Envelope("m")),
        ('"model":"%s"' % ("m" * 2000), Envelope("m" * 2000)),
        ('"model":""', Envelope("")),
        ('"x":{"model":"inner"}', Envelope()),
        ('"model":"m","conversation":{"id":"c"}', Envelope("m", references=("c",))),
    ],
)
def test_C16_the_envelope_of_a_large_body(rest, expected, before):
    text = f'"text":{json.dumps(LONG)}'
    assert peek(f"{{{text},{rest}}}".encode() if before else f"{{{rest},{text}}}".encode()) == expected


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ('{"model":"m","text":"%s","model":"q"}', Reason.MODEL_DUPLICATE),
        ('{"model":"m","text":"%s","mod\\u0065l":"q"}', Reason.MODEL_DUPLICATE),
        ('{"model":"m","text":"%s"', Reason.INVALID_JSON),
        ('{"model":"m","text":"%s}', Reason.INVALID_JSON),
        ('{"model":"m","text":"%s"} x', Reason.INVALID_JSON),
        ('["%s"]', Reason.INVALID_JSON),
    ],
)
def test_C16_a_large_body_is_refused_like_a_small_one(written, reason):
    for size in (1, 30_000):
        refusal = peek((written % ("x" * size)).encode())
        assert isinstance(refusal, Refusal)
        assert refusal.reason is reason


NAMES = st.sampled_from(["store", "name", "messages", "logprobs", "role"])
FIELDS = st.sets(NAMES, max_size=2)
MEMBERS = st.dictionaries(NAMES, st.none() | st.integers() | st.just({"name": 1, "store": 2}), max_size=3)


@settings(max_examples=60, deadline=None)
@given(MEMBERS, st.lists(MEMBERS, max_size=3), FIELDS, FIELDS, st.booleans())
def test_B10_a_body_that_lacks_the_names_loses_nothing(members, messages, fields, inner, is_large):
    value = {**members, "messages": [*messages, {"content": LONG if is_large else ""}]}
    text = json.dumps(value).encode()
    rest, dropped = without(text, fields, {})
    rest, within = without_in_messages(rest, inner)
    if Search(fields, inner).lacks(text):
        assert (rest, dropped, within) == (text, (), ())
    else:
        assert dropped or within


def test_B10_names_are_looked_for_outside_of_strings_and_however_they_are_spelled():
    search = Search(["store"], [])
    text = json.dumps({"model": "m", "text": LONG + '"store"', "x": 1})
    assert search.lacks(text.encode())
    assert not search.lacks(text.replace('"x"', '"store"').encode())
    assert not search.lacks(text.replace('"x"', '"st\\u006fre"').encode())
