"""What becomes of an answer on its way to the caller, and how long it may take over it."""

from __future__ import annotations

from typing import Final

from sidecar.core.limits import Usage
from sidecar.core.outcomes import Outcome


class Delivery:
    """What became of an answer. `is_committed`: the caller has had bytes of it, so nothing else may answer.

    `error`: an error found inside a 200 before anything was passed on, decoded, and `held`: all that had come until
    then, as it came. `content_ns`: first content.
    """

    __slots__ = ("content_ns", "created", "detail", "error", "held", "is_committed", "outcome", "usage")

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self,
        outcome: Outcome,
        is_committed: bool,
        usage: Usage | None = None,
        error: bytes | None = None,
        held: bytes = b"",
        content_ns: int | None = None,
        detail: str = "",
        created: bytes | str | None = None,
    ) -> None:
        self.outcome: Final = outcome
        self.is_committed: Final = is_committed
        self.usage: Final = usage
        self.error: Final = error
        self.held: Final = held
        self.content_ns: Final = content_ns
        self.detail: Final = detail
        self.created: Final = created  # what names the objects it created: a JSON body, or the id in a stream


class Waits:
    """Until when to wait for the first piece, and how long between pieces afterwards; of an answer that is read whole,
    at the latest until `deadline_ns`.

    `ping_ns`: after how much silence in a stream of events the caller is sent a comment; None: never.
    """

    __slots__ = ("deadline_ns", "first_until_ns", "idle_ns", "ping_ns")

    def __init__(self, first_until_ns: int, idle_ns: int, deadline_ns: int, ping_ns: int | None = None) -> None:
        self.first_until_ns: Final = first_until_ns
        self.idle_ns: Final = idle_ns
        self.deadline_ns: Final = deadline_ns
        self.ping_ns: Final = ping_ns
