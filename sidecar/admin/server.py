"""The admin port: `/healthz`, `/readyz`, `/metrics`, `/status.json`. Asks no provider and no name server
(H4).

Liveness says that the loop turns; readiness that the data port is open and the process is not draining; neither depends
on providers. Off loopback the status needs one of the callers' tokens; on loopback it needs a right Host, like the
data port (design section 6, Admin).
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from aiohttp import web

from sidecar.admin.metrics import Metrics
from sidecar.core.entrance import Entrance
from sidecar.core.errors import Reason, Refusal, render
from sidecar.core.http import Header

_JSON = "application/json"


class AdminServer:
    """Serves what an operator, a kubelet or a script asks. `status` makes the JSON of `/status.json`."""

    def __init__(self, is_ready: Callable[[], bool], status: Callable[[], bytes], entrance: Entrance) -> None:
        self._is_ready = is_ready
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
        return _refused(Refusal(Reason.UNKNOWN_PATH, "There are /healthz, /readyz, /metrics and /status.json here."))

    def _status_of(self, request: web.BaseRequest) -> web.StreamResponse:
        headers: list[Header] = [(name.lower(), value) for name, value in request.raw_headers]
        entered = self._entrance.enter(b"GET", request.path.encode("utf-8", "replace"), headers, None)
        if isinstance(entered, Refusal):
            return _refused(entered)
        entered.leave()
        return web.Response(body=self._status(), content_type=_JSON, headers={"cache-control": "no-store"})


async def _scraped(metrics: Metrics, request: web.BaseRequest) -> web.Response:
    scraped = await metrics.scrape(request.headers.get("accept", ""), request.headers.get("accept-encoding", ""))
    headers = {"content-type": scraped.content_type, "vary": "accept, accept-encoding"}
    if scraped.encoding is not None:
        headers["content-encoding"] = scraped.encoding
    return web.Response(body=scraped.body, headers=headers)


def _refused(refusal: Refusal) -> web.Response:
    answer = render(refusal)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return web.Response(body=answer.body, status=answer.status, headers=headers)
