"""Plays one act on one connection: waits, writes, stalls, closes early, resets. Decides nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from aiohttp import web

from sidecar.interfaces import Clock, sleep_until
from sidecar.sim.faults import Ending
from sidecar.sim.provider import Act
from sidecar.sim.refusals import Answer

# on, and no time to linger: close() then sends RST instead of FIN (socket(7), SO_LINGER)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Stage:
    """Where an act is played. `tokens_sent`: output delivered so far; `closed_by_us`: the connection's end was ours."""

    def __init__(self, request: web.BaseRequest, clock: Clock, told: Callable[[Act, int], None]) -> None:
        self.tokens_sent = 0
        self.closed_by_us = False
        self._request = request
        self._clock = clock
        self._told = told

    def __repr__(self) -> str:
        return f"<Stage {self._request.method} {self._request.path} tokens_sent={self.tokens_sent}>"

    async def play(self, act: Act) -> web.StreamResponse:
        """Play to the end. Cancelled when the caller leaves, and when the act is to close the connection itself."""
        await self._pause(act.delay_ns)
        answer = act.answer
        if answer is None:
            return await self._break_off(act.ending)
        self._told(act, self._clock.now_ns())
        if act.frames is not None:
            return await self._stream(act, answer)
        self.tokens_sent = act.used.output
        if act.ending is Ending.WHOLE and not act.pause_ns:
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        return await self._broken_body(act, answer)

    async def _stream(self, act: Act, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        await response.prepare(self._request)
        for place, frame in enumerate(act.frames or ()):
            await self._pause(act.gap_ns if place else 0)
            await self._pause(act.pause_ns if place == act.pause_at else 0)
            await response.write(frame.data)
            self.tokens_sent += frame.tokens
        if act.ending in (Ending.WHOLE, Ending.END):
            return response
        return await self._break_off(act.ending)

    async def _broken_body(self, act: Act, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = act.length
        await response.prepare(self._request)
        await self._pause(act.pause_ns)
        await response.write(answer.body)
        if act.ending is Ending.WHOLE:
            return response
        return await self._break_off(Ending.EOF if act.ending is Ending.END else act.ending)

    async def _break_off(self, ending: Ending) -> web.StreamResponse:
        """Close or reset the connection, or leave it as it is; then wait for the end, which cancels this handler."""
        transport = self._request.transport
        if transport is not None and ending is not Ending.STALL:
            self.closed_by_us = True
            if ending is Ending.RST:
                plain: socket.socket = transport.get_extra_info("socket")
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                transport.abort()
            else:
                transport.close()
        ended: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await ended

    async def _pause(self, duration_ns: int) -> None:
        if duration_ns:
            await sleep_until(self._clock, self._clock.now_ns() + duration_ns)
