"""What is compared: ways for an application to use three keys at two providers. Each gets simulators of its own.

LiteLLM's proxy is set up as its documents advise for several keys with limits: one deployment for each key with its rpm
and tpm, routing by usage, retries, Cerebras as the fallback of Groq.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lib_pool import POOL, Account, Providers
from lib_processes import LOGS, ROOT, SIDECAR, Process, free_port

LITELLM = ROOT / "build" / "litellm" / "bin"
LITELLM_ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOG": "ERROR",
}
_SDK_RETRIES = 2  # the OpenAI SDK's default


class Endpoint(NamedTuple):
    """Where and how the callers of one contender call. `retries`: made by the SDK itself, unseen by the caller."""

    base_url: str
    api_key: str
    model: str
    retries: int = 0


class Contender(NamedTuple):
    """One way. `accounts`: those it has keys of. `is_heavy`: measured alone, and warmed up before."""

    name: str
    title: str
    accounts: tuple[Account, ...]
    start: Callable[[Providers], Iterator[Endpoint]]
    is_heavy: bool = False


def _sidecar_config(providers: Providers, has_limits: bool, ports: tuple[int, int]) -> str:
    lines = [f"listen: 127.0.0.1:{ports[0]}", f"admin: 127.0.0.1:{ports[1]}", "providers:"]
    for provider in dict.fromkeys(account.provider for account in POOL):
        accounts = [account for account in POOL if account.provider == provider]
        lines += [f"  - name: {provider}", f"    base_url: {providers.base_url(provider)}", "    keys:"]
        lines += [f"      - {{name: {each.name}, env: {_variable(each)}, account: {each.name}}}" for each in accounts]
        if has_limits:
            lines.append("    limits:")
            lines += [f"      - {{account: {each.name}, rpm: {each.rpm}, tpm: {each.tpm}}}" for each in accounts]
    chain = dict.fromkeys(f"{account.provider}/{account.model}" for account in POOL)
    lines += ["models:", "  - name: fast", f"    chain: [{', '.join(chain)}]", "wait: {max: 30s}"]
    return "\n".join(lines) + "\n"


def _variable(account: Account) -> str:
    return "BENCH_" + account.name.upper().replace("-", "_")


def _sidecar(name: str, has_limits: bool) -> Callable[[Providers], Iterator[Endpoint]]:
    def start(providers: Providers) -> Iterator[Endpoint]:
        ports = (free_port(), free_port())
        LOGS.mkdir(parents=True, exist_ok=True)
        path = LOGS / f"{name}.yaml"
        path.write_text(_sidecar_config(providers, has_limits, ports))
        environ = {_variable(account): account.secret for account in POOL}
        ready = f"http://127.0.0.1:{ports[1]}/readyz"
        with Process(name, [*SIDECAR, "serve", "--config", str(path)], environ, ready):
            yield Endpoint(f"http://127.0.0.1:{ports[0]}/v1", "any", "fast")

    return start


def _plain_sdk(providers: Providers) -> Iterator[Endpoint]:
    first = POOL[0]
    yield Endpoint(providers.base_url(first.provider), first.secret, first.model, _SDK_RETRIES)


def _litellm_config(providers: Providers) -> str:
    lines = ["model_list:"]
    for account in POOL:
        lines += [
            f"  - model_name: {'fast' if account.provider == 'groq' else 'fast-fallback'}",
            "    litellm_params:",
            f"      model: {account.provider}/{account.model}",
            f"      api_base: {providers.base_url(account.provider)}",
            f"      api_key: {account.secret}",
            f"      rpm: {account.rpm}",
            f"      tpm: {account.tpm}",
        ]
    lines += [
        "router_settings:",
        "  routing_strategy: usage-based-routing-v2",
        "  num_retries: 3",
        "  fallbacks: [{fast: [fast-fallback]}]",
        "litellm_settings: {drop_params: true, telemetry: false}",
    ]
    return "\n".join(lines) + "\n"


def _litellm(providers: Providers) -> Iterator[Endpoint]:
    port = free_port()
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / "litellm.yaml"
    path.write_text(_litellm_config(providers))
    words = [str(LITELLM / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    master_key = f"sk-{secrets.token_hex(32)}"  # without one it does not start
    environ = LITELLM_ENVIRON | {"LITELLM_MASTER_KEY": master_key}
    with Process("litellm", words, environ, f"http://127.0.0.1:{port}/health/liveliness"):
        yield Endpoint(f"http://127.0.0.1:{port}/v1", master_key, "fast")


CONTENDERS = (
    Contender("configured", "sidecar, limits configured", POOL, _sidecar("configured", True)),
    Contender("learned", "sidecar, limits learned", POOL, _sidecar("learned", False)),
    Contender("sdk", "OpenAI SDK, its own retries, one key", POOL[:1], _plain_sdk),
    Contender("litellm", "LiteLLM proxy, same keys and limits", POOL, _litellm, is_heavy=True),
)


def chosen(names: list[str]) -> list[Contender]:
    """The contenders of these names, all for none; without LiteLLM's environment it is left out, and said so."""
    picked = [each for each in CONTENDERS if not names or each.name in names]
    if (LITELLM / "litellm").exists() or not any(each.name == "litellm" for each in picked):
        return picked
    print("LiteLLM is left out: `make bench-env` installs it in an environment of its own", file=sys.stderr)
    return [each for each in picked if each.name != "litellm"]


@contextmanager
def running(contender: Contender) -> Iterator[tuple[Endpoint, Providers]]:
    """A contender ready to be called, and its providers."""
    providers = Providers(contender.name)
    try:
        start = contextmanager(contender.start)
        with start(providers) as endpoint:
            yield endpoint, providers
    finally:
        providers.stop()
