"""Running a sidecar until it is told to stop: the event loop and the signals. `serve` and `run` share it.

SIGTERM and SIGINT drain, a second one stops at once, SIGHUP reloads. Exit codes: 0, 64 usage or configuration, 70 our
own fault (sysexits.h).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from sidecar.admin.log import LineLog, write_stdout
from sidecar.app import Sidecar, Source, prepare
from sidecar.catalog_file import read_catalog
from sidecar.clock import LoopClock
from sidecar.edge.listening import CannotListen
from sidecar.interfaces import CannotKeep

OK = 0
USAGE = 64
OUR_FAULT = 70

Body = Callable[[Sidecar], Awaitable[int]]

_LOG_EVERY_S = 0.05  # lines of requests wait so long for company


def serve(source: Source, loop: str) -> int:
    """Serve that configuration until a signal; the exit code."""
    return run(source, loop, until_signalled, write_stdout)


def run(source: Source, loop: str, body: Body, sink: Callable[[bytes], None]) -> int:
    """Start a sidecar, let `body` do its work, stop the sidecar; the exit code that `body` returns, or 64."""
    catalog = read_catalog()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        clock = LoopClock(runner.get_loop())
        prepared = prepare(source, catalog, clock.now_ns())
        if isinstance(prepared, list):
            complain(prepared)
            return USAGE
        found = prepared
        return runner.run(_run(lambda: Sidecar(source, found, catalog, clock, LineLog(sink, _LOG_EVERY_S)), body))


def complain(lines: list[str]) -> None:
    """Tell the operator, on standard error."""
    sys.stderr.write("".join(f"sidecar: {line}\n" for line in lines))


async def _run(build: Callable[[], Sidecar], body: Body) -> int:
    sidecar = build()
    try:
        await sidecar.start()
    except (CannotKeep, CannotListen) as error:
        complain([str(error)])
        return USAGE
    gc.collect()
    gc.freeze()  # what was built at the start is never garbage; collections need not walk it
    code = await body(sidecar)
    stopping = asyncio.ensure_future(sidecar.stop())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.cancel)
    try:
        await stopping
    except asyncio.CancelledError:
        if not stopping.cancelled():
            raise
    return code


async def until_signalled(sidecar: Sidecar) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGHUP, sidecar.reload)
    await told.wait()
    return OK


def environment() -> dict[str, str]:
    """The process's environment: read here and handed down, nowhere else."""
    return dict(os.environ)
