"""What the API server gets for an answer, and what it makes of it (B19), through its own admission chain."""

import asyncio
import io
import json
import socket
import ssl

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.core.injection import Settings, Verdict
from sidecar.core.limits import SECOND
from tests.inject.api_server import CONFIGURATION, Refused, configuration
from tests.inject.rig import pod, until

REVIEW = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}


def untrusting():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def ask(injector, method="GET", path="/readyz", body=None, kind="application/json"):
    host, port = injector.addresses[0]
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            f"https://{host}:{port}{path}",
            data=io.BytesIO(body or b""),
            headers={"content-type": kind},
            ssl=untrusting(),
        ) as response,
    ):
        return response.status, await response.text(), response.headers


async def metrics(injector):
    host, port = injector.addresses[1]
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as response:
        assert response.status == 200
        text = await response.text()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def with_policy(cluster, policy):
    """The same configuration with another failurePolicy, its caBundle kept."""
    stored = cluster.api.objects[CONFIGURATION]
    for webhook in stored["webhooks"]:
        webhook["failurePolicy"] = policy


def break_it(pod, namespace):
    raise LookupError("a fault of ours, with a secret")


async def test_our_own_fault_is_for_the_failure_policy(cluster):
    injector = await cluster.replica()
    injector.webhook.inject = break_it
    with pytest.raises(Refused, match="status 500") as refused:
        await cluster.api.create_pod(pod())
    assert "secret" not in str(refused.value)
    with_policy(cluster, "Ignore")
    admitted = await cluster.api.create_pod(pod())
    assert "initContainers" not in admitted.pod["spec"]
    assert {line.result for line in cluster.lines} == {"failed"}
    assert cluster.lines[0].reason.startswith("LookupError at test_server.py:")


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_a_users_error_fails_the_pod_whatever_the_policy(cluster, policy):
    await cluster.replica()
    with_policy(cluster, policy)
    with pytest.raises(Refused, match=r"sidecar\.internal/port") as refused:
        await cluster.api.create_pod(pod(annotations={"sidecar.internal/port": "none\n"}))
    assert refused.value.code == 403
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_nobody_there_is_for_the_failure_policy(cluster, policy):
    await cluster.replica()
    with_policy(cluster, policy)
    cluster.api.endpoints.clear()
    if policy == "Fail":
        with pytest.raises(Refused, match="no endpoints"):
            await cluster.api.create_pod(pod())
    else:
        assert "initContainers" not in (await cluster.api.create_pod(pod())).pod["spec"]


async def test_D1_pods_that_do_not_ask_never_come_here(cluster):
    cluster.api.endpoints.clear()  # nobody serves at all
    plain = pod()
    plain["metadata"]["labels"] = {"app": "web"}
    admitted = await cluster.api.create_pod(plain)
    assert admitted.calls == 0
    assert cluster.api.reviews == []


async def test_D1_its_own_namespace_and_the_clusters_are_left_alone_even_when_labelled(cluster):
    await cluster.replica()
    for namespace in ("kube-system", "kube-public", "kube-node-lease", "sidecar-system"):
        admitted = await cluster.api.create_pod(pod(), namespace)
        assert "initContainers" not in admitted.pod["spec"]
    assert {(line.result, line.reason) for line in cluster.lines} == {("skipped", "namespace")}


async def test_a_dry_run_is_the_same_patch_and_says_so(cluster):
    await cluster.replica()
    wet = await cluster.api.create_pod(pod())
    dry = await cluster.api.create_pod(pod(), dry_run=True)
    assert wet.pod == dry.pod
    assert [line.dry_run for line in cluster.lines] == [False, False, True, True]


async def test_fields_that_nobody_has_heard_of_are_not_lost(cluster):
    await cluster.replica()
    strange = pod(annotations={"a/b~c": "ü \u2028"}, generateName="web-", name="")
    strange["spec"]["containers"][0]["fieldOf2031"] = {"deep": [1, 2.5, None, 10**15]}
    admitted = await cluster.api.create_pod(strange)
    assert admitted.pod["spec"]["containers"][0]["fieldOf2031"] == {"deep": [1, 2.5, None, 10**15]}
    assert admitted.pod["metadata"]["annotations"]["a/b~c"] == "ü \u2028"
    assert cluster.lines[0].pod == "default/web-*"


