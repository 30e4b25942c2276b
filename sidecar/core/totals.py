"""What all answers said they used, since the start."""

from __future__ import annotations

from sidecar.core.limits import Usage


class Totals:
    """All usage since the start, as reported. `unknown_answers`: those of which none came, never counted as 0 (I2)."""

    __slots__ = ("input_tokens", "output_tokens", "unknown_answers")

    def __init__(self) -> None:
        self.input_tokens = 0
        self.output_tokens = 0
        self.unknown_answers = 0

    def by_name(self) -> dict[str, int]:
        """Each number with its name, for who shows them."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "unknown_answers": self.unknown_answers,
        }

    def note(self, usage: Usage | None) -> None:
        """One answer more."""
        if usage is None:
            self.unknown_answers += 1
        else:
            self.input_tokens += usage.input_tokens
            self.output_tokens += usage.output_tokens
