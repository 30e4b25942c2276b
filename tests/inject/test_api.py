"""Where the API server is, what its refusals become, and the sockets of an injector."""

import socket

import pytest

from sidecar.inject.api import Api, ApiError, in_cluster
from sidecar.inject.injector import bind, version_of
from sidecar.inject.serving_context import ServingContext, trusting
from tests.inject.api_server import CONFIGURATION, SECRET


@pytest.mark.parametrize(
    ("environ", "origin"),
    [
        ({}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "https://10.0.0.1:443"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, "https://[fd00::1]:6443"),
    ],
)
def test_in_cluster(environ, origin):
    where = in_cluster(environ)
    assert (where and where.origin) == origin
    if where:
        assert str(where.token_file) == "/var/run/secrets/kubernetes.io/serviceaccount/token"


async def test_refusals_carry_the_apis_own_words(cluster):
    api = Api(cluster.where)
    try:
        assert await api.get(SECRET) is None
        with pytest.raises(ApiError, match=r"cannot get .* elsewhere \(403\)"):
            await api.get(f"{SECRET.rpartition('/')[0]}/elsewhere")
        with pytest.raises(ApiError, match="cannot be applied") as refused:
            await api.patch(CONFIGURATION, [{"op": "remove", "path": "/nothing"}])
        assert refused.value.status == 422
        cluster.api.token = "another"
        with pytest.raises(ApiError, match=r"Unauthorized \(401\)"):
            await api.get(SECRET)
    finally:
        await api.close()


async def test_an_api_server_that_is_not_there_or_not_the_right_one(cluster, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = cluster.where._replace(origin=f"https://127.0.0.1:{closed.getsockname()[1]}")
        api = Api(nowhere)
        with pytest.raises(ApiError, match="not reached") as refused:
            await api.get(SECRET)
        assert refused.value.status == 0
        await api.close()
    (tmp_path / "none").mkdir()
    api = Api(cluster.where._replace(token_file=tmp_path / "none" / "token"))
    with pytest.raises(ApiError, match="not reached"):
        await api.get(SECRET)
    await api.close()


async def test_an_authority_that_is_replaced_is_trusted_without_a_restart(cluster):
    good = cluster.where.authority_file.read_bytes()
    cluster.where.authority_file.write_bytes(b"junk")
    api = Api(cluster.where)
    with pytest.raises(ApiError, match="not reached"):
        await api.get(SECRET)
    cluster.where.authority_file.write_bytes(good)
    assert await api.get(SECRET) is None
    await api.close()


@pytest.mark.parametrize(
    ("found", "version"),
    [
        ({"major": "1", "minor": "29+"}, (1, 29)),
        ({"major": "1", "minor": "33"}, (1, 33)),
        ({"major": "1", "minor": "x"}, None),
        ({}, None),
    ],
)
def test_version_of(found, version):
    assert version_of(found) == version


def test_sockets():
    with bind(("::", 0)) as any_address, socket.create_connection(("127.0.0.1", any_address.getsockname()[1])):
        pass
    with bind(("127.0.0.1", 0)) as one, pytest.raises(OSError, match="in use"):
        bind(one.getsockname())


def test_what_is_no_certificate_is_refused_before_it_is_served():
    serving = ServingContext()
    with pytest.raises(ValueError, match="not a certificate"):
        serving.load("no", "PEM")
    assert serving.loads == 0
    for bundle in ("", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ValueError, match="certificate"):
            trusting(bundle)
