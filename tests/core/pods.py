"""Pods for the tests of injection: one plain one, hypothesis strategies for others, and what the API server does."""

import copy

import jsonpatch
from hypothesis import strategies as st

from sidecar.core.injection import Settings, inject

SETTINGS = Settings(image="registry.example/sidecar:1.0", version="1.0")
PREFIX = SETTINGS.prefix


def pod(*, annotations=None, labels=None, **spec):
    """A pod with one container; `container` fields are given by replacing `containers`."""
    metadata = {"name": "app", "labels": {f"{PREFIX}/inject": "true", **(labels or {})}}
    if annotations is not None:
        metadata["annotations"] = {f"{PREFIX}/{name}": value for name, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "app", "image": "app:1"}]} | spec,
    }


def verdict(given, settings=SETTINGS, namespace="team"):
    return inject(given, namespace, settings)


def patched(given, settings=SETTINGS):
    """The pod as it comes out, by the patch library; the pod given is left alone. It must be admitted."""
    found = verdict(given, settings)
    assert found.denial is None, found
    return jsonpatch.apply_patch(copy.deepcopy(given), list(found.patch))


def sidecar_of(out):
    """Our container, and where it is: the field's name and its index."""
    places = [
        (each, field, index)
        for field in ("initContainers", "containers")
        for index, each in enumerate(out["spec"].get(field) or [])
        if each["name"] == "llm-proxy"
    ]
    assert len(places) == 1, places
    return places[0]


def env_of(out, name="app"):
    """Name and value of a container's variables, in order."""
    (found,) = (
        each
        for field in ("initContainers", "containers")
        for each in out["spec"].get(field) or []
        if each["name"] == name
    )
    return [(each["name"], each.get("value")) for each in found.get("env") or []]


# --- generated ones ---

_NAMES = ["OPENAI_BASE_URL", "OPENAI_API_KEY", "HTTP_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "OTHER", "PATH"]


def _maybe(strategy, empty):
    """Absent (the key is left out), null, empty, or that."""
    return st.one_of(st.just(...), st.none(), st.just(empty), strategy)


def _without_absent(tree):
    return {key: value for key, value in tree.items() if value is not ...}


variables = st.builds(
    lambda name, value: {"name": name, **value},
    st.sampled_from(_NAMES),
    st.sampled_from(
        [{"value": "http://own"}, {"value": ""}, {}, {"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    ),
)
resources = st.sampled_from(
    [
        {},
        {"limits": {"cpu": "1", "memory": "1Gi"}},
        {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}},
        {"requests": {"cpu": "100m"}},
        None,
    ]
)


def _containers(prefix):
    one = st.fixed_dictionaries(
        {
            "image": st.just("app:1"),
            "env": _maybe(st.lists(variables, max_size=4), []),
            "envFrom": st.sampled_from([..., [], [{"secretRef": {"name": "own"}}]]),
            "resources": resources,
            "restartPolicy": st.sampled_from([..., "Always"]) if prefix == "init" else st.just(...),
            "ports": st.sampled_from([..., [], [{"containerPort": 8080, "name": "web"}]]),
        }
    ).map(_without_absent)
    return st.lists(one, min_size=int(prefix == "c"), max_size=3).map(
        lambda all_of: [{"name": f"{prefix}{index}", **each} for index, each in enumerate(all_of)]
    )


annotations = st.dictionaries(
    st.sampled_from(
        ["cpu-limit", "memory-request", "cpu-request", "other", "mode", "env-policy", "include-containers"]
    ),
    st.none(),
    max_size=3,
).flatmap(
    lambda names: st.fixed_dictionaries(
        {
            (f"{PREFIX}/{name}" if name != "other" else "example.com/a~b/c"): {
                "cpu-limit": st.sampled_from(["1", "500m"]),
                "cpu-request": st.sampled_from(["10m", "500m"]),
                "memory-request": st.sampled_from(["64Mi", "1Gi"]),
                "mode": st.sampled_from(["native", "container"]),
                "env-policy": st.sampled_from(["if-absent", "override"]),
                "include-containers": st.just("c0"),
                "other": st.just("x"),
            }[name]
            for name in names
        }
    )
)

pods = st.builds(
    lambda metadata, spec: {"metadata": _without_absent(metadata), "spec": _without_absent(spec)},
    st.fixed_dictionaries(
        {
            "name": st.sampled_from([..., "app"]),
            "annotations": _maybe(annotations, {}),
            "labels": _maybe(st.just({f"{PREFIX}/inject": "true", "app": "x"}), {}),
        }
    ),
    st.fixed_dictionaries(
        {
            "containers": _containers("c"),
            "initContainers": _maybe(_containers("init"), []),
            "volumes": _maybe(st.just([{"name": "own", "emptyDir": {}}]), []),
            "resources": st.sampled_from([..., None, {}, {"limits": {"cpu": "2", "memory": "1Gi"}}]),
            "restartPolicy": st.sampled_from([..., "Always", "Never"]),
        }
    ),
)
