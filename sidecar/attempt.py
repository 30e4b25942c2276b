"""One attempt: one request sent to one target with one key, its answer relayed or judged, its charge settled.

Whatever happens, the `finally` settles the charge and gives the connection back or aborts it: a caller that hangs up
cancels the attempt at any await and costs the next one nothing.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from sidecar.core.access import Record
from sidecar.core.affinity import Ownership, created_ids
from sidecar.core.answer import answer_headers, cleaned, redacted
from sidecar.core.attempts import Attempts, Policy, Send
from sidecar.core.call import Call
from sidecar.core.fallback import Next
from sidecar.core.feedback import ProviderAnswer, classify
from sidecar.core.http import Request, find
from sidecar.core.keys import Candidate
from sidecar.core.outcomes import Fault, Feedback, Outcome, Scope
from sidecar.core.outgoing import Outgoing, prepare
from sidecar.core.paths import Endpoint, needs_model
from sidecar.core.quota import Charge
from sidecar.core.ratelimit_headers import read as read_limits
from sidecar.core.rejections import Rejections
from sidecar.core.settlement import settle
from sidecar.core.snapshot import Snapshot
from sidecar.core.usage import Totals, decoded
from sidecar.interfaces import ClientGone, Clock, Reply
from sidecar.relay import Delivery, Relay, Waits
from sidecar.upstream.pool import Pool
from sidecar.upstream.response import Response
from sidecar.waiting import WaitingRoom

ERROR_MAX_BYTES = 1 << 20  # of an error's body; a longer one is cut, and its connection closed


class Shells(Protocol):
    """What an attempt is made with."""

    clock: Clock
    pool: Pool
    ownership: Ownership
    room: WaitingRoom
    rejections: Rejections
    totals: Totals

    def note_organization(self, candidate: Candidate, organization: str) -> None:
        """An error named the organisation that a key is of."""


class Job(NamedTuple):
    """One request on its way."""

    snapshot: Snapshot
    request: Request
    reply: Reply
    record: Record
    call: Call
    policy: Policy
    attempts: Attempts


async def attempt(shells: Shells, job: Job, send: Send) -> bool:
    """Make one attempt; True when the caller has had its answer. Raises ClientGone or is cancelled when it left."""
    candidate, record = send.candidate, job.record
    provider = candidate.target.provider
    record.attempts = job.attempts.sent
    record.provider, record.target_model, record.key = provider.name, candidate.target.model, candidate.key.name
    record.usage = None  # of an attempt before, whose answer was none
    ended = _Ended()
    try:
        fit = shells.rejections.fit(candidate.target, job.call.surface.endpoint, shells.clock.now_ns())
        outgoing = prepare(job.call, job.request, candidate, job.snapshot.config.retry.strict, fit)
        record.dropped = outgoing.dropped
        sent = _Sent(candidate, send.charge, outgoing)
        headers_ns = min(shells.clock.now_ns() + _headers_wait_ns(job), job.policy.deadline_ns)
        response = await shells.pool.exchange(provider.origin, outgoing.head, outgoing.body, headers_ns)
        try:
            if response.status >= 400:
                return await _judge(shells, job, sent, response, ended)
            return await _deliver(shells, job, sent, response, ended)
        finally:
            response.abort()  # nothing, when it is complete
    except Fault as fault:
        ended.outcome = fault.outcome
        job.attempts.failed(candidate, Feedback(fault.outcome, Scope.TARGET, None, message=fault.detail), None)
        return False
    finally:
        record.trail = tuple(job.attempts.trail)
        if record.usage is not None or ended.has_begun:
            shells.totals.note(record.usage)
        settle(candidate, send.charge, ended.outcome, record.usage, shells.clock.now_ns())


class _Sent(NamedTuple):
    """What was sent where, and what was charged for it."""

    candidate: Candidate
    charge: Charge
    outgoing: Outgoing


class _Ended:
    """How an attempt ended; until something else is known, the caller left. `has_begun`: an answer of a model had."""

    __slots__ = ("has_begun", "outcome")

    def __init__(self) -> None:
        self.outcome = Outcome.CLIENT_GONE
        self.has_begun = False


async def _deliver(shells: Shells, job: Job, sent: _Sent, response: Response, ended: _Ended) -> bool:
    """Relay an answer that is none of the provider's errors, unless it turns out to hide one."""
    candidate, charge, outgoing = sent
    ended.has_begun = job.call.size.input_bytes > 0
    provider, record = candidate.target.provider, job.record
    now_ns = shells.clock.now_ns()
    if provider.learns:
        candidate.quota.learn(read_limits(provider.dialect, response.headers, now_ns), now_ns, charge)
    candidate.quota.passed(charge)
    if candidate.quota.has_waiters:
        shells.room.poke(candidate.quota)  # a probe that passed, or a count that rose, lets others go
    head = answer_headers(response.headers, record, candidate)
    timeouts = job.snapshot.config.timeouts
    first_ns = timeouts.first_content if job.call.envelope.stream else timeouts.answer
    waits = Waits(first_ns, timeouts.idle, job.policy.deadline_ns)
    record.status = response.status
    relay = Relay(shells.clock, response, job.reply, head, record.dialect)
    try:
        is_model_s = needs_model(job.call.surface.endpoint)
        delivery = await relay.carry(waits, job.request.method, is_model_s, outgoing.asks_usage)
    except (ClientGone, asyncio.CancelledError):
        record.usage = relay.usage
        if relay.has_ended:  # whoever hangs up right after the last word has had it all
            ended.outcome = Outcome.OK
            record.outcome = Outcome.OK.value
        raise
    ended.outcome = delivery.outcome
    record.usage = delivery.usage
    if not delivery.is_committed:
        feedback = _reconsider(shells, job, sent, response, delivery)
        ended.has_begun = False
        ended.outcome = feedback.outcome
        if job.attempts.failed(candidate, feedback, response.status) is not Next.RELAY:
            return False
        record.outcome = feedback.outcome.value
        head, held = cleaned(head, delivery.held, _unpacked(response, delivery.held), candidate.key)
        await relay.release(head, held, timeouts.idle)
        return True
    record.outcome = delivery.outcome.value
    record.content_ns = delivery.content_ns
    _account(shells, job, candidate, delivery)
    return True


