"""One attempt: one request sent to one target with one key, its answer obtained, then passed on, its charge settled.

Whatever happens, `close` settles the charge and gives the connection back or aborts it: a caller that hangs up cancels
the attempt at any await and costs the next one nothing, and what was never sent is not charged.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

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
from sidecar.job import Job, Shells
from sidecar.judging import Question, judged, read_error, unpacked
from sidecar.relay import Relay
from sidecar.upstream.response import Response

_OK: Final = Outcome.OK  # an enum's member costs a look-up through its metaclass
_SAYS_OK: Final = Outcome.OK.value
_draw: Final = random.random


class _Error(NamedTuple):
    """An error that is the caller's own. `is_held`: it came with a status of success, and more of it may follow."""

    outcome: Outcome
    body: bytes
    plain: bytes  # unpacked
    is_held: bool


class Attempt:
    """One attempt: `obtain` an answer, `relay` it, and in any case `close`."""

    __slots__ = ("_error", "_is_relaying", "_job", "_outgoing", "_relay", "_response", "_shells", "is_closed",
                 "is_sent", "outcome", "send", "sent_ns")  # fmt: skip

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
        self._is_relaying = False
        self._outgoing: Outgoing | None = None
        self._error: _Error | None = None

    async def obtain(self) -> Attempt | None:
        """Itself, once it has an answer for the caller: first content, or an error that is the caller's own; None when
        it failed. The caller has heard nothing of it so far."""
        shells, job, candidate, at_ns = self._shells, self._job, self.send.candidate, self.send.charge.at_ns
        terms, call, record, target = job.snapshot.terms, job.call, job.record, candidate.target
        self._sign()
        try:
            endpoint = call.heading.surface.endpoint
            fit = shells.rejections.fit(target, endpoint, at_ns)
            outgoing = self._outgoing = prepare(call, job.request, candidate, terms.is_strict, fit)
            record.dropped = outgoing.dropped
            until_ns = at_ns + (terms.headers_ns if call.envelope.stream else terms.answer_ns)
            if until_ns > job.policy.deadline_ns:
                until_ns = job.policy.deadline_ns
            head = outgoing.head
            if record.trace is not None:
                head = record.trace.attempt_began(self, candidate, head, shells.clock.now_ns())
            response = await shells.pool.exchange(target.provider.origin, head, outgoing.body, until_ns, self)
            self._response = response
            if response.status >= 400:
                has_answer = await self._judge(response, outgoing)
            else:
                now_ns = shells.clock.now_ns()
                held = self._heard(response, now_ns)
                if not held.open(job.request.method, needs_model(endpoint), outgoing.asks_usage, now_ns):
                    await held.hold()
                has_answer = held.flaw is None or self._finds_wanting(held.flaw, response, outgoing)
        except Fault as fault:
            self.outcome = fault.outcome
            shells.ambiguous += fault.outcome is Outcome.AMBIGUOUS
            job.attempts.failed(candidate, Feedback(fault.outcome, Scope.TARGET, None, message=fault.detail), None)
            return None
        return self if has_answer else None

    def relay(self) -> Coroutine[Any, Any, None]:
        """Pass the answer on; `relayed` is to be told when that is done. Raises ClientGone, or is cancelled, when the
        caller left."""
        job, candidate, response, held = self._job, self.send.candidate, self._response, self._relay
        assert response is not None
        record = job.record
        if record.key != candidate.key.name or job.policy.hedge_ns is not None:
            self._sign()  # another attempt beside it may have put its name there
        record.status = response.status
        if self._error is not None:
            return self._relay_error(self._error, response.status, answer_headers(response.headers, record, candidate))
        assert held is not None
        known = response.known
        lines = None if known is None else answer_lines(known, record, candidate)
        if lines is None:
            lines = header_lines(answer_headers(response.headers, record, candidate))
        self._is_relaying = True
        return held.pass_on(lines)

    def relayed(self) -> None:
        """The caller has its answer: account for it."""
        if not self._is_relaying or self._relay is None:
            return  # it is an error, which teaches nothing more
        self._is_relaying = False
        record, delivery = self._job.record, self._relay.delivery
        self.outcome = delivery.outcome
        record.outcome = _SAYS_OK if delivery.outcome is _OK else delivery.outcome.value
        record.usage = delivery.usage
        record.content_ns = delivery.content_ns
        self._account(delivery)

    def _cut_short(self, held: Relay) -> None:
        """The caller left while its answer was passed on."""
        self._job.record.usage = held.usage
        if held.has_ended:  # whoever hangs up right after the last word has had it all
            self.outcome, self._job.record.outcome = _OK, _SAYS_OK

    def close(self) -> None:
        """Give back or abort the connection, and settle the charge; harmless when closed."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._is_relaying and self._relay is not None:
            self._cut_short(self._relay)
        if self._response is not None and not self._response.complete:
            self._response.abort()
        shells, job, candidate, charge = self._shells, self._job, self.send.candidate, self.send.charge
        record, quota = job.record, candidate.quota
        now_ns = shells.clock.now_ns()
        usage = None
        if self.is_sent:
            record.sent_at(self.sent_ns)
            usage = self._bill()
            settle(candidate, charge, self.outcome, usage, now_ns)
        else:
            quota.cancel(charge, now_ns)
        job.attempts.ended(self.send, self.outcome, now_ns, _draw())
        if shells.room.asleep:
            shells.room.rouse(candidate.breaker)  # a probe that ended without a verdict makes room for the next
        record.trail = job.attempts.trail
        if record.trace is not None:
            status = None if self._response is None else self._response.status
            record.trace.attempt_ended(self, End(now_ns, self.outcome, status, usage))
        if quota.has_waiters:
            shells.room.poke(quota)  # what this attempt gave back may admit the next in line

    def _bill(self) -> Usage | None:
        """What the answer reported, noted in the totals; of one that had begun, also that it reported nothing."""
        held = self._relay
        if held is None:
            return None
        usage = held.usage if held.flaw is None else held.flaw.usage
        if usage is not None or (held.flaw is None and self._job.call.size.input_bytes > 0):
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

    def _heard(self, response: Response, now_ns: int) -> Relay:
        """Take up an answer that is none of the provider's errors, unless it turns out to hide one."""
        shells, job, candidate, charge = self._shells, self._job, self.send.candidate, self.send.charge
        quota, provider = candidate.quota, candidate.target.provider
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
        return held

    def _finds_wanting(self, flaw: Delivery, response: Response, outgoing: Outgoing) -> bool:
        """An answer of status 200 is none, as was found out before anything was passed on, and counts as what it is;
        whether it is the caller's all the same."""
        shells, job, candidate = self._shells, self._job, self.send.candidate
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

    def _relay_error(self, error: _Error, status: int, head: list[Header]) -> Coroutine[Any, Any, None]:
        job = self._job
        job.record.outcome = error.outcome.value
        head, body = cleaned(head, error.body, error.plain, self.send.candidate.key, job.record.dialect)
        if error.is_held and self._relay is not None:
            return self._relay.release(head, body)
        return job.reply.send(status, head, body)

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
    terms, deadline_ns = job.snapshot.terms, job.policy.deadline_ns
    is_streamed = job.call.envelope.stream
    until_ns = now_ns + (terms.first_content_ns if is_streamed else terms.answer_ns)
    if until_ns > deadline_ns:
        until_ns = deadline_ns
    return Waits(until_ns, terms.idle_ns, deadline_ns, terms.ping_ns if is_streamed else None)
