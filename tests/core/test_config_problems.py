"""Every complaint once, at its path; and that a right configuration has none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.config import Address, Config, Known, KnownProvider
from sidecar.core.config_limits import AXES
from sidecar.core.config_problems import build, problems

KNOWN = Known(
    {
        "groq": KnownProvider(keyless=False, has_base_url=True),
        "cerebras": KnownProvider(keyless=False, has_base_url=True),
        "azure": KnownProvider(keyless=False, has_base_url=False),
        "ollama": KnownProvider(keyless=True, has_base_url=True),
    },
    frozenset({"openai", "groq", "cerebras", "azure"}),
)
SECRET = "gsk_abcdefghijklmnop1234"
KEY = {"name": "a", "env": "GROQ_API_KEY"}
SOUND = {"name": "groq", "keys": [KEY]}


def told(**fields):
    """The problems of a sound configuration with these fields, as (path, message and hint)."""
    tree = {"providers": [SOUND], **fields}
    return [(problem.path, f"{problem.message} ({problem.hint})") for problem in problems(tree, KNOWN)]


def of_provider(**fields):
    return told(providers=[{**SOUND, **fields}])


def of_key(**fields):
    return of_provider(keys=[{"name": "a", **fields}])


def of_limit(**fields):
    return of_provider(limits=[fields])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"listen": "127.0.0.1:9000", "admin": "0.0.0.0:9001"},
        {"listen": ["127.0.0.1:0", "127.0.0.1:0", "[::1]:8787"], "admin": "127.0.0.1:0"},
        {"listen": "0.0.0.0:8787", "auth": {"tokens": [{"env": "TOKEN"}]}},
        {"listen": "[::]:8787", "auth": {"tokens": [{"file": "/token"}]}},
        {"listen": "0.0.0.0:8787", "admin": "[::]:8787", "auth": {"tokens": [{"env": "TOKEN"}]}},
        {"providers": [{"name": "ollama"}]},
        {"providers": [{"name": "mine", "base_url": "http://127.0.0.1:8000/v1"}]},
        {"providers": [{"name": "groq", "base_url": "http://localhost:9/v1", "dialect": "openai", "keys": [KEY]}]},
        {"providers": [{"name": "azure", "base_url": "https://x.openai.azure.com/openai/v1", "keys": [KEY]}]},
        {"providers": [{**SOUND, "limits": [{"rpm": 1}, {"model": "m", "account": "a", "pool": "p"}]}]},
        {
            "providers": [
                {**SOUND, "limits": [{"model": "m", "pool": "p", "tpm": 5}, {"model": "n", "pool": "p", "tpm": 5}]}
            ]
        },
        {"providers": [SOUND, {"name": "cerebras", "keys": [KEY]}]},
        {
            "models": [
                {"name": "fast", "chain": ["groq/openai/gpt-oss-120b", "groq/b"]},
                {"name": "b/c", "chain": ["groq/b"]},
            ]
        },
        {"wait": {"max": "0s", "queue": 0}, "retry": {"budget": 0, "attempts": 1}, "timeouts": None, "body": {}},
        {"timeouts": {"total": "1s"}},
        {"auth": {"hosts": ["my_app", "a.example"], "origins": ["https://a.example:8443", "http://localhost:3000"]}},
    ],
)
def test_sound(fields):
    assert told(**fields) == []


@pytest.mark.parametrize(
    ("found", "path", "part"),
    [
        # addresses
        (told(listen="0.0.0.0:8787"), "listen", "reachable by others"),
        (told(listen=[]), "listen", "no address"),
        (told(listen=["127.0.0.1:1", "127.0.0.1:1"]), "listen[1]", "listed already"),
        (told(admin="127.0.0.1:8787"), "admin", "data port"),
        (told(admin="0.0.0.0:8787"), "admin", "data port"),
        (told(listen=["[::1]:9"], admin="[::]:9"), "admin", "data port"),
        # providers
        (told(providers=[]), "providers", "no key"),
        (told(providers=[SOUND, SOUND]), "providers[1].name", "taken already"),
        (told(providers=[{"name": "grok", "keys": [KEY]}]), "providers[0].name", "did you mean groq?"),
        (told(providers=[{"name": "azure", "keys": [KEY]}]), "providers[0]", "give the base_url"),
        (of_provider(dialect="grok"), "providers[0].dialect", "did you mean groq?"),
        (of_provider(keys=[]), "providers[0].keys", "needs a key"),
        (told(providers=[{"name": "groq"}]), "providers[0].keys", "needs a key"),
        # addresses of providers
        (of_provider(base_url="ftp://h/v1"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url="api.groq.com/v1"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url="https://"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url=""), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url="https://h:99999/v1"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url="https://[::1/v1"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url="https://h/v 1"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url="https://h/v1\r\nx: y"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url="https://b\u00fccher.example/v1"), "providers[0].base_url", "not an http or https URL"),
        (of_provider(base_url=f"https://u:{SECRET}@h/v1"), "providers[0].base_url", "credentials"),
        (of_provider(base_url=f"https://h/v1?key={SECRET}"), "providers[0].base_url", "a query"),
        (of_provider(base_url="https://h/v1#x"), "providers[0].base_url", "a fragment"),
        (of_provider(base_url="http://localhost:8787/v1"), "providers[0].base_url", "own address"),
        (of_provider(base_url="http://[::1]:8787/v1"), "providers[0].base_url", "own address"),
        # keys
        (of_key(), "providers[0].keys[0]", "neither env nor file"),
        (of_key(env="A", file="/b"), "providers[0].keys[0]", "both env and file"),
        (of_key(env="MY KEY"), "providers[0].keys[0].env", "not the name"),
        (of_key(env="$GROQ_API_KEY"), "providers[0].keys[0].env", "not the name"),
        (of_key(env=""), "providers[0].keys[0].env", "not the name"),
        (of_key(env=SECRET), "providers[0].keys[0].env", "NAME"),
        (of_key(env="sk-proj-abcdefghijklmn1"), "providers[0].keys[0].env", "NAME"),
        (of_key(file=SECRET), "providers[0].keys[0].file", "path of the file"),
        (of_key(file=" "), "providers[0].keys[0].file", "not the path"),
        (of_provider(keys=[KEY, KEY]), "providers[0].keys[1].name", "taken already"),
        # limits
        (of_limit(), "providers[0].limits[0]", "limits nothing"),
        (of_limit(account="a"), "providers[0].limits[0]", "limits nothing"),
        (of_limit(account="org", rpm=1), "providers[0].limits[0].account", "known: a"),
        (of_limit(rpm=0), "providers[0].limits[0].rpm", "more than 0"),
        (of_limit(tpd=-5), "providers[0].limits[0].tpd", "more than 0"),
        (
            of_provider(limits=[{"rpm": 1}, {"rpm": 2}]),
            "providers[0].limits[1].rpm",
            "contradicts providers[0].limits[0]",
        ),
        (
            of_provider(limits=[{"model": "m", "pool": "p", "rpm": 1}, {"model": "n", "pool": "p", "rpm": 2}]),
            "providers[0].limits[1].rpm",
            "of the same pool",
        ),
        # models
        (told(models=[{"name": "x", "chain": ["groq/m"]}] * 2), "models[1].name", "taken already"),
        (told(models=[{"name": "x", "chain": []}]), "models[0].chain", "no targets"),
        (told(models=[{"name": "x", "chain": ["m"]}]), "models[0].chain[0]", "provider/model-id"),
        (told(models=[{"name": "x", "chain": ["groq/"]}]), "models[0].chain[0]", "provider/model-id"),
        (told(models=[{"name": "x", "chain": ["/m"]}]), "models[0].chain[0]", "provider/model-id"),
        (told(models=[{"name": "x", "chain": ["grok/m"]}]), "models[0].chain[0]", "did you mean groq?"),
        (told(models=[{"name": "x", "chain": ["cerebras/m"]}]), "models[0].chain[0]", "not configured"),
        (told(models=[{"name": "x", "chain": ["groq/m", "groq/m"]}]), "models[0].chain[1]", "already"),
        # time and room
        (told(retry={"base": "20s"}), "retry.cap", "10s is below retry.base, 20s"),
        (told(timeouts={"answer": "15m"}), "timeouts.answer", "more than timeouts.total, 10m"),
        (told(timeouts={"total": "5s", "connect": "6s"}), "timeouts.connect", "more than timeouts.total, 5s"),
        (told(wait={"max": "1h"}), "wait.max", "1h is more than timeouts.total"),
        (told(hedge={"after": "10m"}), "hedge.after", "10m is not less than timeouts.total"),
        (told(timeouts={"connect": "0s"}), "timeouts.connect", "more than 0s"),
        (told(body={"max_bytes": "1GiB"}), "body.max_bytes", "inflight.bytes"),
        # what outlives a restart
        (told(state={"path": ""}), "state.path", "not the path of a file"),
        (told(state={"path": " "}), "state.path", "not the path of a file"),
        (told(state={"path": "a\0b"}), "state.path", "not the path of a file"),
        (told(state={"path": "/var/lib/"}), "state.path", "not the path of a file"),
        (told(state={"path": 5}), "state.path", "expected text"),
        # who may call
        (told(auth={"tokens": [{}]}), "auth.tokens[0]", "neither env nor file"),
        (told(auth={"tokens": [{"env": SECRET}]}), "auth.tokens[0].env", "NAME"),
        (told(auth={"hosts": ["http://a"]}), "auth.hosts[0]", "not a host name"),
        (told(auth={"hosts": ["a:80"]}), "auth.hosts[0]", "not a host name"),
        (told(auth={"hosts": ["*"]}), "auth.hosts[0]", "not a host name"),
        (told(auth={"origins": ["https://a/"]}), "auth.origins[0]", "not an origin"),
        (told(auth={"origins": ["*"]}), "auth.origins[0]", "not an origin"),
    ],
)
def test_one_problem_one_complaint(found, path, part):
    assert [where for where, _ in found] == [path]
    assert part in found[0][1]
    assert SECRET not in found[0][1]


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", ["127.0.0.1:1", "192.168.1.2:1"], "[fe80::1]:1"]
)
def test_G4_off_loopback_only_with_a_token(listen):
    assert [path for path, _ in told(listen=listen)] == ["listen"]
    assert told(listen=listen, auth={"tokens": [{"env": "TOKEN"}]}) == []


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.9.9.9:1"])
def test_G4_loopback_needs_none(listen):
    assert told(listen=listen) == []


@pytest.mark.parametrize("axis", AXES)
def test_A24_each_axis_alone_is_a_limit(axis):
    assert of_limit(**{axis: 5}) == []
    config = build({"providers": [{**SOUND, "limits": [{axis: 5}]}]}, KNOWN)
    limit = config.providers[0].limits[0]
    assert {name: getattr(limit, name) for name in AXES if getattr(limit, name) is not None} == {axis: 5}


def test_everything_is_told_at_once():
    tree = {
        "listen": "0.0.0.0:8787",
        "provider": [],
        "providers": [{"name": "groq", "keys": [{"name": "a", "env": SECRET}]}, {"name": "grok"}],
        "models": [{"name": "x", "chain": ["opena/m"]}],
        "wait": {"max": 20},
    }
    assert [problem.path for problem in problems(tree, KNOWN)] == [
        "provider",
        "wait.max",
        "listen",
        "providers[0].keys[0].env",
        "providers[1].name",
        "models[0].chain[0]",
    ]


@pytest.mark.parametrize(
    ("tree", "paths"),
    [
        # the second complaint would only follow from the first
        ({"providers": [{"name": "groq", "keys": [{"name": "a", "fil": "/k"}]}]}, ["providers[0].keys[0].fil"]),
        ({"providers": 5}, ["providers"]),
        ({"providers": [{"keys": [KEY]}], "models": [{"name": "x", "chain": ["groq/m"]}]}, ["providers[0].name"]),
        ({"providers": [SOUND], "listen": "0.0.0.0"}, ["listen"]),
    ],
)
def test_what_follows_from_a_problem_is_held_back(tree, paths):
    assert [problem.path for problem in problems(tree, KNOWN)] == paths


def test_build_gives_values():
    config = build(
        {
            "listen": ["127.0.0.1:1", "[::1]:2"],
            "providers": [{**SOUND, "limits": [{"rpm": 30}], "learn": False}],
            "models": [{"name": "fast", "chain": ["groq/a"]}],
            "wait": {"max": "1.5s"},
            "body": {"max_bytes": "1KiB"},
            "retry": {"budget": 1, "ambiguous": "fail"},
        },
        KNOWN,
    )
    assert config.listen == (Address("127.0.0.1", 1), Address("::1", 2))
    assert (config.wait.max_ns, config.body.max_bytes, config.retry.budget) == (1_500_000_000, 1024, 1.0)
    assert (config.retry.ambiguous, config.providers[0].limits[0].rpm) == ("fail", 30)
    assert config.models[0].chain == ("groq/a",)
    assert config.timeouts == Config().timeouts


def test_build_refuses_what_has_problems():
    with pytest.raises(ValueError, match="providers"):
        build({}, KNOWN)


_names = st.sampled_from(
    "listen admin providers name keys env file limits rpm models chain wait max auth tokens timeouts total retry base "
    f"cap budget hosts {SECRET} base_url account nonsense".split()
)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["20s", "groq", SECRET])
)
_trees = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=5), max_leaves=20
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_names, _trees, max_size=6) | _trees)
def test_any_tree_is_built_or_refused_without_its_secrets(tree):
    found = problems(tree, KNOWN)
    assert SECRET not in repr(found)
    if not found:
        assert isinstance(build(tree, KNOWN), Config)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**15), st.sampled_from(AXES))
def test_limits_are_taken_as_they_are(value, axis):
    limit = build({"providers": [{**SOUND, "limits": [{axis: value}]}]}, KNOWN).providers[0].limits[0]
    assert msgspec.structs.asdict(limit)[axis] == value
