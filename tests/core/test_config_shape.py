"""Reading a tree against the structs: what each wrong shape is told, and what stands in for it."""

from __future__ import annotations

import pytest

from sidecar.core.config import Address, Config
from sidecar.core.config_shape import child, nearest, shape

SECRET = "gsk_abcdefghijklmnop1234"


def told(tree):
    return [(problem.path, problem.message, problem.hint) for problem in shape(tree)[1]]


def one(tree):
    found = told(tree)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("tree", [None, {}, {"wait": None}, {"providers": [], "models": []}])
def test_defaults(tree):
    assert shape(tree) == (Config(), [])


@pytest.mark.parametrize("tree", [5, "text", [], True])
def test_the_whole_is_not_fields(tree):
    config, found = shape(tree)
    assert config == Config()
    assert found[0][:2][0] == ""
    assert "expected fields" in found[0].message


@pytest.mark.parametrize(
    ("tree", "path", "hint"),
    [
        ({"provider": []}, "provider", "did you mean providers?"),
        ({"timeout": {}}, "timeout", "did you mean timeouts?"),
        ({"wait": {"maximum": 1}}, "wait.maximum", "did you mean max?"),
        ({"wait": {"zzz": 1}}, "wait.zzz", "known: max, queue"),
        ({"providers": [{"name": "a", "limit": []}]}, "providers[0].limit", "did you mean limits?"),
        (
            {"providers": [{"name": "a", "keys": [{"name": "k", "envs": 1}]}]},
            "providers[0].keys[0].envs",
            "did you mean env?",
        ),
    ],
)
def test_H6_an_unknown_field_names_the_nearest(tree, path, hint):
    assert one(tree) == (path, "unknown field", hint)


def test_a_secret_in_a_field_of_its_own_is_told_where_it_belongs():
    path, message, hint = one({"providers": [{"name": "a", "keys": [{"name": "k", "api_key": SECRET}]}]})
    assert (path, message) == ("providers[0].keys[0].api_key", "unknown field")
    assert "with env or file" in hint


@pytest.mark.parametrize(
    ("tree", "path", "part"),
    [
        ({"wait": {"max": 20}}, "wait.max", "got a number"),
        ({"wait": {"max": True}}, "wait.max", "got true or false"),
        ({"wait": {"max": None}}, "wait.max", "got nothing"),
        ({"wait": {"max": "20 seconds"}}, "wait.max", 'such as 250ms, 20s, 10m or 24h; got "20 seconds"'),
        ({"wait": {"max": "9000h"}}, "wait.max", "at most 8784h"),
        ({"wait": {"queue": "many"}}, "wait.queue", "expected a whole number; got text"),
        ({"wait": {"queue": 1.5}}, "wait.queue", "expected a whole number; got a number"),
        ({"wait": {"queue": True}}, "wait.queue", "expected a whole number; got true or false"),
        ({"wait": {"queue": -1}}, "wait.queue", "at least 0"),
        ({"wait": {"queue": 10**7}}, "wait.queue", "at most 1000000"),
        ({"retry": {"budget": 1.1}}, "retry.budget", "at most 1"),
        ({"retry": {"budget": float("nan")}}, "retry.budget", "at least 0"),
        ({"retry": {"budget": float("inf")}}, "retry.budget", "at most 1"),
        ({"retry": {"attempts": 0}}, "retry.attempts", "at least 1"),
        ({"retry": {"ambiguous": "maybe"}}, "retry.ambiguous", 'expected fail or fallback; got "maybe"'),
        ({"retry": {"ambiguous": ["fail"]}}, "retry.ambiguous", "got a list"),
        ({"retry": {"strict": "no"}}, "retry.strict", "expected true or false; got text"),
        ({"body": {"max_bytes": "64MB"}}, "body.max_bytes", 'such as 512KiB or 64MiB; got "64MB"'),
        ({"body": {"max_bytes": "0B"}}, "body.max_bytes", "more than 0B"),
        ({"providers": {"name": "groq"}}, "providers", "expected a list; got fields"),
        ({"providers": ["groq"]}, "providers[0]", "expected fields and their values; got text"),
        ({"providers": [{}]}, "providers[0].name", "is missing"),
        ({"providers": [{"name": "a/b"}]}, "providers[0].name", 'got "a/b"'),
        ({"providers": [{"name": 5}]}, "providers[0].name", "got a number"),
        ({"providers": [{"name": "a" * 65}]}, "providers[0].name", "a text of 65 characters"),
        ({"providers": [{"name": SECRET}]}, "providers[0].name", "looks like a secret"),
        ({"providers": [{"name": "a", "learn": 1}]}, "providers[0].learn", "expected true or false"),
        ({"models": [{"name": "a b", "chain": []}]}, "models[0].name", "without spaces"),
        ({"models": [{"name": "a", "chain": "groq/a"}]}, "models[0].chain", "expected a list; got text"),
        ({"models": [{"name": "a", "chain": [5]}]}, "models[0].chain[0]", "expected text; got a number"),
        ({"models": [{"name": "a"}]}, "models[0].chain", "is missing"),
        ({"auth": {"tokens": [SECRET]}}, "auth.tokens[0]", "got text"),
        ({"retry": {"ambiguous": SECRET}}, "retry.ambiguous", "a text of 24 characters"),
        ({"models": [{"name": f"{SECRET} x", "chain": []}]}, "models[0].name", "a text of 26 characters"),
        ({"wait": {"max": SECRET}}, "wait.max", "looks like a secret"),
        ({"admin": SECRET}, "admin", "looks like a secret"),
    ],
)
def test_wrong_shapes(tree, path, part):
    where, message, hint = one(tree)
    assert where == path
    assert part in message
    assert SECRET not in message + hint


