"""What a configuration amounts to: addresses, keys, chains, limits."""

from __future__ import annotations

import pytest

from sidecar.core.catalog import Auth
from sidecar.core.limits import DAY, HOUR, MINUTE, Axis, Source
from sidecar.core.secret import Secret
from sidecar.core.snapshot import Key
from tests.core.house import PACIFIC, TWO_PROVIDERS, snapshot_of, target_of
from tests.core.house import roster_of as roster_of_text

LOCAL = """
providers:
  - name: {name}
    base_url: {url}
"""


def provider_of(url, name="custom"):
    return snapshot_of(LOCAL.format(name=name, url=url)).providers[name]


@pytest.mark.parametrize(
    ("url", "origin", "host", "base_path"),
    [
        ("https://api.groq.com/openai/v1", ("https", "api.groq.com", 443), b"api.groq.com", b"/openai/v1"),
        ("https://API.Groq.com:443/v1/", ("https", "api.groq.com", 443), b"api.groq.com", b"/v1"),
        ("http://localhost:11434", ("http", "localhost", 11434), b"localhost:11434", b""),
        ("http://localhost:80/", ("http", "localhost", 80), b"localhost", b""),
        ("https://localhost:80/", ("https", "localhost", 80), b"localhost:80", b""),
        ('"http://[::1]:8000/v1"', ("http", "::1", 8000), b"[::1]:8000", b"/v1"),
        ('"https://[2001:db8::1]/v1"', ("https", "2001:db8::1", 443), b"[2001:db8::1]", b"/v1"),
    ],
)
def test_G2_a_key_is_bound_to_scheme_host_and_port(url, origin, host, base_path):
    provider = provider_of(url)
    assert (provider.origin, provider.host, provider.base_path) == (origin, host, base_path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://API.Groq.com:443/v1/", "https://api.groq.com/v1"),
        ('"http://[::1]:8000/v1"', "http://[::1]:8000/v1"),
    ],
)
def test_an_address_is_shown_in_one_form(url, shown):
    assert provider_of(url).url == shown
    assert repr(provider_of(url)) == f"<Provider custom at {shown} [<Key custom/none present>]>"


def test_a_provider_of_the_catalog_needs_no_address_and_speaks_its_dialect():
    groq = snapshot_of().providers["groq"]
    assert (groq.origin.host, groq.base_path, groq.dialect) == ("api.groq.com", b"/openai/v1", "groq")
    assert groq.learns


def test_any_other_speaks_openais_unless_told():
    assert provider_of("http://x/v1").dialect == "openai"
    told = snapshot_of(LOCAL.format(name="custom", url="http://x/v1") + "    dialect: groq\n    learn: false\n")
    assert told.providers["custom"].dialect == "groq"
    assert not told.providers["custom"].learns


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (Auth(), [(b"authorization", b"Bearer secret-of-groq-a")]),
        (Auth("API-Key", ""), [(b"api-key", b"secret-of-groq-a")]),
        (Auth("x-api-key", "Key "), [(b"x-api-key", b"Key secret-of-groq-a")]),
    ],
)
def test_a_key_travels_as_the_catalog_says(auth, headers):
    key = snapshot_of().providers["groq"].keys[0]
    assert key.auth(auth) == headers
    assert key.secret_bytes == b"secret-of-groq-a"


def test_a_key_that_is_missing_and_one_that_is_not_needed_send_nothing():
    missing = snapshot_of(missing=("a",)).providers["groq"].keys[0]
    needless = provider_of("http://x/v1").keys[0]
    assert [(key.is_present, key.auth(Auth()), key.secret_bytes) for key in (missing, needless)] == [
        (False, [], None),
        (True, [], None),
    ]
    assert (repr(missing), repr(needless)) == ("<Key groq/a missing>", "<Key custom/none present>")


def test_accounts_are_scoped_by_provider_and_default_to_the_keys_name():
    keys = {key.ident: key.account for key in snapshot_of().each_key()}
    assert keys == {"groq/a": "groq/org-a", "groq/b": "groq/org-b", "cerebras/c": "cerebras/c"}


def test_H1_a_fingerprint_follows_the_secret_and_its_place_and_tells_neither():
    prints = {
        Key("groq", "a", None, secret, False).fingerprint(place)
        for secret in (Secret("one"), Secret("two"), None)
        for place in ("https://x", "https://y")
    }
    assert len(prints) == 6
    assert Key("groq", "a", None, Secret("one"), False).fingerprint("https://x") in prints
    assert all(0 <= each < 2**64 for each in prints)


