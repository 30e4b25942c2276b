"""The cache's key: any change that could matter is another key (J1), and what does not matter is not."""

from __future__ import annotations

import functools
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sidecar.core.affinity import Ownership
from sidecar.core.cache_key import IGNORED, lookup, owner_of
from sidecar.core.call import Call, understand
from sidecar.core.http import Request
from sidecar.core.routing import Route
from sidecar.core.snapshot import Target
from tests.core.house import snapshot_of

TEXT = """
providers:
  - name: groq
    keys: [{name: a, env: A}]
  - name: anthropic
    keys: [{name: n, env: N}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, groq/other]}
"""
SNAPSHOT = snapshot_of(TEXT)
PLAIN = {"model": "fast", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}


def asked(body, target=b"/v1/chat/completions", headers=(), owner=b"", only=True, method=b"POST"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(method, target, list(headers), content)
    call = understand(SNAPSHOT, request, Ownership())
    assert isinstance(call, Call), call
    return lookup(call, request, owner, only)


def key(*args, **kwargs):
    found = asked(*args, **kwargs)
    assert found is not None
    return found.key


# numbers of any size, texts of any kind: nothing may be rounded or folded
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.text(
    st.characters(codec="ascii", exclude_characters='"\\', min_codepoint=0x20, max_codepoint=0x7E), max_size=6
)
special = ("model", "temperature", "n", "messages", "background", *IGNORED, "web_search_options", "plugins")
members = st.dictionaries(
    st.sampled_from(["tools", "seed", "top_p", "max_tokens", "stop", "metadata", "response_format"]) | names.filter(
        lambda name: name not in special and not name.endswith(("_id", "_ids", "_file", "conversation"))
    ),
    values,
    max_size=4,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(one=members, other=members)
def test_J1_any_other_change_of_the_body_is_another_key(one, other):
    assume(json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))
    assert key({**PLAIN, **one}) != key({**PLAIN, **other})


@settings(max_examples=200, deadline=None)
@given(more=members, index=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_J1_any_other_byte_is_another_key_or_none(more, index, byte):
    """A byte changed anywhere: the same key only where the JSON says the same, or another member that is ignored."""
    body = json.dumps({**PLAIN, **more}).encode()
    at = index % len(body)
    changed = body[:at] + bytes([byte]) + body[at + 1 :]
    assume(changed != body)
    request = Request(b"POST", b"/v1/chat/completions", [], changed)
    call = understand(SNAPSHOT, request, Ownership())
    found = lookup(call, request, b"", True) if isinstance(call, Call) else None
    if found is not None and found.key == key(body):
        assert exact(changed) == exact(body)


def exact(body):
    """What a body says, numbers as they are written."""
    return json.loads(body, parse_float=lambda text: ("number", text), parse_int=lambda text: ("number", text))


@settings(max_examples=100, deadline=None)
@given(more=members, data=st.data(), indent=st.sampled_from([None, 0, 3]))
def test_J1_order_and_white_space_and_what_is_ignored_count_for_nothing(more, data, indent):
    body = {**PLAIN, **more}
    extra = {"user": "me", "stream": True, "stream_options": {"include_usage": True}, "store": False}
    shuffled = dict(data.draw(st.permutations(list({**body, **extra}.items()))))
    assert key(json.dumps(shuffled, indent=indent).encode()) == key(body)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"model":"fast","temperature":0,"seed":12345678901234567890123}',
         b'{"model":"fast","temperature":0,"seed":12345678901234567890124}'),
        (b'{"model":"fast","temperature":0,"x":1.0}', b'{"model":"fast","temperature":0,"x":1}'),
        (b'{"model":"fast","temperature":0,"x":"\\u00e1"}', b'{"model":"fast","temperature":0,"x":"\\u00e2"}'),
        (b'{"model":"fast","temperature":0,"x":{"user":1}}', b'{"model":"fast","temperature":0,"x":{"user":2}}'),
        (b'{"model":"fast","temperature":0,"x":[]}', b'{"model":"fast","temperature":0,"x":{}}'),
    ],
    ids=["big numbers", "kinds of number", "composed", "within", "empty"],
)  # fmt: skip
def test_J1_nothing_is_mistaken(one, other):
    assert key(one) != key(other)


