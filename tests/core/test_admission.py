"""AdmissionReview in and out."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.admission import Answer, Question, Result, answer_to, failed, read_review
from sidecar.core.injection import Verdict

POD = {"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "a"}]}}
REQUEST = {
    "uid": "u-1",
    "resource": {"group": "", "version": "v1", "resource": "pods"},
    "operation": "CREATE",
    "namespace": "shop",
    "object": POD,
}


def review(**changed):
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**REQUEST, **changed}}
    return json.dumps(body).encode()


def answered(verdict, **changed):
    question = read_review(review(**changed))
    assert isinstance(question, Question)
    asked = []

    def inject(pod, namespace):
        asked.append((pod, namespace))
        return verdict

    answer = answer_to(question, inject)
    assert asked in ([], [(POD, "shop")])
    return answer, json.loads(answer.body) if answer.status == 200 else None


def test_a_patch():
    patch: tuple[dict[str, object], ...] = ({"op": "add", "path": "/spec/x", "value": {"ü": 1}},)
    answer, body = answered(Verdict(patch, warnings=("look\nhere",) * 20))
    assert (answer.result, answer.pod) == (Result.INJECTED, "shop/web-*")
    response = body.pop("response")
    assert body == {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    assert json.loads(base64.b64decode(response.pop("patch"))) == list(patch)
    assert response.pop("warnings") == ["look here"] * 10
    assert response == {"uid": "u-1", "allowed": True, "patchType": "JSONPatch"}


@pytest.mark.parametrize(
    ("verdict", "result", "reason"),
    [
        (Verdict(), Result.UNCHANGED, ""),
        (Verdict(skip="already injected"), Result.UNCHANGED, "already injected"),
        (Verdict(skip="windows"), Result.SKIPPED, "windows"),
    ],
)
def test_nothing_to_change_is_no_patch_at_all(verdict, result, reason):
    answer, body = answered(verdict)
    assert body["response"] == {"uid": "u-1", "allowed": True}
    assert (answer.result, answer.reason) == (result, reason)


def test_a_denial_names_the_reason_to_the_user():
    answer, body = answered(Verdict(denial="annotation\tx", warnings=("w" * 500,)), dryRun=True)
    status = {"status": "Failure", "code": 403, "reason": "Forbidden", "message": "annotation x"}
    expected = {"uid": "u-1", "allowed": False, "status": status, "warnings": ["w" * 240]}
    assert body["response"] == expected
    assert (answer.result, answer.is_dry_run) == (Result.DENIED, True)


@pytest.mark.parametrize(
    "changed",
    [
        {"operation": "UPDATE"},
        {"subResource": "ephemeralcontainers"},
        {"resource": {"group": "apps", "version": "v1", "resource": "deployments"}},
        {"resource": {"group": "x", "version": "v1", "resource": "pods"}},
    ],
)
def test_D11_whatever_is_no_create_of_a_pod_is_left_alone(changed):
    answer, body = answered(Verdict(denial="never asked"), **changed)
    assert body["response"] == {"uid": "u-1", "allowed": True}
    assert answer.reason == "not-a-pod-create"


def test_a_create_of_nothing_is_malformed():
    answer, _ = answered(Verdict(), object=None)
    assert (answer.status, answer.result) == (400, Result.MALFORMED)


@pytest.mark.parametrize(
    ("changed", "pod"),
    [
        ({"name": "given"}, "shop/given"),
        ({"object": {"metadata": {"name": "inner"}}}, "shop/inner"),
        ({"object": {"metadata": None}}, "shop/*"),
        ({"object": None}, "shop/*"),
    ],
)
def test_the_pod_is_named_as_well_as_can_be(changed, pod):
    question = read_review(review(**changed))
    assert question.pod == pod


def test_our_own_fault_tells_the_caller_nothing():
    question = read_review(review())
    assert isinstance(question, Question)
    try:
        raise KeyError("a secret")
    except KeyError as error:
        answer = failed(question, error)
    assert (answer.status, answer.result, answer.pod) == (500, Result.FAILED, "shop/web-*")
    assert b"secret" not in answer.body
    assert answer.reason.startswith("KeyError at test_admission.py:")
    assert failed(None, KeyError("never raised")).reason == "KeyError"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.integers(0, len(review())).map(lambda cut: review()[:cut]))
def test_no_body_is_too_strange(body):
    found = read_review(body)
    assert isinstance(found, Question) if body == review() else isinstance(found, Answer) and found.status == 400


def test_a_pod_that_is_nested_without_end_is_malformed():
    deep = b"[" * 100_000 + b"]" * 100_000
    found = read_review(review(object={"a": "HERE"}).replace(b'"HERE"', deep))
    assert isinstance(found, Answer)
    assert found.status == 400


def test_another_version_or_kind_is_malformed():
    for change in ({"apiVersion": "admission.k8s.io/v2"}, {"kind": "ConversionReview"}):
        found = read_review(json.dumps({**json.loads(review()), **change}).encode())
        assert isinstance(found, Answer)
        assert b"admission.k8s.io/v1" in found.body
