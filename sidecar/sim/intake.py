"""A request to a simulated provider, read: who calls, what for, and which plain error refuses it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core.http import Header, find
from sidecar.core.limits import ChargeRule
from sidecar.sim import statuses
from sidecar.sim.axes import Demand
from sidecar.sim.calls import Body, Form, Operation, fingerprint, operation, read_form, read_json
from sidecar.sim.config import SimConfig
from sidecar.sim.dialects import Dialect
from sidecar.sim.endpoints import FORMS, GENERATING, METERED
from sidecar.sim.refusals import Answer
from sidecar.sim.replies import Plan

_NO_FORM = Form({}, "", b"")


class Arrival(NamedTuple):
    """A request as it came, its body complete. `target` is raw: path and query, percent-encoding kept."""

    method: str
    target: str
    headers: list[Header]
    body: bytes


class Call(NamedTuple):
    """A request as far as it could be read. `complaint`: why its body could not be."""

    method: str
    path: str
    secret: str
    account: str | None
    operation: Operation | None
    body: Body
    form: Form
    seed: int
    complaint: str | None

    @property
    def model(self) -> str:
        """The model it names, in its JSON or its form."""
        return self.body.model or self.form.fields.get("model", "")

    @property
    def is_metered(self) -> bool:
        """Whether limits apply to it."""
        return self.operation is not None and self.operation.surface in METERED and self.operation.verb == "create"

    @property
    def generates(self) -> bool:
        """Whether its answer is output that a model writes token by token."""
        return self.is_metered and self.operation is not None and self.operation.surface in GENERATING


def read(config: SimConfig, dialect: Dialect, arrival: Arrival) -> Call:
    """What arrived, read as far as it can be."""
    path = arrival.target.partition("?")[0]
    secret = _bearer(arrival.headers)
    account = config.keys.get(secret) if config.keys else secret or None
    doing = operation(dialect.base, arrival.method, path)
    if doing is not None and doing.surface not in dialect.surfaces:
        doing = None
    body, form, complaint = Body(), _NO_FORM, None
    if doing is not None and doing.verb == "create":
        try:
            if doing.surface in FORMS:
                form = read_form(arrival.headers, arrival.body)
            else:
                body = read_json(arrival.body)
        except ValueError as error:
            complaint = str(error)
    return Call(arrival.method, path, secret, account, doing, body, form, fingerprint(arrival.body), complaint)


def refusal(config: SimConfig, dialect: Dialect, call: Call) -> Answer | None:
    """The error that answers a call whatever its limits; None = it may be metered."""
    if call.account is None:
        return statuses.unauthorized(dialect, call.secret)
    if call.operation is None:
        return statuses.unknown_path(dialect, call.method, call.path)
    if call.complaint is not None:
        return statuses.bad_request(dialect, call.complaint)
    if not call.is_metered or call.operation.surface == "moderations":
        return None
    if not call.model:
        return statuses.bad_request(dialect, "you must provide a model parameter")
    if config.models and call.model not in config.models:
        return statuses.unknown_model(dialect, call.model)
    return statuses.unwanted(dialect, call.body) if call.operation.surface == "chat" else None


def demand(call: Call, charge: ChargeRule, expected: int) -> Demand:
    """What a call is charged when admitted; `expected`: the output of a caller that declared no maximum."""
    prompt, declared = call.body.prompt_tokens, call.body.declared_output
    if not call.generates:
        return Demand(prompt, prompt, 0, call.form.audio_seconds if call.form.content else 0)
    reserved = {"none": 0, "declared": declared or 0, "assumed": declared or charge.assumed_output}[charge.output]
    return Demand(prompt + reserved, prompt, declared or expected)


def plan(call: Call, serial: int, created: int, tokens: int) -> Plan:
    """The completion that answers a call."""
    body = call.body
    return Plan(
        serial=serial,
        created=created,
        model=call.model,
        seed=call.seed,
        input_tokens=body.prompt_tokens,
        tokens=tokens,
        cap=body.declared_output,
        choices=body.n or 1,
        tool=body.tool,
        include_usage=bool(body.stream and body.stream_options and body.stream_options.include_usage),
    )


def _bearer(headers: list[Header]) -> str:
    value = (find(headers, b"authorization") or b"").decode("latin-1")
    return value[7:].strip() if value[:7].lower() == "bearer " else ""
