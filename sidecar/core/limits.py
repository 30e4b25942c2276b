"""The vocabulary of limits: axes, windows, what was read of them; with what a request costs and uses (amounts.py)."""

from __future__ import annotations

import enum
from typing import Final, Literal, NamedTuple

import msgspec

from sidecar.core.amounts import Cost, Usage

__all__ = [
    "DAY", "HOUR", "MINUTE", "SECOND", "Axis", "ChargeRule", "Cost", "Reading", "Source", "Usage",
]  # fmt: skip

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 3600 * SECOND
DAY: Final = 86400 * SECOND


class Axis(enum.IntEnum):
    """What a window counts."""

    REQUESTS = 0
    TOKENS = 1  # input and output together, as the provider charges them
    INPUT_TOKENS = 2
    OUTPUT_TOKENS = 3
    AUDIO_SECONDS = 4
    CONCURRENCY = 5  # not a window: requests in flight


class Source(enum.Enum):
    """Where a limit was learned, for `sidecar check` and the status page."""

    __hash__ = object.__hash__  # of members there is one each; the enum module's own is slow

    CONFIG = "config"
    HEADER = "header"
    BODY = "body"


class Reading(NamedTuple):
    """One window as a provider described it in one answer. None = not said."""

    axis: Axis
    window_ns: int | None
    limit: int | None
    remaining: int | None
    reset_ns: int | None  # time from now until the provider says the window is whole again
    source: Source


class ChargeRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a provider charges output tokens against its token windows when it admits a request.

    `none`: only the prompt counts at admission (OpenAI since 2025). `declared`: prompt plus what the caller declared
    as max_tokens / max_completion_tokens, nothing when it declared none (Groq 2026). `assumed`: the same, and
    `assumed_output` where nothing was declared (Cerebras). `refunds`: the provider gives back what was not used.
    `cached`: whether what came from its prompt cache counts as well (`free` at Groq, and reads at Anthropic).
    """

    output: Literal["none", "declared", "assumed"] = "none"
    assumed_output: int = 0
    refunds: bool = True
    cached: Literal["counted", "free"] = "counted"
