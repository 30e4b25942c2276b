"""The envelope of a body, and rewrites that change what they should and no other byte."""

from __future__ import annotations

import pytest

from sidecar.core.body import with_member, with_model, without, without_in_messages
from sidecar.core.envelope import Envelope, peek
from sidecar.core.errors import Reason, Refusal

DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Envelope()),
        (b"{}", Envelope()),
        (b' \r\n\t{ "model" : "m" } ', Envelope("m")),
        (b'{"mod\\u0065l":"m"}', Envelope("m")),
        (b'{"model":null,"stream":null,"n":null,"max_tokens":null,"stream_options":null}', Envelope()),
        (b'{"model":"m","stream":true,"n":3,"store":false}', Envelope("m", True, None, 3, None, False)),
        (b'{"stream_options":{"include_usage":false,"x":1}}', Envelope(include_usage=False)),
        (b'{"max_tokens":5}', Envelope(declared_output=5)),
        (b'{"max_output_tokens":7}', Envelope(declared_output=7)),
        (b'{"max_tokens":5,"max_completion_tokens":6,"max_output_tokens":7}', Envelope(declared_output=6)),
        (b'{"max_tokens":-1,"n":-2}', Envelope()),
        (b'{"previous_response_id":"resp_1","input_file_id":"file-1"}', Envelope(references=("resp_1", "file-1"))),
        (b'{"conversation":"conv_1"}', Envelope(references=("conv_1",))),
        (b'{"conversation":{"id":"conv_1"}}', Envelope(references=("conv_1",))),
        (b'{"file_id":"a","file_ids":["b","c"],"training_file":"d"}', Envelope(references=("a", "d", "b", "c"))),
        (b'{"messages":[{"model":"inner","stream":true}],"input_file_id":""}', Envelope()),
    ],
)
def test_envelope(body, expected):
    assert peek(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":5,"stream":true}', Envelope(None, True)),
        (b'{"model":"m","stream":"yes"}', Envelope("m")),
        (b'{"model":"m","max_tokens":"12","max_completion_tokens":true,"n":1.5}', Envelope("m")),
        (b'{"model":"m","max_tokens":"12","max_output_tokens":9}', Envelope("m", declared_output=9)),
        (b'{"model":"m","stream_options":{"include_usage":1}}', Envelope("m")),
        (b'{"model":"m","file_ids":"x","previous_response_id":7}', Envelope("m")),
    ],
)
def test_wrongly_typed_fields_count_as_absent(body, expected):
    assert peek(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","x":NaN,"y":-Infinity}',
        b'{"model":"m","x":' + b"9" * 5000 + b"}",
        b'{"model":"m","x":NaN,"y":' + b"9" * 5000 + b"}",
        b'{"model":"m","x":1e999}',
        b'{"model":"m","x":"\\ud800"}',
        b'{"model":"m","x":"\xed\xa0\x80","y":NaN}',
        b'{"model":"m","\\ud800":1}',
        b'\xef\xbb\xbf{"model":"m"}',
        '{"model":"m","x":"日本語 🎈"}'.encode(),
    ],
)
def test_C16_what_is_not_of_the_envelope_passes(body):
    assert peek(body) == Envelope("m")
    assert with_model(body, "new") == body.replace(b'"m"', b'"new"')


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"{",
        b'{"model":"m"',
        b'{"model":"m"} x',
        b"[1]",
        b'"m"',
        b"null",
        b'{"model":"\xff"}',
        b"\xff\xfe{\x00}\x00",
        b'{"x":01}',
        b'{"model":"m",}',
        DEEP,
        '{"model":"m"}'.encode("utf-16"),
    ],
)
def test_C16_bad_json_is_refused_and_never_raises(body):
    refusal = peek(body)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.status) == (Reason.INVALID_JSON, 400)


def test_a_lone_surrogate_is_no_model():
    assert peek(b'{"model":"\\ud800","stream":true}') == Envelope(None, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"a"}',
        b'{"model":"a","x":{"model":1},"model":null}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"model":"a","x":NaN,"model":"b"}',
        b'{"model":1,"stream":"no","model":2}',
    ],
)
def test_duplicate_model_is_refused(body):
    refusal = peek(body)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.MODEL_DUPLICATE


