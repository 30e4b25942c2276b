"""One request's life, top to bottom: read it, route it, loop over attempts, relay the answer, account for it.

The only place where core's decisions meet the shells. It decides nothing itself: what a request asks is core.call's,
what is done next core.attempts', what an answer means core.feedback's, what is charged core.settlement's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from sidecar.attempt import Attempt
from sidecar.caching import Caching, Sought
from sidecar.core.affinity import Ownership
from sidecar.core.answer import refusal_headers
from sidecar.core.attempts import Attempts, Backoff, Policy, Send, Wait
from sidecar.core.call import Call, error_dialect, understand
from sidecar.core.conversation import turn_of
from sidecar.core.entrance import Entrance, Place
from sidecar.core.errors import Reason, Refusal, render
from sidecar.core.http import Header, Notes, Request
from sidecar.core.keys import Candidate
from sidecar.core.outcomes import Outcome
from sidecar.core.paths import Endpoint
from sidecar.core.record import Record
from sidecar.core.rejections import Rejections
from sidecar.core.retry_budget import RetryBudget
from sidecar.core.roster import Roster
from sidecar.core.snapshot import Snapshot
from sidecar.core.terms import Terms
from sidecar.core.totals import Totals
from sidecar.hedge import race
from sidecar.interfaces import ClientGone, Clock, Reply, Traces
from sidecar.job import Job, Shells
from sidecar.models import ModelDirectory
from sidecar.upstream.pool import Pool
from sidecar.waiting import WaitingRoom

_MODELS: Final = Endpoint.MODELS  # an enum's member costs a look-up through its metaclass
_CLIENT_CLOSED: Final = 499  # nginx's number for a caller that did not wait; it is only ever logged
_SAYS_OK: Final = Outcome.OK.value
_draw: Final = random.random

Finished = Callable[[Record, int], None]  # a request's record, and when it ended
Warned = Callable[[str, str], None]  # an event that an operator should know of: its name, and what happened


def _unheard(event: str, message: str) -> None:
    """For who listens to no events."""


class Gateway(Shells):
    """Implements `interfaces.Service` for both lanes of the edge."""

    def __init__(self, roster: Roster, entrance: Entrance, pool: Pool, clock: Clock, finished: Finished) -> None:
        self._roster = roster
        self._entrance = entrance
        self.pool = pool
        self.clock = clock
        self._finished = finished
        self.warned: Warned = _unheard
        self._budget = self.retry_budget = RetryBudget(roster.snapshot.config.retry.budget)
        self.ownership = Ownership()
        self.rejections = Rejections()
        self.totals = Totals()
        self._models = ModelDirectory(clock, pool)
        self.room = WaitingRoom(clock, roster.shared.backlog)
        self.cache: Caching | None = None  # while it is enabled
        self.traces: Traces | None = None  # while requests are traced
        self.ambiguous = 0
        # ids of requests: unique across restarts, ordered within a process
        self._id_prefix = f"req_{random.getrandbits(48):012x}"
        self._count = 0

    def reload(self, snapshot: Snapshot) -> None:
        """Serve new requests by another configuration; those under way keep theirs."""
        self._roster.reload(snapshot, self.clock.now_ns())
        for quota in [quota for quota in self._roster.ledger if quota.has_waiters]:
            self.room.poke(quota)  # a raised limit admits at once, also those who wait already (A23)
        self._budget.share = snapshot.config.retry.budget
        self._models.forget()
        self.rejections.forget()  # it is about providers that are no more, and would keep their keys

    def note_organization(self, candidate: Candidate, organization: str) -> None:
        """An error named the organisation that a key is of: two accounts may turn out to be one (A7)."""
        noted = self._roster.note_organization(candidate, organization, self.clock.now_ns())
        if noted is not None:
            merger, gone = noted
            for quota in gone:
                self.room.dissolve(quota)
            self.warned("accounts_merged", str(merger))

    def enter(
        self, method: bytes, target: bytes, headers: list[Header], length: int | None, notes: Notes
    ) -> Refusal | Place:
        """Decide on a request by its head alone."""
        entered = self._entrance.enter(headers, length, notes)
        return self.refused(method, target, entered) if isinstance(entered, Refusal) else entered

    def refused(self, method: bytes, target: bytes, refusal: Refusal) -> Refusal:
        """Account for a request that is refused before it is whole; its refusal in the shape that its caller parses."""
        now_ns = self.clock.now_ns()
        record = self._record(method, target, now_ns)
        record.status, record.outcome = refusal.status, refusal.reason.value
        self._finished(record, now_ns)
        return refusal._replace(dialect=error_dialect(self._roster.snapshot, target))

    async def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request, and account for it whatever becomes of it."""
        now_ns = self.clock.now_ns()
        self._count = number = self._count + 1
        record = Record(self._id_prefix + format(number, "x"), now_ns, request.method, request.target)
        record.number, record.caller = number, request.caller
        self._budget.note_request(now_ns)
        if self.traces is not None:
            record.trace = self.traces.begin(request.headers, now_ns)
        try:
            snapshot = self._roster.snapshot
            call = self._understood(snapshot, request, record)
            if isinstance(call, Refusal):
                await self._refuse(reply, record, call)
            elif call.plain is None and self.cache is None and call.heading.surface.endpoint is not _MODELS:
                await self._loop(self._job(snapshot, request, reply, record, call))  # as _serve does, in one step
            else:
                await self._serve(snapshot, request, reply, record, call)
        except (ClientGone, asyncio.CancelledError):
            if record.outcome != _SAYS_OK:
                record.status, record.outcome = _CLIENT_CLOSED, Outcome.CLIENT_GONE.value
            raise
        except Exception:
            record.status, record.outcome = 500, Reason.INTERNAL.value  # the edge answers so, and logs what happened
            raise
        finally:
            self._finished(record, self.clock.now_ns())

    def _record(self, method: bytes, target: bytes, now_ns: int) -> Record:
        self._count += 1
        record = Record(self._id_prefix + format(self._count, "x"), now_ns, method, target)
        record.number = self._count
        return record

    def _understood(self, snapshot: Snapshot, request: Request, record: Record) -> Call | Refusal:
        call = understand(snapshot, request, self.ownership)
        if isinstance(call, Refusal):
            record.dialect = error_dialect(snapshot, request.target)
            return call
        record.model = call.model
        record.is_streamed = call.envelope.stream
        if call.native is not None:
            record.dialect = call.native.error_dialect
        return call

    async def _serve(self, snapshot: Snapshot, request: Request, reply: Reply, record: Record, call: Call) -> None:
        """What is not simply passed on: the list of models, and what may be answered from the cache."""
        if call.native is None and call.heading.surface.endpoint is _MODELS:
            await self._list_models(reply, record)
        elif self.cache is not None:
            await self.cache.serve(Sought(snapshot, request, reply, record, call), self._travel)
        else:
            await self._travel(snapshot, request, reply, record, call)

    async def _travel(self, snapshot: Snapshot, request: Request, reply: Reply, record: Record, call: Call) -> None:
        """Call who can answer, until the caller has an answer."""
        job = self._job(snapshot, request, reply, record, call)
        await (self._loop(job) if call.plain is None else self._unpacked(job, len(call.plain)))

    def _job(self, snapshot: Snapshot, request: Request, reply: Reply, record: Record, call: Call) -> Job:
        roster, now_ns = self._roster, record.arrived_ns
        policy = _policy(snapshot.terms, call, now_ns)
        targets, key = call.route
        if policy.is_single:
            targets = targets[:1]
        hops = roster.hops(targets, now_ns) if key is None else [roster.only(each, key, now_ns) for each in targets]
        turn = None
        for hop in hops:
            if len(hop.candidates) > 1:
                turn = turn_of(call.plain or request.body)
                break
        attempts = Attempts(hops, call.size, policy, self._budget, turn)
        return Job(snapshot, request, reply, record, call, policy, attempts)

    async def _unpacked(self, job: Job, length: int) -> None:
        """Serve a request whose body is here twice, packed and plain: both count as in flight (E5)."""
        refusal = self._entrance.grown(length, length)
        if refusal is not None:
            return await self._refuse(job.reply, job.record, refusal)
        try:
            await self._loop(job)
        finally:
            self._entrance.shrunk(length)

    async def _loop(self, job: Job) -> None:
        """Do as the machine of attempts says until the caller has an answer."""
        attempts = job.attempts
        now_ns = job.record.arrived_ns
        while True:
            step: Send | Wait | Backoff | Refusal | None = attempts.next(now_ns, _draw())
            if isinstance(step, Wait):
                step = await self._wait(job, step)
            if isinstance(step, Send) and job.policy.hedge_ns is None:
                attempt = Attempt(self, job, step)
                try:
                    if await attempt.obtain() is not None:
                        await attempt.relay()
                        return attempt.relayed()
                finally:
                    attempt.close()
            elif isinstance(step, Send):
                if await self._race(job, step):
                    return
            elif isinstance(step, Backoff):
                await self.room.pause(step.until_ns, step.breakers)
            elif step is not None:
                return await self._refuse(job.reply, job.record, step)
            now_ns = self.clock.now_ns()

    async def _wait(self, job: Job, step: Wait) -> Send | Refusal | None:
        """Hold the request for quota. None: nobody admitted it in time, and the machine has the last word."""
        if self.room.waiting >= job.snapshot.terms.queue:
            message = "Every key is out of quota, and as many requests as may (wait.queue) are waiting already."
            return Refusal(Reason.QUEUE_FULL, message, retry_after_ns=job.attempts.turn_ns(self.clock.now_ns()))
        began_ns = self.clock.now_ns()
        try:
            granted = await self.room.wait(step.places, step.until_ns, job.record.number, step.breakers)
        finally:
            job.record.wait_ns += self.clock.now_ns() - began_ns
        if granted is None:
            return None
        candidate, charge = granted
        job.attempts.granted(candidate, self.clock.now_ns())
        return Send(candidate, charge)

    async def _race(self, job: Job, send: Send) -> bool:
        """Make an attempt, and a second one beside it, should the first be slow; whether the caller has had its
        answer."""
        made = [Attempt(self, job, send)]
        try:
            winner = await race(self, job, made)
            if winner is None:
                return False
            await winner.relay()
            winner.relayed()
            return True
        finally:
            for each in made:
                each.close()

    async def _list_models(self, reply: Reply, record: Record) -> None:
        """Answer with the models of all providers, merged."""
        body = await self._models.body(self._roster)
        record.status, record.outcome = 200, Outcome.OK.value
        await reply.send(200, [(b"content-type", b"application/json"), (b"x-request-id", record.id.encode())], body)

    async def _refuse(self, reply: Reply, record: Record, refusal: Refusal) -> None:
        """Answer with an error of our own."""
        record.status = refusal.status
        record.outcome = refusal.reason.value
        answer = render(refusal, record.dialect)
        await reply.send(answer.status, answer.headers + refusal_headers(record, refusal), answer.body)


def _policy(terms: Terms, call: Call, now_ns: int) -> Policy:
    wishes = call.heading.wishes
    is_free, max_wait_ns = wishes.fallback, wishes.max_wait_ns
    return Policy(
        terms.attempts if is_free else 1,
        terms.base_ns,
        terms.cap_ns,
        terms.ambiguous_ends,
        not is_free,
        now_ns + (terms.max_wait_ns if max_wait_ns is None else max_wait_ns),
        now_ns + terms.total_ns,
        terms.hedge_ns if is_free and len(call.route.targets) > 1 else None,
    )
