"""Why a pod that asks for a sidecar would get none: the judgement of `sidecar inject-check` (acceptance D4).

A pod is created by a dry run, in which the API server calls webhooks as it always does and keeps nothing. What it says
is matched with its own words (kubernetes/kubernetes, apiserver/pkg/admission/plugin/webhook: "failed calling webhook",
"denied the request"; Go's net and crypto/x509 for causes). Refuses to know how anything was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sidecar.core.diagnosis import Finding
from sidecar.core.injection_settings import CLUSTER_NAMESPACES
from sidecar.core.injection_tree import mapping, mappings, text

_CALLED = re.compile(r'failed calling webhook "([^"]+)"')
_DENIED = re.compile(r'admission webhook "([^"]+)" denied the request: ?(.*)', re.DOTALL)
_PODS = "kubectl -n sidecar-injector get pods, and their logs; /readyz names the reason"
_FIREWALL = (
    "let the control plane reach the injector's port on the nodes: private GKE clusters let only 443 and 10250 "
    "through, EKS with a network plugin of its own needs k8s/overlays/host-network; or a NetworkPolicy is in the way"
)
_BUNDLE = "leave caBundle out of what is applied; the injector puts it in as soon as it is ready: see its log"

# what the API server says of a call that failed -> what that means, and what to do; the first that fits
_CAUSES = (
    (
        r"context deadline exceeded|i/o timeout|Client\.Timeout|no route to host",
        "it was not reached in time",
        _FIREWALL,
    ),
    (r"connection refused|no endpoints available", "no injector is ready behind the Service", _PODS),
    (r'service "[^"]*" not found', "its Service does not exist", "kubectl apply -k k8s/base"),
    (r"x509|certificate|PEM block|tls:", "caBundle does not fit the injector's certificate", _BUNDLE),
    (r"status 5\d\d|unknown \(\w+ |EOF|malformed|response\.", "it failed", "the injector's log says at what"),
    (r"no such host|lookup ", "its name is not known to the API server", "see to the DNS of the control plane"),
)


class Asked(NamedTuple):
    """Where a pod is tried, the prefix of labels, and the name of the webhook configuration."""

    namespace: str
    prefix: str
    configuration: str


class Seen(NamedTuple):
    """What came of it. `status` and `message` are those of a refusal, 0 where no API server was reached; `pod`: as it
    would be stored, None where it was refused. What may not be read is None; an absent configuration is empty."""

    pod: Mapping[str, object] | None
    status: int
    message: str
    namespace: Mapping[str, object] | None
    configuration: Mapping[str, object] | None


def pod_to_try(asked: Asked) -> dict[str, object]:
    """A pod that asks for a sidecar and that no standard or quota has anything against."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 18789,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    amounts = {"cpu": "10m", "memory": "16Mi"}
    container = {
        "name": "app",
        "image": "sidecar:latest",
        "securityContext": security,
        "resources": {"requests": amounts, "limits": amounts},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "inject-check-", "labels": {f"{asked.prefix}/inject": "true"}},
        "spec": {"containers": [container]},
    }


def judge(asked: Asked, seen: Seen) -> Finding:
    """What the dry run has shown."""
    if seen.pod is None:
        return _refused(asked, seen)
    marks = mapping(mapping(seen.pod.get("metadata")).get("labels"))
    if marks.get(f"{asked.prefix}/injected") == "true":
        spec = mapping(seen.pod.get("spec"))
        names = [
            text(each.get("name")) for kind in ("initContainers", "containers") for each in mappings(spec.get(kind))
        ]
        return Finding("ok", "dry run", asked.namespace, f"a pod would get its sidecar: {', '.join(names)}")
    message, remedy = next(_passed_over(asked, seen))
    return Finding("broken", "dry run", asked.namespace, f"a pod would start without a sidecar: {message}", remedy)


def _refused(asked: Asked, seen: Seen) -> Finding:
    called, denied = _CALLED.search(seen.message), _DENIED.search(seen.message)
    if called is not None:
        message, remedy = _cause(seen.message)
        message = f"the webhook {called[1]} was called, and {message}: {seen.message}"
        if not called[1].endswith(f".{asked.prefix}"):
            remedy = "this is another webhook than the sidecar's: ask whoever runs it"
    elif denied is not None:
        message = f"the webhook {denied[1]} refused the pod: {denied[2]}"
        remedy = (
            "the message names what is wrong" if denied[1].endswith(f".{asked.prefix}") else "this is another webhook"
        )
    elif seen.status == 0:
        message, remedy = seen.message, "is the address right, and does `kubectl proxy` run?"
    elif seen.status == 401 or "cannot create resource" in seen.message:
        message, remedy = f"you may not create pods there: {seen.message}", "run it as somebody who may, by --via"
    else:
        message = f"the pod was refused ({seen.status}): {seen.message}"
        remedy = "not by a webhook: the namespace, its quota, its limits or its policies"
    return Finding("broken", "dry run", asked.namespace, message, remedy)


def _cause(message: str) -> tuple[str, str]:
    for pattern, meaning, remedy in _CAUSES:
        if re.search(pattern, message):
            return meaning, remedy
    return "that failed", _PODS


def _passed_over(asked: Asked, seen: Seen) -> Iterator[tuple[str, str]]:
    """Why no sidecar came, the likeliest cause first."""
    labels = mapping(mapping((seen.namespace or {}).get("metadata")).get("labels"))
    said = labels.get(f"{asked.prefix}/injection", "enabled")
    if asked.namespace in CLUSTER_NAMESPACES:
        yield "the cluster's own namespaces are excluded", "try another with --namespace"
    if said != "enabled":
        yield f"the namespace has the label {asked.prefix}/injection: {said}", "take it away, or try another"
    if seen.configuration is not None:
        yield from _unasked(asked, seen.configuration)
    yield (
        "the webhook was not called, or passed the pod over",
        "the injector's log has a line for each pod it was asked about; without one, compare selectors with labels",
    )


def _unasked(asked: Asked, configuration: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    if not configuration:
        yield f"there is no MutatingWebhookConfiguration {asked.configuration}", "kubectl apply -k k8s/base"
        return
    ours = [
        each for each in mappings(configuration.get("webhooks")) if text(each.get("name")).endswith(f".{asked.prefix}")
    ]
    if not ours:
        yield f"{asked.configuration} has no webhook for labels of {asked.prefix}", "--prefix, as in its selectors"
    if any(each.get("failurePolicy") == "Ignore" for each in ours):
        is_empty = any(not mapping(each.get("clientConfig")).get("caBundle") for each in ours)
        why = "caBundle is empty" if is_empty else "it was not reached, most likely"
        remedy = _BUNDLE if is_empty else f"{_PODS}; or {_FIREWALL}"
        yield f"failurePolicy is Ignore, so that a call that fails is passed over in silence; {why}", remedy
