"""One attempt: one request sent to one target with one key, its answer obtained, then passed on, its charge settled.

Whatever happens, `close` settles the charge and gives the connection back or aborts it: a caller that hangs up cancels
the attempt at any await and costs the next one nothing, and what was never sent is not charged.
"""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple

from sidecar.core.affinity import created_ids
from sidecar.core.answer import answer_headers, answer_lines, cleaned
from sidecar.core.attempts import Send
from sidecar.core.call import Call
from sidecar.core.fallback import Next
from sidecar.core.headers import header_lines
from sidecar.core.http import Header
from sidecar.core.limits import Usage
from sidecar.core.outcomes import Fault, Feedback, Outcome, Scope
from sidecar.core.outgoing import Outgoing, prepare
from sidecar.core.paths import Endpoint, needs_model
from sidecar.core.ratelimit_headers import read as read_limits
from sidecar.core.settlement import settle
from sidecar.core.trace import End
from sidecar.delivery import Delivery, Waits
from sidecar.interfaces import ClientGone
from sidecar.job import Job, Shells
from sidecar.judging import Question, judged, read_error, unpacked
from sidecar.relay import Relay
from sidecar.upstream.response import Response


class _Error(NamedTuple):
    """An error that is the caller's own. `is_held`: it came with a status of success, and more of it may follow."""

    outcome: Outcome
    body: bytes
    plain: bytes  # unpacked
    is_held: bool


