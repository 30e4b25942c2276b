"""What can become of one attempt, whom it is blamed on, and how far the consequence reaches.

The closed sets that `feedback` (what a provider said), `upstream` (what the wire did), `attempts` (what is done next)
and the access line share.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from sidecar.core.limits import Reading


class Outcome(enum.Enum):
    """The result of one attempt at one target with one key (providers.md section 20)."""

    __hash__ = object.__hash__  # of members there is one each; the enum module's own is slow

    OK = "ok"
    # said by the provider
    RATE_LIMITED = "rate_limited"  # a window of account x model is spent; waiting mends it
    TOO_LARGE = "too_large"  # this request can never fit here (limit, context length, body size)
    BUSY = "busy"  # the provider's capacity, not our quota: 503, 529, 498, queue_exceeded
    CONCURRENCY = "concurrency"  # too many requests at once on this account x model
    KEY_INVALID = "key_invalid"  # 401: off until the key changes
    KEY_UNPAID = "key_unpaid"  # 402, insufficient_quota: benched for hours
    KEY_FORBIDDEN = "key_forbidden"  # 403: this key may not use this model
    MODEL_UNAVAILABLE = "model_unavailable"  # unknown, retired, not deployed: provider x model parked
    NOT_FOUND = "not_found"  # 404 for a path or an object: nobody's standing changes
    SERVER_ERROR = "server_error"  # 500, 502, 504, 52x, or an error inside a 200
    FIELD_REJECTED = "field_rejected"  # a field that this target does not take, and that the answer can do without
    FIELD_NEEDED = "field_needed"  # the same of a field without which the answer would be another one
    BAD_REQUEST = "bad_request"  # the caller's own fault: relayed as it is
    # seen on the wire
    CONNECT_FAILED = "connect_failed"  # name, TCP or TLS: no byte of the request was sent
    HEADERS_TIMEOUT = "headers_timeout"  # nothing came in time
    CONTENT_TIMEOUT = "content_timeout"  # headers came, content did not
    AMBIGUOUS = "ambiguous"  # the connection was lost after the request was sent and before a status
    BROKEN = "broken"  # the answer broke off or was not HTTP
    CLIENT_GONE = "client_gone"  # nobody upstream is to blame
    # our own doing
    HEDGED = "hedged"  # given up, because another target asked beside it spoke first


class Scope(enum.Enum):
    """How far a consequence reaches."""

    REQUEST = "request"
    QUOTA = "quota"  # account x model
    KEY = "key"
    KEY_MODEL = "key_model"
    TARGET = "target"  # provider x model
    PROVIDER = "provider"


class Remedy(NamedTuple):
    """How a body is made to fit a target: a field of it, or of each of its messages, is left out or gets a new name."""

    name: str
    is_in_messages: bool = False
    instead: str | None = None  # the new name


class Feedback(NamedTuple):
    """What one answer of a provider says about this request and about the time to come."""

    outcome: Outcome
    scope: Scope
    until_ns: int | None  # absolute: do not call this scope before; None = no time named
    readings: tuple[Reading, ...] = ()
    organization: str | None = None  # an account identity named in an error text (`org_...`)
    message: str = ""  # the provider's own words, shortened; may be shown to the caller
    remedies: tuple[Remedy, ...] = ()  # of FIELD_REJECTED: what to change before the target is asked again
    requested: int | None = None  # the tokens it took this request for


class Fault(Exception):
    """The wire failed. Raised by upstream/ alone, with the outcome it amounts to."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome.value}: {detail}")
        self.outcome = outcome
        self.detail = detail
