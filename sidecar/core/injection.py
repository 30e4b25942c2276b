"""Puts a sidecar into a pod: the JSON patch (RFC 6902) that does it, or why not.

Pure: the same pod, namespace and settings give the same patch, and a pod that was patched needs no further one, because
the API server asks again for every pod. Nothing here knows HTTP, TLS or AdmissionReview (sidecar/inject/ does).

The contract with `sidecar inject`, which serves this, and with k8s/, which runs that:

    sidecar inject --config FILE      a YAML of Settings (injection_settings.py)
                   --certificates self|cert-manager|files      self: the CA is in the Secret SERVICE-ca
                   --certificate-dir DIR                       for the other two: tls.crt and tls.key
                   --webhook-configuration NAME                whose caBundle is kept; default: SERVICE
                   --namespace NS --service SERVICE            of the certificate's names; NS is never injected
                   --listen [::]:10250                         /mutate /readyz /healthz, over TLS
                   --metrics-listen [::]:8080                  /metrics, plain

`Verdict.denial` is for the user (`allowed: false`), `skip` is allowed without a patch and counted, `warnings` go along
with either. An exception is our own fault and becomes an HTTP 500, so that `failurePolicy` decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from sidecar.core.injection_container import container, volumes
from sidecar.core.injection_env import Variables, variables_for
from sidecar.core.injection_options import STATUS, Options, Wrong, options
from sidecar.core.injection_resources import resources_for
from sidecar.core.injection_settings import Settings, for_server, problems, read_settings
from sidecar.core.injection_tree import Operation, Tree, add, mapping, mappings, text

__all__ = ["Settings", "Verdict", "for_server", "inject", "problems", "read_settings"]


class Verdict(NamedTuple):
    """What to do with a pod. At most one of `patch`, `denial` and `skip` says something; none: nothing left to do."""

    patch: tuple[dict[str, object], ...] = ()  # JSON patch operations, in order
    denial: str | None = None  # a message for the user, naming the annotation or field
    skip: str | None = None  # a reason, of a small fixed set: fit for a metric's label
    warnings: tuple[str, ...] = ()  # each for one line of `kubectl`


_MIRROR = "kubernetes.io/config.mirror"  # on what the kubelet made from a file of its own
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_PROMETHEUS = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")
_SYSTEMS = ("kubernetes.io/os", "beta.kubernetes.io/os")


def inject(pod: Mapping[str, object], namespace: str, settings: Settings) -> Verdict:
    """The verdict on a pod as the API server sent it, in a namespace (from the request, not from the pod)."""
    metadata, spec = mapping(pod.get("metadata")), mapping(pod.get("spec"))
    label = mapping(metadata.get("labels")).get(f"{settings.prefix}/inject")
    skip = _skip(metadata, spec, settings) if namespace not in settings.excluded_namespaces else "namespace"
    if label == "false" or skip:
        return Verdict(skip=skip or "opted out")
    if label not in (None, "true"):
        return Verdict(denial=f'label {settings.prefix}/inject: expected "true" or "false"; got {str(label)[:64]!r}')
    chosen = options(mapping(metadata.get("annotations")), settings)
    if isinstance(chosen, Wrong):
        return Verdict(denial=chosen.message)
    variables = variables_for(spec, chosen)
    if _has(spec, settings.container):
        if not variables.operations:
            return Verdict(skip="already injected")
        return Verdict(variables.operations, warnings=variables.warnings)
    denial = _collision(spec, chosen) or _endless(metadata, chosen)
    if denial is not None:
        return Verdict(denial=denial)
    return _whole(pod, chosen, variables)


def _skip(metadata: Tree, spec: Tree, settings: Settings) -> str | None:
    """Why such a pod is left as it is."""
    annotations = mapping(metadata.get("annotations"))
    selector = mapping(spec.get("nodeSelector"))
    if _MIRROR in annotations:
        return "mirror pod"
    if spec.get("hostNetwork") is True:
        return "host network"  # loopback is the node's there, and its ports everybody's
    if mapping(spec.get("os")).get("name") == "windows" or "windows" in [selector.get(each) for each in _SYSTEMS]:
        return "windows"
    if _has(spec, settings.container) and f"{settings.prefix}/{STATUS}" not in annotations:
        return "own container"
    return None


def _has(spec: Tree, name: str) -> bool:
    fields = ("initContainers", "containers")
    return any(each.get("name") == name for field in fields for each in mappings(spec.get(field)))


def _collision(spec: Tree, chosen: Options) -> str | None:
    """What of the pod stands where ours has to."""
    settings = chosen.settings
    taken = {settings.port: "port", settings.admin_port: "admin-port"}
    for field in ("initContainers", "containers"):
        for each in mappings(spec.get(field)):
            for port in mappings(each.get("ports")):
                name, number = text(each.get("name")), port.get("containerPort")
                if isinstance(number, int) and number in taken:
                    meant = f"set annotation {settings.prefix}/{taken[number]} to another"
                    return f"container {name} has port {number}, which the sidecar needs: {meant}"
                if port.get("name") == settings.admin_port_name:
                    return f"container {name} has a port called {settings.admin_port_name}, which is the sidecar's"
    names = {each["name"] for each in volumes(settings)}
    clash = next((text(each.get("name")) for each in mappings(spec.get("volumes")) if each.get("name") in names), None)
    return None if clash is None else f"volume {clash} has the name of one of the sidecar's: rename it"


def _endless(metadata: Tree, chosen: Options) -> str | None:
    """A Job's pod is complete when every container has ended, and a plain one of ours never does."""
    is_job = any(owner.get("kind") == "Job" for owner in mappings(metadata.get("ownerReferences")))
    if chosen.mode == "native" or chosen.asked_for_mode or not is_job:
        return None
    prefix = chosen.settings.prefix
    return (
        f"a Job would never complete with a plain container beside it: set annotation {prefix}/mode to native "
        f'(Kubernetes 1.29 or newer), or label {prefix}/inject: "false"'
    )


