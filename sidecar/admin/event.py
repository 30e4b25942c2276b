"""What the log says of an event, as JSON; and so never compiled."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, omit_defaults=True):
    """Something an operator should know that is no request. `reason`, `until`: of what is not called for a while."""

    time: str
    event: str
    message: str
    subject: str | None = None
    reason: str | None = None
    until: str | None = None
