"""What the sidecar asks of a node, so that the pod keeps the class it had without it.

A Guaranteed pod stays one only when every container's requests equal its limits; a pod with resources of its own
(`spec.resources`) may become invalid by ours. Source: Kubernetes, "Pod Quality of Service Classes", "Assign pod-level
CPU and memory resources".
"""

from __future__ import annotations

from sidecar.core.injection_options import Options
from sidecar.core.injection_settings import Resources
from sidecar.core.injection_tree import Tree, mapping, mappings
from sidecar.core.quantity import quantity, same

_KINDS = ("cpu", "memory")


def resources_for(spec: Tree, options: Options) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """The `resources` of our container in that pod, and warnings."""
    if mapping(spec.get("resources")):
        return _as_fields(options.explicit), ()
    chosen = options.settings.resources
    if not is_guaranteed(spec):
        return _as_fields(chosen), ()
    mirrored = Resources(*(text for kind in _KINDS for text in _mirrored(kind, chosen, options.explicit)))
    pairs = [(getattr(mirrored, f"{kind}_request"), getattr(mirrored, f"{kind}_limit")) for kind in _KINDS]
    if all(request and limit and same(request, limit) for request, limit in pairs):
        return _as_fields(mirrored), ()
    prefix = options.settings.prefix
    return _as_fields(mirrored), (
        f"the pod was Guaranteed and becomes Burstable: {prefix}/*-request and *-limit differ, or one is not known",
    )


def is_guaranteed(spec: Tree) -> bool:
    """Whether every container has limits of CPU and memory, and requests that equal them (or none: then they do)."""
    containers = [*mappings(spec.get("initContainers")), *mappings(spec.get("containers"))]
    return bool(containers) and all(_is_bound(mapping(each.get("resources"))) for each in containers)


def _is_bound(resources: Tree) -> bool:
    limits, requests = mapping(resources.get("limits")), mapping(resources.get("requests"))
    for kind in _KINDS:
        limit, request = _amount(limits.get(kind)), _amount(requests.get(kind, limits.get(kind)))
        if not quantity(limit) or not same(limit, request):
            return False
    return True


def _amount(value: object) -> str:
    """A quantity as text; a number without a unit may be one in JSON."""
    return str(value) if isinstance(value, str | int | float) else ""


def _mirrored(kind: str, chosen: Resources, explicit: Resources) -> tuple[str | None, str | None]:
    """Request and limit made equal: to the one the pod says, else to the limit, else to the request."""
    request, limit = getattr(explicit, f"{kind}_request"), getattr(explicit, f"{kind}_limit")
    if request and limit:
        return request, limit
    one = request or limit or getattr(chosen, f"{kind}_limit") or getattr(chosen, f"{kind}_request")
    return one, one


def _as_fields(resources: Resources) -> dict[str, dict[str, str]]:
    """As a pod writes it, without what is empty."""
    kinds = {"requests": "request", "limits": "limit"}
    found = {
        field: {kind: amount for kind in _KINDS if (amount := getattr(resources, f"{kind}_{word}")) is not None}
        for field, word in kinds.items()
    }
    return {field: amounts for field, amounts in found.items() if amounts}