class Attempt:
    """One attempt: `obtain` an answer, `relay` it, and in any case `close`."""

    __slots__ = ("_error", "_flaw", "_job", "_outgoing", "_relay", "_response", "_shells", "is_closed", "is_sent",
                 "outcome", "send", "sent_ns")  # fmt: skip

    def __init__(self, shells: Shells, job: Job, send: Send) -> None:
        self._shells = shells
        self._job = job
        self.send = send
        self.outcome = Outcome.CLIENT_GONE  # until something else is known
        self.is_sent = False  # the pool's to set
        self.sent_ns = 0
        self.is_closed = False
        self._response: Response | None = None
        self._relay: Relay | None = None
        self._outgoing: Outgoing | None = None
        self._flaw: Delivery | None = None  # why an answer of status 200 is none
        self._error: _Error | None = None

    async def obtain(self) -> Attempt | None:
        """Itself, once it has an answer for the caller: first content, or an error that is the caller's own; None when
        it failed. The caller has heard nothing of it so far."""
        shells, job, (candidate, charge) = self._shells, self._job, self.send
        self._sign()
        try:
            fit = shells.rejections.fit(candidate.target, job.call.heading.surface.endpoint, charge.at_ns)
            outgoing = prepare(job.call, job.request, candidate, job.snapshot.config.retry.strict, fit)
            self._outgoing, job.record.dropped = outgoing, outgoing.dropped
            timeouts = job.snapshot.config.timeouts
            until_ns = charge.at_ns + (timeouts.headers if job.call.envelope.stream else timeouts.answer)
            if until_ns > job.policy.deadline_ns:
                until_ns = job.policy.deadline_ns
            origin = candidate.target.provider.origin
            head = outgoing.head
            if job.record.trace is not None:
                head = job.record.trace.attempt_began(self, candidate, head, shells.clock.now_ns())
            response = await shells.pool.exchange(origin, head, outgoing.body, until_ns, self)
            self._response = response
            has_answer = await (self._hold if response.status < 400 else self._judge)(response, outgoing)
        except Fault as fault:
            self.outcome = fault.outcome
            shells.ambiguous += fault.outcome is Outcome.AMBIGUOUS
            job.attempts.failed(candidate, Feedback(fault.outcome, Scope.TARGET, None, message=fault.detail), None)
            return None
        return self if has_answer else None

    async def relay(self) -> None:
        """Pass the answer on. Raises ClientGone, or is cancelled, when the caller left."""
        job, candidate, response, held = self._job, self.send.candidate, self._response, self._relay
        assert response is not None
        record = job.record
        if record.key != candidate.key.name or job.policy.hedge_ns is not None:
            self._sign()  # another attempt beside it may have put its name there
        record.status = response.status
        if self._error is not None:
            head = answer_headers(response.headers, record, candidate)
            return await self._relay_error(self._error, response.status, head)
        assert held is not None
        known = response.known
        lines = None if known is None else answer_lines(known, record, candidate)
        if lines is None:
            lines = header_lines(answer_headers(response.headers, record, candidate))
        try:
            delivery = await held.pass_on(lines)
        except (ClientGone, asyncio.CancelledError):
            record.usage = held.usage
            if held.has_ended:  # whoever hangs up right after the last word has had it all
                self.outcome = Outcome.OK
                record.outcome = Outcome.OK.value
            raise
        self.outcome = delivery.outcome
        record.outcome = delivery.outcome.value
        record.usage = delivery.usage
        record.content_ns = delivery.content_ns
        self._account(delivery)

    def close(self) -> None:
        """Give back or abort the connection, and settle the charge; harmless when closed."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._response is not None and not self._response.complete:
            self._response.abort()
        job, (candidate, charge) = self._job, self.send
        now_ns = self._shells.clock.now_ns()
        usage = None
        if self.is_sent:
            job.record.sent_at(self.sent_ns)
            usage = self._bill()
            settle(candidate, charge, self.outcome, usage, now_ns)
        else:
            candidate.quota.cancel(charge, now_ns)
        job.attempts.ended(self.send, self.outcome, now_ns, random.random())
        if self._shells.room.asleep:
            self._shells.room.rouse(candidate.breaker)  # a probe that ended without a verdict makes room for the next
        if job.attempts.trail:
            job.record.trail = tuple(job.attempts.trail)
        if job.record.trace is not None:
            status = None if self._response is None else self._response.status
            job.record.trace.attempt_ended(self, End(now_ns, self.outcome, status, usage))
        if candidate.quota.has_waiters:
            self._shells.room.poke(candidate.quota)  # what this attempt gave back may admit the next in line

    def _bill(self) -> Usage | None:
        """What the answer reported, noted in the totals; of one that had begun, also that it reported nothing."""
        usage = None
        if self._relay is not None:
            usage = self._relay.usage if self._flaw is None else self._flaw.usage
            if usage is not None or (self._flaw is None and self._job.call.size.input_bytes > 0):
                self._shells.totals.note(usage)
        return usage

    def give_way(self) -> None:
        """Close it because another attempt has an answer: it stays charged as the provider will have charged it."""
        self.outcome = Outcome.HEDGED
        self._job.attempts.hedged(self.send.candidate)
        self.close()

    def _sign(self) -> None:
        """Put its name to the record: who asks, or who answers."""
        record, candidate, target = self._job.record, self.send.candidate, self.send.candidate.target
        record.attempts = self._job.attempts.sent
        record.provider, record.target_model, record.key = target.provider.name, target.model, candidate.key.name
        record.dropped = () if self._outgoing is None else self._outgoing.dropped

    async def _hold(self, response: Response, outgoing: Outgoing) -> bool:
        """Hold an answer that is none of the provider's errors, unless it turns out to hide one."""
        shells, job, (candidate, charge) = self._shells, self._job, self.send
        quota, provider = candidate.quota, candidate.target.provider
        now_ns = shells.clock.now_ns()
        if provider.learns and response.known is not None:
            quota.hearing.hear(provider.dialect, response.known, now_ns, charge)
        elif provider.learns:
            quota.learn(read_limits(provider.dialect, response.headers, now_ns), now_ns, charge)
        quota.passed(charge)
        if response.status < 300:
            candidate.breaker.heard(charge)
            if shells.room.asleep:
                shells.room.rouse(candidate.breaker)
        if quota.has_waiters:
            shells.room.poke(quota)  # a probe that passed, or a count that rose, lets others go
        held = self._relay = Relay(shells.clock, response, job.reply, _waits(job, now_ns), job.record.dialect)
        flaw = await held.hold(job.request.method, needs_model(job.call.heading.surface.endpoint), outgoing.asks_usage)
        if flaw is None:
            return True
        self._flaw = flaw
        # an answer of status 200 that is none, found out before anything was passed on: it counts as what it is
        feedback = Feedback(flaw.outcome, Scope.TARGET, None, message=flaw.detail)
        if flaw.error is not None:
            said = judged(shells, job, Question(self.send, outgoing, response), flaw.error)
            feedback = feedback if said.outcome is Outcome.OK else said  # OK: no form that errors have elsewhere
        self.outcome = feedback.outcome
        if job.attempts.failed(candidate, feedback, response.status) is not Next.RELAY:
            return False
        self._error = _Error(feedback.outcome, flaw.held, unpacked(response, flaw.held), True)
        return True

    async def _judge(self, response: Response, outgoing: Outgoing) -> bool:
        """Read an error answer and do as the table says: keep it for the caller, or go on elsewhere."""
        body = await read_error(self._shells, self._job, response)
        plain = unpacked(response, body)
        feedback = judged(self._shells, self._job, Question(self.send, outgoing, response), plain)
        self.outcome = feedback.outcome
        self._error = _Error(feedback.outcome, body, plain, False)
        return self._job.attempts.failed(self.send.candidate, feedback, response.status) is Next.RELAY

    async def _relay_error(self, error: _Error, status: int, head: list[Header]) -> None:
        job = self._job
        job.record.outcome = error.outcome.value
        head, body = cleaned(head, error.body, error.plain, self.send.candidate.key, job.record.dialect)
        if error.is_held and self._relay is not None:
            await self._relay.release(head, body)
        else:
            await job.reply.send(status, head, body)

    def _account(self, delivery: Delivery) -> None:
        """What a finished answer teaches: the size of tokens, and who owns what it created."""
        job, candidate = self._job, self.send.candidate
        if delivery.usage is not None and job.call.size.input_bytes:
            job.attempts.hop_of(candidate).report(job.call.size, delivery.usage.input_tokens)
        if delivery.created and (ids := _ids(job.call, delivery.created)):
            self._shells.ownership.note(ids, candidate.key.ident)


def _ids(call: Call, created: bytes | str) -> tuple[str, ...]:
    if isinstance(created, bytes):
        return created_ids(created) if call.heading.may_create else ()
    # of streamed answers only those of the Responses API are kept by default, others when asked
    is_kept = call.surface.endpoint is Endpoint.RESPONSES or call.envelope.store
    return (created,) if is_kept else ()


def _waits(job: Job, now_ns: int) -> Waits:
    timeouts, deadline_ns = job.snapshot.config.timeouts, job.policy.deadline_ns
    is_streamed = job.call.envelope.stream
    until_ns = now_ns + (timeouts.first_content if is_streamed else timeouts.answer)
    if until_ns > deadline_ns:
        until_ns = deadline_ns
    return Waits(until_ns, timeouts.idle, deadline_ns, timeouts.ping if is_streamed else None)
