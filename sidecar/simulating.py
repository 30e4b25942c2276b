"""`sidecar sim`: one simulated provider until a signal."""

from __future__ import annotations

import asyncio
import signal

import click

from sidecar.clock import LoopClock
from sidecar.serving import OK, USAGE, complain
from sidecar.sim.config import SimConfig
from sidecar.sim.server import Listen, Simulator, run


def simulate(config: SimConfig, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    with asyncio.Runner() as runner:
        return runner.run(_simulate(Listen(config, host, port)))


async def _simulate(listen: Listen) -> int:
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(run([listen], LoopClock(loop), _announce))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return OK
    except OSError as error:
        complain([f"cannot listen on {listen.host}:{listen.port}: {error.strerror}; choose another --port"])
        return USAGE
    return OK


def _announce(simulators: list[Simulator]) -> None:
    for simulator in simulators:
        origin = simulator.base_url.removesuffix(simulator.provider.dialect.base)
        click.echo(f"{simulator.provider.dialect.name}   {simulator.base_url}   control: {origin}/_sim/stats")
