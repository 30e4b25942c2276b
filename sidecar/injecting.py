"""`sidecar inject`: the admission webhook until a signal. Settings come from a file that is read again when it changes.

Exit codes: 0 after SIGTERM or SIGINT, when everything under way is finished (a second signal does not wait); 64 for
usage or settings; 70 when a part of it ended by itself.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvloop

from sidecar import __version__
from sidecar.admin.log import write_stdout
from sidecar.clock import LoopClock
from sidecar.core.admission import Line
from sidecar.core.injection import Settings, read_settings
from sidecar.core.injector_options import Options, Told, read_options
from sidecar.core.limits import SECOND
from sidecar.inject.api import in_cluster
from sidecar.inject.injector import Injector
from sidecar.interfaces import Clock
from sidecar.serving import OK, OUR_FAULT, USAGE, complain, environment
from sidecar.yamlfile import read_yaml


class _Event(msgspec.Struct):
    time: str
    event: str
    message: str


class SettingsFile:
    """Reads the settings, and tells when they have changed. Without a path: the defaults, for ever."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._text: str | None = None

    def __call__(self) -> tuple[Settings, tuple[str, ...]] | None:
        """The settings and what is wrong with them; None when the file is as it was."""
        try:
            text = "" if self._path is None else Path(self._path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            if self._text is None:
                return Settings(), (f"{self._path} cannot be read: {error}",)
            return None  # the kubelet swaps a link; what was read stays good
        if text == self._text:
            return None
        self._text = text
        document = read_yaml(text)
        if document.problems:
            return Settings(), tuple(f"{self._path}: {each.path} {each.message}" for each in document.problems)
        settings, problems = read_settings(document.tree)
        return msgspec.structs.replace(settings, version=__version__), problems


def inject(path: str | None, told: Told) -> int:
    """Serve until a signal; the exit code."""
    options = read_options(told)
    if isinstance(options, list):
        complain(options)
        return USAGE
    where = in_cluster(environment())
    if options.is_self and where is None:
        complain(["--certificates self works in a cluster only (KUBERNETES_SERVICE_HOST is not set)"])
        return USAGE
    file = SettingsFile(path)
    settings, problems = file() or (Settings(), ())
    if problems:
        complain(list(problems))
        return USAGE
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        clock = LoopClock(runner.get_loop())
        return runner.run(_inject(Injector(options, clock, where, _sayer(clock)), options, settings, file))


async def _inject(injector: Injector, options: Options, settings: Settings, file: SettingsFile) -> int:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        await injector.start(settings, file, _log)
    except OSError as error:
        complain([f"cannot listen on {options.listen} and {options.metrics_listen}: {error}; choose other ports"])
        await injector.close()
        return USAGE
    for (host, port), what in zip(injector.addresses, ("admissions", "metrics"), strict=True):
        injector.replica.say("listening", f"{what} on [{host}]:{port}" if ":" in host else f"{what} on {host}:{port}")
    waiting = asyncio.ensure_future(told.wait())
    ended = asyncio.ensure_future(injector.ended())
    await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
    if not told.is_set():
        waiting.cancel()
        await injector.close()
        await ended
        return OUR_FAULT
    ended.cancel()
    await _stop(injector)
    return OK


async def _stop(injector: Injector) -> None:
    stopping = asyncio.ensure_future(injector.stop())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.cancel)
    try:
        await stopping
    except asyncio.CancelledError:
        if not stopping.cancelled():
            raise


_ENCODER = msgspec.json.Encoder()


def _log(line: Line) -> None:
    write_stdout(_ENCODER.encode(line) + b"\n")


def _sayer(clock: Clock) -> Callable[[str, str], None]:
    def say(event: str, message: str) -> None:
        time = datetime.fromtimestamp(clock.now_ns() / SECOND, UTC).isoformat(timespec="milliseconds")
        write_stdout(_ENCODER.encode(_Event(time, event, message)) + b"\n")

    return say
