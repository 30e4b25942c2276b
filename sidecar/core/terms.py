"""What a configuration says of patience and tries, ready at hand for every request under it.

Durations in ns. Nothing is decided here: what each of them is for, and why it is as long as it is, config.py says.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.config import Config


class Terms:
    """The terms of one configuration. A request asks for ten of them: a struct takes longer over each."""

    __slots__ = (
        "ambiguous_ends", "answer_ns", "attempts", "base_ns", "cap_ns", "first_content_ns", "headers_ns", "hedge_ns",
        "idle_ns", "is_strict", "max_wait_ns", "ping_ns", "queue", "total_ns",
    )  # fmt: skip

    def __init__(self, config: Config) -> None:
        retry, timeouts = config.retry, config.timeouts
        self.attempts: Final = retry.attempts
        self.base_ns: Final = retry.base_ns
        self.cap_ns: Final = retry.cap_ns
        self.ambiguous_ends: Final = retry.ambiguous == "fail"
        self.is_strict: Final = retry.strict
        self.hedge_ns: Final = config.hedge.after
        self.max_wait_ns: Final = config.wait.max_ns
        self.queue: Final = config.wait.queue
        self.total_ns: Final = timeouts.total
        self.headers_ns: Final = timeouts.headers
        self.answer_ns: Final = timeouts.answer
        self.first_content_ns: Final = timeouts.first_content
        self.idle_ns: Final = timeouts.idle
        self.ping_ns: Final = timeouts.ping
