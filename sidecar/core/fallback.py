"""The table: for each outcome of an attempt whose fault it was, where the request goes next, whether the same target
may be tried again after a backoff, and how the caller is told when nothing is left (acceptance B9).

The machine that walks it is attempts.py. Authentication, payment and permission are matters of the key, never the
caller's; what is too large here may fit elsewhere; what is wrong with the request itself is relayed at once. Of a field
that a target does not take, the answer can do without it, and the same target is asked again; or it cannot, and the
next one is (acceptance B10).
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from sidecar.core.errors import Reason
from sidecar.core.outcomes import Outcome


class Blame(enum.Enum):
    """Whose fault an outcome is."""

    NOBODY = "nobody"
    CLIENT = "client"
    KEY = "key"
    TARGET = "target"


class Next(enum.Enum):
    """Where a request goes after an outcome."""

    AGAIN = "the same target at once, with another body"
    KEY = "next key, then next target"
    TARGET = "next target"
    RELAY = "relay to the caller"


class Rule(NamedTuple):
    """One row of the table. `reason`: how the caller is told when nothing else is left.

    `relays_alone`: where there was no one else to ask, the provider's own answer says it best.
    """

    blame: Blame
    then: Next
    may_retry: bool
    reason: Reason
    relays_alone: bool = False


RULES: Final = {
    Outcome.OK: Rule(Blame.NOBODY, Next.RELAY, False, Reason.INTERNAL),
    Outcome.RATE_LIMITED: Rule(Blame.NOBODY, Next.KEY, False, Reason.RATE_LIMITED),
    Outcome.CONCURRENCY: Rule(Blame.NOBODY, Next.KEY, False, Reason.RATE_LIMITED),
    Outcome.TOO_LARGE: Rule(Blame.CLIENT, Next.TARGET, False, Reason.NEVER_FITS),
    Outcome.BUSY: Rule(Blame.TARGET, Next.TARGET, True, Reason.UNAVAILABLE),
    Outcome.KEY_INVALID: Rule(Blame.KEY, Next.KEY, False, Reason.NO_USABLE_KEY),
    Outcome.KEY_UNPAID: Rule(Blame.KEY, Next.KEY, False, Reason.NO_USABLE_KEY),
    Outcome.KEY_FORBIDDEN: Rule(Blame.KEY, Next.KEY, False, Reason.NO_USABLE_KEY),
    Outcome.MODEL_UNAVAILABLE: Rule(Blame.TARGET, Next.TARGET, False, Reason.MODEL_UNAVAILABLE, relays_alone=True),
    # another target may have the endpoint that this one lacks
    Outcome.NOT_FOUND: Rule(Blame.CLIENT, Next.TARGET, False, Reason.NOT_FOUND, relays_alone=True),
    Outcome.SERVER_ERROR: Rule(Blame.TARGET, Next.KEY, True, Reason.UPSTREAM_FAILED),
    Outcome.FIELD_REJECTED: Rule(Blame.TARGET, Next.AGAIN, False, Reason.FIELD_UNSUPPORTED),
    Outcome.FIELD_NEEDED: Rule(Blame.TARGET, Next.TARGET, False, Reason.FIELD_UNSUPPORTED, relays_alone=True),
    Outcome.BAD_REQUEST: Rule(Blame.CLIENT, Next.RELAY, False, Reason.UPSTREAM_FAILED),
    Outcome.CONNECT_FAILED: Rule(Blame.TARGET, Next.TARGET, True, Reason.UPSTREAM_FAILED),
    Outcome.HEADERS_TIMEOUT: Rule(Blame.TARGET, Next.TARGET, False, Reason.UPSTREAM_TIMEOUT),
    Outcome.CONTENT_TIMEOUT: Rule(Blame.TARGET, Next.TARGET, False, Reason.UPSTREAM_TIMEOUT),
    Outcome.AMBIGUOUS: Rule(Blame.TARGET, Next.TARGET, False, Reason.UPSTREAM_FAILED),
    Outcome.BROKEN: Rule(Blame.TARGET, Next.TARGET, True, Reason.UPSTREAM_FAILED),
    Outcome.CLIENT_GONE: Rule(Blame.NOBODY, Next.RELAY, False, Reason.INTERNAL),
    Outcome.HEDGED: Rule(Blame.NOBODY, Next.RELAY, False, Reason.INTERNAL),
}
