"""Names by c-ares (aiodns 4 on pycares 5), replaced by a new one after two failures in a row.

A channel that has lost its way (its servers gone, its sockets dead after a sleep) does not always find back; a new one
costs a thread and reads resolv.conf anew. That a name does not exist is an answer, not a failure.
Names are asked as absolute, so search lists are not walked; c-ares then does not look into /etc/hosts either, so a
name that stands there is left to the system.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import aiodns
import pycares

from sidecar.core.limits import SECOND
from sidecar.upstream.lookup import Answer, in_hosts

MAX_FAILURES = 2
# getaddrinfo is started long before: what takes longer is of no use any more
_TIMEOUT_S = 1.0
_TRIES = 2
_NO_SUCH_NAME = {pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA}


class Channel(Protocol):
    """What is used of aiodns.DNSResolver."""

    def getaddrinfo(
        self, host: str, family: socket.AddressFamily = ..., *, type: int = ...
    ) -> Awaitable[pycares.AddrInfoResult]:
        """Addresses of both families, best first."""

    async def close(self) -> None:
        """Give the sockets and the thread back."""


def new_channel() -> Channel:
    """A channel for the running loop, configured by resolv.conf."""
    return aiodns.DNSResolver(timeout=_TIMEOUT_S, tries=_TRIES)


class Cares:
    """A Lookup over c-ares. Must be called from the loop it was first called from."""

    def __init__(self, make: Callable[[], Channel] = new_channel, is_local: Callable[[str], bool] = in_hosts) -> None:
        self._make = make
        self._is_local = is_local
        self._channel: Channel | None = None
        self._failures = 0  # in a row

    def __repr__(self) -> str:
        return f"<Cares failures={self._failures}>"

    async def __call__(self, name: str) -> Answer:
        """The addresses of an absolute name. Raises OSError."""
        if self._is_local(name.rstrip(".")):
            raise OSError("c-ares: left to /etc/hosts")
        try:
            if self._channel is None:
                self._channel = self._make()
            result = await self._channel.getaddrinfo(name, socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except (aiodns.error.DNSError, pycares.AresError) as error:
            if error.args[:1] and error.args[0] in _NO_SUCH_NAME:
                self._failures = 0
            else:
                await self._failed()
            raise OSError(f"c-ares: {error.args[-1] if error.args else 'failed'}") from None
        except BaseException:  # cancelled: the other resolver was faster by far
            await self._failed()
            raise
        self._failures = 0
        return _answer(result)

    async def close(self) -> None:
        """Give the channel back; the next call makes a new one."""
        channel, self._channel, self._failures = self._channel, None, 0
        if channel is not None:
            await channel.close()

    async def _failed(self) -> None:
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            await self.close()


def _answer(result: pycares.AddrInfoResult) -> Answer:
    addresses = [(int(node.family), _text(node.addr[0])) for node in result.nodes]
    if not addresses:
        raise OSError("c-ares: no address")
    return Answer(addresses, min(node.ttl for node in result.nodes) * SECOND)


def _text(address: str | bytes) -> str:
    return address if isinstance(address, str) else address.decode("ascii")
