"""The house that tests of fallback live in: two Groq keys, then one Cerebras key, under three public names.

`fast` is the whole chain; `alone` and `lonely` are its two ends with nothing behind them.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from sidecar.interfaces import Clock
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.rig import Answer, Rig, running

PROVIDERS = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}, {name: b, env: KEY_B}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
  - {name: alone, chain: [groq/openai/gpt-oss-120b]}
  - {name: lonely, chain: [cerebras/gpt-oss-120b]}
"""
SIMS = {"groq": SimConfig("groq", gzip=False), "cerebras": SimConfig("cerebras", gzip=False)}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def house(tmp_path: Path, extra: str = "", clock: Clock | None = None) -> AbstractAsyncContextManager[Rig]:
    """The house running; `extra` is more of its configuration."""
    return running(tmp_path, PROVIDERS + extra, SIMS, clock=clock)


def reasons(answer: Answer) -> list[str]:
    """Target and reason of each failed attempt, as the answer's head tells them; which of equal keys went first is
    not a matter here."""
    steps = answer.headers["x-sidecar-reason"].split(", ")
    return [re.sub(r" \w+: ", ": ", step) for step in steps]


# how many calls the failing provider gets before the request leaves it: once for each key where keys may differ
NEXT = {
    500: 2, 502: 2, 504: 2, 520: 2, 524: 2, 408: 2,
    503: 1, 529: 1, 498: 1,
    401: 2, 402: 2, 403: 2,
    404: 1, 410: 1, 413: 1,
    429: 2,
}  # fmt: skip


MISHAPS = {
    "lost by reset": Fault("down", mode="rst"),
    "lost by close": Fault("down", mode="eof"),
    "busy": Fault("busy"),
    "unpaid": Fault("insufficient_quota"),
    "limited": Fault("rate_limit", seconds=30),
    "limited without a time": Fault("rate_limit_bare"),
}
