"""What `sidecar doctor` makes of facts: each with its level, and a remedy wherever something is to be done."""

from __future__ import annotations

import pytest

from sidecar.core.diagnosis import diagnose, is_broken, lines
from sidecar.core.limits import DAY, SECOND
from sidecar.core.measured import (
    ConnectFacts,
    Facts,
    FileFacts,
    KeyFacts,
    NameFacts,
    PortFacts,
    ProviderFacts,
    ProxyFacts,
    TlsFacts,
    list_request,
    model_ids,
)
from tests.core.house import NOW, snapshot_of

NO_PROXY = ProxyFacts((), False)
FINE = Facts(NOW, [], [], [], [], NO_PROXY)
AT = "groq api.groq.com:443"
WAY = ProviderFacts("groq", "api.groq.com", 443)
GOOD_NAME = NameFacts("c-ares", ("1.2.3.4", "::1"))
BAD_NAME = NameFacts("the system", (), "Name or service not known")


def only(**facts):
    (finding,) = diagnose(FINE._replace(**facts))
    assert bool(finding.remedy) or finding.level == "ok"
    return finding


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        ((GOOD_NAME, GOOD_NAME), "ok", "addresses: 2 by c-ares, 2 by c-ares"),
        ((GOOD_NAME, BAD_NAME), "warning", "2 by c-ares, not by the system (Name or service not known)"),
        ((BAD_NAME, BAD_NAME._replace(resolver="c-ares")), "broken", "does not resolve: the system (Name or"),
    ],
)
def test_names(names, level, said):
    finding = only(providers=[WAY._replace(names=names)])
    assert (finding.about, finding.subject, finding.level) == ("name", AT, level)
    assert said in finding.message


@pytest.mark.parametrize(
    ("connects", "level", "said"),
    [
        ((ConnectFacts("1.2.3.4"),), "ok", "1 of 1 addresses answer"),
        ((ConnectFacts("1.2.3.4"), ConnectFacts("::1", "no route")), "ok", "costs nothing (::1: no route)"),
        ((ConnectFacts("1.2.3.4", "Connection refused"),), "broken", "(1.2.3.4: Connection refused)"),
    ],
)
def test_connections(connects, level, said):
    finding = only(providers=[WAY._replace(connects=connects)])
    assert (finding.about, finding.level) == ("connection", level)
    assert said in finding.message


@pytest.mark.parametrize(
    ("tls", "level", "said", "remedy"),
    [
        (TlsFacts(NOW + 90 * DAY), "ok", "right for 90 days", ""),
        (TlsFacts(), "ok", "it is right", ""),
        (TlsFacts(NOW + 13 * DAY), "warning", "ends in 13 days", "renew"),
        (TlsFacts(code=10, error="expired"), "broken", "has expired", "clock"),
        (TlsFacts(code=9, error="not yet"), "broken", "not valid yet", "clock"),
        (TlsFacts(code=62, error="mismatch"), "broken", "not for api.groq.com", "base_url of groq"),
        (TlsFacts(code=20, error="no issuer"), "broken", "not trusted here (no issuer)", "SSL_CERT_FILE"),
        (TlsFacts(code=1, error="odd"), "broken", "handshake fails (odd)", "base_url"),
        (TlsFacts(error="WRONG_VERSION_NUMBER"), "broken", "handshake fails (WRONG_VERSION_NUMBER)", "HTTPS"),
    ],
)
def test_certificates(tls, level, said, remedy):
    finding = only(providers=[WAY._replace(tls=tls)])
    assert (finding.about, finding.level) == ("certificate", level)
    assert said in finding.message
    assert remedy in finding.remedy


KEY = KeyFacts("groq", "a", "env GROQ_API_KEY")


@pytest.mark.parametrize(
    ("key", "level", "said", "remedy"),
    [
        (KEY._replace(status=200, models=("m", "n")), "ok", "valid; 2 models", ""),
        (KEY._replace(status=200, is_public=True), "ok", "not proven: the provider tells", ""),
        (KEY._replace(status=401), "broken", "invalid (401)", "into GROQ_API_KEY;"),
        (KEY._replace(status=401, source="file /run/k"), "broken", "invalid (401)", "into /run/k;"),
        (KEY._replace(status=402), "broken", "paid (402)", "balance"),
        (KEY._replace(status=403), "warning", "(403), so it is not proven", "allowed"),
        (KEY._replace(status=404), "warning", "(404)", "base_url"),
        (KEY._replace(status=405), "warning", "(405)", "base_url"),
        (KEY._replace(status=429), "ok", "out of quota", ""),
        (KEY._replace(status=503), "warning", "in trouble (503)", "later"),
        (KEY._replace(status=302), "warning", "answers 302", "base_url"),
        (KEY._replace(error="no answer in 5 s"), "warning", "no answer in 5 s", "connection"),
        (KEY._replace(is_present=False), "broken", "not there (env GROQ_API_KEY)", "set GROQ_API_KEY and start again"),
        (KEY._replace(is_present=False, source="file /k"), "broken", "not there (file /k)", "write the key into /k"),
    ],
)
def test_H6_keys(key, level, said, remedy):
    finding = only(keys=[key])
    assert (finding.about, finding.subject, finding.level) == ("key", "groq/a", level)
    assert said in finding.message
    assert remedy in finding.remedy


def test_a_key_that_was_not_asked_about_needs_no_remedy_of_its_own():
    (finding,) = diagnose(FINE._replace(keys=[KEY]))
    assert (finding.level, finding.remedy) == ("warning", "")


