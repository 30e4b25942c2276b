"""Several sidecars that share one ledger, in one process on real sockets, before the same simulated providers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.admin.log import LineLog
from sidecar.app import Prepared, Sidecar, Source, prepare
from sidecar.sim.config import SimConfig
from sidecar.sim.server import Simulator
from tests.fakes import LoopClock
from tests.rig import CATALOG, KEYS, Rig, configuration, until


class Fleet:
    """The members, as rigs. One can be added and one taken away at any time."""

    def __init__(self, tmp_path: Path, config: str, sims: Mapping[str, Simulator]) -> None:
        self._tmp_path = tmp_path
        self._config = config
        self.sims = sims
        self.members: list[Rig] = []
        self._count = 0

    async def add(self, more: str = "") -> Rig:
        """One more sidecar. `more`: of its configuration."""
        self._count += 1
        path = self._tmp_path / f"sidecar-{self._count}.yaml"
        path.write_text(configuration(self._config + more, self.sims))
        clock = LoopClock()
        source = Source(str(path), KEYS)
        prepared = prepare(source, CATALOG, clock.now_ns())
        assert isinstance(prepared, Prepared), prepared
        lines: list[bytes] = []
        sidecar = Sidecar(source, prepared, CATALOG, clock, LineLog(lines.append))
        await sidecar.start()
        rig = Rig(sidecar, self.sims, path, lines, is_driven=False)
        self.members.append(rig)
        return rig

    async def remove(self, rig: Rig) -> None:
        """Stop one in order."""
        self.members.remove(rig)
        await rig.client.close()
        await rig.sidecar.stop()

    async def stop(self) -> None:
        """Stop all."""
        for rig in list(self.members):
            await self.remove(rig)


def events(rig: Rig) -> list[str]:
    """The names of the events logged so far."""
    return [line["event"] for line in rig.lines if "event" in line]


async def share(rig: Rig) -> dict[str, Any]:
    """The state of sharing, as the status tells it."""
    status = await rig.status()
    assert isinstance(status["share"], dict)
    return status["share"]


async def told(rig: Rig, event: str, count: int = 1) -> None:
    """Wait until an event was logged so often."""
    await until(lambda: events(rig).count(event) >= count)


@contextlib.asynccontextmanager
async def fleet(tmp_path: Path, config: str, sims: Mapping[str, SimConfig], count: int) -> AsyncIterator[Fleet]:
    """So many sidecars of `config`, until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        simulators: dict[str, Simulator] = {}
        for name, sim in sims.items():
            simulators[name] = Simulator(sim, LoopClock())
            await simulators[name].start("127.0.0.1", 0, None)
            stack.push_async_callback(simulators[name].stop)
        found = Fleet(tmp_path, config, simulators)
        stack.push_async_callback(found.stop)
        for _ in range(count):
            await found.add()
        yield found
