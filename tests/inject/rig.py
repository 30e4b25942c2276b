"""Injectors against an API server of our own: real TLS at both ends, and a clock that the test drives.

OpenSSL compares certificates with the machine's clock, the injector decides by the test's. Both agree on what is valid
because the clock begins at the present time and the lifetimes are such that nothing issued within the test's time is
ever too young or too old by the other clock: they are backdated by more than the test advances.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sidecar.core.admission import Line
from sidecar.core.certificates import Lifetimes
from sidecar.core.injection import Settings
from sidecar.core.injector_options import Options, Told, read_options
from sidecar.core.limits import DAY, MINUTE
from sidecar.inject.api import Where
from sidecar.inject.injector import Injector
from tests.fakes import FakeClock, settle
from tests.inject.api_server import CONFIGURATION, NAMESPACE, SERVICE, ApiServer, configuration

LIFETIMES = Lifetimes(authority_ns=365 * DAY, leaf_ns=300 * DAY, backdate_ns=200 * DAY, overlap_ns=10 * MINUTE)
LEAF_DUE_NS = (2 * 300 - 200) * DAY // 3  # after it was issued: two thirds of its whole life
AUTHORITY_DUE_NS = (2 * 365 - 200) * DAY // 3
WATCHDOG_S = 30  # of one wait: the failure of a test, never its pace


def pod(**metadata: Any) -> dict[str, Any]:
    """A pod that asks for a sidecar."""
    labels = {"sidecar.internal/inject": "true", **metadata.pop("labels", {})}
    spec = {"containers": [{"name": "app", "image": "app", "env": [{"name": "A", "value": "b"}]}]}
    given = {"name": "web-1"} | metadata | {"labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": given, "spec": spec}


def options(**told: Any) -> Options:
    """The command line's, with free ports."""
    told = {"namespace": NAMESPACE, "service": SERVICE, "linger": "5s", **told}
    read = read_options(Told(listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", **told))
    assert isinstance(read, Options), read
    return read


async def until(is_so: Callable[[], object], what: str = "") -> None:
    """Let everybody run until it is so."""
    try:
        async with asyncio.timeout(WATCHDOG_S):
            while not is_so():
                await settle(1)
    except TimeoutError:
        raise AssertionError(f"it never came to be: {what or is_so}") from None


def _is_ready(injector: Injector) -> bool:
    return not injector.webhook.reasons()


class Cluster:
    """An API server, a clock, and injectors: `async with Cluster(tmp_path) as cluster`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = ApiServer()
        self.clock = FakeClock(time.time_ns())
        self.said: list[tuple[str, str]] = []
        self.lines: list[Line] = []
        self.injectors: list[Injector] = []
        self.changes: list[tuple[Settings, tuple[str, ...]]] = []

    async def __aenter__(self) -> Cluster:
        await self.api.__aenter__()
        self.api.put(CONFIGURATION, configuration())
        self.api.objects["/version"] = {"major": "1", "minor": "33+"}
        self.write_account()
        return self

    async def __aexit__(self, *_: object) -> None:
        for injector in self.injectors:
            await injector.close()
        await self.api.__aexit__()

    def write_account(self) -> None:
        """What the kubelet mounts."""
        (self.folder / "token").write_text(self.api.token + "\n")
        (self.folder / "ca.crt").write_bytes(self.api.authority.cert_pem.bytes())

    @property
    def where(self) -> Where:
        """How to reach the API server."""
        return Where(f"https://127.0.0.1:{self.api.port}", self.folder / "token", self.folder / "ca.crt")

    async def replica(self, *, is_ready: bool = True, **told: Any) -> Injector:
        """One more injector, behind the Service."""
        injector = Injector(options(**told), self.clock, self.where, lambda *said: self.said.append(said))
        injector.lifetimes = LIFETIMES
        self.injectors.append(injector)
        settings = Settings(version="1.2.3")
        await injector.start(settings, lambda: self.changes.pop() if self.changes else None, self.lines.append)
        self.api.endpoints.append(injector.addresses[0])
        if is_ready:
            await self.ready(injector)
        return injector

    async def ready(self, *injectors: Injector) -> None:
        """Until each of them (or all there are) is ready."""
        for injector in injectors or self.injectors:
            await until(partial(_is_ready, injector), "ready")

    async def pass_time(self, duration_ns: int, step_ns: int = 30 * DAY) -> None:
        """Let time pass in steps, and everybody do what is due at each."""
        while duration_ns > 0:
            self.clock.advance(min(step_ns, duration_ns))
            duration_ns -= step_ns
            await self.quiet()

    async def quiet(self) -> None:
        """Until nobody has called the API for a while of turns."""
        before = -1
        while before != len(self.api.calls):
            before = len(self.api.calls)
            await settle(60)
