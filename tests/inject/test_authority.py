"""The certificates an injector keeps by itself, seen from the API server that has to trust them."""

import asyncio
import base64
import contextlib
import ssl
from functools import partial

import pytest

from sidecar.core.certificates import blocks_of
from sidecar.core.limits import DAY, MINUTE
from tests.inject.api_server import (
    CONFIGURATION,
    LEAST,
    NAMESPACE,
    SECRET,
    SERVICE,
    Refused,
    configuration,
)
from tests.inject.rig import AUTHORITY_DUE_NS, LEAF_DUE_NS, pod, until


def names(admitted):
    return [each["name"] for each in admitted.pod["spec"].get("initContainers", [])]


async def served(injector):
    """The certificate that a new connection gets (PEM)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, port = injector.addresses[0]
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    with contextlib.suppress(ssl.SSLError, OSError):
        await writer.wait_closed()
    return ssl.DER_cert_to_PEM_cert(der)


async def test_from_nothing_to_an_injected_pod(cluster):
    assert cluster.api.bundles() == [None, None]
    await cluster.replica()
    assert cluster.api.bundles() == [cluster.api.field("ca.crt")] * 2
    admitted = await cluster.api.create_pod(pod())
    assert names(admitted) == ["llm-proxy"]
    # what others have in the configuration stays
    assert cluster.api.objects[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"] == "b3RoZXI="


async def test_the_rights_it_uses_are_the_least(cluster):
    first = await cluster.replica()
    await first.close()
    cluster.injectors.clear()
    await cluster.replica()
    await cluster.pass_time(AUTHORITY_DUE_NS + DAY)
    assert cluster.api.used == LEAST


async def test_D10_the_api_server_asks_again_and_gets_no_second_sidecar(cluster):
    await cluster.replica()
    admitted = await cluster.api.create_pod(pod())
    assert admitted.calls == 2
    assert names(admitted) == ["llm-proxy"]
    variables = [each["name"] for each in admitted.pod["spec"]["containers"][0]["env"]]
    assert sorted(set(variables)) == sorted(variables)
    assert [line.result for line in cluster.lines] == ["injected", "unchanged"]


async def test_D11_only_creates_of_pods_are_changed(cluster):
    injector = await cluster.replica()
    before = len(cluster.api.reviews)
    await cluster.api.create_pod(pod())
    seen = {(r["request"]["operation"], r["request"]["resource"]["resource"]) for r in cluster.api.reviews[before:]}
    assert seen == {("CREATE", "pods")}
    assert {verb for verb, path, _ in cluster.api.used if "pods" in path} == set()
    assert injector.webhook.reasons() == ()


async def test_D3_rotation_under_1000_admissions_without_one_failure(cluster):
    await cluster.replica()
    await cluster.replica()
    old = cluster.api.field("ca.crt")
    served_before = [await served(each) for each in cluster.injectors]
    done = 0

    async def admissions(count):
        nonlocal done
        for _ in range(count):
            admitted = await cluster.api.create_pod(pod())
            assert names(admitted) == ["llm-proxy"]
            done += 1

    def _reached(count):
        return done >= count

    signed = {}  # done -> the authority that signs by then

    async def rotate():
        for step in range(18):  # 20 days for each 50 admissions; after that the new authority signs
            next_at = 50 * (step + 1)
            await until(partial(_reached, next_at))
            await cluster.pass_time(AUTHORITY_DUE_NS // 8, AUTHORITY_DUE_NS // 8)
            signed[done] = cluster.api.field("ca.crt")
            if signed[done] != old:
                return

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rotate())
        for _ in range(4):
            tasks.create_task(admissions(250))
    assert done == 1000
    assert len(set(signed.values())) == 2
    assert max(signed) < 1000
    new = cluster.api.field("ca.crt")
    assert new != old
    assert set(cluster.api.bundles()) == {new + old}
    for injector, before in zip(cluster.injectors, served_before, strict=True):
        assert await served(injector) != before
        assert injector.replica.counts.rotations["leaf"] >= 2
    # connections of before and of after, replicas one by one
    for address in list(cluster.api.endpoints):
        cluster.api.endpoints[:] = [address]
        assert names(await cluster.api.create_pod(pod())) == ["llm-proxy"]


async def test_D3_the_next_authority_is_trusted_before_it_signs(cluster):
    injector = await cluster.replica()
    old = cluster.api.field("ca.crt")
    await cluster.pass_time(LEAF_DUE_NS + DAY)  # a leaf is renewed on the way
    before = await served(injector)
    await cluster.pass_time(AUTHORITY_DUE_NS - LEAF_DUE_NS - DAY + MINUTE)
    coming = cluster.api.field("next.crt")
    assert cluster.api.field("ca.crt") == old
    assert set(cluster.api.bundles()) == {old + coming}
    assert await served(injector) == before
    await cluster.pass_time(11 * MINUTE, MINUTE)
    assert cluster.api.field("ca.crt") == coming
    assert set(cluster.api.bundles()) == {coming + old}
    assert await served(injector) != before
    assert injector.webhook.reasons() == ()


async def test_D3_a_wiped_bundle_comes_back_without_any_time_passing(cluster):
    await cluster.replica()
    await cluster.replica()
    wanted = cluster.api.bundles()
    assert wanted != [None, None]
    for wiped in (configuration(), _with_bundle(""), _with_bundle("anVuaw==")):
        await until(lambda: cluster.api.watches == 4)
        cluster.api.put(CONFIGURATION, wiped)
        with pytest.raises(Refused) as refused:
            await cluster.api.create_pod(pod())
        assert refused.value.code == 500
        await until(lambda: cluster.api.bundles() == wanted)
        await cluster.ready()
        assert names(await cluster.api.create_pod(pod())) == ["llm-proxy"]


def _with_bundle(encoded):
    wiped = configuration()
    for webhook in wiped["webhooks"][1:]:
        webhook["clientConfig"]["caBundle"] = encoded
    return wiped


async def test_D3_a_wipe_that_no_watch_saw_is_found_within_a_minute(cluster):
    await cluster.replica()
    wanted = cluster.api.bundles()
    await until(lambda: cluster.api.watches == 2)
    await cluster.quiet()
    cluster.api.refuses = lambda verb, path: 500 if verb in ("watch", "list") else 0
    cluster.api.end_watches()
    await until(lambda: cluster.api.watches == 0)
    cluster.api.put(CONFIGURATION, configuration())
    await cluster.quiet()
    assert cluster.api.bundles() != wanted
    cluster.clock.advance(MINUTE)
    await until(lambda: cluster.api.bundles() == wanted)


async def test_two_replicas_that_race_share_one_authority(cluster):
    waiting: list[str] = []

    def both_at_once(path):
        # a foreign replica was faster between our look and our write, once
        if path == SECRET and not waiting:
            waiting.append(path)
            cluster.api.put(SECRET, foreign)

    first = await cluster.replica()
    foreign = cluster.api.objects[SECRET]
    await first.close()
    cluster.injectors.clear()
    cluster.api.endpoints.clear()
    cluster.api.delete(SECRET)
    cluster.api.put(CONFIGURATION, configuration())
    cluster.api.before_write = both_at_once
    await asyncio.gather(cluster.replica(), cluster.replica())
    assert waiting
    assert ("certificates", "create: another replica was faster") in cluster.said
    assert [message for event, message in cluster.said if event == "trouble"] == []
    assert cluster.api.objects[SECRET]["data"] == foreign["data"]
    assert set(cluster.api.bundles()) == {cluster.api.field("ca.crt")}
    for address in list(cluster.api.endpoints):
        cluster.api.endpoints[:] = [address]
        assert names(await cluster.api.create_pod(pod())) == ["llm-proxy"]


async def test_two_replicas_that_rotate_at_once_introduce_one_authority(cluster):
    await cluster.replica()
    await cluster.replica()
    await cluster.pass_time(AUTHORITY_DUE_NS + DAY)
    await cluster.pass_time(DAY, MINUTE * 20)
    assert len(blocks_of(cluster.api.bundles()[0])) == 2
    steps = [message for event, message in cluster.said if event == "certificates" and "written" in message]
    assert steps.count("introduce: written") == steps.count("promote: written") == 1


@pytest.mark.parametrize("data", [None, {}, {"ca.crt": "anVuaw==", "ca.key": "anVuaw=="}, {"ca.crt": "%"}])
async def test_a_secret_that_is_empty_or_broken_is_written_anew(cluster, data):
    metadata = {"name": f"{SERVICE}-ca", "namespace": NAMESPACE, "labels": {"kept": "yes"}}
    broken = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}
    cluster.api.put(SECRET, broken if data is None else broken | {"data": data})
    await cluster.replica()
    assert cluster.api.objects[SECRET]["metadata"]["labels"] == {"kept": "yes"}
    assert names(await cluster.api.create_pod(pod())) == ["llm-proxy"]


async def test_deleting_the_secret_rotates_without_an_outage(cluster):
    await cluster.replica()
    old = cluster.api.field("ca.crt")
    await until(lambda: cluster.api.watches == 2)
    cluster.api.delete(SECRET)
    await until(lambda: SECRET in cluster.api.objects)
    await cluster.ready()
    assert cluster.api.field("ca.crt") == old
    coming = cluster.api.field("next.crt")
    assert names(await cluster.api.create_pod(pod())) == ["llm-proxy"]
    await cluster.pass_time(12 * MINUTE, MINUTE)
    assert cluster.api.field("ca.crt") == coming
    assert names(await cluster.api.create_pod(pod())) == ["llm-proxy"]


async def test_not_ready_until_the_live_bundle_is_ours(cluster):
    cluster.api.refuses = lambda verb, path: 403 if verb == "patch" else 0
    injector = await cluster.replica(is_ready=False)
    await until(lambda: injector.replica.standing.call == "")
    assert injector.webhook.reasons() == ("the live caBundle is not ours yet",)
    assert any(event == "trouble" and "the test says so (403)" in message for event, message in cluster.said)
    cluster.api.refuses = lambda verb, path: 0
    cluster.clock.advance(MINUTE)
    await cluster.ready()
    await until(lambda: cluster.said[-1][0] == "recovered")


async def test_not_ready_without_the_configuration_and_ready_when_it_comes(cluster):
    cluster.api.delete(CONFIGURATION)
    injector = await cluster.replica(is_ready=False)
    await until(lambda: injector.replica.standing.call == "" and cluster.api.watches == 2)
    assert injector.webhook.reasons() == (f"there is no webhook configuration {SERVICE}",)
    others = configuration()
    del others["webhooks"][1:]
    cluster.api.put(CONFIGURATION, others)
    await until(lambda: "calls the service" in str(injector.webhook.reasons()))
    cluster.api.put(CONFIGURATION, configuration())
    await cluster.ready()


async def test_a_silent_api_costs_nothing_once_ready(cluster):
    injector = await cluster.replica()
    before = await served(injector)
    cluster.api.refuses = lambda verb, path: 503
    cluster.api.end_watches()
    await cluster.pass_time(LEAF_DUE_NS + DAY)
    assert injector.webhook.reasons() == ()
    assert await served(injector) != before  # signed with what is remembered
    assert names(await cluster.api.create_pod(pod())) == ["llm-proxy"]
    metrics = injector.replica.counts
    assert metrics.api_errors > 0


async def test_the_token_is_read_again_when_it_is_replaced(cluster):
    await cluster.replica()
    cluster.api.token = "token-2"
    cluster.write_account()
    wanted = cluster.api.bundles()
    await until(lambda: cluster.api.watches == 2)
    cluster.api.put(CONFIGURATION, configuration())
    await until(lambda: cluster.api.bundles() == wanted)


async def test_a_watch_that_is_too_old_begins_anew(cluster):
    await cluster.replica()
    await until(lambda: cluster.api.watches == 2)
    wanted = cluster.api.bundles()
    lists = cluster.api.calls.count(("list", CONFIGURATION.rpartition("/")[0]))
    cluster.api.forget()
    cluster.api.end_watches()
    cluster.api.put(CONFIGURATION, configuration())
    await until(lambda: cluster.api.watches == 0)
    await cluster.quiet()
    cluster.clock.advance(MINUTE // 60)
    await until(lambda: cluster.api.bundles() == wanted)
    await until(lambda: cluster.api.calls.count(("list", CONFIGURATION.rpartition("/")[0])) > lists)
    assert not any(event == "trouble" for event, _ in cluster.said)


async def test_a_watch_that_ends_goes_on_where_it_was(cluster):
    await cluster.replica()
    await until(lambda: cluster.api.watches == 2)
    lists = sum(verb == "list" for verb, _ in cluster.api.calls)
    cluster.api.end_watches()
    await until(lambda: cluster.api.watches == 0)
    wanted = cluster.api.bundles()
    cluster.api.put(CONFIGURATION, configuration())  # while nobody watches
    await cluster.quiet()
    cluster.clock.advance(MINUTE // 60)
    await until(lambda: cluster.api.bundles() == wanted)
    assert sum(verb == "list" for verb, _ in cluster.api.calls) == lists


async def test_the_metrics_tell_when_certificates_expire(cluster):
    injector = await cluster.replica()
    authority = injector.webhook.authority_expiry_ns()
    leaf = injector.replica.standing.leaf.not_after_ns
    text = injector.replica.counts.text({"leaf": leaf, "authority": authority}, True, None).decode()
    assert f'certificate="authority"}} {(cluster.clock.now_ns() + 365 * DAY) // 10**9}' in text
    assert 'certificate="leaf"' in text


async def test_the_key_is_in_no_line(cluster):
    await cluster.replica()
    await cluster.pass_time(AUTHORITY_DUE_NS + DAY)
    key = base64.b64decode(cluster.api.objects[SECRET]["data"]["ca.key"]).decode()
    secret = key.splitlines()[1]
    assert secret not in str(cluster.said) + str(cluster.lines) + repr(cluster.injectors[0].replica)
