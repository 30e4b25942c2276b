"""The HTTP calls by which a simulator is watched and steered: `/_sim/stats`, `requests`, `faults`, `limits`, `reset`.

Reads and checks; a call it cannot make sense of is a BadControl whose text says why. Applying is done on the
provider; a fault of mode `refuse` is handed back, for closing a door is the server's part.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec

from sidecar.sim.config import LimitRule
from sidecar.sim.faults import Fault, problem
from sidecar.sim.intake import Arrival
from sidecar.sim.replies import Json

PREFIX = "/_sim/"


class BadControl(Exception):
    """A control call that means nothing. `status` and the message go to the caller."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def read_fault(body: bytes) -> Fault:
    """The fault a body describes."""
    try:
        fault = msgspec.json.decode(body, type=Fault)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadControl(f"fault: {error}") from None
    complaint = problem(fault)
    if complaint is not None:
        raise BadControl(f"fault: {complaint}")
    return fault


def read_limits(body: bytes) -> tuple[LimitRule, ...]:
    """The rules a body lists (`[{"model": "*", "rpm": 30}]`); one rule alone needs no list."""
    try:
        if body.lstrip().startswith(b"{"):
            return (msgspec.json.decode(body, type=LimitRule),)
        return msgspec.json.decode(body, type=tuple[LimitRule, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadControl(f"limits: {error}") from None


def shown(arrivals: Iterable[tuple[int, Arrival]]) -> list[Json]:
    """Requests as they came, oldest first: all headers in order; a body that is not UTF-8 as `body_base64`."""
    return [_shown(at_ns, arrival) for at_ns, arrival in arrivals]


def _shown(at_ns: int, arrival: Arrival) -> Json:
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in arrival.headers]
    value: Json = {"at_ns": at_ns, "method": arrival.method, "target": arrival.target, "headers": headers}
    try:
        value["body"] = arrival.body.decode()
    except UnicodeDecodeError:
        value["body_base64"] = base64.b64encode(arrival.body).decode()
    return value
