"""The Secret and the webhook configuration, read and written."""

import base64

import jsonpatch
import pytest

from sidecar.core.certificate_secret import Place, authorities_in, bundle_patch, live_bundles, secret_with
from sidecar.core.certificates import Authorities, Signer
from tests.core.test_certificates import NEW, NOW, OLD, certificate

PLACE = Place("ns", "svc", "svc-ca", "svc")


class FakeReader:
    """Knows the certificates of the tests by their text."""

    def certificates(self, pem):
        known = {each.pem: each for each in (OLD.certificate, NEW.certificate)}
        if pem not in known:
            raise ValueError(pem)
        return (known[pem],)

    def signer(self, pem, key):
        return Signer(self.certificates(pem)[0], key)


def written(authorities):
    """The encoded fields of a Secret."""
    return secret_with(authorities, PLACE, None)["data"]


@pytest.mark.parametrize(
    "authorities",
    [
        Authorities(OLD),
        Authorities(OLD, NEW),
        Authorities(OLD, NEW, NOW),
        Authorities(NEW, None, None, (OLD.certificate,)),
    ],
)
def test_what_is_written_is_read(authorities):
    secret = secret_with(authorities, PLACE, None)
    assert secret["metadata"] == {"name": "svc-ca", "namespace": "ns"}
    assert authorities_in(secret, FakeReader()) == authorities


def test_an_update_keeps_what_others_have_put_there_and_the_version():
    old = {"type": "x", "metadata": {"name": "svc-ca", "resourceVersion": "7", "labels": {"a": "b"}}, "data": None}
    secret = secret_with(Authorities(OLD), PLACE, old)
    assert secret["metadata"] == {"name": "svc-ca", "namespace": "ns", "resourceVersion": "7", "labels": {"a": "b"}}
    assert secret["type"] == "x"


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"ca.crt": "!"},
        {"ca.crt": base64.b64encode(b"\xff").decode(), "ca.key": ""},
        written(Authorities(OLD, NEW)) | {"next.key": None},
        written(Authorities(OLD, NEW, NOW)) | {"next.announced": "c29vbg=="},
    ],
)
def test_half_a_secret_is_worth_nothing(data):
    assert authorities_in({"data": data}, FakeReader()) is None
    assert authorities_in(None, FakeReader()) is None


def webhook(name, namespace="ns", service="svc", **client):
    return {"name": name, "clientConfig": {"service": {"namespace": namespace, "name": service}, **client}}


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_the_bundle_goes_to_our_webhooks_alone():
    configuration = {
        "webhooks": [
            webhook("theirs", "other"),
            webhook("a"),
            {"name": "by-url", "clientConfig": {"url": "https://x"}},
            webhook("b", caBundle=encoded("old")),
            webhook("c", caBundle=encoded("wanted")),
            webhook("d", caBundle="%"),
            webhook("e", caBundle="/w=="),
        ]
    }
    assert live_bundles(configuration, PLACE) == (None, "old", "wanted", None, None)
    patched = jsonpatch.apply_patch(configuration, bundle_patch(configuration, PLACE, "wanted"))
    assert live_bundles(patched, PLACE) == ("wanted",) * 5
    assert patched["webhooks"][0] == configuration["webhooks"][0]
    assert patched["webhooks"][2] == configuration["webhooks"][2]
    assert bundle_patch(patched, PLACE, "wanted") == []


def test_a_list_that_has_moved_is_not_patched():
    configuration = {"webhooks": [webhook("a"), webhook("b")]}
    patch = bundle_patch(configuration, PLACE, "wanted")
    configuration["webhooks"].insert(0, webhook("new"))
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        jsonpatch.apply_patch(configuration, patch)


@pytest.mark.parametrize("configuration", [None, {}, {"webhooks": None}, {"webhooks": [None, {"clientConfig": None}]}])
def test_nothing_of_ours(configuration):
    assert live_bundles(configuration, PLACE) == ()
    assert bundle_patch(configuration, PLACE, "x") == []


def test_the_names_of_the_service():
    assert PLACE.hosts == ("svc.ns.svc", "svc.ns.svc.cluster.local", "svc.ns", "svc")
    assert certificate("A").is_valid(NOW)
