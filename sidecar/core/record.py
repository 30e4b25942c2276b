"""What is remembered of one request while it lives.

Never a key, a prompt or an answer: labels, names, numbers and the trail of attempts only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.errors import Step
from sidecar.core.limits import Usage

if TYPE_CHECKING:
    from sidecar.core.trace import Trace


class Record:
    """One request as it goes; filled in by the gateway, read once at its end. Times in Unix ns."""

    __slots__ = (
        "arrived_ns", "attempts", "cache", "caller", "content_ns", "dialect", "dropped", "id", "is_streamed", "key",
        "method", "model", "number", "ours_ns", "outcome", "path", "provider", "status", "target_model", "trace",
        "trail", "usage", "wait_ns",
    )  # fmt: skip

    def __init__(self, id: str, arrived_ns: int, method: bytes, path: bytes) -> None:
        self.id = id
        self.arrived_ns = arrived_ns
        self.method = method
        self.path = path
        self.number = 0  # its place among all requests of the process, by arrival
        self.dialect = "openai"  # whose error shape the caller parses
        self.caller: str | None = None
        self.model: str | None = None  # as the caller named it
        self.is_streamed: bool = False
        self.provider: str | None = None
        self.target_model: str | None = None
        self.key: str | None = None
        self.attempts: int = 0
        self.wait_ns: int = 0
        self.ours_ns: int | None = None  # from its arrival until it was first sent, less the wait; None: it never was
        self.status: int = 0
        self.outcome: str = ""
        self.content_ns: int | None = None  # when the first content had come
        self.usage: Usage | None = None
        self.dropped: tuple[str, ...] = ()
        self.trail: tuple[Step, ...] = ()
        self.cache: str | None = None  # hit, miss or bypass; None: there is no cache
        self.trace: Trace | None = None  # while requests are traced

    def sent_at(self, now_ns: int) -> None:
        """It goes to a provider; only the first time counts."""
        if self.ours_ns is None:
            self.ours_ns = now_ns - self.arrived_ns - self.wait_ns

    def overhead_ns(self, now_ns: int) -> int | None:
        """What we added to it, if it ended at `now_ns`: all before it was first sent but the wait for quota, and of a
        plain answer that was read whole all after it was there; anything else is passed on piece by piece, as it comes.
        None: it was never sent."""
        ours_ns, content_ns = self.ours_ns, self.content_ns
        if ours_ns is None or content_ns is None or self.usage is None or self.is_streamed:
            return ours_ns
        return ours_ns + now_ns - content_ns

    def tell_of(self, call: Record) -> None:
        """That one's call has answered this request too: what became of it is told here; the rest is each one's own."""
        self.provider, self.target_model, self.key = call.provider, call.target_model, call.key
        self.attempts, self.wait_ns, self.ours_ns = call.attempts, call.wait_ns, call.ours_ns
        self.status, self.outcome, self.content_ns = call.status, call.outcome, call.content_ns
        self.usage, self.dropped, self.trail = call.usage, call.dropped, call.trail

    def twin(self) -> Record:
        """One like it, that goes its own way from here."""
        twin = Record(self.id, self.arrived_ns, self.method, self.path)
        twin.tell_of(self)
        twin.number, twin.dialect, twin.caller = self.number, self.dialect, self.caller
        twin.model, twin.is_streamed, twin.cache, twin.trace = self.model, self.is_streamed, self.cache, self.trace
        return twin
