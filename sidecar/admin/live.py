"""One board for all who watch, drawn once a second while anybody does, and never otherwise.

Rows are made in slices, so that a house of very many keys does not hold up requests. A viewer that reads slowly misses
boards and gets the latest; one more than may watch is told so. Decides nothing about what is on a board
(core/board.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import msgspec

from sidecar.core.board import Board, House, Selected, draw, order, select
from sidecar.core.limits import SECOND
from sidecar.core.rows import Row, Stops, rows
from sidecar.interfaces import Clock, sleep_until

MOST_VIEWERS = 16
_TICK_NS = SECOND
_SLICE = 32  # rows, a millisecond's work at four windows each


class Live:
    """The board of one process, and who watches it."""

    def __init__(self, house: House, clock: Clock, most: int = MOST_VIEWERS) -> None:
        self.house = house
        self._clock = clock
        self._most = most
        self._encode = msgspec.json.Encoder().encode
        self._drawing: asyncio.Task[None] | None = None
        self._drawn = asyncio.Event()
        self._board: Board | None = None
        self._rows: list[Row] = []
        self._rows_at_ns = 0
        self._told = 0  # requests that were on a board
        self._delta = b""  # the present board as whoever had the one before needs it
        self._whole = b""  # the same for others, made when one comes
        self._is_closed = False
        self.viewers = 0
        self.boards = 0  # drawn since the start

    @property
    def is_full(self) -> bool:
        """Whether nobody more may watch."""
        return self.viewers >= self._most or self._is_closed

    async def boards_from_now(self) -> AsyncGenerator[bytes, None]:
        """The boards as JSON, from now until it is closed; the caller closes the iterator."""
        self.viewers += 1
        seen = 0
        try:
            if self._drawing is None:
                self._board = None
                self._drawing = asyncio.create_task(self._draw_on())
            while not self._is_closed:
                drawing = self._drawing
                if self._board is not None and seen != self.boards:
                    is_next, seen = seen == self.boards - 1, self.boards
                    yield self._delta if is_next and seen > 1 else self._all()
                elif drawing is not None and drawing.done():
                    drawing.result()  # raises what ended it
                    return
                else:
                    await self._drawn.wait()
        finally:
            self.viewers -= 1
            if not self.viewers:
                await self._stop()

    async def selected(self, text: str, level: int, offset: int) -> bytes:
        """A page of the rows, as JSON; made anew when nobody watches."""
        if self._clock.now_ns() - self._rows_at_ns > 2 * _TICK_NS:
            now_ns = self._clock.now_ns()
            self._rows, self._rows_at_ns = await self._make_rows(Stops(self.house.roster, now_ns), now_ns), now_ns
        found: Selected = select(self._rows, text, level, offset)
        return self._encode(found)

    async def close(self) -> None:
        """Send all viewers away."""
        self._is_closed = True
        self._tell()
        await self._stop()

    async def _stop(self) -> None:
        drawing, self._drawing, self._board = self._drawing, None, None
        self._whole = self._delta = b""
        self._rows, self._rows_at_ns = [], 0
        if drawing is not None:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing

    async def _draw_on(self) -> None:
        try:
            while True:
                now_ns = self._clock.now_ns()
                await self._draw(now_ns)
                self._tell()
                await sleep_until(self._clock, now_ns + _TICK_NS)
        finally:
            self._tell()

    async def _draw(self, now_ns: int) -> None:
        stops = Stops(self.house.roster, now_ns)
        self._rows, self._rows_at_ns = await self._make_rows(stops, now_ns), now_ns
        board = draw(self.house, self._rows, stops, now_ns)
        activity = self.house.activity
        board.requests = activity.since(self._told)
        self._told = activity.finished
        self._board, self._delta, self._whole = board, self._encode(board), b""
        self.boards += 1

    async def _make_rows(self, stops: Stops, now_ns: int) -> list[Row]:
        made: list[Row] = []
        for row in rows(self.house.roster, self.house.activity, stops, now_ns):
            made.append(row)
            if not len(made) % _SLICE:
                await asyncio.sleep(0)  # requests go first
        return order(made)

    def _all(self) -> bytes:
        if not self._whole and self._board is not None:
            board = msgspec.structs.replace(self._board, requests=self.house.activity.since(0), all_requests=True)
            # what ended after this board was drawn stands on the next one as well; the page knows them by number
            self._whole = self._encode(board)
        return self._whole

    def _tell(self) -> None:
        drawn, self._drawn = self._drawn, asyncio.Event()
        drawn.set()

    def __repr__(self) -> str:
        return f"<Live {self.viewers}/{self._most} viewers, {self.boards} boards>"