def test_models_at_different_depths_are_no_duplicates():
    assert peek(b'{"model":"a","tools":[{"model":"b"}],"x":"\\"model\\":"}') == Envelope("a")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m"}', b'{"model":"n\\"/x"}'),
        (b'{ "model" :\n"a\\"b" , "x":1 }', b'{ "model" :\n"n\\"/x" , "x":1 }'),
        (b'{"messages":[{"model":"m"}],"model":"m"}', b'{"messages":[{"model":"m"}],"model":"n\\"/x"}'),
        (b'{"a":{"model":"m"}}', b'{"a":{"model":"m"}}'),
        (b'{"a":[{"model":"m"}]}', b'{"a":[{"model":"m"}]}'),
        (b'{"x":1,"model":"m","z":{"model":"m"}}', b'{"x":1,"model":"n\\"/x","z":{"model":"m"}}'),
        (b'{"x":1,"model":"m","z":[{}],"y":"}"}', b'{"x":1,"model":"n\\"/x","z":[{}],"y":"}"}'),
        (b'{"x":"model","model":"m","y":"model"}', b'{"x":"model","model":"n\\"/x","y":"model"}'),
        (b'{"model":"m","\\"model":"q"}', b'{"model":"n\\"/x","\\"model":"q"}'),
        (b'{"x":1,"mod\\u0065l":"m"}', b'{"x":1,"mod\\u0065l":"n\\"/x"}'),
        (b'{"x":1,"model":null}', b'{"x":1,"model":"n\\"/x"}'),
        (b'{"x":1}', b'{"x":1}'),
        (b"{}", b"{}"),
        (b"", b""),
    ],
)
def test_with_model(body, expected):
    assert with_model(body, 'n"/x') == expected


def test_with_model_far_from_both_ends():
    filler = b'"' + b"x\\n" * 50_000 + b'"'
    body = b'{"a":' + filler + b',"model":"m","b":' + filler + b',"c":[{"model":"q"}]}'
    assert with_model(body, "n") == body.replace(b'"model":"m"', b'"model":"n"')


@pytest.mark.parametrize(
    ("body", "fields", "renames", "expected", "dropped"),
    [
        (b'{"a":1, "b":2 ,"c":3}', {"a"}, {}, b'{"b":2 ,"c":3}', ("a",)),
        (b'{"a":1, "b":2 ,"c":3}', {"b"}, {}, b'{"a":1 ,"c":3}', ("b",)),
        (b'{"a":1, "b":2 ,"c":3 }', {"c"}, {}, b'{"a":1, "b":2 }', ("c",)),
        (b'{"a":1,"b":2,"c":3}', {"a", "c"}, {}, b'{"b":2}', ("a", "c")),
        (b'{ "a":1,"b":2 }', {"a", "b"}, {}, b"{  }", ("a", "b")),
        (b'{"a":1,"b":{"a":2}}', {"a"}, {}, b'{"b":{"a":2}}', ("a",)),
        (b'{"a":1,"x":2,"a":3}', {"a"}, {}, b'{"x":2}', ("a", "a")),
        (b'{"\\u0061":1,"b":2}', {"a"}, {}, b'{"b":2}', ("a",)),
        (b'{"old" : 5,"b":2}', set(), {"old": "new"}, b'{"new" : 5,"b":2}', ()),
        (b'{"old":5,"new":6}', set(), {"old": "new"}, b'{"new":6}', ("old",)),
        (b'{"new":6,"old":5}', set(), {"old": "new"}, b'{"new":6}', ("old",)),
        (b'{"old":5,"new":6}', {"new"}, {"old": "new"}, b'{"new":5}', ("new",)),
        (b'{"o1":5,"o2":6}', set(), {"o1": "new", "o2": "new"}, b'{"new":5}', ("o2",)),
        (b'{"b":NaN,"a":1}', {"a"}, {}, b'{"b":NaN}', ("a",)),
        (b'{"b":2}', {"a"}, {"x": "y"}, b'{"b":2}', ()),
        (b"{}", {"a"}, {}, b"{}", ()),
        (b'{"a":NaN}'[:0], {"a"}, {}, b"", ()),
    ],
)
def test_B10_without(body, fields, renames, expected, dropped):
    assert without(body, fields, renames) == (expected, dropped)


def test_B10_without_in_messages():
    body = (
        b'{"name":"top","messages":[ {"role":"user","name":"n","content":[{"name":"kept"}]}, {},\n'
        b'{"reasoning":{"x":"}"}, "role":"assistant"} ,{"role":"user"}],"reasoning":1}'
    )
    expected = (
        b'{"name":"top","messages":[ {"role":"user","content":[{"name":"kept"}]}, {},\n'
        b'{"role":"assistant"} ,{"role":"user"}],"reasoning":1}'
    )
    assert without_in_messages(body, {"name", "reasoning"}) == (expected, ("name", "reasoning"))


@pytest.mark.parametrize(
    "body",
    [b'{"messages":"name"}', b'{"messages":[1,{"name":2}]}', b'{"messages":[{"x":"name"}]}', b'{"name":1}', b"{}"],
)
def test_messages_of_another_shape_are_left_alone(body):
    assert without_in_messages(body, {"name"}) == (body, ())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"k":{"x":1}}'),
        (b'{ "a":1}', b'{"k":{"x":1}, "a":1}'),
        (b'{"a":{"k":3},"k" : [2]}', b'{"a":{"k":3},"k" : {"x":1}}'),
        (b"[]", b"[]"),
    ],
)
def test_with_member(body, expected):
    assert with_member(body, "k", b'{"x":1}') == expected
