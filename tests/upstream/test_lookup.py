"""Which form of a name the system is asked for, and getaddrinfo itself on names that need no network."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.upstream.lookup import Answer, forms, in_hosts, system_lookup


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", ["localhost"]),
        ("ollama", ["ollama"]),
        ("api.groq.com", ["api.groq.com.", "api.groq.com"]),
        ("vllm.models", ["vllm.models.", "vllm.models"]),
        ("api.groq.com.", ["api.groq.com."]),
    ],
)
def test_C2_forms(host, expected):
    assert forms(host) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("pinned.example", True),
        ("PINNED.example", True),
        ("second", True),
        ("other.example", False),
        ("10.0.0.1", False),
        ("commented.example", False),
    ],
)
def test_in_hosts(tmp_path, host, expected):
    hosts = tmp_path / "hosts"
    hosts.write_text("# commented.example\n\n10.0.0.1\tPinned.example second # commented.example\n::1 localhost\n")
    assert in_hosts(host, hosts) is expected


def test_no_hosts_file(tmp_path):
    assert not in_hosts("localhost", tmp_path / "none")


async def test_C1_getaddrinfo_in_a_thread():
    async with asyncio.timeout(5):
        assert await system_lookup("127.0.0.1") == Answer([(2, "127.0.0.1")], None)
        assert (2, "127.0.0.1") in (await system_lookup("localhost")).addresses


async def test_what_cannot_be_a_name():
    async with asyncio.timeout(5):
        with pytest.raises(OSError, match="not a host name"):
            await system_lookup("x" * 64 + ".example")


async def test_who_leaves_is_not_told():
    async with asyncio.timeout(5):
        asking = asyncio.ensure_future(system_lookup("127.0.0.1"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await system_lookup("127.0.0.1")  # the first thread's answer has come before