def test_J1_whose_and_where():
    keys = [
        key(PLAIN), key(PLAIN, owner=b"x"), key(PLAIN, b"/v1/chat/completions?a=b"),
        key(PLAIN, headers=[(b"anthropic-beta", b"x")]), key(PLAIN, headers=[(b"anthropic-beta", b"y")]),
        key(PLAIN, headers=[(b"x-sidecar-fallback", b"off")]), key(PLAIN, headers=[(b"openai-beta", b"x")]),
        key({**PLAIN, "prompt": "x"}, b"/v1/completions"), key(PLAIN, b"/p/groq/v1/chat/completions"),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    same = [key(PLAIN), key(PLAIN, b"/openai/v1/chat/completions"), key(PLAIN, headers=[(b"user-agent", b"x")])]
    assert len(set(same)) == 1


def test_J1_a_tenant_and_each_part_of_a_route_count():
    (first, second) = SNAPSHOT.chains["fast"]
    native = SNAPSHOT.providers["anthropic"]
    routes = [Route((first, second)), Route((second, first)), Route((first,)), Route((first,), first.provider.keys[0]),
              Route((Target(native, first.model),)), Route((Target(first.provider, "x"),))]  # fmt: skip
    owners = [owner_of(tenant, route) for route in routes for tenant in (b"", b"1", b"2")]
    assert len(set(owners)) == len(owners)


def test_shapes_that_are_told_in_two_ways_are_kept_apart():
    body = {"model": "fast", "input": "x", "temperature": 0, "store": False}
    assert key(body, b"/v1/responses") != key({**body, "stream": True}, b"/v1/responses")
    message = {"model": "claude", "messages": [], "temperature": 0}
    target = b"/p/anthropic/v1/messages"
    assert key(message, target) != key({**message, "stream": True}, target)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": None}, False),
        ({"temperature": 0.1}, False),
        ({"temperature": "0x"}, False),
        ({"n": 1}, True),
        ({"n": 2}, False),
        ({"store": True}, False),
        ({"store": False}, True),
        ({"background": True}, False),
        ({"web_search_options": {}}, False),
        ({"plugins": None}, True),
        ({"file_id": "file-1"}, False),
    ],
)
def test_what_is_deterministic(fields, expected):
    assert (asked({**PLAIN, **fields}) is not None) is expected


def test_what_is_let_in():
    hot = {**PLAIN, "temperature": 1, "n": 3}
    assert asked(hot) is None
    assert asked(hot, only=False) is not None
    assert asked(hot, headers=[(b"x-sidecar-cache", b"on")]) is not None
    assert asked(hot, headers=[(b"x-sidecar-cache", b"refresh")], only=False).may_read is False
    assert asked({"model": "fast", "input": "x"}, b"/v1/embeddings") is not None
    image = {"model": "fast", "prompt": "x"}
    assert asked(image, b"/v1/images/generations") is None
    assert asked(image, b"/v1/images/generations", only=False) is not None


@pytest.mark.parametrize(
    ("body", "target", "method"),
    [
        (PLAIN, b"/v1/moderations", b"POST"),
        (PLAIN, b"/v1/audio/speech", b"POST"),
        ({"model": "fast", "input": "x"}, b"/v1/responses", b"POST"),
        (b"", b"/v1/files", b"GET"),
        (b'{"model":"fast","temperature":0,"temperature":0}', b"/v1/chat/completions", b"POST"),
        (b'{"model":"fast","temperature":0,"a\\u0062":0}', b"/v1/chat/completions", b"POST"),
        (b'{"model":"fast","temperature":0,"x":"\\ud800"}', b"/v1/chat/completions", b"POST"),
        (b'{"model":"fast","temperature":0,"x":NaN}', b"/v1/chat/completions", b"POST"),
        (b"--x", b"/v1/images/generations", b"POST"),
        (PLAIN, b"/p/anthropic/v1/complete", b"POST"),
    ],
)
def test_what_is_never_looked_up(body, target, method):
    assert asked(body, target, method=method, only=False) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"cache-control", b"no-store")], None),
        ([(b"x-sidecar-cache", b"off")], None),
        ([(b"cache-control", b"no-cache")], (False, None)),
        ([(b"cache-control", b"max-age=0")], (False, 0)),
        ([(b"cache-control", b"max-age=7, max-age=5")], (True, 5 * 10**9)),
        ([(b"cache-control", b'max-age="7"'), (b"cache-control", b"max-age=9")], (True, 7 * 10**9)),
        ([(b"cache-control", b"max-age=x")], (True, None)),
        ([], (True, None)),
    ],
)
def test_what_a_caller_says(headers, expected):
    found = asked(PLAIN, headers=headers)
    assert (None if found is None else (found.may_read, found.max_age_ns)) == expected


def form(*parts, boundary="xxx"):
    lines = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'
        for name, more, value in parts
    ]
    return "".join([*lines, f"--{boundary}--\r\n"]).encode(), [
        (b"content-type", f"multipart/form-data; boundary={boundary}".encode())
    ]


SOUND = ("file", '; filename="a.mp3"', "sound")


def test_forms_agree_when_their_parts_do():
    target = b"/v1/audio/transcriptions"
    ask = functools.partial(form, ("model", "", "whisper"), SOUND)
    first = key(ask()[0], target, ask()[1])
    for other in (
        ask(boundary="y"),
        ask(("user", "", "me")),
    ):
        assert key(other[0], target, other[1]) == first
    others = [
        ask(("language", "", "en")),
        form(("model", "", "whisper2"), SOUND),
        form(("model", "", "whisper"), ("file", "", "sound")),
        form(("model", "", "whisper"), ("file", '; filename="a.mp3"', "noise")),
        ask(("stream", "", "true")),
    ]
    assert len({key(body, target, headers) for body, headers in others} | {first}) == 6
    assert asked(b"--xxx broken", target, ask()[1]) is None
