"""`sidecar inject-check` names what is in the way of a sidecar, before any pod is created (D4)."""

import asyncio

import pytest

from sidecar.core.rehearsal import Asked
from sidecar.rehearsing import rehearse
from tests.inject.api_server import CONFIGURATION, NAMESPACE, PREFIX, REHEARSING, SERVICE, configuration
from tests.inject.test_command import WATCHDOG_S, start_with
from tests.inject.test_server import break_it

ASKED = Asked("default", PREFIX, SERVICE)


@pytest.fixture
def check(cluster, capsys):
    """Run the command by way of `kubectl proxy`: its exit code and what it says."""
    cluster.api.rights |= REHEARSING
    cluster.api.objects["/api/v1/namespaces/default"] = {"metadata": {"name": "default"}}

    async def run(asked=ASKED, via=None):
        via = f"http://127.0.0.1:{cluster.api.proxy_port}" if via is None else via
        code = await asyncio.to_thread(rehearse, asked, via)
        out, err = capsys.readouterr()
        return code, out + err

    return run


def changed(cluster, **fields):
    """The stored configuration with other fields in our webhooks."""
    for webhook in cluster.api.objects[CONFIGURATION]["webhooks"][1:]:
        webhook.update(fields)


async def test_D4_a_pod_would_get_its_sidecar_and_none_is_created(cluster, check):
    await cluster.replica()
    cluster.api.used.clear()
    code, said = await check()
    assert code == 0, said
    assert "a pod would get its sidecar: llm-proxy, app" in said
    assert [line.dry_run for line in cluster.lines] == [True, True]
    assert not [path for path in cluster.api.objects if "/pods/" in path]
    assert cluster.api.used >= REHEARSING


async def test_D4_a_firewall_is_named_with_its_ports(cluster, check):
    await cluster.replica()
    cluster.api.drops = True
    code, said = await check()
    assert code == 1
    for word in ("object.sidecar.internal", "not reached in time", "443 and 10250", "host-network"):
        assert word in said
    # under Ignore the API server says nothing at all
    changed(cluster, failurePolicy="Ignore")
    code, said = await check()
    assert code == 1
    for word in ("without a sidecar", "failurePolicy is Ignore", "443 and 10250"):
        assert word in said


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_D4_a_bundle_that_does_not_fit_is_named(cluster, check, policy):
    injector = await cluster.replica()
    await injector.close()
    cluster.injectors.clear()
    cluster.api.put(CONFIGURATION, configuration(policy))
    code, said = await check()
    assert code == 1
    assert "caBundle" in said


async def test_D4_nobody_behind_the_service_is_named(cluster, check):
    await cluster.replica()
    cluster.api.endpoints.clear()
    code, said = await check()
    assert code == 1
    assert "no injector is ready" in said
    assert "get pods" in said


async def test_D4_a_fault_of_the_injector_is_named(cluster, check):
    injector = await cluster.replica()
    injector.webhook.inject = break_it
    code, said = await check()
    assert code == 1
    assert "it failed" in said
    assert "log" in said


async def test_D4_a_refusal_is_told_in_its_own_words(cluster, check):
    await cluster.replica()
    changed(cluster, name="other.example.com")
    cluster.api.endpoints.clear()
    code, said = await check()
    assert code == 1
    assert "another webhook" in said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda api: api.objects.pop(CONFIGURATION), "there is no MutatingWebhookConfiguration"),
        (lambda api: api.objects[CONFIGURATION].update(webhooks=[]), "has no webhook for labels"),
        (
            lambda api: api.objects["/api/v1/namespaces/default"]["metadata"].update(
                labels={f"{PREFIX}/injection": "disabled"}
            ),
            "the namespace has the label sidecar.internal/injection: disabled",
        ),
        (lambda api: None, "the webhook was not called"),
    ],
    ids=["not-installed", "another-prefix", "disabled", "selectors"],
)
async def test_D4_a_webhook_that_was_not_called_is_named(cluster, check, change, told):
    await cluster.replica()
    changed(cluster, objectSelector={"matchLabels": {"nobody": "has-this"}})
    change(cluster.api)
    code, said = await check()
    assert code == 1
    assert "would start without a sidecar" in said
    assert told in said


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        (set(), "you may not create pods"),
        ({("create", "/api/v1/namespaces/default/pods", "")}, "would get its sidecar"),
    ],
    ids=["none", "only-to-create"],
)
async def test_who_may_not_is_told_so(cluster, check, rights, told):
    await cluster.replica()
    cluster.api.rights = rights
    code, said = await check()
    assert code == (0 if rights else 1)
    assert told in said


async def test_usage(check):
    code, said = await check(via="")
    assert code == 64
    assert "this is no pod: run `kubectl proxy`, and give --via http://127.0.0.1:8001" in said
    assert (await check(via="ftp://x"))[0] == 64
    assert (await check(Asked("../x", PREFIX, SERVICE)))[0] == 64


async def test_D4_as_a_process_in_a_pod(cluster):
    await cluster.replica()
    cluster.api.rights |= REHEARSING
    process = await start_with(cluster, ["inject-check"], {"POD_NAMESPACE": NAMESPACE})
    async with asyncio.timeout(WATCHDOG_S):
        said, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")
    assert b"would get its sidecar" in said
    cluster.api.token = "another"
    process = await start_with(cluster, ["inject-check"])
    async with asyncio.timeout(WATCHDOG_S):
        said, _ = await process.communicate()
    assert process.returncode == 1
    assert b"Unauthorized" in said
