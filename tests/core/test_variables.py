"""The environment variables for applications: names, values, and lines that shells evaluate rightly."""

from __future__ import annotations

import subprocess

import pytest

from sidecar.core.variables import PLACEHOLDER_KEY, as_lines, placeholders, variables

ADDRESS = "127.0.0.1:8787"
ORIGIN = f"http://{ADDRESS}"
OPENAI_AND_GROQ = {"OPENAI_BASE_URL": f"{ORIGIN}/v1", "GROQ_BASE_URL": ORIGIN}


@pytest.mark.parametrize(
    ("address", "providers", "found"),
    [
        (ADDRESS, None, OPENAI_AND_GROQ),
        (ADDRESS, [], OPENAI_AND_GROQ),
        (ADDRESS, ["groq"], OPENAI_AND_GROQ),
        (ADDRESS, ["groq", "anthropic"], OPENAI_AND_GROQ | {"ANTHROPIC_BASE_URL": f"{ORIGIN}/p/anthropic"}),
        ("[::1]:9", None, {"OPENAI_BASE_URL": "http://[::1]:9/v1", "GROQ_BASE_URL": "http://[::1]:9"}),
    ],
)
def test_each_sdk_gets_the_base_url_that_it_completes(address, providers, found):
    assert variables(address, providers) == found


@pytest.mark.parametrize(
    ("environ", "providers", "names"),
    [
        ({}, [], ["OPENAI_API_KEY", "GROQ_API_KEY"]),
        ({}, ["anthropic"], ["OPENAI_API_KEY", "GROQ_API_KEY", "ANTHROPIC_API_KEY"]),
        ({"OPENAI_API_KEY": "own", "GROQ_API_KEY": ""}, [], ["GROQ_API_KEY"]),
        ({"ANTHROPIC_API_KEY": "own"}, ["anthropic"], ["OPENAI_API_KEY", "GROQ_API_KEY"]),
    ],
)
def test_sdks_that_insist_on_a_key_get_one_that_is_none(environ, providers, names):
    assert placeholders(environ, providers) == dict.fromkeys(names, PLACEHOLDER_KEY)


SHOWN = ("OPENAI_BASE_URL", "GROQ_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "NO_PROXY")


def evaluated(environ, times=1, flags="-eu"):
    """What a child of a POSIX shell that evaluated the lines sees."""
    lines = "\n".join(as_lines(variables(ADDRESS, ["anthropic"]), "sh"))
    script = "\n".join(['eval "$LINES_TO_EVALUATE"'] * times + [f"env | grep -E '^({'|'.join(SHOWN)})='"])
    run = subprocess.run(
        ["sh", flags, "-c", script],
        env={"PATH": "/usr/bin:/bin", "LINES_TO_EVALUATE": lines} | environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=5,
    )
    assert run.stderr == ""
    return dict(line.split("=", 1) for line in run.stdout.splitlines())


URLS = OPENAI_AND_GROQ | {"ANTHROPIC_BASE_URL": f"{ORIGIN}/p/anthropic"}


@pytest.mark.parametrize(
    ("environ", "key", "no_proxy"),
    [
        ({}, PLACEHOLDER_KEY, "127.0.0.1,localhost"),
        ({"OPENAI_API_KEY": "", "NO_PROXY": ""}, PLACEHOLDER_KEY, "127.0.0.1,localhost"),
        ({"OPENAI_API_KEY": "my 'own' $key"}, "my 'own' $key", "127.0.0.1,localhost"),
        ({"NO_PROXY": "10.0.0.0/8,*.corp"}, PLACEHOLDER_KEY, "10.0.0.0/8,*.corp,127.0.0.1,localhost"),
    ],
)
def test_C15_a_posix_shell_takes_the_lines_as_they_are_meant(environ, key, no_proxy):
    assert evaluated(environ) == URLS | {"OPENAI_API_KEY": key, "NO_PROXY": no_proxy}


def test_evaluating_them_again_does_no_harm():
    assert evaluated({}, times=2)["NO_PROXY"] == "127.0.0.1,localhost,127.0.0.1,localhost"
    assert evaluated({}, times=2)["OPENAI_API_KEY"] == PLACEHOLDER_KEY


@pytest.mark.parametrize(
    ("shell", "lines"),
    [
        (
            "fish",
            [
                f"set -gx OPENAI_BASE_URL '{ORIGIN}/v1'",
                f"set -gx GROQ_BASE_URL '{ORIGIN}'",
                f"set -q OPENAI_API_KEY; or set -gx OPENAI_API_KEY '{PLACEHOLDER_KEY}'",
                "set -gx NO_PROXY (string join , $NO_PROXY 127.0.0.1 localhost)",
            ],
        ),
        (
            "powershell",
            [
                f"$env:OPENAI_BASE_URL = '{ORIGIN}/v1'",
                f"$env:GROQ_BASE_URL = '{ORIGIN}'",
                f"if (-not $env:OPENAI_API_KEY) {{ $env:OPENAI_API_KEY = '{PLACEHOLDER_KEY}' }}",
                "$env:NO_PROXY = (@($env:NO_PROXY, '127.0.0.1,localhost') -ne '' -ne $null) -join ','",
            ],
        ),
    ],
)
def test_other_shells_have_a_syntax_of_their_own(shell, lines):
    assert list(as_lines(variables(ADDRESS, None), shell)) == lines
