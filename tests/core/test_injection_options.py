"""Annotations: each is validated, and a wrong one refused by its name (kubernetes.md B15)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.pods import PREFIX, patched, pod, sidecar_of, verdict

WRONG = [
    ("port", "80"),
    ("port", "http"),
    ("port", "65536"),
    ("port", "8788"),
    ("port", "99999999999999999999"),
    ("admin-port", "8787"),
    ("mode", "auto"),
    ("mode", ""),
    ("env-policy", "always"),
    ("config-map", "Not_A_Name"),
    ("secrets", ""),
    ("secrets", "a,a"),
    ("secrets", "a,B"),
    ("secrets", "x" * 254),
    ("image", "two words"),
    ("image", "x\nimage: y"),
    ("run-as-user", "0"),
    ("run-as-user", "root"),
    ("include-containers", ","),
    ("exclude-containers", "A"),
    ("cpu-request", "0"),
    ("cpu-request", "-1"),
    ("cpu-limit", "much"),
    ("memory-limit", "64 Mi"),
    ("memory-request", "1e"),
    ("memory-request", "null"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_denied_by_its_name(name, value):
    found = verdict(pod(annotations={name: value}))
    assert found.patch == ()
    assert found.denial is not None
    assert f"{PREFIX}/{name}" in found.denial
    assert not any(ord(each) < 32 for each in found.denial)
    assert len(found.denial) < 300


def test_a_name_that_is_none_of_ours_is_denied_with_the_nearest():
    denial = verdict(pod(annotations={"prot": "1"})).denial
    assert denial == f"annotation {PREFIX}/prot: not known; did you mean port?"
    assert "known: admin-port" in (verdict(pod(annotations={"zzzzzz": "1"})).denial or "")


def test_others_annotations_are_not_ours_to_judge():
    given = pod()
    given["metadata"]["annotations"] = {"example.com/port": "x", "sidecar.internal.example/port": "x"}
    assert verdict(given).denial is None


@pytest.mark.parametrize("value", ["yes", "True", "", "1"])
def test_the_label_is_true_or_false(value):
    denial = verdict(pod(labels={f"{PREFIX}/inject": value})).denial
    assert denial is not None
    assert f"{PREFIX}/inject" in denial


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted({name for name, _ in WRONG})), st.text(max_size=20))
def test_no_value_raises_or_brings_a_second_container(name, value):
    found = verdict(pod(annotations={name: value}))
    if found.denial is None:
        out = patched(pod(annotations={name: value}))
        sidecar_of(out)
        assert [each["name"] for each in out["spec"]["containers"] if each["name"] != "llm-proxy"] == ["app"]
    else:
        assert f"{PREFIX}/" in found.denial


def test_right_values_are_taken():
    given = pod(
        annotations={
            "image": "registry.example:5000/team/sidecar:2@sha256:" + "a" * 64,
            "run-as-user": "20000",
            "memory-request": "128Mi",
            "memory-limit": "0.5Gi",
            "cpu-limit": "2",
        }
    )
    container = sidecar_of(patched(given))[0]
    assert container["image"].startswith("registry.example:5000/team/sidecar:2@sha256:")
    assert container["securityContext"]["runAsUser"] == 20000
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"cpu": "2", "memory": "0.5Gi"},
    }


def test_a_default_gives_way_to_what_the_pod_says():
    container = sidecar_of(patched(pod(annotations={"memory-request": "1Gi", "cpu-limit": "10m"})))[0]
    assert container["resources"] == {
        "requests": {"cpu": "10m", "memory": "1Gi"},
        "limits": {"cpu": "10m", "memory": "1Gi"},
    }
    denial = verdict(pod(annotations={"memory-request": "1Gi", "memory-limit": "64Mi"})).denial
    assert denial == f"annotation {PREFIX}/memory-request: more than memory-limit"
