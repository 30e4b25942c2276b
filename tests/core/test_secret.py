from __future__ import annotations

import copy
import pickle

import msgspec
import pytest

from sidecar.core.secret import Secret, looks_like_secret

TEXT = "gsk_abcdefghijklmnop1234"


def test_G3_a_secret_never_formats_itself():
    secret = Secret(TEXT)
    for text in (str(secret), repr(secret), f"{secret}", f"{[secret]}", f"{(secret, 1)!r}"):
        assert "Secret(…)" in text
        assert TEXT not in text


def test_reveal_is_the_way_out():
    assert Secret(TEXT).reveal() == TEXT


@pytest.mark.parametrize("serialise", [msgspec.json.encode, pickle.dumps, copy.copy])
def test_a_secret_is_not_serialised(serialise):
    with pytest.raises(TypeError):
        serialise(Secret(TEXT))


def test_equality_is_by_value():
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"Bearer {TEXT}",
        f"GROQ_API_KEY={TEXT}",
        "sk-proj-abcdefghijkl1",
        "csk-abcdefghijkl12",
        "xai-abcdefghijkl1234",
        "AIzaSyabcdefghijkl1",
        "hf_abcdefghijklmnop1",
        "nvapi-abcdefghijklmnop1",
        "0123456789abcdef" * 4,
        "eyJhbGciOiJIUzI1NiJ9.abc",
    ],
)
def test_looks_like_a_secret(text):
    assert looks_like_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "GROQ_API_KEY",
        "GROQ_API_KEY_OF_THE_DATA_SCIENCE_TEAM_2",
        "OPENAIKEYOFTHEDATASCIENCETEAMNUMBER2",
        "sk-learn-production",
        "hf_hub",
        "team-a",
        "llama-3.3-70b-versatile",
        "Qwen3-235B-A22B-Instruct-2507",
        "/var/run/secrets/groq/key",
        "",
    ],
)
def test_looks_like_a_name(text):
    assert not looks_like_secret(text)
