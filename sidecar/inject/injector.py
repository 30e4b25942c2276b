"""One injector from its first socket to its last answer: wires server, certificates and settings, and ends in order.

The end: unready at once, serve on for `linger_ns` while the cluster takes us out of the Service (each answer closes its
connection, so that API servers move on), then stop listening and finish what is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
from aiohttp import web

from sidecar.core.admission import Line
from sidecar.core.certificates import Lifetimes
from sidecar.core.injection import Settings, Verdict, for_server, inject
from sidecar.core.injector_options import Options, own_address
from sidecar.core.limits import SECOND
from sidecar.inject.api import Api, ApiError, Where
from sidecar.inject.authority import AuthorityKeeper
from sidecar.inject.mounted import MountedCertificate
from sidecar.inject.replica import Replica
from sidecar.inject.reporting import Reporter
from sidecar.inject.server import Webhook
from sidecar.interfaces import Clock, sleep_until

_SETTINGS_EVERY_NS = 10 * SECOND
# API servers drop a connection that was idle for 90 s, and do not repeat a POST on one that we close under it
_KEEP_ALIVE_S = 3600.0
_FINISH_S = 10.0  # an admission takes milliseconds, and API servers give up after `timeoutSeconds`
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}

Said = Callable[[str, str], None]
# The settings now, and what is wrong with them; None: the file is as it was when last asked.
ReadSettings = Callable[[], tuple[Settings, tuple[str, ...]] | None]


class Injector:
    """`where`: the API server, None outside of a cluster. `lifetimes` other than the default are for tests."""

    def __init__(self, options: Options, clock: Clock, where: Where | None, say: Said) -> None:
        self.replica = Replica(options.place, clock, say)
        self.webhook = Webhook(self._no_settings, self.replica.standing, self.replica.counts, clock)
        self.webhook.own_uid = self.replica.own_call.uid
        self.lifetimes = Lifetimes()
        self.addresses: list[tuple[str, int]] = []
        self._options = options
        self._clock = clock
        self._where = where
        self._say = say
        self._api: Api | None = None
        self._runners: list[web.ServerRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._version: tuple[int, int] | None = None

    async def start(self, settings: Settings, read: ReadSettings, log: Callable[[Line], None]) -> None:
        """Listen, and begin to get certificates. OSError when a port cannot be had."""
        self.webhook.log = log
        source = self._source()
        await self._listen(self._options.listen, self.webhook.serve, is_tls=True)
        await self._listen(self._options.metrics_listen, self.webhook.serve_metrics, is_tls=False)
        self.replica.address = own_address(self.addresses[0])
        await self._learn_version()
        self._use(settings)
        self._run(source())
        self._run(self._follow_settings(settings, read))
        if self._options.reports and self._api is not None:
            reporter = Reporter(self.replica, self._api, lambda: self._settings.prefix, self.webhook)
            self._run(reporter.run())

    async def ended(self) -> None:
        """Return, or raise, when a part that should run for ever has ended: our own fault."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Leave the Service, then finish what is under way."""
        self.replica.standing.is_draining = True
        self._say("draining", "no new connections are wanted; admissions are still answered")
        await sleep_until(self._clock, self._clock.now_ns() + self._options.linger_ns)
        await self.close()

    async def close(self) -> None:
        """Stop listening, finish what is under way, end everything else."""
        for runner in self._runners:
            for site in list(runner.sites):
                await site.stop()
        # aiohttp reads no further byte of any body once its own end has begun
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                await self.webhook.idle()
        for runner in self._runners:
            await runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._api is not None:
            await self._api.close()

    def _source(self) -> Callable[[], Awaitable[None]]:
        if self._where is not None:
            self._api = Api(self._where)
        if self._options.is_self and self._api is not None:
            keeper = AuthorityKeeper(self.replica, self._api, self.lifetimes)
            self.webhook.authority_expiry_ns = keeper.expiry_ns
            return keeper.run
        return MountedCertificate(self.replica, Path(self._options.folder)).run

    def _run(self, work: Awaitable[None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _listen(
        self,
        address: tuple[str, int],
        serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        is_tls: bool,
    ) -> None:
        bound = bind(address)
        self.addresses.append(bound.getsockname()[:2])
        runner = web.ServerRunner(
            web.Server(serve, access_log=None, keepalive_timeout=_KEEP_ALIVE_S), shutdown_timeout=_FINISH_S
        )
        self._runners.append(runner)
        await runner.setup()
        context = self.replica.serving.context if is_tls else None
        await web.SockSite(runner, bound, ssl_context=context).start()

    async def _learn_version(self) -> None:
        if self._api is None or self._version is not None:
            return
        try:
            found = await self._api.get("/version")
            self._version = version_of(found or {})
        except ApiError as error:
            self.replica.trouble(str(error))

    async def _follow_settings(self, settings: Settings, read: ReadSettings) -> None:
        while True:
            await sleep_until(self._clock, self._clock.now_ns() + _SETTINGS_EVERY_NS)
            await self._learn_version()
            changed = read()
            if changed is not None:
                if changed[1]:
                    self._say("settings", f"not taken, the last good ones stay: {'; '.join(changed[1])}")
                else:
                    settings = changed[0]
                    self._say("settings", "taken")
            self._use(settings)

    def _use(self, settings: Settings) -> None:
        """Decide by these settings from now on; the injector's own namespace is never touched."""
        excluded = (*settings.excluded_namespaces, self._options.place.namespace)
        chosen = for_server(msgspec.structs.replace(settings, excluded_namespaces=excluded), self._version)
        self._settings = chosen
        self.webhook.inject = lambda pod, namespace: inject(pod, namespace, chosen)

    @staticmethod
    def _no_settings(pod: Mapping[str, object], namespace: str) -> Verdict:
        raise RuntimeError("no settings yet")


def version_of(found: Mapping[str, object]) -> tuple[int, int] | None:
    """(major, minor) of a server's /version; clouds write a minor such as `29+`."""
    numbers = [str(found.get(name, "")).rstrip("+") for name in ("major", "minor")]
    return (int(numbers[0]), int(numbers[1])) if all(number.isdecimal() for number in numbers) else None


def bind(address: tuple[str, int]) -> socket.socket:
    """A listening socket. `::` takes IPv4 as well, and is 0.0.0.0 on a machine without IPv6. OSError when in use."""
    if ":" not in address[0]:
        return socket.create_server(address, backlog=1024)
    is_any = address[0] == "::"
    try:
        dual = is_any and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=socket.AF_INET6, backlog=1024, dualstack_ipv6=dual)
    except OSError as error:
        if is_any and error.errno in _NO_IPV6:
            return socket.create_server(("0.0.0.0", address[1]), backlog=1024)
        raise
