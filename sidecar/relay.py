"""One answer of a provider on its way to the caller: held until it is known to be one, then passed on as it came.

Three shapes. A stream of events is held until its first content (comments and preambles are not content); a JSON
answer is read whole, so that an error inside a 200 is seen; anything else goes through piece by piece. What fails while
nothing was passed on is returned as a failure, and another target may answer instead; what fails later is told to the
caller, never hidden and never replayed (acceptance B3 to B6).
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.core.errors import Reason, Refusal, stream_error
from sidecar.core.feedback import hidden_error
from sidecar.core.http import Header, find
from sidecar.core.limits import Usage
from sidecar.core.outcomes import Fault, Outcome
from sidecar.core.sse import Tap
from sidecar.core.usage import decoded, from_body
from sidecar.core.usage_strip import UsageStrip
from sidecar.core.whole_answer import flaw
from sidecar.interfaces import Clock, Reply
from sidecar.upstream.response import Response

# a JSON answer larger than this (a batch of embeddings) is passed on unread: memory stays bounded (E4)
WHOLE_MAX_BYTES = 4 << 20


class Delivery(NamedTuple):
    """What became of an answer. `is_committed`: the caller has had bytes of it, so nothing else may answer.

    `error`: an error found inside a 200 before anything was passed on, decoded, and `held`: all that had come until
    then, as it came. `content_ns`: first content.
    """

    outcome: Outcome
    is_committed: bool
    usage: Usage | None = None
    error: bytes | None = None
    held: bytes = b""
    content_ns: int | None = None
    detail: str = ""
    created: bytes | str | None = None  # what names the objects it created: a JSON body, or the id in a stream


class Waits(NamedTuple):
    """How long to wait for the first piece, at the latest until `deadline_ns`, and between pieces afterwards."""

    first_ns: int
    idle_ns: int
    deadline_ns: int


class Relay:
    """Carries one answer. `head`: the headers as the caller gets them, without framing.

    `has_ended` and `usage` tell, also when the caller hangs up early, whether the provider had said its last word: a
    caller that leaves right after `[DONE]` has had all it wanted.
    """

    def __init__(self, clock: Clock, response: Response, reply: Reply, head: list[Header], dialect: str) -> None:
        self._clock = clock
        self._response = response
        self._reply = reply
        self._head = head
        self._dialect = dialect
        self._encoding = find(response.headers, b"content-encoding")
        self._tap: Tap | None = None
        self._usage: Usage | None = None
        self._strip: UsageStrip | None = None

    @property
    def has_ended(self) -> bool:
        """Whether everything that counts of the answer has come."""
        return self._tap.done if self._tap is not None else self._response.complete

    @property
    def usage(self) -> Usage | None:
        """What the answer has reported so far."""
        return self._tap.usage if self._tap is not None else self._usage

    async def carry(self, waits: Waits, method: bytes, is_model_s: bool, strips_usage: bool = False) -> Delivery:
        """Pass the answer on in the way its shape asks. Raises Fault while nothing was passed on, ClientGone later.

        `is_model_s`: a model was asked, so that an answer in JSON without a word is none. What is only read, such as a
        job that failed, may hold an error and be none. `strips_usage`: the caller did not ask for the usage that a
        stream tells.
        """
        self._strip = UsageStrip() if strips_usage else None
        content_type = find(self._response.headers, b"content-type") or b""
        if content_type.startswith(b"text/event-stream") and self._encoding is None:
            return await self._events(waits)
        if b"json" in content_type and method != b"HEAD":
            return await self._whole(waits, method == b"POST", is_model_s and self._response.status == 200)
        return await self._opaque(waits, [])

    async def release(self, head: list[Header], held: bytes, idle_ns: int) -> None:
        """Pass on an answer that `carry` held back, and what is left of it: its error is the caller's own."""
        reply = self._reply
        await reply.start(self._response.status, head, None)
        await reply.write(held)
        try:
            while chunk := await self._response.read(self._clock.now_ns() + idle_ns):
                await reply.write(chunk)
        except Fault:
            reply.abort()
        else:
            await reply.finish()

    async def _events(self, waits: Waits) -> Delivery:
        response, reply, clock = self._response, self._reply, self._clock
        tap = self._tap = Tap()
        held: list[bytes] = []
        deadline_ns = min(clock.now_ns() + waits.first_ns, waits.deadline_ns)
        while not tap.committed:
            chunk = await response.read(deadline_ns)
            if chunk:
                held.append(chunk)
                tap.feed(chunk)
            else:
                tap.feed_eof()
            if tap.error is not None or tap.malformed:
                return _hidden(tap.error, b"".join(held), "error in a 200 stream")
            if not chunk and (tap.empty or not tap.finished):
                return _hidden(None, b"".join(held), "the stream ended before any content")
            if not chunk:
                break
        content_ns = clock.now_ns()
        await reply.start(response.status, self._head, None)
        await self._pass_on(b"".join(held))
        held.clear()
        detail = await self._rest(tap, waits.idle_ns)
        outcome = Outcome.BROKEN if detail or tap.error is not None else Outcome.OK
        return Delivery(outcome, True, tap.usage, content_ns=content_ns, detail=detail, created=tap.response_id)

    async def _rest(self, tap: Tap, idle_ns: int) -> str:
        """The stream after its commit; what went wrong, or ''. A broken one is ended with an error the caller sees."""
        response, reply, clock = self._response, self._reply, self._clock
        reason = Reason.UPSTREAM_FAILED
        detail = ""
        try:
            while chunk := await response.read(clock.now_ns() + idle_ns):
                tap.feed(chunk)
                await self._pass_on(chunk)
        except Fault as fault:
            if not tap.finished:  # an end without ceremony after the last content is an end
                detail = fault.detail
                reason = Reason.UPSTREAM_TIMEOUT if fault.outcome is Outcome.CONTENT_TIMEOUT else reason
        else:
            tap.feed_eof()
            if not tap.finished and tap.error is None and tap.is_known:
                detail = "the stream ended without finishing"
        if self._strip is not None:
            await reply.write(self._strip.feed_eof())
        if detail:
            await reply.write(
                b"\n\n" + stream_error(Refusal(reason, f"The stream broke off: {detail}."), self._dialect)
            )
        await reply.finish()
        return detail

    async def _pass_on(self, chunk: bytes) -> None:
        await self._reply.write(chunk if self._strip is None else self._strip.feed(chunk))

    async def _whole(self, waits: Waits, may_hide: bool, is_model_s: bool) -> Delivery:
        response, clock = self._response, self._clock
        pieces: list[bytes] = []
        length = 0
        deadline_ns = min(clock.now_ns() + waits.first_ns, waits.deadline_ns)
        while chunk := await response.read(deadline_ns):
            pieces.append(chunk)
            length += len(chunk)
            if length > WHOLE_MAX_BYTES:
                return await self._opaque(waits, pieces)
            deadline_ns = min(clock.now_ns() + waits.idle_ns, waits.deadline_ns)
        body = b"".join(pieces)
        plain = body if self._encoding is None else decoded(body, self._encoding)
        if plain is not None and may_hide and hidden_error(plain):
            return _hidden(plain, body, "error in a 200")
        self._usage = from_body(plain) if plain is not None else None
        if is_model_s and plain is not None and not (self._usage and self._usage.output_tokens):
            wrong = flaw(plain)
            if wrong:
                return Delivery(Outcome.SERVER_ERROR, False, self._usage, detail=wrong)
        content_ns = clock.now_ns()
        await self._reply.send(response.status, self._head, body)
        return Delivery(Outcome.OK, True, self._usage, content_ns=content_ns, created=plain)

    async def _opaque(self, waits: Waits, pieces: list[bytes]) -> Delivery:
        response, reply, clock = self._response, self._reply, self._clock
        if not pieces:
            deadline_ns = min(clock.now_ns() + waits.first_ns, waits.deadline_ns)
            pieces = [await response.read(deadline_ns)]
        content_ns = clock.now_ns()
        await reply.start(response.status, self._head, response.length)
        try:
            for piece in pieces:
                if piece:
                    await reply.write(piece)
            while chunk := await response.read(clock.now_ns() + waits.idle_ns):
                await reply.write(chunk)
        except Fault as fault:
            reply.abort()  # its length or its last chunk is missing: the caller sees that it is not whole
            return Delivery(fault.outcome, True, content_ns=content_ns, detail=fault.detail)
        await reply.finish()
        return Delivery(Outcome.OK, True, content_ns=content_ns)


def _hidden(error: bytes | None, held: bytes, detail: str) -> Delivery:
    return Delivery(Outcome.SERVER_ERROR, False, error=error, held=held, detail=detail)
