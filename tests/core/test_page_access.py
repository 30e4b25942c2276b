"""How a browser comes to the status page: its credentials, other sites, and what the page may load."""

from __future__ import annotations

import base64
import hashlib

import pytest

from sidecar.core.page_access import as_token, from_elsewhere, security_headers


def basic(text):
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (basic(b"anybody:letmein"), b"letmein"),
        (basic(b":let:me:in"), b"let:me:in"),
        (basic(b"nothing"), b""),
        (basic(b"")[:6], b""),
        (b"bAsIc  " + base64.b64encode(b"u:p"), b"p"),
        (b"Basic !!!", b""),
        (b"Basic \xff", b""),
    ],
)
def test_G4_the_password_of_basic_is_a_token(value, token):
    assert as_token([(b"host", b"x"), (b"authorization", value)]) == [(b"host", b"x"), (b"x-api-key", token)]


@pytest.mark.parametrize("value", [b"Bearer letmein", b"Basicx", b""])
def test_G4_other_credentials_stay_as_they_are(value):
    assert as_token([(b"authorization", value), (b"x-api-key", basic(b"a:b"))]) == [
        (b"authorization", value),
        (b"x-api-key", basic(b"a:b")),
    ]


@pytest.mark.parametrize(("site", "passes"), [("same-origin", 1), ("none", 1), ("cross-site", 0), ("same-site", 0)])
def test_G4_what_other_sites_load_is_refused(site, passes):
    assert (from_elsewhere([(b"sec-fetch-site", site.encode())]) is None) is bool(passes)
    assert from_elsewhere([]) is None, "no browser, or an old one"


def test_G4_the_page_runs_what_it_was_shipped_with_and_nothing_else():
    policy = security_headers(b"<style>a{}</style><script>\nrun()\n</script>")["content-security-policy"]
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    digest = base64.b64encode(hashlib.sha256(b"\nrun()\n").digest()).decode()
    assert parts["script-src"] == f"'sha256-{digest}'"
    assert parts["default-src"] == parts["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy
