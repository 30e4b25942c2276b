"""Opens the sockets that callers connect to, all of them or none, and says in words why one cannot be had.

127.0.0.1 and ::1 are two addresses, and which of them `localhost` means depends on the caller's resolver; so both are
served where both exist (acceptance C15). Knows nothing of what is spoken on a connection.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from sidecar.core.config import ANY, Address

_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.EPFNOSUPPORT})
_REMEDIES = {
    errno.EADDRINUSE: "another process listens there: stop it, or choose another port (port 0 takes any free one)",
    errno.EACCES: "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): choose a higher port",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address: use one that `ip address` lists",
    errno.EAFNOSUPPORT: "this machine has no such address family: use 127.0.0.1",
}


class CannotListen(Exception):
    """An address cannot be bound; the text names it, the system's reason and a remedy."""


def open_sockets(listen: Sequence[Address]) -> list[socket.socket]:
    """Bound sockets in the order given. An optional address is left out where the system does not have it."""
    opened: list[socket.socket] = []
    try:
        for address in listen:
            bound = _bound_or_left_out(address)
            if bound is not None:
                opened.append(bound)
    except BaseException:
        for bound in opened:
            bound.close()
        raise
    return opened


def address_of(bound: socket.socket) -> Address:
    """Where a bound socket listens, its port as the system chose it."""
    host, port = bound.getsockname()[:2]
    return Address(host, port)


def _bound_or_left_out(address: Address) -> socket.socket | None:
    try:
        return _bound(address)
    except OSError as error:
        if address.is_optional and error.errno in _NO_IPV6:
            return None
        remedy = _REMEDIES.get(error.errno or 0, "use an IP address of this machine and a port from 0 to 65535")
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise CannotListen(f"cannot listen on {address}: {reason}; {remedy}") from error


def _bound(address: Address) -> socket.socket:
    if address.host == ANY:
        return _bound_anywhere(address.port)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # [::] is to mean IPv6 alone, so that 0.0.0.0 beside it is no conflict
    return _bound_in(family, address.host, address.port, is_v6_only=True)


def _bound_anywhere(port: int) -> socket.socket:
    """One socket for both families; for IPv4 alone where the system has no other."""
    try:
        return _bound_in(socket.AF_INET6, "::", port, is_v6_only=False)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _bound_in(socket.AF_INET, "0.0.0.0", port, is_v6_only=False)


def _bound_in(family: socket.AddressFamily, host: str, port: int, *, is_v6_only: bool) -> socket.socket:
    # the protocol by name: asyncio switches off Nagle's delay (40 ms between two events of a stream) for no other
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setblocking(False)
        # a restart must not wait for the connections of the process before it to leave TIME_WAIT
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(is_v6_only))
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound
