"""`sidecar run -- COMMAND`: a sidecar for the life of one command, on ports of its own.

The command sees the base URLs and nothing of ours on its standard output; it gets our signals, and its exit code is
ours.
"""

from __future__ import annotations

import asyncio
import signal

from sidecar.app import Sidecar, Source
from sidecar.core.config import Address
from sidecar.core.variables import placeholders, variables
from sidecar.serving import USAGE, complain, environment
from sidecar.serving import run as run_sidecar


def run(path: str | None, loop: str, command: tuple[str, ...]) -> int:
    """Run `command` beside a sidecar; its exit code, 128 + n when signal n ended it."""
    environ = environment()

    async def body(sidecar: Sidecar) -> int:
        return await _run(sidecar, command, environ)

    source = Source(path, environ, _ON_ANY_PORT, _ON_ANY_PORT[0]) if path is None else Source(path, environ)
    return run_sidecar(source, loop, body, _discard)


_PASSED_ON = (signal.SIGTERM, signal.SIGINT)
_ON_ANY_PORT = (Address("127.0.0.1", 0),)


def _discard(lines: bytes) -> None:
    """Access lines would mix with the command's own output."""


async def _run(sidecar: Sidecar, command: tuple[str, ...], environ: dict[str, str]) -> int:
    names = [provider.name for provider in sidecar.config.providers]
    address = next(each for each in sidecar.listening if ":" not in each.host or len(sidecar.listening) == 1)
    child_environ = environ | variables(str(address), names) | placeholders(environ, names)
    child_environ["NO_PROXY"] = ",".join(filter(None, (environ.get("NO_PROXY"), "127.0.0.1", "localhost")))
    loop = asyncio.get_running_loop()
    told: list[signal.Signals] = []  # before there is a child to tell
    for number in _PASSED_ON:
        loop.add_signal_handler(number, told.append, number)
    try:
        child = await asyncio.create_subprocess_exec(*command, env=child_environ)
    except OSError as error:
        complain([f"{command[0]} cannot be run: {error.strerror}"])
        return USAGE
    for number in _PASSED_ON:
        loop.add_signal_handler(number, _pass_on, child, number)
    for number in told:
        _pass_on(child, number)
    code = await child.wait()
    return code if code >= 0 else 128 - code


def _pass_on(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if child.returncode is None:
        child.send_signal(number)
