"""`/status`, the page; `/status/events`, its boards as server-sent events; `/status/rows`, what a board leaves out.

The stream follows WHATWG HTML, "Server-sent events". Who may see it is asked again with each board: a token that a
reload took away ends the stream. Decides nothing that is on the page.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from aiohttp import web

from sidecar.admin.live import Live
from sidecar.core.errors import Reason, Refusal
from sidecar.core.http import Header
from sidecar.core.limits import SECOND
from sidecar.core.page_access import from_elsewhere, security_headers

_PATIENCE_S = 20  # with a viewer that takes nothing
_PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_LONGEST_TEXT = 200

MaySee = Callable[[], bool]


class StatusPage:
    """Everything below `/status`, for who has been let in."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def close(self) -> None:
        """Send all viewers away."""
        await self._live.close()

    async def answer(
        self, request: web.BaseRequest, headers: list[Header], may_see: MaySee
    ) -> web.StreamResponse | Refusal | None:
        """The answer; None where there is nothing of that name. `may_see`: whether its sender still may."""
        if request.path == "/status":
            return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=self._headers)
        if request.path not in ("/status/events", "/status/rows"):
            return None
        refusal = from_elsewhere(headers)
        if refusal is not None:
            return refusal
        return await (self._rows(request) if request.path == "/status/rows" else self._events(request, may_see))

    @cached_property
    def _page(self) -> bytes:
        return Path(__file__).with_name("status.html").read_bytes()

    @cached_property
    def _headers(self) -> dict[str, str]:
        return security_headers(self._page)

    async def _rows(self, request: web.BaseRequest) -> web.Response:
        query = request.query
        numbers = [_number(query.get(name, "0")) for name in ("level", "offset")]
        body = await self._live.selected(query.get("text", "")[:_LONGEST_TEXT], *numbers)
        return web.Response(body=body, content_type="application/json", headers=_PRIVATE)

    async def _events(self, request: web.BaseRequest, may_see: MaySee) -> web.StreamResponse | Refusal:
        if self._live.is_full:
            message = "as many watch already as may; close another status page"
            return Refusal(Reason.OVERLOADED, message, retry_after_ns=5 * SECOND)
        response = web.StreamResponse(headers=_PRIVATE | {"content-type": "text/event-stream"})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with contextlib.suppress(ConnectionError, TimeoutError):  # the viewer is gone, or takes nothing
            async with contextlib.aclosing(self._live.boards_from_now()) as boards:
                async for board in boards:
                    if not may_see():
                        break
                    async with asyncio.timeout(_PATIENCE_S):
                        await response.write(b"data: " + board + b"\n\n")
        return response


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 9 else 0