def test_models_that_no_key_lists_with_the_nearest():
    keys = [KEY._replace(status=200, models=("llama-3.3-70b", "models/gemini-2")), KeyFacts("other", "b", "env B")]
    targets = [("groq", "llama-3.3-70b"), ("groq", "gemini-2"), ("groq", "llama-33-70b"), ("groq", "zz"),
               ("groq", "zz"), ("groq", ""), ("other", "m")]  # fmt: skip
    found = [each for each in diagnose(FINE._replace(keys=keys, targets=targets)) if each.about == "model"]
    assert [(each.level, each.subject) for each in found] == [("warning", "groq/llama-33-70b"), ("warning", "groq/zz")]
    assert found[0].remedy == "the nearest is llama-3.3-70b"
    assert "the provider's list" in found[1].remedy


@pytest.mark.parametrize(
    ("offsets", "level", "said"),
    [
        ((0, 1), "ok", "agrees"),
        ((5, -5), "ok", "agrees"),
        ((90, 91, -3600), "warning", "is 90 s ahead of"),
        ((-30, -31, 0), "warning", "is 30 s behind"),
        ((0, 0, 7200), "ok", "agrees"),
    ],
)
def test_the_clock_by_the_middle_of_all(offsets, level, said):
    keys = [KEY._replace(status=200, offset_ns=offset * SECOND) for offset in offsets]
    (finding,) = (each for each in diagnose(FINE._replace(keys=keys)) if each.about == "clock")
    assert finding.level == level
    assert said in finding.message


@pytest.mark.parametrize(
    ("state", "level", "remedy"),
    [
        ("free", "ok", ""),
        ("sidecar", "ok", ""),
        ("taken", "broken", "change `listen`"),
        ("refused", "broken", "change"),
    ],
)
def test_ports(state, level, remedy):
    finding = only(ports=[PortFacts("listen", "127.0.0.1:8787", state, "why")])
    assert (finding.about, finding.subject, finding.level) == ("port", "listen 127.0.0.1:8787", level)
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, "ok"), (0o640, "ok"), (0o644, "warning"), (0o620, "broken"), (0o666, "broken")]
)
def test_G3_files_of_keys(mode, level):
    finding = only(files=[FileFacts("/run/k", "key groq/a", mode)])
    assert finding.level == level
    assert f"{mode:04o}" in finding.message


def test_proxies():
    assert diagnose(FINE) == []
    spared = diagnose(FINE._replace(proxy=ProxyFacts(("HTTPS_PROXY",), True)))
    assert [each.level for each in spared] == ["ok"]
    harmful = diagnose(FINE._replace(proxy=ProxyFacts(("HTTPS_PROXY", "all_proxy"), False)))
    assert [(each.level, each.subject) for each in harmful] == [
        ("warning", "HTTPS_PROXY, all_proxy"),
        ("ok", "HTTPS_PROXY, all_proxy"),
    ]


def test_the_words_for_a_terminal_and_the_verdict():
    findings = diagnose(FINE._replace(keys=[KEY._replace(status=401), KEY._replace(status=200)], warnings=["careful"]))
    assert list(lines(findings)) == [
        "WARNING  configuration: careful",
        "BROKEN   key groq/a: the provider calls it invalid (401)",
        "         -> put a valid key into GROQ_API_KEY; a running sidecar takes a changed file up by itself",
        "ok       key groq/a: it is valid; 0 models are listed for it",
        "",
        "1 broken, 1 to look at, 1 fine",
    ]
    assert is_broken(findings)
    assert not is_broken(findings[:1])


PROVIDERS = """
providers:
  - {name: groq, keys: [{name: a, env: A}]}
  - {name: anthropic, keys: [{name: a, env: A}]}
  - {name: gemini, keys: [{name: a, env: A}]}
  - {name: azure, base_url: "https://x.openai.azure.com/openai/v1", keys: [{name: a, env: A}]}
  - {name: deepinfra, keys: [{name: a, env: A}]}
"""


@pytest.mark.parametrize(
    ("name", "path", "header"),
    [
        ("groq", "/openai/v1/models", (b"authorization", b"Bearer secret-of-groq-a")),
        ("anthropic", "/v1/models?limit=1000", (b"x-api-key", b"secret-of-anthropic-a")),
        ("gemini", "/v1beta/openai/models", (b"authorization", b"Bearer secret-of-gemini-a")),
        ("azure", "/openai/v1/models", (b"api-key", b"secret-of-azure-a")),
        ("deepinfra", "/v1/openai/models", (b"authorization", b"Bearer secret-of-deepinfra-a")),
    ],
)
def test_the_model_list_is_asked_for_as_each_provider_takes_its_keys(name, path, header):
    provider = snapshot_of(PROVIDERS).providers[name]
    asked = list_request(provider, provider.keys[0])
    assert asked.path == path
    assert header in asked.headers
    anybody = list_request(provider, None)
    assert b"secret-of" not in b"".join(value for _, value in anybody.headers)
    assert ((b"anthropic-version", b"2023-06-01") in anybody.headers) is (name == "anthropic")


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"data": [{"id": "a"}, {"id": "b"}, {"x": 1}]}', ("a", "b")),
        (b'{"data": [{"id": "a"}], "has_more": true}', ()),
        (b'[{"id": "a"}]', ("a",)),
        (b'{"error": 1}', ()),
        (b"<html>", ()),
        (b"", ()),
        (b"\xff", ()),
    ],
)
def test_ids_of_whole_lists_alone(body, ids):
    assert model_ids(body) == ids
