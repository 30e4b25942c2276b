"""The store behind TLS, found by a Sentinel, and spread over a Cluster: real servers of each kind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

import pytest
import trustme

from sidecar.core.lease_call import Batch, Call, encode
from sidecar.core.store_url import parse
from sidecar.store.redis import RedisStore, StoreFailed
from tests.rig import until
from tests.servers import RedisServer, free_port, tcp_command

WATCHDOG_S = 40
RPM = "0/60000000000"
CALL = Call(
    "a", 1, "", "p:", [(RPM, "token_bucket", 30, 60_000_000, 0, 0)], [Batch(1, {}, {}, [])], [], 1, {RPM: 1}, {}, {}, 0,
    "open", {},
)  # fmt: skip


def store(url, password=None):
    place = parse(url)
    assert place is not None, url
    return RedisStore(place, url, "sidecar", "a", password)


async def does_it_all(opened):
    """Every kind of call once: a sign of life, the ledger of several accounts, rows."""
    try:
        assert await opened.alive() == (1, 0)
        for account in ("groq/a", "groq/b", "openai/a", "cerebras/x"):
            assert b'"n":1' in await opened.ask(account, "m", encode(CALL))
        await opened.save({"one": b"1", "two": b"2"}, ())
        assert (await opened.load()).rows == {"one": b"1", "two": b"2"}
        assert await opened.alive(is_leaving=True) == (0, 1)
    finally:
        await opened.close()


@pytest.fixture
def port():
    return free_port()


def certified(folder):
    """A server's words for TLS with a certificate of 127.0.0.1, and the authority's file."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key, root = folder / "cert.pem", folder / "key.pem", folder / "root.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(root))
    words = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    return words, root


# in a process of its own: which authorities are trusted is read from the environment
_TLS = """
import asyncio, sys
from tests.store import test_redis_forms as forms
asyncio.run(forms.does_it_all(forms.store(sys.argv[1])))
"""


def test_F3_over_tls_with_an_authority_from_the_environment(tmp_path, port):
    words, root = certified(tmp_path)
    with RedisServer("--tls-port", str(port), *words):
        environ = os.environ | {"SSL_CERT_FILE": str(root)}
        command = [sys.executable, "-c", _TLS, f"rediss://127.0.0.1:{port}"]
        subprocess.run(command, env=environ, check=True, timeout=WATCHDOG_S)


async def test_F2_a_certificate_of_an_unknown_authority_is_refused(tmp_path, port):
    words, _ = certified(tmp_path)
    with RedisServer("--tls-port", str(port), *words):
        opened = store(f"rediss://127.0.0.1:{port}")
        async with asyncio.timeout(WATCHDOG_S):
            with pytest.raises(StoreFailed, match="CERTIFICATE_VERIFY_FAILED") as failed:
                await opened.alive()
            await opened.close()
        assert failed.value.reason == "connection"


async def _until_it_fails(opened):
    while True:
        await opened.alive()


async def test_F2_the_password_of_the_moment_opens_new_connections():
    with RedisServer("--requirepass", "old") as server:
        server.password = "old"
        opened = store(server.url, "old")
        async with asyncio.timeout(WATCHDOG_S):
            assert await opened.alive() == (1, 0)
            server.call("CONFIG", "SET", "requirepass", "new")
            server.password = "new"
            assert await opened.alive() == (1, 0)  # what is open stays open
            server.call("CLIENT", "KILL", "TYPE", "normal")
            with pytest.raises(StoreFailed) as failed:
                await _until_it_fails(opened)
            assert failed.value.reason in ("password", "connection")
            opened.password = "new"
            await opened.forget()
            assert await opened.alive() == (1, 0)
            await opened.close()


async def test_F3_over_a_cluster_of_two(port):
    """Accounts and the fleet's own rows lie on different servers; calls that go to the wrong one are sent on."""
    first, second = port, free_port()
    with contextlib.ExitStack() as stack:
        for each in (first, second):
            stack.enter_context(
                RedisServer("--port", str(each), "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            )
        tcp_command(first, "CLUSTER", "ADDSLOTSRANGE", "0", "8191")
        tcp_command(second, "CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
        bus = tcp_command(second, "CONFIG", "GET", "cluster-port").split(b"\r\n")[-2].decode()
        tcp_command(first, "CLUSTER", "MEET", "127.0.0.1", str(second), bus)
        async with asyncio.timeout(WATCHDOG_S):
            state = "CLUSTER", "INFO"
            await until(lambda: b"cluster_state:ok" in tcp_command(first, *state), WATCHDOG_S)
            await until(lambda: b"cluster_state:ok" in tcp_command(second, *state), WATCHDOG_S)
            await does_it_all(store(f"redis+cluster://127.0.0.1:{second}"))
        assert all(tcp_command(each, "DBSIZE") != b":0\r\n" for each in (first, second))


async def test_F2_a_sentinel_names_the_store_and_the_next_one(tmp_path, port):
    """The replica becomes the store: the same client finds it, and what was counted is there."""
    first, second, watching = port, free_port(), free_port()
    text = f"port {watching}\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {first} 1\n"
    text += "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    (tmp_path / "sentinel.conf").write_text(text)
    with contextlib.ExitStack() as stack:
        stack.enter_context(RedisServer("--port", str(first), "--repl-diskless-sync-delay", "0"))
        more = ("--replicaof", f"127.0.0.1 {first}", "--repl-diskless-sync-delay", "0")
        stack.enter_context(RedisServer("--port", str(second), *more))
        stack.enter_context(RedisServer.sentinel(tmp_path / "sentinel.conf"))
        opened = store(f"redis+sentinel://127.0.0.1:{watching}/main")
        async with asyncio.timeout(WATCHDOG_S):
            assert await opened.alive() == (1, 0)
            await opened.save({"one": b"1"}, ())
            await until(lambda: tcp_command(second, "HLEN", "sidecar:{*}:rows") == b":1\r\n", WATCHDOG_S)
            # said again until it knows the replica
            await until(lambda: tcp_command(watching, "SENTINEL", "FAILOVER", "main").startswith(b"+OK"), WATCHDOG_S)
            address = str(second).encode()
            named = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
            await until(lambda: address in tcp_command(watching, *named), WATCHDOG_S)
            while True:
                with contextlib.suppress(StoreFailed):
                    count, revision = await opened.alive()
                    if b"role:master" in tcp_command(second, "INFO", "replication"):
                        break
                    await opened.forget()
            assert (count, revision) == (1, 1)
            assert (await opened.load()).rows == {"one": b"1"}
            await opened.close()
