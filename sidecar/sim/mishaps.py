"""The answers that faults put in the place of a good one: any status, and 429s with and without their headers. Pure."""

from __future__ import annotations

from sidecar.core.limits import SECOND
from sidecar.sim.axes import Denied, WindowState
from sidecar.sim.dialects import Dialect
from sidecar.sim.faults import Fault
from sidecar.sim.refusals import Answer, Error, busy, denied, failure, insufficient_quota
from sidecar.sim.statuses import of_status

_DEFAULT_WAIT_S = 2.0


def mishap(dialect: Dialect, fault: Fault, states: tuple[WindowState, ...], account: str, model: str) -> Answer:
    """The answer of a fault that replaces one; its own status, headers and body win over the provider's."""
    return _overridden(_provider_s(dialect, fault, states, account, model), fault)


def _provider_s(dialect: Dialect, fault: Fault, states: tuple[WindowState, ...], account: str, model: str) -> Answer:
    match fault.kind:
        case "insufficient_quota":
            return insufficient_quota(dialect)
        case "busy":
            return busy(dialect)
        case "rate_limit":
            return denied(dialect, _spent(fault, states), account, model)
        case "rate_limit_bare" if fault.seconds is None and dialect.name in ("groq", "openai"):
            return failure(dialect, 429, Error("Rate limit reached", "requests", "rate_limit_exceeded"))
        case "rate_limit_bare":
            answer = denied(dialect, _spent(fault, ()), account, model)
            # what the text alone says: Cerebras and DeepInfra name no time in theirs
            wait_ns = _wait(fault) if dialect.name in ("groq", "openai") else None
            return answer._replace(headers=[("content-type", "application/json")], wait_ns=wait_ns)
        case _:
            return of_status(dialect, fault.status or 500, model)


def _spent(fault: Fault, states: tuple[WindowState, ...]) -> Denied:
    """A minute's requests spent, as the window itself would say it where there is one."""
    limit = next((state.limit for state in states if state.axis == "rpm"), 30)
    return Denied("rpm", limit, limit, 1, _wait(fault), never=False, states=states)


def _wait(fault: Fault) -> int:
    return round((_DEFAULT_WAIT_S if fault.seconds is None else fault.seconds) * SECOND)


def _overridden(answer: Answer, fault: Fault) -> Answer:
    own = {name.lower(): value for name, value in fault.headers.items()}
    headers = [pair for pair in answer.headers if pair[0] not in own] + list(own.items())
    body = answer.body if fault.body is None else fault.body.encode()
    wait_ns = answer.wait_ns
    if own.get("retry-after", "").isdigit():
        wait_ns = int(own["retry-after"]) * SECOND
    return answer._replace(status=fault.status or answer.status, headers=headers, body=body, wait_ns=wait_ns)
