"""The context verifies, and adds what the operator names."""

from __future__ import annotations

import ssl

from sidecar.upstream.tls import client_context, for_http1
from tests.both_ways import behind, certified


def test_G2_peer_and_name_are_verified():
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_the_context_given_is_the_context_used():
    context = ssl.create_default_context()
    assert for_http1(context) is context


def test_SSL_CERT_FILE_is_honoured(authority, tmp_path):
    path = tmp_path / "ca.pem"
    with behind(certified(authority, path), path):
        assert client_context().cert_store_stats()["x509_ca"] == 1
