"""Pods that ask for a sidecar by label and have none: what to ask the API for, and the Event that says so.

They come about while the injector is away under `failurePolicy: Ignore`, or when a pod was made before the label's
meaning was. Only the pod's own label is looked at: the namespace's would need a right to read namespaces. An Event
has a name made of the pod's uid, so that of several replicas one alone can make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from sidecar.core.limits import MINUTE, SECOND

_REASON = "SidecarMissing"
# A pod whose admission is under way is listed the moment it exists, with its label already: no grace is needed for it.
_FORGET_NS = 60 * MINUTE  # the API forgets events after an hour; then it is said again


class Uninjected(NamedTuple):
    """One such pod."""

    namespace: str
    name: str
    uid: str


def selector(prefix: str) -> str:
    """The label selector of such pods."""
    return f"{prefix}/inject=true,{prefix}/injected!=true"


def uninjected_in(listed: Mapping[str, object]) -> tuple[Uninjected, ...]:
    """The pods of a list that still run; one that is being deleted or is over needs nothing any more."""
    items = listed.get("items")
    found = []
    for item in items if isinstance(items, list) else []:
        metadata = item.get("metadata", {})
        is_over = "deletionTimestamp" in metadata or item.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if not is_over:
            found.append(Uninjected(metadata["namespace"], metadata["name"], metadata["uid"]))
    return tuple(found)


class Reported:
    """Which pods were reported, and when: each once an hour as long as it stays as it is."""

    def __init__(self) -> None:
        self._at_ns: dict[Uninjected, int] = {}

    def due(self, found: tuple[Uninjected, ...], now_ns: int) -> list[Uninjected]:
        """Those of `found` to report now; they count as reported from here on."""
        self._at_ns = {pod: self._at_ns[pod] for pod in found if pod in self._at_ns}
        due = [pod for pod in found if now_ns - self._at_ns.get(pod, -_FORGET_NS) >= _FORGET_NS]
        self._at_ns.update(dict.fromkeys(due, now_ns))
        return due

    def failed(self, pod: Uninjected) -> None:
        """It was not reported after all."""
        self._at_ns.pop(pod, None)


def event_of(pod: Uninjected, prefix: str, injector: str, now_ns: int) -> dict[str, object]:
    """The Event (core/v1) about a pod. Its name is the same at every replica within one hour."""
    time = datetime.fromtimestamp(now_ns // SECOND, UTC).isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.uid}.no-sidecar.{now_ns // _FORGET_NS}", "namespace": pod.namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name}
        | {"uid": pod.uid},
        "reason": _REASON,
        "message": f"the label {prefix}/inject asks for a sidecar and the pod has none: delete the pod, and it will be"
        " made anew with one",
        "type": "Warning",
        "source": {"component": injector},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