@pytest.mark.parametrize(
    ("tree", "hint"),
    [
        ({"wait": {"max": 20}}, "add the unit"),
        ({"providers": [{"name": 5}]}, "put it in quotes"),
        ({"models": [{"name": "a", "chain": [5]}]}, "put it in quotes"),
        ({"providers": {}}, "begin each entry with a dash"),
    ],
)
def test_remedies(tree, hint):
    assert one(tree)[2] == hint


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("localhost:80", "127.0.0.1", 80),
        ("[::1]:65535", "::1", 65535),
        ("[0:0:0:0:0:0:0:1]:1", "::1", 1),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("*:8788", "*", 8788),
    ],
)
def test_addresses(text, host, port):
    config, found = shape({"admin": text})
    assert (config.admin, found) == (Address(host, port), [])


@pytest.mark.parametrize(
    "text",
    ["", "8787", ":8787", "*", "*.1:8787", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:8787", "[::1]",
     "[127.0.0.1]:1", "host:1", "127.0.0.1:8_0", "127.0.0.1:-1", "127.0.0.01:1", "1:\u0661"],
)  # fmt: skip
def test_not_an_address(text):
    path, message, _ = one({"admin": text})
    assert path == "admin"
    assert "127.0.0.1:8787" in message


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:9", (Address("127.0.0.1", 9), Address("::1", 9, is_optional=True))),
        ("localhost:9", (Address("127.0.0.1", 9), Address("::1", 9, is_optional=True))),
        ("127.0.0.1:0", (Address("127.0.0.1", 0),)),
        ("[::1]:9", (Address("::1", 9),)),
        ("0.0.0.0:9", (Address("0.0.0.0", 9),)),
        (["127.0.0.1:9"], (Address("127.0.0.1", 9),)),
    ],
)
def test_C15_loopback_alone_brings_its_twin(listen, expected):
    assert shape({"listen": listen})[0].listen == expected


def test_holes_keep_places():
    config, found = shape({"providers": [5, {"name": "groq"}], "listen": ["x", "127.0.0.1:1"]})
    assert [provider.name for provider in config.providers] == ["", "groq"]
    assert config.listen == (Address("", 0), Address("127.0.0.1", 1))
    assert [problem.path for problem in found] == ["listen[0]", "providers[0]"]


def test_paths_do_not_repeat_secrets():
    assert child("providers[0]", "name") == "providers[0].name"
    assert child("", "wait") == "wait"
    assert child("", SECRET) == child("", f"Bearer {SECRET}") == "(hidden)"
    assert len(child("", "x" * 100)) == 64


def test_nearest():
    assert nearest("grok", ["groq", "openai"]) == "did you mean groq?"
    assert nearest("zzz", ["groq", "openai"]) == "known: groq, openai"
    assert nearest("zzz", []) == ""
