"""Any JSON there is, however it is written: rewrites change what they should and no other byte."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.body import with_member, with_model, without, without_in_messages
from sidecar.core.envelope import peek

NAMES = st.sampled_from(["model", "messages", "store", "max_tokens", "name", "a", '"model', "mod\\el", "é", "{", ""])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | NAMES
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)
SPACE = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


@st.composite
def written(draw, value):
    """A JSON text of the value: any white space, characters escaped or not."""
    if isinstance(value, dict):
        inner = [f"{draw(written(name))}{draw(SPACE)}:{draw(written(each))}" for name, each in value.items()]
        text = "{" + ",".join(inner) + draw(SPACE) + "}"
    elif isinstance(value, list):
        text = "[" + ",".join([draw(written(each)) for each in value]) + draw(SPACE) + "]"
    elif isinstance(value, str) and draw(st.booleans()):
        text = '"' + "".join(f"\\u{ord(each):04x}" if ord(each) < 65536 else each for each in value) + '"'
    else:
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return draw(SPACE) + text + draw(SPACE)


@st.composite
def bodies(draw):
    value = draw(st.dictionaries(NAMES, VALUES, max_size=5))
    if draw(st.booleans()):
        value["messages"] = draw(st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=3))
    return value, draw(written(value)).encode("utf-8", "surrogatepass")


@settings(max_examples=60, deadline=None)
@given(bodies(), st.text(max_size=6).filter(lambda text: text.isprintable()))
def test_any_body_with_another_model(body, model):
    value, text = body
    spliced = with_model(text, model)
    if "model" not in value:
        assert spliced == text
        return
    assert json.loads(spliced) == {**value, "model": model}
    token = json.dumps(model, ensure_ascii=False).encode()
    start, end = spliced_span(text, spliced, token)
    assert spliced == text[:start] + token + text[end:]
    assert json.loads(text[start:end]) == value["model"]


def spliced_span(before, after, token):
    """The span of `before` that became `token`: the common head and tail, moved back over what both share."""
    for start in range(len(before) + 1):
        end = start + len(before) - (len(after) - len(token))
        if end >= start and before[:start] + token + before[end:] == after and is_json(before[start:end]):
            return start, end
    raise AssertionError("more than the value changed")


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return not text[:1].isspace() and not text[-1:].isspace()


@settings(max_examples=60, deadline=None)
@given(bodies(), st.sets(NAMES, max_size=3))
def test_any_body_without_fields(body, fields):
    value, text = body
    rest, dropped = without(text, fields, {})
    assert json.loads(rest) == {name: each for name, each in value.items() if name not in fields}
    assert sorted(dropped) == sorted(fields & value.keys())
    assert dropped or rest == text
    rest, dropped = without_in_messages(text, fields)
    messages = value.get("messages")
    if isinstance(messages, list) and all(isinstance(each, dict) for each in messages):
        kept = [{name: each for name, each in message.items() if name not in fields} for message in messages]
        assert json.loads(rest) == {**value, "messages": kept}


@settings(max_examples=60, deadline=None)
@given(bodies())
def test_any_body_renamed_and_with_a_member(body):
    value, text = body
    if "max_completion_tokens" not in value:
        renamed, dropped = without(text, (), {"max_tokens": "max_completion_tokens"})
        names = ["max_completion_tokens" if name == "max_tokens" else name for name in value]
        assert list(json.loads(renamed).items()) == list(zip(names, value.values(), strict=True))
        assert dropped == ()
    assert json.loads(with_member(text, "store", b"[1]")) == {**value, "store": [1]}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40) | st.text('{}[]":,\\ model', max_size=30).map(str.encode))
def test_no_bytes_raise(body):
    peek(body)
    with_model(body, "m")
    without(body, {"model"}, {"a": "b"})
    without_in_messages(body, {"model"})
    with_member(body, "a", b"1")
