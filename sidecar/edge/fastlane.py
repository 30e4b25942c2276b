"""The fast lane: requests of the hot shape on a protocol of our own, to the same `Service` as the general lane.

One request: head -> enter -> body -> handle, each in the turn of the loop in which its last byte comes. It decides what
is read when, and whether the connection goes on. Which requests are hot is core's to say; the first that is not goes
with its whole connection to the general lane, for good. End of input means the caller is gone (design section 6).
This is the hot path: one task and one timer for each connection, no parser but slices of bytes.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
from typing import Final, cast

from sidecar.core.errors import Refusal, render
from sidecar.core.http import Request
from sidecar.core.intake import Intake, Taken
from sidecar.edge.alarm import Alarm
from sidecar.edge.eager import start
from sidecar.edge.inflow import WORTH_BYTES, Inflow
from sidecar.edge.lane import Lane
from sidecar.edge.refusals import ENDS_CONNECTION, INTERNAL, late_body, unfinished
from sidecar.edge.reply import Asked, HttpReply
from sidecar.edge.writing import Writing
from sidecar.interfaces import ClientGone, Entry

# What is read behind a request that runs: so much that its end is seen, so little that nobody fills the memory with it.
_MAX_AHEAD_BYTES: Final = 64 * 1024
_log: Final = logging.getLogger("sidecar.edge")


class _Phase(enum.Enum):
    HEAD = enum.auto()  # nothing or a part of a head has come
    BODY = enum.auto()  # a request has entered, its body is on its way
    ANSWER = enum.auto()  # the task runs
    LEAVING = enum.auto()  # for the general lane, as soon as all that is written is out


_HEAD, _BODY, _ANSWER, _LEAVING = _Phase  # an attribute of a class costs more than a global
_REQUEST, _ODD = Taken.REQUEST, Taken.ODD
_PLAIN: Final = Asked(False, False, keeps_alive=True)


class FastConnection(Writing):
    """One caller's connection. Implements `reply.Wire` and `open_connections.Closable`."""

    __slots__ = (
        "_alarm", "_called", "_entered", "_has_begun", "_inflow", "_intake", "_is_deaf", "_is_head_due",
        "_lane", "_phase", "_task",
    )  # fmt: skip

    _entered: Entry | Refusal  # of the request that was taken last

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane.open, lane.dates)
        self._lane = lane
        self._phase = _HEAD
        self._intake = Intake(lane.patterns)
        self._inflow: Inflow | None = None  # of a large body that is on its way
        self._alarm = Alarm(lane.clock, self._ring)
        self._is_head_due = True  # the alarm is set for a head: the first, or one of which a part is here
        self._is_deaf = False  # reading is paused
        self._task: asyncio.Task[None] | None = None
        self._called: asyncio.Future[None] | None = None  # the task waits for the next request
        self._has_begun = False  # the task has, with the request that is here

    def __repr__(self) -> str:
        return f"FastConnection({'idle' if self.is_idle else 'busy'}, {self._phase.name}, {self._intake!r})"

    @property
    def is_idle(self) -> bool:
        """Nothing of a request has come that is not answered."""
        return self._phase is _HEAD and not self._intake.held

    # === what the event loop calls ===

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is here."""
        self._transport = cast(asyncio.Transport, transport)
        # so that one who vanished is noticed, also while it waits for an answer
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._open.add(self)
        self._alarm.set(self._lane.timing.client_headers_ns)

    def data_received(self, data: bytes) -> None:
        """Take what this phase waits for."""
        if self._phase is _HEAD:
            if self._take(data):
                self._begin()
        elif self._phase is _BODY:
            if self._intake.take_body(data):
                self._begin()
        else:
            self._intake.held += data
            if len(self._intake.held) > _MAX_AHEAD_BYTES and not self._is_deaf and self._transport is not None:
                self._is_deaf = True
                self._transport.pause_reading()

    def eof_received(self) -> None:
        """The caller is gone. Where nothing is under way for it, the transport closes by itself."""
        # a full buffer would keep a closing transport from ever telling that it is closed
        if self._phase is _BODY or self._phase is _ANSWER:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed: what is under way stops."""
        super().connection_lost(exc)
        self._alarm.close()
        if self._phase is _ANSWER:
            # cancelled before its first step, the task would not give the place back
            if self._has_begun and self._task is not None:
                self._task.cancel()
            return  # it removes the connection when it has ended
        if self._phase is _BODY:
            self._inflow = None  # which knows us: no cycle
            cast(Entry, self._entered).leave()
        self._call()
        self._open.remove(self)

    def resume_writing(self) -> None:
        """The transport takes more."""
        super().resume_writing()
        if self._phase is _LEAVING and self._transport is not None:
            self._transport.set_write_buffer_limits()
            self._leave()

    # === a request comes in ===

    def _take(self, data: bytes) -> bool:
        """Take the next request; whether it can be answered now."""
        taken = self._intake.take(data)
        if taken is _REQUEST:
            self._is_head_due = False
            return self._enter()
        if not self._is_head_due:
            self._is_head_due = True
            self._alarm.set(self._lane.timing.client_headers_ns)
        if taken is _ODD:
            self._leave()
        return False

    def _enter(self) -> bool:
        intake = self._intake
        head = intake.head
        try:
            length = intake.length if head.is_measured else None
            self._entered = self._lane.service.enter(head.method, head.target, head.headers, length, head.notes)
        except Exception:
            _log.exception("a request failed inside the proxy")
            self._entered = INTERNAL
        if not intake.missing or isinstance(self._entered, Refusal):
            return True
        self._phase = _BODY
        self._alarm.set(self._lane.timing.client_body_ns)
        if intake.missing >= WORTH_BYTES and self._transport is not None:
            self._inflow = Inflow(self._transport, self, intake.begun(), intake.length)
        return False

    def body_received(self, body: bytes) -> None:
        """A large one, from its inflow."""
        self._inflow = None
        if self._phase is _BODY:
            self._intake.complete(body)
            self._begin()

    def _ring(self) -> None:
        """What was waited for has not come in time. A request that is being answered has its time elsewhere."""
        if self._phase is _BODY:
            if self._inflow is not None:
                self._inflow.end()
                self._inflow = None
            cast(Entry, self._entered).leave()
            late, head = late_body(self._lane.timing.client_body_ns), self._intake.head
            self._entered = self._lane.service.refused(head.method, head.target, late)
            self._begin()
        elif self._phase is _HEAD:
            if self._intake.held:
                self._leave()  # to where a head that is late is answered
            else:
                self.force_close()

    # === and is answered ===

    def _begin(self) -> None:
        self._phase = _ANSWER
        self._has_begun = False
        if self._called is None:
            self._task = start(self._serve(), self._lane.loop)
        else:
            self._call()

    async def _serve(self) -> None:
        """Answer the request that was taken, and each that follows."""
        self._has_begun = True
        try:
            while await self._answer():
                if not self._go_on():
                    if self._phase is not _HEAD:
                        break
                    self._called = self._lane.loop.create_future()
                    await self._called
                    if self._phase is not _ANSWER:
                        break
                    self._has_begun = True
        except ClientGone:
            pass
        finally:
            if self._phase is _ANSWER:
                self._end()

    def _call(self) -> None:
        """Let the task go on: with the request that is here, or to its end."""
        called, self._called = self._called, None
        if called is not None and not called.done():
            called.set_result(None)

    async def _answer(self) -> bool:
        """One request to the end of its answer; whether the connection may go on."""
        head, entered = self._intake.head, self._entered
        is_plain = head.keeps_alive and head.method != b"HEAD"
        reply = HttpReply(self, _PLAIN if is_plain else Asked(head.method == b"HEAD", False, head.keeps_alive))
        if isinstance(entered, Refusal):
            await self._refuse(reply, entered)
            return reply.keeps_alive and not self._open.is_draining
        try:
            if self._transport is None:
                raise ClientGone  # before the task's first step
            body, caller = self._intake.body(), entered.caller  # as large as was declared, and counted with that
            request = Request(head.method, head.target, head.headers, body, caller, head.is_measured, head.notes)
            await self._lane.service.handle(request, reply)
        except ClientGone:
            raise
        except Exception:
            # the outermost catch of a request: whatever is wrong with us, the caller is told, and the process lives
            _log.exception("a request failed inside the proxy")
        finally:
            entered.leave()
        if not reply.is_finished and (refusal := unfinished(reply)) is not None:
            await self._refuse(reply, refusal)
        return reply.keeps_alive and not self._open.is_draining

    async def _refuse(self, reply: HttpReply, refusal: Refusal) -> None:
        # what is on its way of the body will not be read
        is_last = refusal.reason in ENDS_CONNECTION or self._intake.missing > 0
        if is_last:
            reply.keeps_alive = False
        answer = render(refusal, refusal.dialect)
        await reply.send(answer.status, answer.headers, answer.body)
        if is_last and self._transport is not None:
            self._lane.general.make_protocol().see_off(self._let_go())
            self._open.remove(self)

    def _go_on(self) -> bool:
        """Whether another request is here."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        self._phase = _HEAD
        if self._is_deaf:
            self._is_deaf = False
            transport.resume_reading()
        if not self._intake.held:
            self._alarm.set(self._lane.timing.client_idle_ns)
        elif self._take(b""):
            self._phase = _ANSWER
            return True
        return False

    def _end(self) -> None:
        self._phase = _HEAD
        if self._transport is None:
            self._open.remove(self)
        else:
            self._transport.close()

    # === the way to the general lane ===

    def _leave(self) -> None:
        """Give the connection and what has come to the general lane, as soon as all that is written is out."""
        transport = self._transport
        if transport is None:
            return
        self._phase = _LEAVING
        if transport.get_write_buffer_size():
            transport.set_write_buffer_limits(0)  # from now on resume_writing means: nothing is left
        else:
            due_ns = self._alarm.due_ns
            self._lane.general.make_protocol().take_over(self._let_go(), self._intake.held, due_ns)
            self._open.remove(self)

    def _let_go(self) -> asyncio.Transport:
        transport, self._transport = cast(asyncio.Transport, self._transport), None
        self._phase = _LEAVING
        self._call()
        self._alarm.close()
        if self._is_deaf:
            transport.resume_reading()
        return transport
