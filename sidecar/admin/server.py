"""The admin port: health, readiness, metrics and status. Never touches the network, never asks a provider (H4).

Liveness says that the loop turns; readiness that the data port is open and the process is not draining; neither depends
on providers. Off loopback the status needs one of the callers' tokens, which a browser gives as the password of HTTP
Basic; on loopback it needs a right Host, like the data port (design section 6, Admin).
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from aiohttp import web

from sidecar.admin.metrics import Metrics
from sidecar.admin.page import StatusPage
from sidecar.core.entrance import Entrance
from sidecar.core.errors import Reason, Refusal, render
from sidecar.core.http import Header
from sidecar.core.page_access import CHALLENGE, as_token

_JSON = "application/json"


class AdminServer:
    """Serves what an operator, a kubelet or a script asks. `status` makes the JSON of `/status.json`."""

    def __init__(
        self,
        is_ready: Callable[[], bool],
        status: Callable[[], bytes],
        entrance: Entrance,
        page: StatusPage | None = None,
    ) -> None:
        self._is_ready = is_ready
        self._page = page
        self._status = status
        self._entrance = entrance
        self.metrics: Metrics | None = None  # what `/metrics` tells; None: nothing is there
        self._runner: web.ServerRunner | None = None

    async def start(self, bound: socket.socket) -> int:
        """Listen on a socket that is bound; its port."""
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=1)
        await self._runner.setup()
        await web.SockSite(self._runner, bound).start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        if self._page is not None:
            await self._page.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            message = "The admin port answers GET and HEAD only."
            return _refused(Refusal(Reason.METHOD_NOT_ALLOWED, message, allow="GET, HEAD"))
        if request.path == "/healthz":
            return web.Response(text="ok\n")
        if request.path == "/readyz":
            ready = self._is_ready()
            return web.Response(text="ok\n" if ready else "draining\n", status=200 if ready else 503)
        if request.path == "/metrics" and self.metrics is not None:
            return await _scraped(self.metrics, request)
        if request.path == "/status.json":
            return self._status_of(request)
        if self._page is not None and request.path.startswith("/status"):
            return await self._page_of(self._page, request)
        return _refused(_NOTHING)

    def _status_of(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._asked(request, _headers(request))
        if refusal is not None:
            return _refused(refusal)
        return web.Response(body=self._status(), content_type=_JSON, headers={"cache-control": "no-store"})

    async def _page_of(self, page: StatusPage, request: web.BaseRequest) -> web.StreamResponse:
        headers = _headers(request)
        refusal = self._asked(request, headers)
        if refusal is not None:
            return _refused(refusal)
        answer = await page.answer(request, headers, lambda: self._asked(request, headers) is None)
        return _refused(answer or _NOTHING) if answer is None or isinstance(answer, Refusal) else answer

    def _asked(self, request: web.BaseRequest, headers: list[Header]) -> Refusal | None:
        """Why the sender may not see the status, if so."""
        entered = self._entrance.enter(headers, None)
        if isinstance(entered, Refusal):
            return entered
        entered.leave()
        return None


_NOTHING = Refusal(Reason.UNKNOWN_PATH, "There are /healthz, /readyz, /metrics, /status and /status.json here.")


def _headers(request: web.BaseRequest) -> list[Header]:
    return as_token([(name.lower(), value) for name, value in request.raw_headers])


async def _scraped(metrics: Metrics, request: web.BaseRequest) -> web.Response:
    scraped = await metrics.scrape(request.headers.get("accept", ""), request.headers.get("accept-encoding", ""))
    headers = {"content-type": scraped.content_type, "vary": "accept, accept-encoding"}
    if scraped.encoding is not None:
        headers["content-encoding"] = scraped.encoding
    return web.Response(body=scraped.body, headers=headers)


def _refused(refusal: Refusal) -> web.Response:
    answer = render(refusal)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    if answer.status == 401:
        headers["www-authenticate"] = CHALLENGE
    return web.Response(body=answer.body, status=answer.status, headers=headers)
