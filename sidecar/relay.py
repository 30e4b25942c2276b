"""One answer of a provider on its way to the caller: held until it is known to be one, then passed on as it came.

Three shapes. A stream of events is held until its first content (comments and preambles are not content); a JSON
answer is read whole, so that an error inside a 200 is seen; anything else goes through piece by piece. What fails while
nothing was passed on is returned as a failure, and another target may answer instead; what fails later is told to the
caller, never hidden and never replayed (acceptance B3 to B6). Where pings are asked for, silence commits as content
does: the caller has its status then, and a failure before the first content is told in the stream as well (B8).
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from sidecar.core.errors import Reason, Refusal, stream_error
from sidecar.core.feedback import hidden_error
from sidecar.core.http import Lines, find
from sidecar.core.limits import Usage
from sidecar.core.outcomes import Fault, Outcome
from sidecar.core.sse import Tap
from sidecar.core.usage import decoded, from_body
from sidecar.core.usage_strip import UsageStrip
from sidecar.core.whole_answer import flaw
from sidecar.delivery import Delivery, Waits
from sidecar.flowing import Flow
from sidecar.interfaces import Clock, Reply
from sidecar.upstream.response import Response

PING: Final = b": ping\n\n"  # a comment, which every reader of events skips (WHATWG HTML, 9.2.6)

# a JSON answer larger than this (a batch of embeddings) is passed on unread: memory stays bounded (E4)
WHOLE_MAX_BYTES: Final = 4 << 20

_OK: Final = Outcome.OK  # an enum's member costs a look-up through its metaclass
_SERVER_ERROR: Final = Outcome.SERVER_ERROR
_UNDER_WAY: Final = Delivery(Outcome.CLIENT_GONE, False)


class Relay:
    """Carries one answer: `open` it, `hold` it where that does not suffice, then `pass_on`, or `release` what turned
    out to be an error. `flaw`: what it turned out to be, when it is no answer; `delivery`: what became of it.

    `has_ended` and `usage` tell, also when the caller hangs up early, whether the provider had said its last word: a
    caller that leaves right after `[DONE]` has had all it wanted.
    """

    def __init__(self, clock: Clock, response: Response, reply: Reply, waits: Waits, dialect: str) -> None:
        self._clock = clock
        self._response = response
        self._reply = reply
        self._waits = waits
        self._dialect = dialect
        known = response.known
        self._encoding = find(response.headers, b"content-encoding") if known is None else known.pattern.encoding
        self._held: list[bytes] = []
        self._tap: Tap | None = None  # of a stream
        self._is_weighed = False  # it is JSON, which is read whole
        self._may_hide = False
        self._is_model_s = False
        self._whole: bytes | None = None  # all of it, as it came
        self._usage: Usage | None = None
        self._strip: UsageStrip | None = None
        self._content_ns: int | None = None
        self.flaw: Delivery | None = None
        self.delivery = _UNDER_WAY

    @property
    def has_ended(self) -> bool:
        """Whether everything that counts of the answer has come."""
        return self._tap.done if self._tap is not None else self._response.complete

    @property
    def usage(self) -> Usage | None:
        """What the answer has reported so far."""
        return self._tap.usage if self._tap is not None else self._usage

    def open(self, method: bytes, is_model_s: bool, strips_usage: bool, now_ns: int) -> bool:
        """Look at what is here, in the way its shape asks; whether that is all to be known before it is passed on, as
        with most answers in JSON. Else `hold` waits for more.

        `is_model_s`: a model was asked, so that an answer in JSON without a word is none. What is only read, such as a
        job that failed, may hold an error and be none. `strips_usage`: the caller did not ask for the usage that a
        stream tells.
        """
        response, known = self._response, self._response.known
        content_type = known.pattern.content_type if known else find(response.headers, b"content-type") or b""
        if content_type.startswith(b"text/event-stream") and self._encoding is None:
            self._tap = Tap()
            self._strip = UsageStrip() if strips_usage else None
        elif content_type.find(b"json") >= 0 and method != b"HEAD":
            self._is_weighed = True
            self._may_hide, self._is_model_s = method == b"POST", is_model_s
            body = response.take()
            if body is not None:
                self._weigh(body, now_ns)
                return True
        return False

    async def hold(self) -> None:
        """Wait until there is something to pass on, or nothing but a failure. Raises Fault. The caller hears nothing of
        any of it."""
        if self._tap is not None:
            self.flaw = await self._hold_events(self._tap)
        elif self._is_weighed:
            body = await self._all()
            if body is not None:
                self._weigh(body, self._clock.now_ns())
        else:
            self._held.append(await self._response.read(self._waits.first_until_ns))
            self._content_ns = self._clock.now_ns()

    def pass_on(self, head: Lines) -> Coroutine[Any, Any, None]:
        """Pass on what was held and all that follows. `head`: the headers as the caller gets them, without framing.
        Raises ClientGone."""
        if self._whole is not None:
            return self._reply.send(self._response.status, head, self._whole)
        return self._pass_opaque(head) if self._tap is None else self._pass_events(self._tap, head)

    async def release(self, head: Lines, held: bytes) -> None:
        """Pass on an answer that `hold` found wanting, and what is left of it: its error is the caller's own."""
        reply = self._reply
        await reply.start(self._response.status, head, None)
        await reply.write(held)
        try:
            while chunk := await self._response.read(self._clock.now_ns() + self._waits.idle_ns):
                await reply.write(chunk)
        except Fault:
            reply.abort()
        else:
            await reply.finish()

    # === a stream of events ===

    async def _hold_events(self, tap: Tap) -> Delivery | None:
        response, held, first_until_ns = self._response, self._held, self._waits.first_until_ns
        while not tap.committed:
            if self._waits.ping_ns is not None and not await self._stirs(first_until_ns):
                return None
            chunk = await response.read(first_until_ns)
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
        self._content_ns = self._clock.now_ns()
        return None

    async def _pass_events(self, tap: Tap, head: Lines) -> None:
        reply = self._reply
        await reply.start(self._response.status, head, None)
        held, self._held = b"".join(self._held), []
        await reply.write(held if self._strip is None else self._strip.feed(held))
        detail = await self._rest(tap)
        outcome = Outcome.BROKEN if detail or tap.error is not None else Outcome.OK
        self.delivery = Delivery(
            outcome, True, tap.usage, content_ns=self._content_ns, detail=detail, created=tap.response_id
        )

    async def _rest(self, tap: Tap) -> str:
        """The stream after its commit; what went wrong, or ''. A broken one is ended with an error the caller sees."""
        reply = self._reply
        reason, detail = Reason.UPSTREAM_FAILED, ""
        try:
            await (self._flow(tap) if self._waits.ping_ns is None else self._pass_pinged(tap))
        except Fault as fault:
            if tap.ends_ill:  # an end without ceremony after the last content is an end
                detail = fault.detail
                reason = Reason.UPSTREAM_TIMEOUT if fault.outcome is Outcome.CONTENT_TIMEOUT else reason
        else:
            tap.feed_eof()
            if tap.ends_ill and (tap.is_known or self._content_ns is None):
                detail = "the stream ended without finishing"
        if self._strip is not None:
            await reply.write(self._strip.feed_eof())
        if detail:
            error = Refusal(reason, f"The stream broke off: {detail}.")
            await reply.write(b"\n\n" + stream_error(error, self._dialect))
        await reply.finish()
        return detail

    async def _flow(self, tap: Tap) -> None:
        """What is left of the stream, each piece in the turn of the loop in which it comes, while nothing keeps it."""
        response, reply, clock, idle_ns = self._response, self._reply, self._clock, self._waits.idle_ns
        flow = Flow(tap, reply, self._strip)
        while True:
            await response.flow(flow, clock, idle_ns)
            await reply.drained()
            if not (chunk := await response.read(clock.now_ns() + idle_ns)):
                return
            await self._pass(tap, chunk)

    async def _pass_pinged(self, tap: Tap) -> None:
        """The same with comments wherever it is silent."""
        await self._until_content(tap)
        while chunk := await self._pinged(tap, self._clock.now_ns() + self._waits.idle_ns):
            await self._pass(tap, chunk)

    async def _pass(self, tap: Tap, chunk: bytes) -> None:
        tap.feed(chunk)
        await self._reply.write(chunk if self._strip is None else self._strip.feed(chunk))

    async def _until_content(self, tap: Tap) -> None:
        """A stream that its silence has committed, up to its content, under the time limit for that."""
        if self._content_ns is None and tap.is_between_events:
            await self._reply.write(PING)
        while self._content_ns is None:
            chunk = await self._pinged(tap, self._waits.first_until_ns)
            await self._pass(tap, chunk)
            if tap.committed:
                self._content_ns = self._clock.now_ns()
            if not chunk:
                return

    async def _pinged(self, tap: Tap, until_ns: int) -> bytes:
        """The next piece; while it does not come, the caller is sent comments wherever an event has ended."""
        while not await self._stirs(until_ns):
            if tap.is_between_events:
                await self._reply.write(PING)
        return await self._response.read(until_ns)

    async def _stirs(self, until_ns: int) -> bool:
        """Whether the provider breaks its silence before the next ping is due."""
        ping_ns = self._clock.now_ns() + (self._waits.ping_ns or 0)
        return await self._response.stirs(self._clock, ping_ns, until_ns)

    # === a whole answer, and anything else ===

    async def _all(self) -> bytes | None:
        """The whole body as it comes; None, and what has come is held, where it is larger than is read."""
        response, clock, pieces, waits = self._response, self._clock, self._held, self._waits
        length, until_ns = 0, waits.first_until_ns
        while chunk := await response.read(until_ns):
            pieces.append(chunk)
            length += len(chunk)
            if length > WHOLE_MAX_BYTES:
                self._content_ns = clock.now_ns()
                return None
            until_ns = min(clock.now_ns() + waits.idle_ns, waits.deadline_ns)
        return b"".join(pieces)

    def _weigh(self, body: bytes, now_ns: int) -> None:
        """Whether a whole body, which is here now, is an answer."""
        plain = body if self._encoding is None else decoded(body, self._encoding)
        usage: Usage | None = None
        if plain is not None:
            if self._may_hide and hidden_error(plain):
                self.flaw = _hidden(plain, body, "error in a 200")
                return
            usage = self._usage = from_body(plain)
            is_answer = usage is not None and usage.output_tokens > 0
            if not is_answer and self._is_model_s and self._response.status == 200 and (wrong := flaw(plain)):
                self.flaw = Delivery(_SERVER_ERROR, False, usage, detail=wrong)
                return
        self._whole, self._content_ns = body, now_ns
        self.delivery = Delivery(_OK, True, usage, None, b"", now_ns, "", plain)

    async def _pass_opaque(self, head: Lines) -> None:
        response, reply, clock, content_ns = self._response, self._reply, self._clock, self._content_ns
        await reply.start(response.status, head, response.length)
        try:
            for piece in self._held:
                if piece:
                    await reply.write(piece)
            self._held.clear()
            while chunk := await response.read(clock.now_ns() + self._waits.idle_ns):
                await reply.write(chunk)
        except Fault as fault:
            reply.abort()  # its length or its last chunk is missing: the caller sees that it is not whole
            self.delivery = Delivery(fault.outcome, True, content_ns=content_ns, detail=fault.detail)
            return
        await reply.finish()
        self.delivery = Delivery(_OK, True, content_ns=content_ns)


def _hidden(error: bytes | None, held: bytes, detail: str) -> Delivery:
    return Delivery(_SERVER_ERROR, False, error=error, held=held, detail=detail)