def _whole(pod: Tree, chosen: Options, variables: Variables) -> Verdict:
    """Everything. What is counted by an index comes before what moves it: variables, then our container."""
    spec, settings = mapping(pod.get("spec")), chosen.settings
    resources, warnings = resources_for(spec, chosen)
    ours = container(chosen, resources)
    operations = [*variables.operations, *_marks(mapping(pod.get("metadata")), spec, chosen)]
    operations += [] if mappings(spec.get("volumes")) else [add([], "spec", "volumes")]
    operations += [add(volume, "spec", "volumes", "-") for volume in volumes(settings)]
    if chosen.mode == "container":  # last: `kubectl logs` and `exec` mean the first
        operations.append(add(ours, "spec", "containers", "-"))
    else:  # first: the other init containers can use it
        operations += [] if mappings(spec.get("initContainers")) else [add([], "spec", "initContainers")]
        operations.append(add(ours, "spec", "initContainers", 0))
    return Verdict(tuple(operations), warnings=(*variables.warnings, *warnings, *_endless_warning(spec, chosen)))


def _endless_warning(spec: Tree, chosen: Options) -> Iterator[str]:
    if chosen.mode == "container" and spec.get("restartPolicy") in ("Never", "OnFailure"):
        yield f"a plain container never ends by itself, so this pod never completes; see {chosen.settings.prefix}/mode"


def _marks(metadata: Tree, spec: Tree, chosen: Options) -> Iterator[Operation]:
    """What tells others, and us, that the pod has a sidecar."""
    settings = chosen.settings
    annotations = {f"{settings.prefix}/{STATUS}": _status(settings)}
    present = mapping(metadata.get("annotations"))
    first = next((text(each.get("name")) for each in mappings(spec.get("containers"))), "")
    if chosen.mode == "container" and first and _DEFAULT_CONTAINER not in present:
        annotations[_DEFAULT_CONTAINER] = first
    if settings.prometheus_annotations and not any(name in present for name in _PROMETHEUS):
        annotations |= dict(zip(_PROMETHEUS, ("true", str(settings.admin_port), "/metrics"), strict=True))
    marks = {"annotations": annotations, "labels": {f"{settings.prefix}/injected": "true"}}
    for field, entries in marks.items():
        if not mapping(metadata.get(field)):
            yield add({}, "metadata", field)
        yield from (add(value, "metadata", field, name) for name, value in entries.items())


def _status(settings: Settings) -> str:
    """For people and for support: what was put in, by which version, from which settings."""
    encoded = msgspec.json.encode(settings, order="deterministic")
    status = {
        "version": settings.version,
        "containers": [settings.container],
        "volumes": [each["name"] for each in volumes(settings)],
        "settings": hashlib.sha256(encoded).hexdigest()[:12],
    }
    return msgspec.json.encode(status).decode()
