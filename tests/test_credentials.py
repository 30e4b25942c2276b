from __future__ import annotations

import os

import pytest

from sidecar.core.config import Auth, Config, KeyConfig, ProviderConfig, TokenRef
from sidecar.core.secret import Secret
from sidecar.core.variables import PLACEHOLDER_KEY
from sidecar.credentials import read_secrets


def config_of(*keys, tokens=()):
    return Config(providers=(ProviderConfig("groq", keys=keys),), auth=Auth(tokens=tokens))


def from_env(value):
    return read_secrets(config_of(KeyConfig("a", env="KEY")), {"KEY": value})


@pytest.mark.parametrize("text", ["gsk_x", "gsk_x\n", "gsk_x\r\n", "  gsk_x  ", "\tgsk_x\n\n"])
def test_white_space_around_a_key_is_removed(text, tmp_path):
    file = tmp_path / "key"
    file.write_text(text, newline="")
    config = config_of(KeyConfig("a", env="KEY"), KeyConfig("b", file=str(file)))
    found = read_secrets(config, {"KEY": text})
    assert found.keys == {("groq", "a"): Secret("gsk_x"), ("groq", "b"): Secret("gsk_x")}
    assert found.problems == ()
    assert found.warnings == ("groq: the keys a and b are the same; its limits would be counted twice",)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"gsk\x00_x", "control characters"),
        (b"gsk_x\ngsk_y", "white space"),
        (b"Bearer gsk_x", "white space"),
        ("gsk_\u00fc".encode(), "not ASCII"),
        ("\ufeffgsk_x".encode(), "not ASCII"),
        ("gsk_x\n".encode("utf-16"), "not ASCII"),
        (b'"gsk_x"', "quotes"),
        (b"x" * 70_000, "too long"),
    ],
)
def test_what_cannot_be_a_key_is_told_without_it(content, part, tmp_path):
    file = tmp_path / "key"
    file.write_bytes(content)
    found = read_secrets(config_of(KeyConfig("a", file=str(file))), {})
    assert found.keys == {("groq", "a"): None}
    assert [problem.path for problem in found.problems] == ["providers[0].keys[0].file"]
    assert part in found.problems[0].message
    assert "gsk" not in repr(found)


def test_a_missing_file_is_a_warning_until_it_appears(tmp_path):
    file = tmp_path / "key"
    config = config_of(KeyConfig("a", file=str(file)))
    found = read_secrets(config, {})
    assert (found.keys, found.problems) == ({("groq", "a"): None}, ())
    assert "No such file" in found.warnings[0]
    file.write_text("gsk_x\n")
    assert read_secrets(config, {}).keys == {("groq", "a"): Secret("gsk_x")}


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_an_empty_file_is_a_warning(content, tmp_path):
    file = tmp_path / "key"
    file.write_text(content)
    found = read_secrets(config_of(KeyConfig("a", file=str(file))), {})
    assert (found.keys, found.problems) == ({("groq", "a"): None}, ())
    assert "is empty" in found.warnings[0]


def test_a_directory_is_a_warning(tmp_path):
    assert "cannot be read" in read_secrets(config_of(KeyConfig("a", file=str(tmp_path))), {}).warnings[0]


def test_a_variable_that_is_not_set_is_a_warning():
    found = read_secrets(config_of(KeyConfig("a", env="KEY")), {})
    assert (found.keys, found.problems) == ({("groq", "a"): None}, ())
    assert "KEY is not set" in found.warnings[0]
    assert "KEY is empty" in from_env("").warnings[0]


def test_what_sidecar_env_sets_for_sdks_is_no_key():
    found = from_env(PLACEHOLDER_KEY)
    assert found.keys == {("groq", "a"): None}
    assert "not a key" in found.warnings[0]


def test_tokens_keep_their_places():
    config = config_of(tokens=(TokenRef(env="A"), TokenRef(env="B"), TokenRef(env="C")))
    found = read_secrets(config, {"A": "one", "C": "t h"})
    assert found.tokens == (Secret("one"), None, None)
    assert [problem.path for problem in found.problems] == ["auth.tokens[2].env"]
    assert found.warnings[0].startswith("auth.tokens[1]")


def test_the_same_key_at_two_providers_is_nobodys_business():
    config = Config(providers=tuple(ProviderConfig(name, keys=(KeyConfig("a", env="KEY"),)) for name in ("x", "y")))
    assert read_secrets(config, {"KEY": "k"}).warnings == ()


def test_H1_a_swapped_link_is_followed(tmp_path):
    """As Kubernetes updates a mounted secret: key -> ..data/key, ..data -> a directory of each version."""
    for version, content in (("v1", "old"), ("v2", "new")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(content)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "key").symlink_to("..data/key")
    config = config_of(KeyConfig("a", file=str(tmp_path / "key")))
    assert read_secrets(config, {}).keys == {("groq", "a"): Secret("old")}
    (tmp_path / "..tmp").symlink_to("v2")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    assert read_secrets(config, {}).keys == {("groq", "a"): Secret("new")}