def _account(shells: Shells, job: Job, candidate: Candidate, delivery: Delivery) -> None:
    """What a finished answer teaches: the size of tokens, and who owns what it created."""
    if delivery.usage is not None and job.call.size.input_bytes:
        job.attempts.hop_of(candidate).report(job.call.size, delivery.usage.input_tokens)
    created = delivery.created
    if created:
        shells.ownership.note(_ids(job.call, job.request.method, created), candidate.key.ident)


def _ids(call: Call, method: bytes, created: bytes | str) -> tuple[str, ...]:
    if isinstance(created, bytes):
        return created_ids(call.surface, method, created)
    # of streamed answers only those of the Responses API are kept by default, others when asked
    is_kept = call.surface.endpoint is Endpoint.RESPONSES or call.envelope.store
    return (created,) if is_kept else ()


async def _judge(shells: Shells, job: Job, sent: _Sent, response: Response, ended: _Ended) -> bool:
    """Read an error answer and do as the table says: relay it, or go on elsewhere."""
    candidate = sent.candidate
    body = await _error_body(shells, job, response)
    plain = _unpacked(response, body)
    feedback = _feedback(shells, job, sent, response, plain)
    ended.outcome = feedback.outcome
    if job.attempts.failed(candidate, feedback, response.status) is not Next.RELAY:
        return False
    record = job.record
    record.status, record.outcome = response.status, feedback.outcome.value
    head = answer_headers(response.headers, record, candidate)
    head, body = cleaned(head, body, plain, candidate.key)
    await job.reply.send(response.status, head, body)
    return True


def _reconsider(shells: Shells, job: Job, sent: _Sent, response: Response, delivery: Delivery) -> Feedback:
    """An answer of status 200 that is none, found out before anything was passed on: it counts as what it is."""
    if delivery.error is not None:
        return _feedback(shells, job, sent, response, delivery.error)
    return Feedback(delivery.outcome, Scope.TARGET, None, message=delivery.detail)


def _feedback(shells: Shells, job: Job, sent: _Sent, response: Response, body: bytes) -> Feedback:
    """What an error says, taken over into the quota and the standings it concerns."""
    candidate, charge, outgoing = sent
    now_ns = shells.clock.now_ns()
    provider = candidate.target.provider
    calendar = candidate.quota.spec.calendar
    cost = job.attempts.hop_of(candidate).cost(job.call.size)
    answer = ProviderAnswer(
        provider.dialect,
        response.status,
        response.headers,
        redacted(body, candidate.key),
        cost.input_tokens,
        calendar.next_after(now_ns) if calendar is not None else None,
        outgoing.body if outgoing.may_lose_fields else b"",
    )
    feedback = classify(answer, now_ns)
    # given back first: what the provider says is left does not count a request that it refused
    settle(candidate, charge, feedback.outcome, None, now_ns)
    if provider.learns:
        candidate.quota.learn(feedback.readings, now_ns)
    candidate.apply(feedback, now_ns)
    if feedback.requested is not None:
        job.attempts.hop_of(candidate).hear_requested(job.call.size, feedback.requested)
    if feedback.organization is not None:
        shells.note_organization(candidate, feedback.organization)
    return _remembered(shells.rejections, job.call, candidate, feedback, now_ns)


def _remembered(rejections: Rejections, call: Call, candidate: Candidate, feedback: Feedback, now_ns: int) -> Feedback:
    """The same, what it says of fields being remembered; remedies that contradict those known before are none."""
    remedies = feedback.remedies
    if not remedies or rejections.note(candidate.target, call.surface.endpoint, remedies, now_ns):
        return feedback
    return feedback._replace(outcome=Outcome.FIELD_NEEDED, remedies=())


async def _error_body(shells: Shells, job: Job, response: Response) -> bytes:
    deadline_ns = min(shells.clock.now_ns() + job.snapshot.config.timeouts.idle, job.policy.deadline_ns)
    pieces: list[bytes] = []
    length = 0
    while length < ERROR_MAX_BYTES and (chunk := await response.read(deadline_ns)):
        pieces.append(chunk)
        length += len(chunk)
    return b"".join(pieces)


def _unpacked(response: Response, body: bytes) -> bytes:
    encoding = find(response.headers, b"content-encoding")
    return body if encoding is None else decoded(body, encoding) or b""


def _headers_wait_ns(job: Job) -> int:
    timeouts = job.snapshot.config.timeouts
    return timeouts.headers if job.call.envelope.stream else timeouts.answer
