"""What API servers say of webhooks, in their own words, and what `sidecar inject-check` makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.injection import Settings
from sidecar.core.rehearsal import Asked, Seen, judge, pod_to_try
from tests.core.pods import patched, verdict

ASKED = Asked("default", "sidecar.internal", "sidecar-injector")
POST = 'failed to call webhook: Post "https://sidecar-injector.sidecar-injector.svc:443/mutate?timeout=5s": '
CALLED = f'Internal error occurred: failed calling webhook "object.sidecar.internal": {POST}'
OTHER = CALLED.replace("object.sidecar.internal", "policy.example.com")


def refused(status, message, **known):
    return judge(ASKED, Seen(None, status, message, **({"namespace": None, "configuration": None} | known)))


REFUSALS = [
    (CALLED + "context deadline exceeded", "not reached in time", "443 and 10250"),
    (CALLED + "dial tcp 10.0.0.9:10250: i/o timeout", "not reached in time", "443 and 10250"),
    (CALLED + "dial tcp 10.0.0.9:10250: connect: no route to host", "not reached in time", "host-network"),
    (CALLED + "dial tcp 10.0.0.9:10250: connect: connection refused", "no injector is ready", "get pods"),
    (CALLED + 'no endpoints available for service "sidecar-injector"', "no injector is ready", "get pods"),
    (CALLED + 'service "sidecar-injector" not found', "Service does not exist", "apply -k"),
    (
        CALLED + "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "caBundle",
        "caBundle",
    ),
    (CALLED + "unable to load root certificates: unable to parse bytes as PEM block", "caBundle", "caBundle"),
    (CALLED + "dial tcp: lookup sidecar-injector.sidecar-injector.svc: no such host", "name is not known", "DNS"),
    (CALLED + "status 500: the injector failed; see its log", "it failed", "log"),
    (CALLED + "something that nobody has seen", "that failed", "get pods"),
    (OTHER + "context deadline exceeded", "policy.example.com", "another webhook"),
    (
        'admission webhook "object.sidecar.internal" denied the request: annotation sidecar.internal/port: a port',
        "annotation sidecar.internal/port: a port",
        "names what is wrong",
    ),
    ('admission webhook "policy.example.com" denied the request: no', "policy.example.com", "another webhook"),
    ('pods is forbidden: User "me" cannot create resource "pods" in API group ""', "may not create", "--via"),
    ('pods "inject-check-x" is forbidden: exceeded quota: small', "the pod was refused (403)", "quota"),
]


@pytest.mark.parametrize(("message", "meaning", "remedy"), REFUSALS)
def test_D4_a_refusal_is_explained(message, meaning, remedy):
    found = refused(500 if "failed calling" in message else 403, message)
    assert (found.level, found.subject) == ("broken", "default")
    assert meaning in found.message
    assert remedy in found.remedy


def test_an_api_server_that_is_not_there():
    assert "kubectl proxy" in refused(0, "the API server was not reached: refused").remedy
    assert "may not" in refused(401, "Unauthorized").message


def test_D4_the_pod_that_is_tried_is_one_that_gets_a_sidecar():
    assert verdict(pod_to_try(ASKED)).denial is None
    found = judge(ASKED, Seen(patched(pod_to_try(ASKED), Settings(mode="native")), 0, "", None, None))
    assert (found.level, found.message) == ("ok", "a pod would get its sidecar: llm-proxy, app")
    elsewhere = ASKED._replace(prefix="llm.example.com")
    assert judge(elsewhere, Seen(patched(pod_to_try(ASKED)), 0, "", None, None)).level == "broken"


def webhooks(**fields):
    return {"webhooks": [{"name": "object.sidecar.internal", "failurePolicy": "Fail", **fields}]}


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"configuration": {}}, "there is no MutatingWebhookConfiguration"),
        ({"configuration": {"webhooks": None}}, "no webhook for labels"),
        ({"configuration": webhooks(failurePolicy="Ignore")}, "caBundle is empty"),
        ({"configuration": webhooks(failurePolicy="Ignore", clientConfig={"caBundle": "QQ=="})}, "was not reached"),
        ({"configuration": webhooks()}, "was not called, or passed the pod over"),
        ({"namespace": {"metadata": {"labels": {"sidecar.internal/injection": "disabled"}}}}, "injection: disabled"),
        ({"namespace": {"metadata": {"labels": {"sidecar.internal/injection": "enabled"}}}}, "was not called"),
    ],
)
def test_D4_a_pod_without_a_sidecar_is_explained(seen, told):
    found = judge(ASKED, Seen(**({"namespace": None, "configuration": None} | seen), pod={}, status=0, message=""))
    assert found.level == "broken"
    assert told in found.message
    assert found.remedy


def test_the_clusters_own_namespaces():
    found = judge(ASKED._replace(namespace="kube-system"), Seen({}, 0, "", None, None))
    assert "excluded" in found.message


TREES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["metadata", "labels", "webhooks", "name", "spec"]), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.none() | st.dictionaries(st.sampled_from(["metadata", "spec", "webhooks"]), TREES, max_size=3)


@given(OBJECTS, OBJECTS, OBJECTS, st.text(max_size=60))
def test_nothing_that_an_api_server_says_raises(pod, namespace, configuration, message):
    assert judge(ASKED, Seen(pod, 500, message, namespace, configuration)).level in ("ok", "broken")
