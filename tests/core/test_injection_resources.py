"""Resources: always requests, and the class of the pod is kept (kubernetes.md B12; acceptance D12)."""

import pytest

from sidecar.core.injection_resources import is_guaranteed
from tests.core.pods import patched, pod, sidecar_of, verdict

BOUND = {"limits": {"cpu": "1", "memory": "1Gi"}}
EQUAL = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}
LESS = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}


def app(resources):
    return {"name": "app", "image": "x", "resources": resources}


def resources(given):
    return sidecar_of(patched(given))[0]["resources"]


def test_D12_requests_and_a_memory_limit_and_no_cpu_limit():
    assert resources(pod()) == {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}


@pytest.mark.parametrize("own", [BOUND, EQUAL])
def test_a_guaranteed_pod_stays_one(own):
    given = pod(containers=[app(own)])
    assert is_guaranteed(given["spec"])
    out = patched(given)
    assert is_guaranteed(out["spec"])
    assert resources(given) == {
        "requests": {"cpu": "50m", "memory": "256Mi"},
        "limits": {"cpu": "50m", "memory": "256Mi"},
    }
    assert verdict(given).warnings == ()


NOT_GUARANTEED = [
    [app(LESS)],
    [app({})],
    [app({"limits": {"cpu": "1"}})],
    [app({"limits": {"cpu": "0", "memory": "1Gi"}})],
    [app({"limits": None})],
    [app(EQUAL), {"name": "other"}],
]


@pytest.mark.parametrize("containers", NOT_GUARANTEED)
def test_others_are_not_bound_for_it(containers):
    assert not is_guaranteed({"containers": containers})
    assert "cpu" not in resources(pod(containers=containers))["limits"]


def test_an_init_container_counts_for_the_class():
    assert not is_guaranteed({"containers": [app(EQUAL)], "initContainers": [{"name": "i"}]})
    assert is_guaranteed({"containers": [app({"limits": {"cpu": 1, "memory": "1Gi"}})], "initContainers": [app(EQUAL)]})


def test_one_annotation_settles_both_and_two_that_differ_are_warned_of():
    given = pod(containers=[app(EQUAL)], annotations={"cpu-limit": "2", "memory-request": "1Gi"})
    assert resources(given) == {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    given = pod(containers=[app(EQUAL)], annotations={"cpu-limit": "2", "cpu-request": "1"})
    assert "Burstable" in verdict(given).warnings[0]


def test_where_the_pod_has_resources_of_its_own_ours_could_make_it_invalid():
    own = {"limits": {"cpu": "1", "memory": "1Gi"}}
    assert resources(pod(resources=own)) == {}
    assert resources(pod(resources=own, annotations={"cpu-request": "10m"})) == {"requests": {"cpu": "10m"}}
    assert resources(pod(resources={}))["requests"]
