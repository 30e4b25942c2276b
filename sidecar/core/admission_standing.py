"""Whether an injector may be sent admissions, and if not, why: what /readyz says.

A replica that says yes too early makes pods fail (gatekeeper #3776), so nothing is taken on trust: a valid certificate
is loaded, the API server's own bundle is the one we want it to be, and a call to ourselves through that bundle worked.
What was once seen stays true while the API is silent: an injector that cannot ask does not become unready for it.
"""

from __future__ import annotations

import msgspec

from sidecar.core.certificates import Certificate
from sidecar.core.limits import SECOND

_FIRST_RETRY_NS = SECOND // 2
_LONGEST_RETRY_NS = 30 * SECOND


class Standing(msgspec.Struct):
    """What a replica knows of itself. `bundle`: what is wrong with the live one, "" nothing, None: never seen."""

    leaf: Certificate | None = None
    bundle: str | None = None
    call: str | None = None  # what was wrong with the last call to ourselves, "" nothing, None: never made
    is_draining: bool = False


def why_unready(standing: Standing, now_ns: int) -> tuple[str, ...]:
    """Everything that speaks against sending admissions here; nothing when ready."""
    reasons = []
    if standing.is_draining:
        reasons.append("draining")
    if standing.leaf is None:
        reasons.append("no certificate yet")
    elif not standing.leaf.is_valid(now_ns):
        reasons.append("the certificate is not valid now")
    if standing.bundle != "":
        reasons.append(standing.bundle or "the webhook configuration has not been read yet")
    if standing.call != "":
        reasons.append(standing.call or "no call to itself has been made yet")
    return tuple(reasons)


def retry_after_ns(failures: int) -> int:
    """How long to wait after that many failures in a row (at least one) before the API is asked again."""
    return min(_FIRST_RETRY_NS << min(failures - 1, 16), _LONGEST_RETRY_NS)