async def test_warnings_reach_the_user(cluster):
    await cluster.replica()
    warned = pod()
    warned["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "theirs"}}]
    admitted = await cluster.api.create_pod(warned)
    assert admitted.warnings
    assert all(len(each) <= 240 for each in admitted.warnings)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (json.dumps(REVIEW).encode(), 400),
        (json.dumps(REVIEW | {"request": {"uid": "1"}}).encode(), 400),
        (
            json.dumps(
                REVIEW
                | {
                    "apiVersion": "admission.k8s.io/v1beta1",
                    "request": {"uid": "1", "operation": "CREATE", "resource": {"resource": "pods"}},
                }
            ).encode(),
            400,
        ),
        (b" " * (8 * 1024 * 1024 + 1), 413),
    ],
    ids=["empty", "cut", "not-utf8", "list", "deep", "no-request", "half-request", "v1beta1", "large"],
)
async def test_what_is_no_review_is_an_http_error(cluster, body, status):
    injector = await cluster.replica()
    answered, text, _ = await ask(injector, "POST", "/mutate", body)
    assert answered == status, text
    assert cluster.lines[-1].result == "malformed"
    assert (await cluster.api.create_pod(pod())).calls == 2


async def test_a_body_that_does_not_come_is_given_up_after_ten_seconds(cluster):
    injector = await cluster.replica()
    await cluster.quiet()
    timers = cluster.clock.calls
    host, port = injector.addresses[0]
    reader, writer = await asyncio.open_connection(host, port, ssl=untrusting())
    head = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    writer.write(head + b'{"kind"')
    await until(lambda: cluster.clock.calls > timers, "its time has begun")
    cluster.clock.advance(9 * SECOND)
    writer.write(b": ")  # a trickle is no reprieve
    await cluster.quiet()
    assert injector.webhook.under_way == 1
    cluster.clock.advance(SECOND)
    assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
    await until(lambda: injector.webhook.under_way == 0)
    writer.close()
    assert (cluster.lines[-1].result, cluster.lines[-1].reason) == ("malformed", "the body did not come in time")
    assert (await cluster.api.create_pod(pod())).calls == 2


async def test_paths_methods_and_types(cluster):
    injector = await cluster.replica()
    assert (await ask(injector, "GET", "/mutate"))[0] == 405
    assert (await ask(injector, "POST", "/mutate", b"{}", "text/plain"))[0] == 415
    assert (await ask(injector, "GET", "/metrics"))[0] == 404
    assert (await ask(injector, "GET", "/healthz"))[:2] == (200, "ok\n")
    assert (await ask(injector, "GET", "/readyz"))[:2] == (200, "ok\n")


async def test_alive_but_not_ready_before_there_is_a_certificate(cluster):
    cluster.api.refuses = lambda verb, path: 503
    injector = await cluster.replica(is_ready=False)
    assert (await ask(injector, path="/healthz"))[0] == 200
    status, text, _ = await ask(injector)
    assert status == 503
    assert "no certificate yet" in text
    assert (await metrics(injector))["sidecar_injector_ready",] == 0


async def test_metrics(cluster):
    injector = await cluster.replica()
    await cluster.api.create_pod(pod())
    hosted = pod()
    hosted["spec"]["hostNetwork"] = True
    await cluster.api.create_pod(hosted)
    found = await metrics(injector)
    name = "sidecar_injector_admissions_total"
    # the call to itself that made it ready is not among them
    assert (found[name, "injected"], found[name, "unchanged"], found[name, "skipped"]) == (1, 1, 2)
    assert found["sidecar_injector_skipped_total", "host network"] == 2
    assert found["sidecar_injector_admission_duration_seconds_count",] == 4
    leaf = injector.replica.standing.leaf
    assert found["sidecar_injector_certificate_expiry_timestamp_seconds", "leaf"] == leaf.not_after_ns // SECOND
    assert found["sidecar_injector_ready",] == 1


async def test_the_own_call_fails_when_the_bundle_does_not_fit(cluster):
    injector = await cluster.replica()
    strangers = cluster.api.authority.cert_pem.bytes().decode()
    await injector.replica.call_itself(strangers)
    assert "certificate" in injector.webhook.reasons()[0].lower()
    await injector.replica.call_itself("no bundle")
    assert injector.webhook.reasons()
    injector.webhook.inject = break_it
    await injector.replica.call_itself(cluster.api.field("ca.crt"))
    assert injector.webhook.reasons() == ("a call to itself got status 500",)


