from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.catalog_file import read_catalog
from sidecar.core.config import Problem
from sidecar.core.variables import PLACEHOLDER_KEY
from sidecar.loading import ENVIRONMENT, fingerprint, known_from, load, watched

CATALOG = read_catalog()
CONF = Path(__file__).parents[1] / "conf"
SOUND = "providers:\n  - name: groq\n    keys: [{name: a, env: GROQ_API_KEY}]\n"


def loaded(tmp_path, text, environ=None):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(path), environ or {}, CATALOG)


def lines(result):
    return [str(each).removeprefix(result.source + ":") for each in result.problems]


EXAMPLES = {path.name for path in CONF.glob("*.yaml")} - {"providers.yaml", "alerts.yaml"}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_are_accepted(name):
    result = load(str(CONF / name), {}, CATALOG)
    assert (lines(result), result.warnings) == ([], ())
    assert result.config is not None


def test_everything_yaml_shows_the_defaults():
    result = load(str(CONF / "everything.yaml"), {}, CATALOG)
    sound = load(str(CONF / "quickstart.yaml"), {}, CATALOG)
    assert result.config is not None
    assert sound.config is not None
    for name in ("listen", "admin", "wait", "retry", "timeouts", "body", "inflight", "dns"):
        assert getattr(result.config, name) == getattr(sound.config, name)
    groq = result.config.providers[0]
    assert groq.base_url == CATALOG.providers["groq"].base_url
    assert (groq.dialect, groq.learn) == (CATALOG.providers["groq"].dialect, sound.config.providers[0].learn)


def test_H1_problems_name_file_and_line_in_order(tmp_path):
    text = SOUND + "wait: {max: 20}\nretry:\n  attempts: 1\n  bugdet: 0.1\nmodels:\n  - {name: x, chain: [grok/m]}\n"
    result = loaded(tmp_path, text)
    assert result.config is None
    assert lines(result) == [
        "4: wait.max: expected a number and ms, s, m or h, such as 250ms, 20s, 10m or 24h; got a number (add the unit)",
        "7: retry.bugdet: unknown field (did you mean budget?)",
        "9: models[0].chain[0]: provider grok is not configured (did you mean groq?)",
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "1: providers: no provider"),
        ("a: [", "1: is not YAML"),
        (SOUND + "listen: [::1]:8787\n", "4: is not YAML"),
        (SOUND + "wait: {}\nwait: {}\n", "5: wait: is given twice, first in line 4"),
        (SOUND + "wait: !!python/name:os.system\n", "4: wait: has a tag"),
        (SOUND.encode() + b"wait: \xff\n", "4: is not UTF-8"),
        ("- 1\n", "1: expected fields"),
    ],
)
def test_one_line_for_one_problem(text, start, tmp_path):
    result = loaded(tmp_path, text)
    assert len(lines(result)) == 1
    assert lines(result)[0].startswith(start)


def test_a_byte_order_mark_is_nothing(tmp_path):
    assert lines(loaded(tmp_path, b"\xef\xbb\xbf" + SOUND.encode())) == []


def test_an_absent_file_may_yet_appear(tmp_path):
    result = load(str(tmp_path / "no.yaml"), {}, CATALOG)
    assert result.is_absent
    assert lines(result) == [" cannot be read: No such file or directory (give another with --config)"]


def test_an_unreadable_file_is_not_absent(tmp_path):
    result = load(str(tmp_path), {}, CATALOG)
    assert not result.is_absent
    assert "Is a directory" in lines(result)[0]


def test_a_later_problem_has_its_line_too(tmp_path):
    result = loaded(tmp_path, SOUND)
    assert str(result.located(Problem("providers[0].keys[0].env", "x"))).endswith(
        "c.yaml:3: providers[0].keys[0].env: x"
    )


def test_paths_of_key_files_start_at_the_configuration(tmp_path):
    text = """
providers:
  - name: groq
    keys: [{name: a, file: keys/a}, {name: b, file: /b}, {name: c, file: ~/c}, {name: d, env: D}]
auth: {tokens: [{file: token}, {env: T}]}
"""
    result = loaded(tmp_path, text)
    assert result.config is not None
    home = os.path.expanduser("~")
    assert [key.file for key in result.config.providers[0].keys] == [f"{tmp_path}/keys/a", "/b", f"{home}/c", None]
    assert [token.file for token in result.config.auth.tokens] == [f"{tmp_path}/token", None]
    files = (f"{tmp_path}/keys/a", "/b", f"{home}/c", f"{tmp_path}/token")
    assert watched(result.config, result.source) == (result.source, *files)
    assert watched(None, "c.yaml") == ("c.yaml",)
    assert watched(None, None) == ()


@pytest.mark.parametrize(
    ("written", "path"),
    [("state.db", "{here}/state.db"), ("/var/s.db", "/var/s.db"), ("~/s.db", "{home}/s.db"), ("null", None)],
)
def test_the_path_of_the_state_starts_at_the_configuration(tmp_path, written, path):
    text = f"providers: [{{name: groq, keys: [{{name: a, env: A}}]}}]\nstate: {{path: {written}}}\n"
    config = loaded(tmp_path, text).config
    assert config is not None
    assert config.state.path == (path and path.format(here=tmp_path, home=os.path.expanduser("~")))


