"""An error of a provider: read, judged by core.feedback, and what it says taken over where it reaches.

Decides nothing of what comes next (core.attempts). The body of an error is bounded: whoever sends more is cut off.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core.answer import redacted
from sidecar.core.attempts import Send
from sidecar.core.feedback import ProviderAnswer, classify
from sidecar.core.http import find
from sidecar.core.outcomes import Feedback, Outcome
from sidecar.core.outgoing import Outgoing
from sidecar.core.settlement import settle
from sidecar.core.usage import decoded
from sidecar.job import Job, Shells
from sidecar.upstream.response import Response

ERROR_MAX_BYTES = 1 << 20  # of an error's body; a longer one is cut, and its connection closed


class Question(NamedTuple):
    """Who was asked, what, and the head of the answer."""

    send: Send
    outgoing: Outgoing
    response: Response


def judged(shells: Shells, job: Job, asked: Question, body: bytes) -> Feedback:
    """What an error says, taken over into the quota and the standings it concerns. `body`: unpacked."""
    send, outgoing, response = asked
    candidate, charge = send.candidate, send.charge
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
        outgoing.plain if outgoing.may_lose_fields else b"",
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
    # what it says of fields is remembered; remedies that contradict those known before are none
    remedies = feedback.remedies
    endpoint = job.call.surface.endpoint
    if not remedies or shells.rejections.note(candidate.target, endpoint, remedies, now_ns):
        return feedback
    return feedback._replace(outcome=Outcome.FIELD_NEEDED, remedies=())


async def read_error(shells: Shells, job: Job, response: Response) -> bytes:
    """The body of an error, as it came. Raises Fault."""
    until_ns = min(shells.clock.now_ns() + job.snapshot.terms.idle_ns, job.policy.deadline_ns)
    pieces: list[bytes] = []
    length = 0
    while length < ERROR_MAX_BYTES and (chunk := await response.read(until_ns)):
        pieces.append(chunk)
        length += len(chunk)
    return b"".join(pieces)


def unpacked(response: Response, body: bytes) -> bytes:
    """A body without its content coding; nothing where that cannot be undone."""
    encoding = find(response.headers, b"content-encoding")
    return body if encoding is None else decoded(body, encoding) or b""
