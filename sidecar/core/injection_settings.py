"""What the operator of the injector decides, for every pod it changes: the file that `sidecar inject --config` reads.

Each field has a default, and the same names stand in the Helm chart's `settings`. What one pod wants otherwise it says
by annotations (injection_options.py). `problems` tells everything that is wrong at once; nothing here knows a pod.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from sidecar.core.quantity import quantity

# Label and annotation prefix, in this one place. `.internal` is reserved for private use, so nobody else can own it;
# an organisation sets `prefix` to a domain of its own, in the settings and in the selectors alike.
PREFIX = "sidecar.internal"

# Kubernetes' own names, where a sidecar would hold up the cluster itself.
CLUSTER_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")

_NATIVE_SINCE = (1, 29)  # SidecarContainers is on by default from here on

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_IMAGE = re.compile(r"[a-zA-Z0-9][\w./:@-]{0,511}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_URL = re.compile(r"[!-~]{1,512}")


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Kubernetes quantities; None leaves that one out.

    Requests always, because a pod autoscaler needs every container's; no CPU limit, because the kernel would hold back
    the slowest requests first (acceptance D12); a memory limit, because nothing else ends a leak.
    """

    cpu_request: str | None = "50m"
    cpu_limit: str | None = None
    memory_request: str | None = "96Mi"
    memory_limit: str | None = "256Mi"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the injector changes pods. `mode: auto` is native where the cluster has it (see `for_server`)."""

    image: str = "sidecar:latest"
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    prefix: str = PREFIX  # of labels and annotations: PREFIX/inject, PREFIX/port
    container: str = "llm-proxy"  # the container's name, and the beginning of its volumes' names
    mode: Literal["native", "container", "auto"] = "auto"
    port: int = 8787  # data, on loopback
    admin_port: int = 8788  # probes and metrics, on every address: they come from the node
    admin_port_name: str = "llm-proxy-adm"  # unique, else a Service of the application would find us by it
    config_map: str = "sidecar"  # in the pod's own namespace; its key `sidecar.yaml` is the configuration
    secrets: tuple[str, ...] = ("sidecar-keys",)  # likewise; each key is a file under /etc/sidecar/secrets/NAME/
    resources: Resources = Resources()
    user: int | None = 18787  # and group: unlike the usual application's; None where the platform gives out numbers
    # name -> value for the application's containers; {origin} stands for http://127.0.0.1:PORT
    env: Mapping[str, str] = msgspec.field(
        default_factory=lambda: {
            "OPENAI_BASE_URL": "{origin}/v1",
            "ANTHROPIC_BASE_URL": "{origin}/p/anthropic",
            "GROQ_BASE_URL": "{origin}",
        }
    )
    placeholders: tuple[str, ...] = ("OPENAI_API_KEY",)  # set to a placeholder: SDKs raise without a key
    env_policy: Literal["if-absent", "override"] = "if-absent"
    prometheus_annotations: bool = False  # prometheus.io/*, only where the pod has none of them
    excluded_namespaces: tuple[str, ...] = CLUSTER_NAMESPACES  # besides the injector's own
    version: str = ""  # of the injector, for the status annotation; filled in by `sidecar inject`


def read_settings(tree: object) -> tuple[Settings, tuple[str, ...]]:
    """The settings in a tree of lists, mappings and scalars, and all that is wrong (then the settings mean nothing)."""
    try:
        settings = msgspec.convert({} if tree is None else tree, Settings)
    except msgspec.ValidationError as error:
        return Settings(), (str(error),)
    return settings, problems(settings)


def for_server(settings: Settings, version: tuple[int, int] | None) -> Settings:
    """The same with `mode: auto` decided for a cluster of that (major, minor) version; None = not known: native."""
    if settings.mode != "auto":
        return settings
    return msgspec.structs.replace(
        settings, mode="native" if version is None or version >= _NATIVE_SINCE else "container"
    )


def problems(settings: Settings) -> tuple[str, ...]:
    """Everything that is wrong, each beginning with the field's name."""
    return tuple(_problems(settings))


def _problems(settings: Settings) -> Iterator[str]:
    checks = (
        ("image", is_image(settings.image), "not an image reference"),
        ("prefix", _DOMAIN.fullmatch(settings.prefix), "not a domain name in lower case"),
        (
            "container",
            len(settings.container) <= 40 and is_label(settings.container),
            "not a name of at most 40 letters",
        ),
        ("port", is_port(settings.port), "not a port from 1024 to 65535"),
        ("admin_port", is_port(settings.admin_port), "not a port from 1024 to 65535"),
        ("admin_port", settings.admin_port != settings.port, "the data port too"),
        ("admin_port_name", _PORT_NAME.fullmatch(settings.admin_port_name), "not a port name of at most 15 characters"),
        ("config_map", is_name(settings.config_map), "not the name of a ConfigMap"),
        ("user", settings.user is None or is_user(settings.user), "not a user from 1 to 2147483647"),
    )
    yield from (f"{field}: {what}" for field, right, what in checks if not right)
    yield from _secret_problems(settings.secrets)
    yield from (f"resources.{problem}" for problem in resource_problems(settings.resources))
    for name, value in settings.env.items():
        if not is_variable(name) or not _URL.fullmatch(value):
            yield f"env: {name[:64]!r} is not a name and a value"
    yield from (
        f"placeholders: {name[:64]!r} is not a variable" for name in settings.placeholders if not is_variable(name)
    )


def _secret_problems(secrets: tuple[str, ...]) -> Iterator[str]:
    yield from (f"secrets: {name[:64]!r} is not the name of a Secret" for name in secrets if not is_name(name))
    if len(set(secrets)) < len(secrets):
        yield "secrets: one is named twice"


def resource_problems(resources: Resources) -> Iterator[str]:
    """What is wrong with quantities, each beginning with the field's name."""
    for kind in ("cpu", "memory"):
        found = []
        for field in (f"{kind}_request", f"{kind}_limit"):
            text = getattr(resources, field)
            amount = quantity(text) if text is not None else None
            if text is not None and not amount:
                yield f"{field}: {text[:64]!r} is not a quantity above zero, such as 100m or 64Mi"
            found.append(amount)
        request, limit = found
        if request and limit and request > limit:
            yield f"{kind}_request: more than {kind}_limit"


def is_image(text: str) -> bool:
    """Whether this can be an image reference."""
    return _IMAGE.fullmatch(text) is not None


def is_label(text: str) -> bool:
    """Whether this is a DNS label (RFC 1123): what containers and volumes are named with."""
    return _LABEL.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether this is a DNS subdomain (RFC 1123): what ConfigMaps and Secrets are named with."""
    return len(text) <= 253 and all(is_label(part) for part in text.split("."))


def is_port(number: int) -> bool:
    """Whether a process that is not root may listen there."""
    return 1024 <= number <= 65535


def is_user(number: int) -> bool:
    """Whether this is a user that is not root."""
    return 1 <= number <= 2**31 - 1


def is_variable(text: str) -> bool:
    """Whether this is the name of an environment variable (POSIX 8.1)."""
    return _VARIABLE.fullmatch(text) is not None