@pytest.mark.parametrize(
    ("url", "count"),
    [("http://vllm.ml.svc:8000/v1", 1), ("http://127.0.0.1:1/v1", 0), ("https://vllm.example/v1", 0)],
)
def test_keys_in_the_clear_are_a_warning(url, count, tmp_path):
    result = loaded(tmp_path, f"providers: [{{name: x, base_url: '{url}', keys: [{{name: a, env: A}}]}}]")
    assert lines(result) == []
    assert len(result.warnings) == count


def keys(environ):
    result = load(None, environ, CATALOG)
    assert result.source == ENVIRONMENT
    assert lines(result) == []
    assert result.config is not None
    return {provider.name: [(key.name, key.env) for key in provider.keys] for provider in result.config.providers}


def test_providers_from_the_environment_in_catalog_order():
    environ = {"OPENAI_API_KEY": "x", "CEREBRAS_API_KEY": "x", "GROQ_API_KEY": "x", "PATH": "/bin"}
    assert list(keys(environ).items()) == [
        ("groq", [("key", "GROQ_API_KEY")]),
        ("cerebras", [("key", "CEREBRAS_API_KEY")]),
        ("openai", [("key", "OPENAI_API_KEY")]),
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["GROQ_API_KEY_10", "GROQ_API_KEY_2", "GROQ_API_KEY"], ["key", "key-2", "key-10"]),
        (["GROQ_API_KEY_1"], ["key-1"]),
        (["GROQ_API_KEY", "GROQ_API_KEY_TEAM", "GROQ_API_KEYS", "GROQ_API_KEY_1x", "XGROQ_API_KEY_1"], ["key"]),
    ],
)
def test_several_keys_from_the_environment(names, expected):
    found = keys(dict.fromkeys(names, "x"))
    assert [name for name, _ in found["groq"]] == expected


def test_an_empty_variable_is_as_good_as_none():
    assert list(keys({"GROQ_API_KEY": "", "GROQ_API_KEY_1": " ", "OPENAI_API_KEY": "x"})) == ["openai"]


def test_what_sidecar_env_sets_for_sdks_is_no_key():
    assert list(keys({"OPENAI_API_KEY": PLACEHOLDER_KEY, "GROQ_API_KEY": "x"})) == ["groq"]


def test_the_first_of_two_usual_variables_counts():
    assert keys({"GOOGLE_API_KEY": "x", "GEMINI_API_KEY": "x"}) == {"gemini": [("key", "GEMINI_API_KEY")]}
    assert keys({"GOOGLE_API_KEY": "x"}) == {"gemini": [("key", "GOOGLE_API_KEY")]}


@pytest.mark.parametrize(
    ("endpoint", "base_url"),
    [
        ("https://openai-x.openai.azure.com/", "https://openai-x.openai.azure.com/openai/v1"),
        ("https://x.openai.azure.com", "https://x.openai.azure.com/openai/v1"),
        ("https://x.openai.azure.com/openai/v1/", "https://x.openai.azure.com/openai/v1"),
    ],
)
def test_azure_has_its_address_from_the_environment(endpoint, base_url):
    result = load(None, {"AZURE_OPENAI_API_KEY": "x", "AZURE_OPENAI_ENDPOINT": endpoint}, CATALOG)
    assert result.config is not None
    assert [(provider.name, provider.base_url) for provider in result.config.providers] == [("azure", base_url)]
    assert result.warnings == ()


def test_azure_without_an_address_is_left_out():
    result = load(None, {"AZURE_OPENAI_API_KEY": "x", "GROQ_API_KEY": "x"}, CATALOG)
    assert result.config is not None
    assert [provider.name for provider in result.config.providers] == ["groq"]
    assert result.warnings == ("AZURE_OPENAI_API_KEY is set but AZURE_OPENAI_ENDPOINT is not: azure is left out",)


def test_a_wrong_address_from_the_environment_is_a_problem():
    result = load(None, {"AZURE_OPENAI_API_KEY": "x", "AZURE_OPENAI_ENDPOINT": "x.azure.com"}, CATALOG)
    assert [each.problem.path for each in result.problems] == ["providers[0].base_url"]


@pytest.mark.parametrize("environ", [{}, {"PATH": "/bin"}, {"GROQ_API_KEY": ""}, {"OLLAMA_HOST": "x"}])
def test_no_key_anywhere_says_what_to_set(environ):
    result = load(None, environ, CATALOG)
    assert result.config is None
    assert str(result.problems[0]).startswith("environment: no provider's key is set (set one of GROQ_API_KEY, ")


def test_known_from_the_catalog():
    known = known_from(CATALOG)
    assert known.providers["groq"] == (False, True)
    assert known.providers["azure"] == (False, False)
    assert known.providers["ollama"] == (True, True)
    assert {"openai", "groq", "cerebras"} <= known.dialects


def test_H1_the_fingerprint_follows_links_and_tells_every_change(tmp_path):
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text("same length")
        os.utime(tmp_path / version / "key", ns=(1, 1))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "key").symlink_to("..data/key")
    paths = [str(tmp_path / "key"), str(tmp_path / "absent")]
    first = fingerprint(paths)
    assert first == fingerprint(paths)
    assert first[1] is None
    (tmp_path / "..tmp").symlink_to("v2")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    swapped = fingerprint(paths)
    assert swapped != first
    (tmp_path / "absent").write_text("x")
    assert fingerprint(paths)[0] == swapped[0]
    assert fingerprint(paths)[1] is not None
    os.utime(tmp_path / "key", ns=(2, 2))
    assert fingerprint(paths)[0] != swapped[0]
