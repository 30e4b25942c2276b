"""The variables that point an application's SDKs at the sidecar: what to add to each container, and what to say.

Added before the application's own, so that those can use them (`$(OPENAI_BASE_URL)/chat`); never in place of one that
is there, unless the pod asks for it. What `envFrom` brings cannot be seen here, and `env` beats it: that is said.
Each container is looked at alone, so one that a later injector adds gets its variables when the API server asks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.core.injection_options import Options
from sidecar.core.injection_tree import Operation, Tree, add, mapping, mappings, replace, text
from sidecar.core.variables import PLACEHOLDER_KEY

_OTHERS = frozenset({"istio-proxy", "istio-init", "linkerd-proxy", "linkerd-init", "daprd"})
_OTHERS_START = ("vault-agent", "linkerd-network")
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_LOOPBACK = "127.0.0.1,localhost"
_COVERS = frozenset({"127.0.0.1", "127.0.0.0/8", "*"})


class Variables(NamedTuple):
    """The operations for all containers, and warnings. `known`: the names of containers that there are."""

    operations: tuple[Operation, ...]
    warnings: tuple[str, ...]


def variables_for(spec: Tree, options: Options) -> Variables:
    """What to add to the containers, and to the init containers, which run after a native sidecar has started."""
    operations: list[Operation] = []
    warnings: list[str] = []
    for field in ("initContainers", "containers"):
        for index, each in enumerate(mappings(spec.get(field))):
            if not _is_meant(text(each.get("name")), options) or _runs_before(spec, field, index, options):
                continue
            operations += _operations(each, (field, index), options)
            warnings += _warnings(each, options)
    warnings += _absent(spec, options)
    return Variables(tuple(operations), tuple(warnings))


def wanted(options: Options) -> dict[str, str]:
    """Name and value of what every container is to have, but for the placeholders."""
    settings = options.settings
    origin = f"http://127.0.0.1:{settings.port}"
    return {name: value.replace("{origin}", origin) for name, value in settings.env.items()}


def _is_meant(name: str, options: Options) -> bool:
    if name == options.settings.container or name in _OTHERS or name.startswith(_OTHERS_START):
        return False
    return name not in options.excluded and (options.included is None or name in options.included)


def _runs_before(spec: Tree, field: str, index: int, options: Options) -> bool:
    """Whether it runs before there is a sidecar to call: ours is first, unless another came in since."""
    if field == "containers":
        return False
    names = [text(each.get("name")) for each in mappings(spec.get(field))]
    return options.mode == "container" or options.settings.container in names[index + 1 :]


def _operations(each: Tree, place: tuple[str, int], options: Options) -> Iterator[Operation]:
    present = mappings(each.get("env"))
    names = {text(variable.get("name")) for variable in present}
    values = wanted(options)
    if options.settings.env_policy == "override":
        for index, variable in enumerate(present):
            entry = {"name": variable.get("name"), "value": values.get(text(variable.get("name")))}
            if entry["value"] is not None and dict(variable) != entry:
                yield replace(entry, "spec", *place, "env", index)
    if not each.get("envFrom"):
        values |= dict.fromkeys(options.settings.placeholders, PLACEHOLDER_KEY)
        values |= _loopback(present)
    missing = [{"name": name, "value": value} for name, value in values.items() if name not in names]
    if missing and not present:
        yield add([], "spec", *place, "env")
    # each before what is there, the last one first: so they stand in their order
    yield from (add(entry, "spec", *place, "env", 0) for entry in reversed(missing))


def _loopback(present: list[Tree]) -> dict[str, str]:
    """An HTTP proxy without exceptions gets one: our address reached through it would be the proxy's own loopback."""
    names = {text(variable.get("name")).lower() for variable in present}
    return {"NO_PROXY": _LOOPBACK} if names & _PROXIES and "no_proxy" not in names else {}


def _warnings(each: Tree, options: Options) -> Iterator[str]:
    name = text(each.get("name"))[:63]
    present = {text(variable.get("name")): variable for variable in mappings(each.get("env"))}
    if each.get("envFrom"):
        first = next(iter(wanted(options)), "our variables")
        yield f"container {name}: {first} and others beat what envFrom brings under the same names"
    exceptions = [variable for key, variable in present.items() if key.lower() == "no_proxy"]
    is_open = not any(map(_covers, exceptions)) if exceptions else bool(each.get("envFrom"))
    if {key.lower() for key in present} & _PROXIES and is_open:
        yield f"container {name}: NO_PROXY does not name 127.0.0.1, so the HTTP proxy is asked for the sidecar"


def _covers(variable: Tree) -> bool:
    """Whether these exceptions have loopback in them; what is taken from elsewhere (valueFrom) may well have."""
    if mapping(variable.get("valueFrom")):
        return True
    return bool(_COVERS & {part.strip() for part in text(variable.get("value")).split(",")})


def _absent(spec: Tree, options: Options) -> Iterator[str]:
    there = {text(each.get("name")) for field in ("initContainers", "containers") for each in mappings(spec.get(field))}
    for word, names in (("include", options.included or frozenset()), ("exclude", options.excluded)):
        for name in sorted(names - there):
            yield f"annotation {options.settings.prefix}/{word}-containers: the pod has no container {name}"
