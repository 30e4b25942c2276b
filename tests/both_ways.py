"""Which way providers are reached: in the clear, or behind TLS. Where a test says nothing, `current()` decides.

`pytestmark = BOTH_WAYS` runs every test of a module both ways: simulators and scripted providers listen with TLS, and
the sidecar trusts their authority as it trusts an operator's, by SSL_CERT_FILE. tests/test_both_ways.py holds who must.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

WAYS = ("plain", "tls")
BOTH_WAYS = pytest.mark.usefixtures("way")

_current: ssl.SSLContext | None = None


def current() -> ssl.SSLContext | None:
    """What providers listen with now; None: in the clear."""
    return _current


def certified(authority: trustme.CA, path: Path) -> ssl.SSLContext:
    """A server's TLS context for 127.0.0.1; the authority's own certificate is written to `path`."""
    authority.cert_pem.write_to_path(str(path))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    return server


@contextlib.contextmanager
def behind(server: ssl.SSLContext, path: Path) -> Iterator[None]:
    """Providers listen with `server` inside the block, by an authority whose certificate is at `path`."""
    global _current
    before, trusted = _current, os.environ.get("SSL_CERT_FILE")
    _current, os.environ["SSL_CERT_FILE"] = server, str(path)
    try:
        yield
    finally:
        _current = before
        if trusted is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = trusted
