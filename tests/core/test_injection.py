"""The verdict on a pod: what is put in, where, and that it is put in once (kubernetes.md A, B; acceptance D)."""

import copy
import json

import jsonpatch
import kubernetes_validate
import msgspec
import pytest
from hypothesis import given, settings

from sidecar.core.injection import Settings, inject
from tests.core.pods import PREFIX, SETTINGS, env_of, patched, pod, pods, sidecar_of, verdict

MODES = ("native", "container")
TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"


def in_mode(mode):
    return msgspec.structs.replace(SETTINGS, mode=mode)


# === once ===


@settings(max_examples=250, deadline=None)
@given(pods)
def test_D10_the_patch_of_a_patched_pod_is_empty(generated):
    before = copy.deepcopy(generated)
    first = verdict(generated)
    assert generated == before  # data in, data out
    assert first == verdict(generated)
    assert first.patch, first
    once = jsonpatch.apply_patch(generated, list(first.patch))
    again = verdict(once)
    assert (again.patch, again.denial) == ((), None)


@settings(max_examples=250, deadline=None)
@given(pods)
def test_what_the_application_brought_is_still_there_and_in_its_order(generated):
    out = patched(generated)
    container, field, index = sidecar_of(out)
    for each in ("containers", "initContainers"):
        kept = [one for one in out["spec"].get(each) or [] if one["name"] != container["name"]]
        assert [one["name"] for one in kept] == [one["name"] for one in generated["spec"].get(each) or []]
    assert (field, index) == ("initContainers", 0) or (field, index) == (
        "containers",
        len(out["spec"]["containers"]) - 1,
    )
    for each in generated["spec"]["containers"]:
        own = [variable["name"] for variable in each.get("env") or []]
        now = [name for name, _ in env_of(out, each["name"])]
        assert now[len(now) - len(own) :] == own
        fresh = now[: len(now) - len(own)]
        assert not set(fresh) & set(own)
        assert len(set(fresh)) == len(fresh)
    own_volumes = generated["spec"].get("volumes") or []
    assert out["spec"]["volumes"][: len(own_volumes)] == own_volumes
    untouched = {"containers", "initContainers", "volumes"}
    assert {k: v for k, v in out["spec"].items() if k not in untouched} == {
        k: v for k, v in generated["spec"].items() if k not in untouched
    }


@settings(max_examples=100, deadline=None)
@given(pods)
def test_every_path_of_a_patch_exists_in_turn(generated):
    # the patch library applies one after the other and raises on a path that is not there; a whole array is never set
    for operation in verdict(generated).patch:
        if isinstance(operation["value"], list):
            assert operation["value"] == []


def test_a_container_that_comes_later_gets_its_variables_and_nothing_else_changes():
    once = patched(pod())
    once["spec"]["containers"].append({"name": "late", "image": "x"})
    found = verdict(once)
    assert {each["path"] for each in found.patch} == {"/spec/containers/1/env", "/spec/containers/1/env/0"}
    twice = jsonpatch.apply_patch(once, list(found.patch))
    assert dict(env_of(twice, "late"))["OPENAI_BASE_URL"] == "http://127.0.0.1:8787/v1"
    assert verdict(twice).skip == "already injected"


def test_the_sidecar_is_not_moved_when_another_one_came_before_it():
    once = patched(pod(initContainers=[{"name": "setup", "image": "x"}]))
    once["spec"]["initContainers"].insert(0, {"name": "mesh", "image": "x"})
    assert verdict(once).patch == ()


def test_a_copied_status_is_not_believed():
    copied = pod(annotations={"status": "{}"})
    assert sidecar_of(patched(copied))


# === the container ===


def test_D5_D6_native_is_a_first_init_container_that_stays_and_is_waited_for():
    out = patched(pod(initContainers=[{"name": "setup", "image": "x"}]))
    container, field, index = sidecar_of(out)
    assert (field, index, container["restartPolicy"]) == ("initContainers", 0, "Always")
    probe = container["startupProbe"]
    assert probe["httpGet"] == {"path": "/readyz", "port": 8788, "scheme": "HTTP"}
    assert (probe["periodSeconds"], probe["failureThreshold"]) == (1, 60)
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert dict(env_of(out, "setup"))["OPENAI_BASE_URL"] == "http://127.0.0.1:8787/v1"


