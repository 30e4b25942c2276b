"""Reports pods that ask for a sidecar and have none, as an Event and a metric (`--report-uninjected`, acceptance D2).

A list with a selector each fifteen seconds, so that such a pod is known within thirty. Needs rights of its own (list
pods, create events), which is why it is off unless asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.core.limits import SECOND
from sidecar.core.uninjected import Reported, Uninjected, event_of, selector, uninjected_in
from sidecar.inject.api import CONFLICT, Api, ApiError
from sidecar.inject.replica import Replica
from sidecar.inject.server import Webhook
from sidecar.interfaces import sleep_until

_EVERY_NS = 15 * SECOND
_PAGE = "500"


class Reporter:
    """Runs until cancelled. `prefix` is asked each time: settings change."""

    def __init__(self, replica: Replica, api: Api, prefix: Callable[[], str], webhook: Webhook) -> None:
        self._replica = replica
        self._api = api
        self._prefix = prefix
        self._webhook = webhook
        self._reported = Reported()

    async def run(self) -> None:
        """Look until cancelled."""
        clock = self._replica.clock
        while True:
            try:
                await self.turn()
            except ApiError as error:
                self._replica.counts.api_errors += 1
                self._replica.say("trouble", f"pods without a sidecar cannot be reported: {error}")
            await sleep_until(clock, clock.now_ns() + _EVERY_NS)

    async def turn(self) -> None:
        """Look once and report what is new."""
        found = await self._list()
        self._webhook.uninjected = len(found)
        now_ns = self._replica.clock.now_ns()
        for pod in self._reported.due(found, now_ns):
            try:
                await self._report(pod, now_ns)
            except ApiError:
                self._reported.failed(pod)
                raise

    async def _list(self) -> tuple[Uninjected, ...]:
        query = {"labelSelector": selector(self._prefix()), "limit": _PAGE}
        found: tuple[Uninjected, ...] = ()
        while True:
            listed = await self._api.list("/api/v1/pods", query)
            found += uninjected_in(listed)
            metadata = listed.get("metadata")
            rest = metadata.get("continue") if isinstance(metadata, dict) else None
            if not rest:
                return found
            query = {**query, "continue": str(rest)}

    async def _report(self, pod: Uninjected, now_ns: int) -> None:
        event = event_of(pod, self._prefix(), self._replica.place.service, now_ns)
        try:
            await self._api.create(f"/api/v1/namespaces/{pod.namespace}/events", event)
        except ApiError as error:
            if error.status != CONFLICT:  # another replica has said it
                raise
        self._replica.say("uninjected", f"{pod.namespace}/{pod.name} asks for a sidecar and has none")
