"""What is served: `/mutate`, `/readyz` and `/healthz` over TLS, `/metrics` in the clear on a port of its own.

The handler of an admission reads the body, decides, answers: it calls nobody and waits for nothing else, so 5 s of
`timeoutSeconds` are plenty even for a thousand pods at once. aiohttp keeps idle connections for an hour, longer than
any API server does (90 s), so that none is closed under a POST that would not be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web

from sidecar.core.admission import Answer, Line, answer_to, failed, malformed, read_review
from sidecar.core.admission_counts import Counts
from sidecar.core.admission_standing import Standing, why_unready
from sidecar.core.injection import Verdict
from sidecar.core.limits import SECOND
from sidecar.interfaces import Clock

_MOST_BODY = 8 * 1024 * 1024  # bytes; API servers take requests of 3 MiB, and a review can hold the object twice
_BODY_NS = 10 * SECOND
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Inject = Callable[[Mapping[str, object], str], Verdict]


class Webhook:
    """Answers API servers, kubelets and Prometheus. `log` gets one line for each admission.

    `inject` may be exchanged at any time; `own_uid` is the uid of calls to ourselves, which nobody counts.
    """

    def __init__(self, inject: Inject, standing: Standing, counts: Counts, clock: Clock) -> None:
        self.inject = inject
        self.own_uid = ""
        self.log: Callable[[Line], None] = _discard
        self.uninjected: int | None = None
        self.under_way = 0  # requests that are not answered yet
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.authority_expiry_ns: Callable[[], int | None] = _unknown
        self._standing = standing
        self._counts = counts
        self._clock = clock

    def reasons(self) -> tuple[str, ...]:
        """Why this replica is not ready; nothing when it is."""
        return why_unready(self._standing, self._clock.now_ns())

    async def idle(self) -> None:
        """Until everything that is under way is answered."""
        await self._is_idle.wait()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request to the TLS port."""
        self.under_way += 1
        self._is_idle.clear()
        try:
            return await self._serve(request)
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._is_idle.set()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/mutate":
            response = await self._mutate(request)
        elif request.path == "/healthz":
            response = web.Response(text="ok\n")
        elif request.path == "/readyz":
            reasons = self.reasons()
            response = web.Response(
                text="; ".join(reasons) + "\n" if reasons else "ok\n", status=503 if reasons else 200
            )
        else:
            response = web.Response(status=404, text="There are /mutate, /readyz and /healthz here.\n")
        if self._standing.is_draining:
            # the API server's next call then opens a connection, to a replica that stays
            response.force_close()
        return response

    async def serve_metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request to the port in the clear."""
        if request.path != "/metrics":
            return web.Response(status=404, text="There is /metrics here.\n")
        leaf = self._standing.leaf
        expiries = {"leaf": leaf.not_after_ns if leaf else None, "authority": self.authority_expiry_ns()}
        text = self._counts.text(expiries, not self.reasons(), self.uninjected)
        return web.Response(body=text, headers={"content-type": _METRICS_TYPE})

    async def _mutate(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405, text="POST an AdmissionReview.\n", headers={"allow": "POST"})
        answer = _refusal_of_type(request) or await self._answer(request)
        kind = "application/json" if answer.status == 200 else "text/plain"
        return web.Response(body=answer.body, status=answer.status, content_type=kind)

    async def _answer(self, request: web.BaseRequest) -> Answer:
        body = await _body(request, self._clock)
        start_ns = self._clock.now_ns()
        question = body if isinstance(body, Answer) else read_review(body)
        if isinstance(question, Answer):
            return self._told(question, start_ns)
        try:
            answer = answer_to(question, self.inject)
        except Exception as error:
            # the outermost catch of an admission: an HTTP error lets failurePolicy decide, and the process lives
            answer = failed(question, error)
        return answer if question.uid == self.own_uid else self._told(answer, start_ns)

    def _told(self, answer: Answer, start_ns: int) -> Answer:
        now_ns = self._clock.now_ns()
        duration_ns = now_ns - start_ns
        self._counts.admitted(answer.result, answer.reason, duration_ns)
        time = datetime.fromtimestamp(now_ns / SECOND, UTC).isoformat(timespec="milliseconds")
        line = Line(
            time=time,
            event="admission",
            result=answer.result.value,
            pod=answer.pod,
            reason=answer.reason,
            dry_run=answer.is_dry_run,
            duration_us=duration_ns // 1000,
        )
        self.log(line)
        return answer


def _refusal_of_type(request: web.BaseRequest) -> Answer | None:
    if request.content_type == "application/json":
        return None
    return malformed(415, "an AdmissionReview is application/json")


async def _body(request: web.BaseRequest, clock: Clock) -> bytes | Answer:
    """The whole body, bounded in size and time."""
    try:
        async with asyncio.timeout(None) as limit:
            # 0 is past on the loop's own clock: the time is over as soon as ours says so
            timer = clock.call_at(clock.now_ns() + _BODY_NS, limit.reschedule, 0)
            try:
                return await _bounded(request)
            finally:
                timer.cancel()
    except TimeoutError:
        return malformed(408, "the body did not come in time")


async def _bounded(request: web.BaseRequest) -> bytes | Answer:
    pieces = bytearray()
    async for piece in request.content.iter_any():
        pieces += piece
        if len(pieces) > _MOST_BODY:
            return malformed(413, f"larger than {_MOST_BODY} bytes")
    return bytes(pieces)


def _discard(line: Line) -> None:
    """Nobody listens yet."""


def _unknown() -> int | None:
    return None