def test_container_mode_stands_last_and_leaves_kubectl_its_default():
    out = patched(pod(initContainers=[{"name": "setup", "image": "x"}]), in_mode("container"))
    container, field, index = sidecar_of(out)
    assert (field, index) == ("containers", 1)
    assert "restartPolicy" not in container
    assert out["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "app"
    assert env_of(out, "setup") == []  # it has ended before the sidecar starts
    given = pod()
    given["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "other"}
    assert (
        patched(given, in_mode("container"))["metadata"]["annotations"] | given["metadata"]["annotations"]
        == (patched(given, in_mode("container"))["metadata"]["annotations"])
    )


JOB = [{"kind": "Job", "name": "j", "apiVersion": "batch/v1", "uid": "u"}]


def test_D5_a_plain_container_is_refused_to_a_job_unless_it_asks():
    job = pod(restartPolicy="Never")
    job["metadata"]["ownerReferences"] = JOB
    denial = verdict(job, in_mode("container")).denial
    assert denial is not None
    assert f"{PREFIX}/mode" in denial
    assert verdict(job, in_mode("native")).warnings == ()
    job["metadata"]["annotations"] = {f"{PREFIX}/mode": "container"}
    found = verdict(job)
    assert found.denial is None
    assert "never completes" in found.warnings[0]


def test_D7_D8_there_is_no_prestop_and_nothing_of_the_pod_s_grace_period():
    out = patched(pod())
    assert "lifecycle" not in sidecar_of(out)[0]
    assert "terminationGracePeriodSeconds" not in out["spec"]


@pytest.mark.parametrize("mode", MODES)
def test_D9_the_container_meets_the_restricted_standard(mode):
    out = patched(pod(), in_mode(mode))
    container = sidecar_of(out)[0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 18787,
        "runAsGroup": 18787,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "securityContext" not in out["spec"]
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    kinds = {"configMap", "secret", "emptyDir"}
    assert all((set(volume) - {"name"}) < kinds for volume in out["spec"]["volumes"])
    assert not any("hostPort" in port for port in container["ports"])


def test_D9_the_user_is_the_platform_s_where_it_gives_out_numbers():
    for one, chosen in (
        (pod(), msgspec.structs.replace(SETTINGS, user=None)),
        (pod(annotations={"run-as-user": "none"}), SETTINGS),
    ):
        context = sidecar_of(patched(one, chosen))[0]["securityContext"]
        assert "runAsUser" not in context
        assert "runAsGroup" not in context
        assert context["runAsNonRoot"] is True


def test_no_token_and_no_plain_empty_directory():
    out = patched(pod())
    mounts = {mount["mountPath"]: mount["name"] for mount in sidecar_of(out)[0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in out["spec"]["volumes"]}
    assert volumes[mounts[TOKEN_DIR]]["emptyDir"]["medium"] == "Memory"
    assert all(volume["emptyDir"]["medium"] == "Memory" for volume in volumes.values() if "emptyDir" in volume)


def test_configuration_and_keys_are_optional_files_in_directories():
    out = patched(pod(annotations={"config-map": "mine", "secrets": "groq, cerebras"}))
    volumes = {volume["name"]: volume for volume in out["spec"]["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in sidecar_of(out)[0]["volumeMounts"]}
    assert mounts["/etc/sidecar/config"]["configMap"] == {"name": "mine", "optional": True, "defaultMode": 0o444}
    for name in ("groq", "cerebras"):
        secret = mounts[f"/etc/sidecar/secrets/{name}"]["secret"]
        assert secret == {"secretName": name, "optional": True, "defaultMode": 0o444}
    assert all("subPath" not in mount for mount in sidecar_of(out)[0]["volumeMounts"])
    assert "env" not in sidecar_of(out)[0]


def test_data_stays_on_loopback_and_the_admin_port_is_named_for_metrics():
    container = sidecar_of(patched(pod(annotations={"port": "9001", "admin-port": "9002"})))[0]
    words = container["args"]
    assert words[words.index("--listen") + 1] == "127.0.0.1:9001"
    assert words[words.index("--admin") + 1] == "*:9002"
    assert container["ports"] == [{"name": "llm-proxy-adm", "containerPort": 9002, "protocol": "TCP"}]
    assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "liveness", "readiness")} == {9002}


# === marks ===


def test_marks_tell_people_and_selectors():
    out = patched(pod())
    assert out["metadata"]["labels"][f"{PREFIX}/injected"] == "true"
    status = json.loads(out["metadata"]["annotations"][f"{PREFIX}/status"])
    assert (status["version"], status["containers"]) == ("1.0", ["llm-proxy"])
    assert status["volumes"] == [volume["name"] for volume in out["spec"]["volumes"]]
    other = patched(pod(annotations={"port": "9001"}))
    assert json.loads(other["metadata"]["annotations"][f"{PREFIX}/status"])["settings"] != status["settings"]


def test_prometheus_annotations_only_when_wanted_and_none_is_there():
    wanted = msgspec.structs.replace(SETTINGS, prometheus_annotations=True)
    assert "prometheus.io/port" not in patched(pod())["metadata"]["annotations"]
    assert patched(pod(), wanted)["metadata"]["annotations"]["prometheus.io/port"] == "8788"
    own = pod()
    own["metadata"]["annotations"] = {"prometheus.io/path": "/own"}
    marked = patched(own, wanted)["metadata"]["annotations"]
    assert marked["prometheus.io/path"] == "/own"
    assert "prometheus.io/port" not in marked


# === left alone ===

HANDMADE = {"name": "llm-proxy", "image": "sidecar"}
SKIPS = [
    ("host network", pod(hostNetwork=True), "team"),
    ("windows", pod(os={"name": "windows"}), "team"),
    ("windows", pod(nodeSelector={"kubernetes.io/os": "windows"}), "team"),
    ("mirror pod", pod() | {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}, "team"),
    ("own container", pod(containers=[{"name": "app"}, HANDMADE]), "team"),
    ("own container", pod(initContainers=[HANDMADE]), "team"),
    ("namespace", pod(), "kube-system"),
    ("namespace", pod(), "kube-public"),
    ("namespace", pod(), "kube-node-lease"),
    ("opted out", pod(labels={f"{PREFIX}/inject": "false"}), "team"),
    ("already injected", patched(pod()), "team"),
]


@pytest.mark.parametrize(("reason", "given", "namespace"), SKIPS)
def test_D1_what_is_left_alone_has_a_reason(reason, given, namespace):
    found = verdict(given, namespace=namespace)
    assert (found.skip, found.patch, found.denial) == (reason, (), None)


@pytest.mark.parametrize(
    "given", [{}, {"spec": None}, {"metadata": {}, "spec": {"containers": "x"}}, {"spec": {"volumes": 3}}]
)
def test_what_is_no_pod_does_not_raise(given):
    assert inject(given, "team", Settings()).denial is None


# === ports and volumes that are taken ===

TAKEN = [
    ({"containers": [{"name": "app", "ports": [{"containerPort": 8787}]}]}, f"{PREFIX}/port"),
    ({"containers": [{"name": "app", "ports": [{"containerPort": 8788}]}]}, f"{PREFIX}/admin-port"),
    ({"initContainers": [{"name": "i", "ports": [{"containerPort": 8788}]}]}, f"{PREFIX}/admin-port"),
    ({"containers": [{"name": "app", "ports": [{"containerPort": 1, "name": "llm-proxy-adm"}]}]}, "llm-proxy-adm"),
    ({"volumes": [{"name": "llm-proxy-config", "emptyDir": {}}]}, "llm-proxy-config"),
]


@pytest.mark.parametrize(("spec", "named"), TAKEN)
def test_what_is_taken_is_told_and_not_shared(spec, named):
    denial = verdict(pod(**spec)).denial
    assert denial is not None
    assert named in denial


def test_another_port_by_annotation_settles_it():
    taken = [{"name": "app", "ports": [{"containerPort": 8787}]}]
    out = patched(pod(containers=taken, annotations={"port": "9787"}))
    assert dict(env_of(out))["OPENAI_BASE_URL"] == "http://127.0.0.1:9787/v1"


# === as Kubernetes' own schema has it ===


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
@pytest.mark.parametrize("mode", MODES)
def test_a_patched_pod_meets_the_schema(version, mode):
    kubernetes_validate.validate(patched(pod(), in_mode(mode)), version, strict=True)


def test_the_schema_before_native_sidecars_takes_the_plain_container():
    kubernetes_validate.validate(patched(pod(), in_mode("container")), "1.27", strict=True)
