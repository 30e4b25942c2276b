"""The pooled quota that goodput is measured against: its accounts, their simulators, and what their windows allow.

What the windows allow is worked out here by arithmetic from the published algorithms (a continuous bucket at Groq, the
UTC minute at Cerebras), not by the code of sidecar/core/windows.py, which is what is being judged.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from lib_processes import SIDECAR, Process, free_port

_MINUTE_S = 60


class Account(NamedTuple):
    """One account at one provider: limits per minute of one model, and how its windows run."""

    provider: str
    name: str
    secret: str
    model: str
    rpm: int
    tpm: int

    def allowed(self, axis_limit: int, began_s: float, ended_s: float) -> float:
        """The most that windows of that limit admit between two instants (Unix seconds), from whole windows on."""
        if self.provider == "groq":
            return axis_limit * (1 + (ended_s - began_s) / _MINUTE_S)
        minutes = int(ended_s // _MINUTE_S) - int(began_s // _MINUTE_S) + 1
        return axis_limit * minutes


# Ten times the free tiers of 2026, so that three minutes are some thousand calls. A call costs about 250 tokens:
# org-a is bound by requests, org-b by tokens, Cerebras by requests
POOL = (
    Account("groq", "org-a", "gsk_" + "Bench4" * 6, "openai/gpt-oss-120b", 300, 120_000),
    Account("groq", "org-b", "gsk_" + "Bench7" * 6, "openai/gpt-oss-120b", 300, 60_000),
    Account("cerebras", "main", "csk_bench", "gpt-oss-120b", 300, 600_000),
)
LATENCY_S = 1.0
REPLY_TOKENS = 100
PROMPT_CHARS = (200, 1000)
MAX_TOKENS = 256  # what the callers declare: reserved by both providers, and more than is used, as in life
MEAN_TOKENS = sum(PROMPT_CHARS) / 8 + REPLY_TOKENS


def steady_per_second() -> float:
    """Calls a second that the pool admits for ever."""
    return sum(min(account.rpm, account.tpm / MEAN_TOKENS) for account in POOL) / _MINUTE_S


class Served(NamedTuple):
    """What one account did, by the simulator's own books. `refused`: refusals by axis."""

    account: Account
    calls: int
    tokens: int
    refused: dict[str, int]
    early: int

    def allowed(self, began_s: float, ended_s: float) -> float:
        """The calls its windows allow; those of tokens at the mean size of the calls it served."""
        requests = self.account.allowed(self.account.rpm, began_s, ended_s)
        mean = self.tokens / self.calls if self.calls else MEAN_TOKENS
        return min(requests, self.account.allowed(self.account.tpm, began_s, ended_s) / mean)


class Providers:
    """Simulators of all accounts, for one contender alone."""

    def __init__(self, name: str) -> None:
        self._ports = {provider: free_port() for provider in dict.fromkeys(account.provider for account in POOL)}
        self._processes = [self._start(name, provider, port) for provider, port in self._ports.items()]

    def _start(self, name: str, provider: str, port: int) -> Process:
        accounts = [account for account in POOL if account.provider == provider]
        words = [*SIDECAR, "sim", "--dialect", provider, "--port", str(port)]
        words += ["--tokens", str(REPLY_TOKENS), "--latency", str(LATENCY_S)]
        for account in accounts:
            words += ["--key", f"{account.secret}={account.name}"]
            words += ["--limit", f"account={account.name},rpm={account.rpm},tpm={account.tpm}"]
        return Process(f"{name}-{provider}", words, {}, f"http://127.0.0.1:{port}/_sim/stats")

    def base_url(self, provider: str) -> str:
        """Where a client of that provider is pointed."""
        return f"http://127.0.0.1:{self._ports[provider]}" + {"groq": "/openai/v1"}.get(provider, "/v1")

    def reset(self) -> None:
        """Whole windows, and nothing counted."""
        for port in self._ports.values():
            with urlopen(Request(f"http://127.0.0.1:{port}/_sim/reset", data=b"", method="POST"), timeout=10):
                pass

    def served(self) -> list[Served]:
        """The books of every account as they stand."""
        stats = {provider: self._stats(port) for provider, port in self._ports.items()}
        return [_served(account, stats[account.provider]["accounts"].get(account.name)) for account in POOL]

    def _stats(self, port: int) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{port}/_sim/stats", timeout=10) as response:
            stats: dict[str, Any] = json.load(response)
        return stats

    def stop(self) -> None:
        """End all simulators."""
        for process in self._processes:
            process.stop()


def _served(account: Account, row: dict[str, Any] | None) -> Served:
    if row is None:
        return Served(account, 0, 0, {}, 0)
    return Served(account, row["served"], row["input_tokens"] + row["output_tokens"], row["refused"], row["early"])
