"""Puts a sidecar into a pod: the JSON patch (RFC 6902) that does it, or why not.

Pure: the same pod, namespace and settings give the same patch, and a pod that was patched needs no further one, because
the API server asks again for every pod. Nothing here knows HTTP, TLS or AdmissionReview (sidecar/inject/ does).

The contract with `sidecar inject`, which serves this, and with k8s/, which runs that:

    sidecar inject --config FILE        YAML of Settings (injection_settings.py), /etc/sidecar/injector/settings.yaml there
                   --certificates self|cert-manager|files     self: CA in the Secret NAME-ca (`--service` NAME)
                   --certificate-dir DIR                      for the other two: tls.crt and tls.key
                   --webhook-configuration NAME               whose caBundle is kept (default: the service's name)
                   --namespace NS --service NAME              for the certificate's names, and the namespace never injected
                   --listen [::]:10250                        /mutate /readyz /healthz (TLS)
                   --metrics-listen [::]:8080                 /metrics (plain)

`Verdict.denial` is for the user (`allowed: false`), `skip` is allowed without a patch and counted, `warnings` go along
with either. An exception is our own fault and becomes an HTTP 500, so that `failurePolicy` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.core.injection_settings import Settings, for_server, problems, read_settings

__all__ = ["Settings", "Verdict", "for_server", "inject", "problems", "read_settings"]


class Verdict(NamedTuple):
    """What to do with a pod. At most one of `patch`, `denial` and `skip` says something; none: nothing left to do."""

    patch: tuple[dict[str, object], ...] = ()  # JSON patch operations, in order
    denial: str | None = None  # a message for the user, naming the annotation or field
    skip: str | None = None  # a reason, of a small fixed set: fit for a metric's label
    warnings: tuple[str, ...] = ()  # each for one line of `kubectl`


def inject(pod: Mapping[str, object], namespace: str, settings: Settings) -> Verdict:
    """The verdict on a pod as the API server sent it, in a namespace (from the request, not from the pod)."""
    if namespace in settings.excluded_namespaces:
        return Verdict(skip="namespace")
    return Verdict()
