"""The environment variables that point an application's SDKs at this proxy.

The address is a literal 127.0.0.1: `localhost` may be ::1, with a long wait before the other is tried (acceptance C15).
The groq SDK appends `/openai/v1` itself, Anthropic's `/v1` (their client sources).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

# SDKs refuse to start without a key; this one says where the real ones are
PLACEHOLDER_KEY = "sk-held-by-sidecar"


def variables(address: str, providers: Collection[str] | None) -> dict[str, str]:
    """Base URLs for the SDKs in use; `providers` None = not known, so only what serves every configuration."""
    origin = f"http://{address}"
    found = {"OPENAI_BASE_URL": f"{origin}/v1", "GROQ_BASE_URL": origin}
    if providers is not None and "anthropic" in providers:
        found["ANTHROPIC_BASE_URL"] = f"{origin}/p/anthropic"
    return found


def placeholders(environ: Mapping[str, str], providers: Collection[str]) -> dict[str, str]:
    """Keys for SDKs that insist on one, where the application has none."""
    names = ["OPENAI_API_KEY", "GROQ_API_KEY", *(["ANTHROPIC_API_KEY"] if "anthropic" in providers else [])]
    return {name: PLACEHOLDER_KEY for name in names if not environ.get(name)}


def as_lines(values: Mapping[str, str], shell: str) -> Iterator[str]:
    """Lines for a shell to evaluate: the base URLs, a key where none is set, and loopback kept from HTTP proxies."""
    for name, value in values.items():
        yield _set(name, value, shell)
    if shell == "fish":
        yield f"set -q OPENAI_API_KEY; or set -gx OPENAI_API_KEY '{PLACEHOLDER_KEY}'"
        yield "set -gx NO_PROXY (string join , $NO_PROXY 127.0.0.1 localhost)"
    elif shell == "powershell":
        yield f"if (-not $env:OPENAI_API_KEY) {{ $env:OPENAI_API_KEY = '{PLACEHOLDER_KEY}' }}"
        yield "$env:NO_PROXY = (@($env:NO_PROXY, '127.0.0.1,localhost') -ne '' -ne $null) -join ','"
    else:
        yield f'export OPENAI_API_KEY="${{OPENAI_API_KEY:-{PLACEHOLDER_KEY}}}"'
        yield 'export NO_PROXY="${NO_PROXY:+$NO_PROXY,}127.0.0.1,localhost"'


def _set(name: str, value: str, shell: str) -> str:
    if shell == "fish":
        return f"set -gx {name} '{value}'"
    if shell == "powershell":
        return f"$env:{name} = '{value}'"
    return f"export {name}='{value}'"
