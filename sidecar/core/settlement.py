"""What an attempt leaves on the account: everything kept, the tokens given back, or all of it (design section 4).

What a provider refused at its door it does not charge. What it took up and failed at cost it a request but no tokens
that anyone reports. What broke off, timed out or was given up half-way stays charged as estimated: the strict side.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.keys import Candidate
from sidecar.core.limits import Usage
from sidecar.core.outcomes import Outcome
from sidecar.core.quota import Charge

_REFUSED: Final = frozenset(
    {
        Outcome.RATE_LIMITED,
        Outcome.TOO_LARGE,
        Outcome.KEY_INVALID,
        Outcome.KEY_UNPAID,
        Outcome.KEY_FORBIDDEN,
        Outcome.CONNECT_FAILED,
    }
)
_CROWDED: Final = frozenset({Outcome.CONCURRENCY, Outcome.BUSY})
_NO_TOKENS: Final = frozenset(
    {
        Outcome.MODEL_UNAVAILABLE,
        Outcome.NOT_FOUND,
        Outcome.FIELD_REJECTED,
        Outcome.FIELD_NEEDED,
        Outcome.BAD_REQUEST,
        Outcome.SERVER_ERROR,
    }
)
_NOTHING: Final = Usage(0, 0)
_OK: Final = Outcome.OK  # an enum's member costs a look-up through its metaclass


def settle(candidate: Candidate, charge: Charge, outcome: Outcome, usage: Usage | None, now_ns: int) -> None:
    """Bring the quota in line with what the provider will have charged."""
    quota = candidate.quota
    if outcome is _OK:
        quota.settle(charge, usage, now_ns)
    elif outcome in _CROWDED:
        quota.crowd(charge, now_ns, is_busy=outcome is Outcome.BUSY)
    elif outcome in _REFUSED:
        quota.cancel(charge, now_ns)
    elif outcome in _NO_TOKENS and usage is None:
        quota.settle(charge, _NOTHING, now_ns)
    else:
        quota.settle(charge, usage, now_ns)
