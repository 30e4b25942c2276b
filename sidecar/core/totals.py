"""What all answers said they used, since the start."""

from __future__ import annotations

import msgspec

from sidecar.core.limits import Usage


class Totals(msgspec.Struct):
    """All usage since the start, as reported. `unknown_answers`: those of which none came, never counted as 0 (I2)."""

    input_tokens: int = 0
    output_tokens: int = 0
    unknown_answers: int = 0

    def note(self, usage: Usage | None) -> None:
        """One answer more."""
        if usage is None:
            self.unknown_answers += 1
        else:
            self.input_tokens += usage.input_tokens
            self.output_tokens += usage.output_tokens