async def test_only_http_1_and_tls_1_2_or_newer(cluster):
    injector = await cluster.replica()
    context = untrusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection(*injector.addresses[0], ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()
    assert injector.replica.serving.context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_the_end_is_in_order(cluster):
    """Unready at once, serving on, each answer closing its connection; then what is under way is finished."""
    injector = await cluster.replica()
    stays = await cluster.replica()
    reader, writer = await asyncio.open_connection(*injector.addresses[0], ssl=untrusting())
    body = json.dumps(
        {**REVIEW, "request": {"uid": "7", "operation": "UPDATE", "resource": {"resource": "x"}}}
    ).encode()
    head = f"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    assert "connection" not in (await ask(injector))[2]
    stopping = asyncio.ensure_future(injector.stop())
    await asyncio.sleep(0)
    status, text, headers = await ask(injector)
    assert (status, text) == (503, "draining\n")
    assert headers["connection"] == "close"
    assert (await cluster.api.create_pod(pod())).calls == 2  # still served while endpoints learn of it
    writer.write(head.encode() + body[:20])
    await writer.drain()
    await until(lambda: injector.webhook.under_way == 1)
    cluster.clock.advance(5 * SECOND)
    await until(lambda: _is_refused(injector))
    assert not stopping.done()
    writer.write(body[20:])
    answer = await reader.read()
    assert b" 200 " in answer.split(b"\r\n")[0]
    assert b'"uid":"7"' in answer
    await stopping
    writer.close()
    cluster.api.endpoints.remove(injector.addresses[0])
    assert stays.webhook.reasons() == ()
    assert (await cluster.api.create_pod(pod())).calls == 2


def _is_refused(injector):
    with socket.socket() as probe:
        return probe.connect_ex(injector.addresses[0]) != 0


async def test_a_replica_that_leaves_under_load_fails_nobody(cluster):
    leaving = await cluster.replica()
    await cluster.replica()
    done = 0

    async def load():
        nonlocal done
        for _ in range(50):
            assert (await cluster.api.create_pod(pod())).calls == 2
            done += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(load())
        await until(lambda: done > 40)
        stopping = tasks.create_task(leaving.stop())
        await until(lambda: done > 80)
        cluster.api.endpoints.remove(leaving.addresses[0])  # the cluster has seen that it is not ready
        await until(lambda: done > 120)  # some of the linger has passed
        cluster.clock.advance(5 * SECOND)
    await stopping
    assert done == 200


async def test_settings_are_taken_without_a_restart_and_bad_ones_are_not(cluster):
    injector = await cluster.replica()
    cluster.changes.append((Settings(container="changed"), ()))
    cluster.clock.advance(10 * SECOND)
    await until(lambda: ("settings", "taken") in cluster.said)
    admitted = await cluster.api.create_pod(pod())
    assert admitted.pod["spec"]["initContainers"][0]["name"] == "changed"
    cluster.changes.append((Settings(), ("port: wrong",)))
    cluster.clock.advance(10 * SECOND)
    await until(lambda: "port: wrong" in str(cluster.said))
    assert (await cluster.api.create_pod(pod())).pod["spec"]["initContainers"][0]["name"] == "changed"
    assert injector.webhook.reasons() == ()


async def test_the_mode_follows_the_version_of_the_cluster(cluster):
    cluster.api.objects["/version"] = {"major": "1", "minor": "28+"}
    await cluster.replica()
    admitted = await cluster.api.create_pod(pod())
    assert [each["name"] for each in admitted.pod["spec"]["containers"]] == ["app", "llm-proxy"]


async def test_the_fake_asks_only_where_the_configuration_says(cluster):
    """The rig itself: a webhook without IfNeeded is asked once, one whose patch cannot be applied fails the pod."""
    injector = await cluster.replica()
    stored = configuration("Ignore", "Never")
    for webhook, old in zip(stored["webhooks"], cluster.api.objects[CONFIGURATION]["webhooks"], strict=True):
        webhook["clientConfig"] = old["clientConfig"]
    cluster.api.put(CONFIGURATION, stored)
    assert (await cluster.api.create_pod(pod())).calls == 1
    injector.webhook.inject = lambda pod, namespace: Verdict(({"op": "remove", "path": "/spec/nothing"},))
    with pytest.raises(Refused, match="patch cannot be applied"):
        await cluster.api.create_pod(pod())
