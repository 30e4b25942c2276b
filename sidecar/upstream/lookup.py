"""What a name lookup is, and the one by the system: getaddrinfo, in a thread of its own.

It decides which form of a name the system is asked for, so that Kubernetes' search lists (`ndots:5`) are not walked
for public names while short names and those in /etc/hosts keep their meaning. Nothing is cached here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

Address = tuple[int, str]  # socket family, literal IP

_HOSTS = Path("/etc/hosts")


class Answer(NamedTuple):
    """The addresses of a name, best first, never none; `ttl_ns` is None where the source does not tell it."""

    addresses: list[Address]
    ttl_ns: int | None


Lookup = Callable[[str], Awaitable[Answer]]
"""A name's addresses; raises OSError when there are none to be had."""


async def system_lookup(host: str) -> Answer:
    """getaddrinfo. Its thread is a daemon and not the loop's pool: one that hangs holds up neither others nor the end
    of the process."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()
    threading.Thread(target=_run, args=(host, loop, answer), name="getaddrinfo", daemon=True).start()
    return await answer


def _run(host: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Answer]) -> None:
    try:
        outcome: Answer | OSError = Answer(_getaddrinfo(host), None)
    except OSError as error:
        outcome = error
    except UnicodeError:  # a label too long, or empty
        outcome = OSError("not a host name")
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
        loop.call_soon_threadsafe(_settle, answer, outcome)


def _settle(answer: asyncio.Future[Answer], outcome: Answer | OSError) -> None:
    if answer.done():
        return
    if isinstance(outcome, OSError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _getaddrinfo(host: str) -> list[Address]:
    """Addresses in the system's order, each once."""
    *early, last = forms(host)
    for name in early:
        with contextlib.suppress(OSError):
            return _ask(name)
    return _ask(last)


def _ask(name: str) -> list[Address]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def forms(host: str) -> list[str]:
    """The forms of a name to ask the system for, in turn: a trailing dot skips the search list, and /etc/hosts too."""
    if "." not in host or host.endswith(".") or in_hosts(host):
        return [host]
    return [host + ".", host]  # the second: `service.namespace` in a cluster


def in_hosts(host: str, path: Path = _HOSTS) -> bool:
    """Whether /etc/hosts names this host (hosts(5)). Read anew each time: it is small, and lookups are rare."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    wanted = host.lower()
    return any(wanted in line.partition("#")[0].lower().split()[1:] for line in lines)
