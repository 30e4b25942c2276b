"""Keeps the certificates of `--certificates self` in order: the shared authority, this replica's leaf, the live bundle.

Every look is a whole one: read the Secret and the webhook configuration, let core say the one thing to do, do it, look
again until nothing is left. Watches only say when to look; a look each minute finds what they missed, and what time
alone brings about. Replicas need no leader: writes of the Secret carry its resourceVersion, so one of two that race is
refused, reads, and finds the work done; the bundle all would write is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import NamedTuple

from sidecar.core.admission_standing import retry_after_ns
from sidecar.core.certificate_secret import authorities_in, bundle_patch, live_bundles, secret_with
from sidecar.core.certificates import (
    Authorities,
    Leaf,
    Lifetimes,
    Step,
    after,
    bundle_of,
    leaf_is_due,
    next_step,
)
from sidecar.core.limits import MINUTE
from sidecar.inject.api import CONFLICT, INVALID, Api, ApiError, Object
from sidecar.inject.issuing import Issuer
from sidecar.inject.replica import Replica
from sidecar.inject.watching import Watched, follow

_EVERY_NS = MINUTE
_MOST_LOOKS = 12  # at one go; a rotation needs three, and each lost race one more


class _Known(NamedTuple):
    """What was read last: enough to go on with while the API is silent."""

    authorities: Authorities
    bundles: tuple[str | None, ...]


class AuthorityKeeper:
    """Runs until cancelled. `Lifetimes` other than the default are for tests."""

    def __init__(self, replica: Replica, api: Api, lifetimes: Lifetimes) -> None:
        self._replica = replica
        self._place = replica.place
        self._clock = replica.clock
        self._api = api
        self._lifetimes = lifetimes
        self._issuer = Issuer(replica.place.hosts, lifetimes)
        self._known: _Known | None = None
        self._leaf: Leaf | None = None
        self._failures = 0
        self._wake = asyncio.Event()
        # a handshake must work before there is anything to trust: the kubelet asks /healthz, and verifies nothing
        now_ns = self._clock.now_ns()
        passing = self._issuer.leaf(self._issuer.authority(now_ns), now_ns).signer
        replica.serving.load(passing.certificate.pem, passing.key)

    @property
    def authorities(self) -> Authorities | None:
        """What the Secret held when it was read last."""
        return self._known.authorities if self._known else None

    def expiry_ns(self) -> int | None:
        """When the authority that signs expires, Unix ns."""
        return self._known.authorities.current.certificate.not_after_ns if self._known else None

    async def run(self) -> None:
        """Keep everything in order until cancelled."""
        place, wake, failed = self._place, self._wake.set, self._failed
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._turns())
            for path, name in ((place.secrets_path, place.secret), (place.configurations_path, place.configuration)):
                tasks.create_task(follow(self._api, self._clock, Watched(path, name, wake, failed)))

    async def turn(self) -> int:
        """One turn: put everything in order, then call ourselves. How long to wait for the next one, ns."""
        try:
            await self._until_in_order()
            self._failures = 0
        except ApiError as error:
            self._failed(error)
            self._failures += 1
            self._serve_on()
        if self._known is not None:
            await self._replica.call_itself(bundle_of(self._known.authorities, self._clock.now_ns()))
        if self._failures:
            return retry_after_ns(self._failures)
        if not self._replica.standing.call and not self._replica.standing.bundle:
            self._replica.well()
        return _EVERY_NS

    async def _turns(self) -> None:
        while True:
            self._wake.clear()
            timer = self._clock.call_at(self._clock.now_ns() + await self.turn(), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _until_in_order(self) -> None:
        for _ in range(_MOST_LOOKS):
            if await self._look():
                return
        raise ApiError(0, f"what is written does not stay written: {_MOST_LOOKS} attempts")

    async def _look(self) -> bool:
        """Read everything and do the first thing that is to be done; whether nothing was."""
        secret = await self._api.get(self._place.secret_path)
        configuration = await self._api.get(self._place.configuration_path)
        now_ns = self._clock.now_ns()
        found = authorities_in(secret, self._issuer)
        bundles = live_bundles(configuration, self._place)
        step = next_step(found, bundles, self._lifetimes, now_ns)
        if step is not Step.KEEP or found is None:
            await self._take(step, found, secret)
            return False
        self._known = _Known(found, bundles)
        self._renew(now_ns)
        patch = bundle_patch(configuration, self._place, bundle_of(found, now_ns))
        self._replica.standing.bundle = self._bundle_problem(configuration, bundles, patch)
        if not patch:
            if not bundles:
                self._replica.trouble(self._replica.standing.bundle or "")
            return True
        await self._write("bundle", self._api.patch(self._place.configuration_path, patch))
        return False

    async def _take(self, step: Step, found: Authorities | None, secret: Object | None) -> None:
        now_ns = self._clock.now_ns()
        fresh = self._issuer.authority(now_ns) if step in (Step.CREATE, Step.INTRODUCE) else None
        wanted = secret_with(after(step, found or self.authorities, fresh, now_ns), self._place, secret)
        write = (
            self._api.create(self._place.secrets_path, wanted)
            if secret is None
            else self._api.replace(self._place.secret_path, wanted)
        )
        await self._write(step.value, write)

    async def _write(self, kind: str, write: Awaitable[Object]) -> None:
        """Write, unless somebody else was faster: then what they wrote is read next."""
        try:
            await write
        except ApiError as error:
            if error.status not in (CONFLICT, INVALID):
                raise
            self._replica.say("certificates", f"{kind}: another replica was faster")
            return
        self._replica.counts.rotations[kind] += 1
        self._replica.say("certificates", f"{kind}: written")

    def _bundle_problem(self, configuration: Object | None, bundles: tuple[str | None, ...], patch: object) -> str:
        place = self._place
        if configuration is None:
            return f"there is no webhook configuration {place.configuration}"
        if not bundles:
            return f"no webhook of {place.configuration} calls the service {place.namespace}/{place.service}"
        return "the live caBundle is not ours yet" if patch else ""

    def _renew(self, now_ns: int) -> None:
        """A new leaf, when one is due."""
        if self._known is None or not leaf_is_due(self._leaf, *self._known, now_ns):
            return
        current = self._known.authorities.current
        leaf = self._issuer.leaf(current, now_ns)
        self._replica.serve_with(leaf.signer.certificate, leaf.signer.certificate.pem, leaf.signer.key)
        self._leaf = leaf

    def _serve_on(self) -> None:
        """The API is silent: what is known suffices for a new leaf as long as the authority lives."""
        now_ns = self._clock.now_ns()
        if self._known is not None and self._known.authorities.current.certificate.is_valid(now_ns):
            self._renew(now_ns)

    def _failed(self, error: ApiError) -> None:
        self._replica.counts.api_errors += 1
        self._replica.trouble(str(error))