LIMITED = """
providers:
  - name: groq
    keys: [{name: a, env: A}, {name: b, env: B, account: big}]
    limits:
      - {model: "*", rpm: 30, tpd: 1000, concurrency: 4}
      - {model: "llama*", rpm: 60}
      - {model: "*", account: big, rph: 900}
      - {model: whisper-large-v3, ash: 7200, pool: audio}
      - {model: whisper-large-v3-turbo, pool: audio}
  - name: gemini
    keys: [{name: g, env: G}]
    limits: [{model: "*", rpd: 100, rpm: 5}]
    learn: false
"""


def limits_of(account, model):
    spec = snapshot_of(LIMITED).quota_spec(account, model)
    assert spec is not None
    return {(limit.axis, limit.window_ns): (limit.limit, limit.algorithm) for limit in spec.specs}


@pytest.mark.parametrize(
    ("account", "model", "limits"),
    [
        ("groq/a", "m", {(Axis.REQUESTS, MINUTE): (30, "token_bucket"), (Axis.TOKENS, DAY): (1000, "token_bucket")}),
        (
            "groq/big",
            "llama-x",
            {
                (Axis.REQUESTS, MINUTE): (60, "token_bucket"),
                (Axis.REQUESTS, HOUR): (900, "sliding"),  # how Groq counts hours is not known
                (Axis.TOKENS, DAY): (1000, "token_bucket"),
            },
        ),
        ("gemini/g", "m", {(Axis.REQUESTS, MINUTE): (5, "sliding"), (Axis.REQUESTS, DAY): (100, "fixed")}),
    ],
)
def test_A24_limits_are_counted_as_their_provider_counts(account, model, limits):
    assert limits_of(account, model) == limits


def test_A24_what_else_a_quota_is_told():
    snapshot = snapshot_of(LIMITED)
    groq, gemini = snapshot.quota_spec("groq/a", "m"), snapshot.quota_spec("gemini/g", "m")
    assert groq is not None
    assert gemini is not None
    assert (groq.concurrency, groq.learn, groq.rule.output, groq.calendar) == (4, True, "declared", None)
    assert (gemini.concurrency, gemini.learn, gemini.rule.output) == (None, False, "none")
    assert gemini.calendar is PACIFIC["America/Los_Angeles"]
    assert {limit.calendar for limit in gemini.specs} == {gemini.calendar}
    assert {limit.source for limit in gemini.specs} == {Source.CONFIG}
    assert gemini.algorithms == {(Axis.REQUESTS, DAY): "fixed"}


def test_models_of_a_pool_have_one_quota():
    snapshot = snapshot_of(LIMITED)
    specs = [snapshot.quota_spec("groq/a", model) for model in ("whisper-large-v3", "whisper-large-v3-turbo")]
    assert [spec.key for spec in specs if spec] == ["pool:audio", "pool:audio"]
    assert [{limit.axis: limit.limit for limit in spec.specs}[Axis.AUDIO_SECONDS] for spec in specs if spec] == [
        7200
    ] * 2


@pytest.mark.parametrize("account", ["groq/nobody", "nobody/a", "groq", ""])
def test_an_account_that_is_not_configured_has_no_quota(account):
    assert snapshot_of(LIMITED).quota_spec(account, "m") is None


@pytest.mark.parametrize(
    ("model", "is_known"),
    [
        ("openai/gpt-oss-120b", True),  # of the chain
        ("gpt-oss-120b", True),
        ("llama-3.3-70b-versatile", True),  # of the catalog
        ("", True),
        ("made-up", False),
        ("fast", False),
    ],
)
def test_E1_models_are_known_by_the_configuration_or_the_catalog(model, is_known):
    snapshot = snapshot_of()
    assert snapshot.is_known(model) is is_known
    spec = snapshot.quota_spec("groq/org-a", model)
    assert spec is not None
    assert spec.is_known is is_known


def test_targets_and_snapshots_say_what_they_are():
    roster = roster_of_text()
    assert str(target_of(roster, "groq/openai/gpt-oss-120b")) == "groq/openai/gpt-oss-120b"
    assert str(target_of(roster, "groq/")) == "groq"
    assert repr(roster.snapshot) == "<Snapshot of groq, cerebras; 1 models>"
    assert roster.snapshot.first is roster.snapshot.providers["groq"]
    assert "secret-of" not in repr([*roster.snapshot.each_key(), *roster.snapshot.providers.values()])
    assert list(snapshot_of(TWO_PROVIDERS).chains) == ["fast"]
