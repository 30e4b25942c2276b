"""The command line of `sidecar inject`."""

from typing import Any

import pytest

from sidecar.core.certificate_secret import Place
from sidecar.core.injector_options import Options, Told, address, own_address, read_options
from sidecar.core.limits import SECOND

GOOD: dict[str, Any] = {"namespace": "ns", "service": "svc"}


def test_defaults():
    expected = Options(True, "", Place("ns", "svc", "svc-ca", "svc"), ("::", 10250), ("::", 8080), 8 * SECOND, False)
    assert read_options(Told(**GOOD)) == expected
    files = read_options(Told("files", "/tls", webhook_configuration="other.name", **GOOD))
    assert isinstance(files, Options)
    assert (files.is_self, files.folder, files.place.configuration) == (False, "/tls", "other.name")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"namespace": ""}, "--namespace"),
        ({"service": "A_b"}, "--service"),
        ({"webhook_configuration": "/"}, "--webhook-configuration"),
        ({"listen": "10250"}, "--listen"),
        ({"metrics_listen": "localhost:1"}, "--metrics-listen"),
        ({"linger": "8"}, "--linger"),
        ({"certificate_dir": "/x"}, "--certificate-dir"),
        ({"certificates": "cert-manager"}, "--certificate-dir"),
    ],
)
def test_what_is_wrong_is_named(wrong, named):
    found = read_options(Told(**GOOD | wrong))
    assert isinstance(found, list)
    assert len(found) == 1
    assert named in found[0]


def test_everything_wrong_is_said_at_once():
    found = read_options(Told(listen="x", metrics_listen="x", linger="x"))
    assert isinstance(found, list)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::]:0", ("::", 0)),
        ("[fe80::1]:65535", ("fe80::1", 65535)),
        ("::1:80", None),
        ("[127.0.0.1]:80", None),
        ("127.0.0.1:65536", None),
        ("127.0.0.1:-1", None),
        ("127.0.0.1:²", None),
        (":80", None),
        ("", None),
        ("host:80", None),
    ],
)
def test_address(text, expected):
    assert address(text) == expected


def test_own_address():
    assert own_address(("::", 1)) == own_address(("0.0.0.0", 1)) == ("127.0.0.1", 1)
    assert own_address(("10.0.0.7", 1)) == ("10.0.0.7", 1)
