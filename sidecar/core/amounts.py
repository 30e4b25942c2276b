"""What a request costs and what it used: the two values that are made for each of them.

Apart from the rest of the vocabulary (limits.py) so that they can be compiled.
"""

from __future__ import annotations


class Cost:
    """What a request is expected to take from each axis. `output_tokens` is what the caller declared (or the
    provider's default) where the provider charges declared output at admission, else 0."""

    __slots__ = ("audio_seconds", "input_tokens", "output_tokens")

    def __init__(self, input_tokens: int, output_tokens: int, audio_seconds: int = 0) -> None:
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.audio_seconds = audio_seconds

    def taken(self, column: int) -> int:
        """What the request takes from a window of that axis, by its number."""
        if column == 1:
            return self.input_tokens + self.output_tokens
        if column == 0:
            return 1
        if column == 2:
            return self.input_tokens
        if column == 3:
            # who reads anything also writes something: a spent output window must stop it even where output is not
            # reserved
            return self.output_tokens or (1 if self.input_tokens else 0)
        return self.audio_seconds

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Cost)
            and self.input_tokens == other.input_tokens
            and self.output_tokens == other.output_tokens
            and self.audio_seconds == other.audio_seconds
        )

    def __hash__(self) -> int:
        return hash((self.input_tokens, self.output_tokens, self.audio_seconds))

    def __repr__(self) -> str:
        return f"<Cost {self.input_tokens} in, {self.output_tokens} out, {self.audio_seconds} s>"


class Usage:
    """What a provider reported a finished request to have used, in tokens. `cached_tokens` is the part of
    `input_tokens` that came from the provider's prompt cache."""

    __slots__ = ("cached_tokens", "input_tokens", "output_tokens")

    def __init__(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> None:
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cached_tokens = cached_tokens

    def at_least(self, before: Usage) -> Usage:
        """The more of both, count for count."""
        return Usage(
            max(self.input_tokens, before.input_tokens),
            max(self.output_tokens, before.output_tokens),
            max(self.cached_tokens, before.cached_tokens),
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Usage)
            and self.input_tokens == other.input_tokens
            and self.output_tokens == other.output_tokens
            and self.cached_tokens == other.cached_tokens
        )

    def __hash__(self) -> int:
        return hash((self.input_tokens, self.output_tokens, self.cached_tokens))

    def __repr__(self) -> str:
        return f"<Usage {self.input_tokens} in, {self.output_tokens} out, {self.cached_tokens} cached>"
