"""Pods that ask for a sidecar and have none are told within thirty seconds (D2)."""

from sidecar.core.limits import HOUR, SECOND
from tests.inject.api_server import EVENTS, PREFIX, REPORTING
from tests.inject.rig import until


def missing(name, *, labels=None, **more):
    """A pod as it is stored."""
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    metadata["labels"] = {f"{PREFIX}/inject": "true", **(labels or {})}
    return {"kind": "Pod", "metadata": metadata | more.pop("metadata", {}), **more}


def events(cluster):
    return [each for path, each in cluster.api.objects.items() if path.startswith(EVENTS)]


async def test_D2_a_pod_without_its_sidecar_gets_an_event_and_counts(cluster):
    cluster.api.rights |= REPORTING
    first = await cluster.replica(report_uninjected=True)
    second = await cluster.replica(report_uninjected=True)
    for name in ("one", "two", "three"):
        cluster.api.put(f"/api/v1/namespaces/default/pods/{name}", missing(name))
    others = {
        "injected": missing("injected", labels={f"{PREFIX}/injected": "true"}),
        "over": missing("over", status={"phase": "Succeeded"}),
        "leaving": missing("leaving", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        "plain": missing("plain", labels={f"{PREFIX}/inject": "false"}),
    }
    for name, stored in others.items():
        cluster.api.put(f"/api/v1/namespaces/default/pods/{name}", stored)
    await cluster.quiet()
    cluster.clock.advance(15 * SECOND)
    await until(lambda: (first.webhook.uninjected, second.webhook.uninjected) == (3, 3))
    await until(lambda: len(events(cluster)) == 3)
    event = events(cluster)[0]
    assert event["involvedObject"]["name"] == "one"
    assert (event["type"], event["reason"]) == ("Warning", "SidecarMissing")
    # neither the other replica nor the next look says it again, until the API has forgotten it
    for _ in range(4):
        cluster.clock.advance(15 * SECOND)
        await cluster.quiet()
    assert len(events(cluster)) == 3
    cluster.api.objects.pop("/api/v1/namespaces/default/pods/two")
    cluster.clock.advance(HOUR)
    await until(lambda: len(events(cluster)) == 5)
    assert first.webhook.uninjected == 2
    assert cluster.api.used >= REPORTING


async def test_D2_without_the_rights_it_says_so_and_serves_on(cluster):
    injector = await cluster.replica(report_uninjected=True)
    await until(lambda: any("cannot be reported" in message for _, message in cluster.said))
    assert injector.webhook.reasons() == ()
    assert injector.webhook.uninjected is None


async def test_D2_nobody_looks_unless_asked(cluster):
    await cluster.replica()
    cluster.clock.advance(60 * SECOND)
    await cluster.quiet()
    assert not any("pods" in path for _, path in cluster.api.calls)
