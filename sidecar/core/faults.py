"""Whose fault it is when a request or an attempt does not end well: the one word an operator looks for first.

`none`, `provider`, `quota`, `key`, `caller` or `sidecar`. Follows from the outcome alone: of an attempt by the table of
fallback.py, of a request that was refused here by its reason. A test holds both tables complete.
"""

from __future__ import annotations

from sidecar.core.errors import Reason
from sidecar.core.fallback import RULES, Blame
from sidecar.core.outcomes import Outcome

NONE, PROVIDER, QUOTA, KEY, CALLER, SIDECAR = FAULTS = ("none", "provider", "quota", "key", "caller", "sidecar")

_BLAMED = {Blame.NOBODY: NONE, Blame.CLIENT: CALLER, Blame.KEY: KEY, Blame.TARGET: PROVIDER}
# what the table blames nobody for, since nobody's standing changes, still has a name for an operator
_OUTCOMES = {Outcome.RATE_LIMITED: QUOTA, Outcome.CONCURRENCY: QUOTA, Outcome.CLIENT_GONE: CALLER}

OF_REASON = {
    Reason.INVALID_HTTP: CALLER,
    Reason.INVALID_JSON: CALLER,
    Reason.INVALID_PATH: CALLER,
    Reason.INVALID_HEADER: CALLER,
    Reason.MODEL_MISSING: CALLER,
    Reason.MODEL_DUPLICATE: CALLER,
    Reason.UNAUTHORIZED: CALLER,
    Reason.FORBIDDEN_HOST: CALLER,
    Reason.FORBIDDEN_ORIGIN: CALLER,
    Reason.UNKNOWN_PATH: CALLER,
    Reason.UNKNOWN_PROVIDER: CALLER,
    Reason.UNKNOWN_KEY: CALLER,
    Reason.NOT_FOUND: CALLER,
    Reason.METHOD_NOT_ALLOWED: CALLER,
    Reason.BODY_TIMEOUT: CALLER,
    Reason.BODY_TOO_LARGE: CALLER,
    Reason.NEVER_FITS: CALLER,
    Reason.EXPECTATION_FAILED: CALLER,
    Reason.HEADERS_TOO_LARGE: CALLER,
    Reason.FIELD_UNSUPPORTED: CALLER,
    Reason.UNREADABLE_CODING: CALLER,
    Reason.RATE_LIMITED: QUOTA,
    Reason.QUEUE_FULL: QUOTA,
    Reason.OVERLOADED: SIDECAR,
    Reason.DRAINING: SIDECAR,
    Reason.INTERNAL: SIDECAR,
    Reason.NO_USABLE_KEY: KEY,
    Reason.MODEL_UNAVAILABLE: PROVIDER,
    Reason.UNAVAILABLE: PROVIDER,
    Reason.UPSTREAM_FAILED: PROVIDER,
    Reason.UPSTREAM_TIMEOUT: PROVIDER,
}
OF_OUTCOME = {outcome: _OUTCOMES.get(outcome, _BLAMED[rule.blame]) for outcome, rule in RULES.items()}

_BY_WORD = {reason.value: fault for reason, fault in OF_REASON.items()} | {
    outcome.value: fault for outcome, fault in OF_OUTCOME.items()
}


def fault_of(outcome: str) -> str:
    """Whose fault the outcome of a request or an attempt is; of one that we do not know, our own."""
    return _BY_WORD.get(outcome, SIDECAR)
