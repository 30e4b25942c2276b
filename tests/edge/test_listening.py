"""Sockets: bound where asked, left out only where allowed, and refused in words an operator can act on."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from sidecar.core.config import Address
from sidecar.edge.listening import CannotListen, address_of, open_sockets

LOOPBACK = Address("127.0.0.1", 0)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_C15_an_ipv6_twin_is_bound_where_the_system_has_it():
    sockets = open_sockets([LOOPBACK, Address("::1", 0, is_optional=True)])
    try:
        assert [address_of(each).host for each in sockets] == (["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"])
        assert all(address_of(each).port for each in sockets)
    finally:
        for each in sockets:
            each.close()


# 198.51.100.0/24 and 2001:db8::/32 are for documentation (RFC 5737, 3849): nobody has them
@pytest.mark.parametrize("host", ["198.51.100.7", "2001:db8::7"])
def test_an_address_the_machine_does_not_have(host):
    (left,) = open_sockets([LOOPBACK, Address(host, 0, is_optional=True)])
    left.close()
    with pytest.raises(CannotListen, match=r"cannot listen on .*7.*: .*; (no interface|this machine)"):
        open_sockets([Address(host, 0)])


@pytest.mark.parametrize("is_optional", [False, True])
def test_C15_a_port_that_is_taken_is_never_left_out(is_optional):
    # whoever connects to the twin would reach another program
    (taken,) = open_sockets([LOOPBACK])
    with taken:
        taken.listen()
        address = Address("127.0.0.1", address_of(taken).port, is_optional)
        with pytest.raises(CannotListen, match=f"{address.port}: .*in use; another process") as raised:
            open_sockets([LOOPBACK, address])
        assert isinstance(raised.value.__cause__, OSError)
        assert raised.value.__cause__.errno == errno.EADDRINUSE


def test_what_was_opened_before_a_failure_is_closed():
    (free,) = open_sockets([LOOPBACK])
    address = address_of(free)
    free.close()
    with pytest.raises(CannotListen):
        open_sockets([address, Address("198.51.100.7", 0)])
    (again,) = open_sockets([address])
    again.close()


@pytest.mark.parametrize("host", ["localhost.invalid", "999.1.1.1"])
def test_what_is_no_address_is_refused_in_words(host):
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:0: "):
        open_sockets([Address(host, 0)])


async def test_a_small_write_does_not_wait_for_the_one_before_it():
    """Nagle's delay would hold an event of a stream back until the caller has acknowledged the one before."""
    accepted = asyncio.get_running_loop().create_future()

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.set_result(transport)

    (bound,) = open_sockets([LOOPBACK])
    address = address_of(bound)
    server = await asyncio.get_running_loop().create_server(Accepting, sock=bound)
    async with asyncio.timeout(5), server:
        _, writer = await asyncio.open_connection(address.host, address.port)
        transport = await accepted
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.transport.abort()
        transport.abort()
