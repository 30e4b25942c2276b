"""Certificates from files: cert-manager's, or given ones, replaced while everything goes on."""

import base64

import pytest

from sidecar.core.limits import DAY, SECOND
from sidecar.inject.issuing import Issuer
from tests.inject.api_server import CONFIGURATION
from tests.inject.rig import LIFETIMES, options, pod, until

HOSTS = options().place.hosts


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "certificates"
    made.mkdir()
    return made


def write(folder, signer, authority=None):
    (folder / "tls.crt").write_text(signer.certificate.pem)
    (folder / "tls.key").write_text(signer.key)
    if authority is not None:
        (folder / "ca.crt").write_text(authority.certificate.pem)


def publish(cluster, *authorities):
    """What cert-manager's injector does to the configuration."""
    stored = cluster.api.objects[CONFIGURATION]
    bundle = base64.b64encode("".join(each.certificate.pem for each in authorities).encode()).decode()
    for webhook in stored["webhooks"][1:]:
        webhook["clientConfig"]["caBundle"] = bundle
    cluster.api.put(CONFIGURATION, stored)


async def test_a_mounted_certificate_is_replaced_without_a_restart(cluster, folder):
    issuer = Issuer(HOSTS, LIFETIMES)
    old, new = issuer.authority(cluster.clock.now_ns()), issuer.authority(cluster.clock.now_ns())
    write(folder, issuer.leaf(old, cluster.clock.now_ns()).signer, old)
    publish(cluster, old)
    injector = await cluster.replica(certificates="cert-manager", certificate_dir=str(folder))
    assert (await cluster.api.create_pod(pod())).calls == 2
    publish(cluster, old, new)
    loads = injector.replica.serving.loads
    write(folder, issuer.leaf(new, cluster.clock.now_ns()).signer, new)
    cluster.clock.advance(10 * SECOND)
    await until(lambda: injector.replica.serving.loads == loads + 1)
    publish(cluster, new)
    assert (await cluster.api.create_pod(pod())).calls == 2
    assert injector.webhook.reasons() == ()
    # the rights of `self` are not used at all
    assert cluster.api.used == {("get", "/version", "")}


async def test_half_written_files_leave_the_old_certificate_in_service(cluster, folder):
    issuer = Issuer(HOSTS, LIFETIMES)
    authority = issuer.authority(cluster.clock.now_ns())
    first, second = (issuer.leaf(authority, cluster.clock.now_ns()).signer for _ in range(2))
    write(folder, first, authority)
    publish(cluster, authority)
    injector = await cluster.replica(certificates="files", certificate_dir=str(folder))
    loads = injector.replica.serving.loads
    for broken in ("", "no PEM", first.key):
        (folder / "tls.crt").write_text(second.certificate.pem)
        (folder / "tls.key").write_text(broken)
        cluster.said.clear()
        cluster.clock.advance(10 * SECOND)
        await cluster.quiet()
        assert injector.replica.serving.loads == loads
        assert (await cluster.api.create_pod(pod())).calls == 2
    write(folder, second)
    cluster.clock.advance(10 * SECOND)
    await until(lambda: injector.replica.serving.loads == loads + 1)
    assert (await cluster.api.create_pod(pod())).calls == 2


async def test_files_that_come_later_and_without_an_authority(cluster, folder):
    injector = await cluster.replica(is_ready=False, certificates="files", certificate_dir=str(folder))
    await cluster.quiet()
    assert injector.webhook.reasons() == ("no certificate yet", "no call to itself has been made yet")
    assert any("cannot be used" in message for _, message in cluster.said)
    issuer = Issuer(HOSTS, LIFETIMES)
    authority = issuer.authority(cluster.clock.now_ns())
    write(folder, issuer.leaf(authority, cluster.clock.now_ns()).signer)
    cluster.clock.advance(10 * SECOND)
    await cluster.ready()
    assert [event for event, _ in cluster.said].count("ready") == 1


async def test_an_expired_certificate_is_not_ready(cluster, folder):
    issuer = Issuer(HOSTS, LIFETIMES)
    authority = issuer.authority(cluster.clock.now_ns())
    write(folder, issuer.leaf(authority, cluster.clock.now_ns()).signer, authority)
    injector = await cluster.replica(certificates="files", certificate_dir=str(folder))
    cluster.clock.advance(301 * DAY)
    assert injector.webhook.reasons() == ("the certificate is not valid now",)


async def test_a_certificate_for_another_name_is_not_ready(cluster, folder):
    issuer = Issuer(["other.example.com"], LIFETIMES)
    authority = issuer.authority(cluster.clock.now_ns())
    write(folder, issuer.leaf(authority, cluster.clock.now_ns()).signer, authority)
    injector = await cluster.replica(is_ready=False, certificates="files", certificate_dir=str(folder))
    await until(lambda: injector.replica.standing.call)
    assert "call to itself failed" in injector.webhook.reasons()[0]
