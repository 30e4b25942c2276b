"""The vocabulary of simulated limits: which windows exist, what each counts, and the verdict on one request.

Names are those of the configuration (`rpm`, `tpd`, ...). Phrases are the ones providers print in their refusals
(providers.md sections 2.4, 3 and 8). Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from sidecar.core.limits import DAY, HOUR, MINUTE

Counts = Literal["requests", "tokens", "input", "output", "audio"]


class Axis(NamedTuple):
    """One kind of window. `code` is the abbreviation in error texts, `thing` and `period` the words around it."""

    name: str
    counts: Counts
    window_ns: int
    code: str
    thing: str
    period: Literal["minute", "hour", "day"]

    @property
    def type(self) -> str:
        """The `type` of the error object that refuses on this axis."""
        return {"requests": "requests", "audio": "seconds"}.get(self.counts, "tokens")


# In the order in which a request is tested against them.
AXES = {
    axis.name: axis
    for axis in (
        Axis("rpm", "requests", MINUTE, "RPM", "requests", "minute"),
        Axis("rph", "requests", HOUR, "RPH", "requests", "hour"),
        Axis("rpd", "requests", DAY, "RPD", "requests", "day"),
        Axis("tpm", "tokens", MINUTE, "TPM", "tokens", "minute"),
        Axis("tph", "tokens", HOUR, "TPH", "tokens", "hour"),
        Axis("tpd", "tokens", DAY, "TPD", "tokens", "day"),
        Axis("itpm", "input", MINUTE, "ITPM", "input tokens", "minute"),
        Axis("otpm", "output", MINUTE, "OTPM", "output tokens", "minute"),
        Axis("ash", "audio", HOUR, "ASPH", "seconds of audio", "hour"),
        Axis("asd", "audio", DAY, "ASPD", "seconds of audio", "day"),
    )
}


class Demand(NamedTuple):
    """What one request takes at admission. `tokens` is what the token windows are charged (the prompt, and the
    output where the provider reserves it); `output` is what an output-token window is charged."""

    tokens: int = 0
    input: int = 0
    output: int = 0
    audio: int = 0

    def amount(self, counts: Counts) -> int:
        """What it takes of a window that counts this."""
        if counts == "requests":
            return 1
        return {"tokens": self.tokens, "input": self.input, "output": self.output, "audio": self.audio}[counts]


class WindowState(NamedTuple):
    """One window as a header tells it: `reset_ns` is the time from now until it is whole again."""

    axis: str
    limit: int
    remaining: int
    reset_ns: int


class Denied(NamedTuple):
    """The verdict on a request that is over a limit. `axis` is a name in AXES, or `concurrency`.

    `wait_ns`: time from now until it would pass; None where none is known. `never`: it is larger than the window.
    """

    axis: str
    limit: int
    used: int
    requested: int
    wait_ns: int | None
    never: bool
    states: tuple[WindowState, ...] = ()
