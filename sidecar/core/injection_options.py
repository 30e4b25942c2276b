"""What one pod wants otherwise: its annotations under the prefix, each validated, laid over the settings.

A value that is wrong, and a name that is none of ours, is refused with the annotation's name: an ignored wish is found
out in production. Values are data, put into JSON objects and never into templates.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from sidecar.core.injection_settings import (
    Resources,
    Settings,
    is_image,
    is_label,
    is_name,
    is_port,
    is_user,
    resource_problems,
)
from sidecar.core.injection_tree import Tree, text
from sidecar.core.quantity import quantity

STATUS = "status"  # ours to write: what was injected

_NUMBER = re.compile(r"[0-9]{1,10}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHOWN = 64
_MODES = ("native", "container")
_POLICIES = ("if-absent", "override")


class Options(NamedTuple):
    """What holds for one pod. `explicit`: the fields of `resources` that an annotation gave."""

    settings: Settings
    mode: Literal["native", "container"]
    included: frozenset[str] | None  # the containers that get variables; None: all
    excluded: frozenset[str]
    explicit: Resources
    asked_for_mode: bool


class Wrong(NamedTuple):
    """Why the annotations are refused, for the user: the annotation's whole name, what is expected, what was given."""

    message: str


def options(annotations: Tree, settings: Settings) -> Options | Wrong:
    """The settings with a pod's annotations laid over them, or the first of those that is wrong."""
    prefix = f"{settings.prefix}/"
    given = {str(name)[len(prefix) :]: value for name, value in annotations.items() if str(name).startswith(prefix)}
    given.pop(STATUS, None)
    for name, value in sorted(given.items()):
        problem = _problem(name, value)
        if problem is not None:
            return Wrong(f"annotation {prefix}{name[:_SHOWN]}: {problem}")
    values = {name: text(value).strip() for name, value in given.items()}
    merged = _merged(values, settings)
    complaint = next(_contradictions(merged), None)
    if complaint is not None:
        return Wrong(f"annotation {prefix}{complaint}")
    return merged


def _merged(values: dict[str, str], settings: Settings) -> Options:
    explicit = Resources(*(values.get(name) for name in _QUANTITIES))
    chosen = [values.get(name) or getattr(settings.resources, name.replace("-", "_")) for name in _QUANTITIES]
    changes: dict[str, object] = {"resources": Resources(*_fitted(explicit, Resources(*chosen)))}
    changes |= {field: read(values[name]) for name, (field, read) in _FIELDS.items() if name in values}
    mode: Literal["native", "container"] = "native"
    if values.get("mode", settings.mode) == "container":
        mode = "container"
    return Options(
        msgspec.structs.replace(settings, **changes),
        mode,
        frozenset(_names(values["include-containers"])) if "include-containers" in values else None,
        frozenset(_names(values.get("exclude-containers", ""))),
        explicit,
        "mode" in values,
    )


def _fitted(explicit: Resources, chosen: Resources) -> Iterator[str | None]:
    """Where the pod says one of request and limit and the other's default contradicts it, the default gives way."""
    for kind in ("cpu", "memory"):
        request, limit = getattr(chosen, f"{kind}_request"), getattr(chosen, f"{kind}_limit")
        amounts = [quantity(each) for each in (request, limit) if each is not None]
        if len(amounts) == 2 and amounts[0] is not None and amounts[1] is not None and amounts[0] > amounts[1]:
            if getattr(explicit, f"{kind}_request") is None:
                request = limit
            elif getattr(explicit, f"{kind}_limit") is None:
                limit = request
        yield from (request, limit)


def _contradictions(merged: Options) -> Iterator[str]:
    settings = merged.settings
    if settings.port == settings.admin_port:
        yield f"port: {settings.port} is what {settings.prefix}/admin-port is too; set another"
    for problem in resource_problems(settings.resources):
        name, _, what = problem.partition(": ")
        yield f"{name.replace('_', '-')}: {what.replace('_', '-')}"
    if merged.included is not None and merged.included & merged.excluded:
        yield f"exclude-containers: {min(merged.included & merged.excluded)} is in include-containers too"


def _problem(name: str, value: object) -> str | None:
    """What is wrong with one annotation."""
    if name not in _CHECKS:
        match = difflib.get_close_matches(name, _CHECKS, 1)
        return f"not known; did you mean {match[0]}?" if match else f"not known; known: {', '.join(sorted(_CHECKS))}"
    if not isinstance(value, str) or _CONTROL.search(value):
        return "control characters are not allowed"
    is_right, expected = _CHECKS[name]
    if is_right(value.strip()):
        return None
    shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    return f"expected {expected}; got {shown!r}"


def _names(value: str) -> list[str]:
    return [name for name in (each.strip() for each in value.split(",")) if name]


def _is_number(value: str, is_right: Callable[[int], bool]) -> bool:
    return _NUMBER.fullmatch(value) is not None and is_right(int(value))


def _are(value: str, is_right: Callable[[str], bool]) -> bool:
    names = _names(value)
    return bool(names) and all(map(is_right, names)) and len(set(names)) == len(names)


def _is_quantity(value: str) -> bool:
    return bool(quantity(value))


_PORT = (lambda value: _is_number(value, is_port), "a port from 1024 to 65535")
_CONTAINERS = (lambda value: _are(value, is_label), "names of containers with commas between them")
_QUANTITY = (_is_quantity, "a quantity above zero, such as 100m or 64Mi")
_QUANTITIES = ("cpu-request", "cpu-limit", "memory-request", "memory-limit")

# name -> what is right, and how to say it
_CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "image": (is_image, "an image reference"),
    "mode": (_MODES.__contains__, "native or container"),
    "env-policy": (_POLICIES.__contains__, "if-absent or override"),
    "port": _PORT,
    "admin-port": _PORT,
    "config-map": (is_name, "the name of a ConfigMap"),
    "secrets": (lambda value: _are(value, is_name), "names of Secrets with commas between them"),
    "run-as-user": (lambda value: value == "none" or _is_number(value, is_user), "a user above 0, or none"),
    "include-containers": _CONTAINERS,
    "exclude-containers": _CONTAINERS,
    **dict.fromkeys(_QUANTITIES, _QUANTITY),
}
# name -> the setting it stands in for, and its reader
_FIELDS: dict[str, tuple[str, Callable[[str], object]]] = {
    "image": ("image", str),
    "env-policy": ("env_policy", str),
    "port": ("port", int),
    "admin-port": ("admin_port", int),
    "config-map": ("config_map", str),
    "secrets": ("secrets", lambda value: tuple(_names(value))),
    "run-as-user": ("user", lambda value: None if value == "none" else int(value)),
}
