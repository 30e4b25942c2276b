"""Our container and its volumes, as a pod writes them.

Fit for the pod security standard `restricted`, on a read-only root, without an API token, without a writable volume.
Probes come from the node, so the admin port listens on every address; the data port on loopback alone, and undeclared.
No preStop: it would run when the application's begins, and the application's last requests would find nobody.
"""

from __future__ import annotations

from sidecar.core.injection_options import Options
from sidecar.core.injection_settings import Settings

CONFIG_DIR = "/etc/sidecar/config"
CONFIG_FILE = f"{CONFIG_DIR}/sidecar.yaml"
SECRETS_DIR = "/etc/sidecar/secrets"
_TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"

# The mounts are ours alone, and the files belong to root: a user that is not root reads them as one of the others.
_READABLE = 0o444


def container(options: Options, resources: dict[str, dict[str, str]]) -> dict[str, object]:
    """The container. Native: an init container that the pod's others wait for and that outlives them."""
    settings = options.settings
    fields: dict[str, object] = {
        "name": settings.container,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": [
            *("serve", "--config", CONFIG_FILE, "--wait-for-config"),
            *("--listen", f"127.0.0.1:{settings.port}", "--admin", f"*:{settings.admin_port}"),
        ],
        "ports": [{"name": settings.admin_port_name, "containerPort": settings.admin_port, "protocol": "TCP"}],
        # each second, for a minute: in native mode the application starts when this has succeeded once
        "startupProbe": _probe("/readyz", settings, periodSeconds=1, failureThreshold=60),
        "livenessProbe": _probe("/healthz", settings, periodSeconds=10, failureThreshold=3, timeoutSeconds=3),
        "readinessProbe": _probe("/readyz", settings, periodSeconds=5, failureThreshold=2, timeoutSeconds=3),
        "resources": resources,
        "securityContext": _security(settings),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(settings),
    }
    if options.mode == "native":
        fields["restartPolicy"] = "Always"
    return fields


def _probe(path: str, settings: Settings, **numbers: int) -> dict[str, object]:
    return {"httpGet": {"path": path, "port": settings.admin_port, "scheme": "HTTP"}, **numbers}


def _security(settings: Settings) -> dict[str, object]:
    context: dict[str, object] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return context if settings.user is None else context | {"runAsUser": settings.user, "runAsGroup": settings.user}


def volumes(settings: Settings) -> list[dict[str, object]]:
    """The volumes, all mounted in our container alone. Optional, else a pod without them would hang for ever."""
    name = settings.container
    config = {"name": settings.config_map, "optional": True, "defaultMode": _READABLE}
    found: list[dict[str, object]] = [{"name": f"{name}-config", "configMap": config}]
    for index, secret in enumerate(settings.secrets):
        source = {"secretName": secret, "optional": True, "defaultMode": _READABLE}
        found.append({"name": f"{name}-secret-{index}", "secret": source})
    # nothing in it, and no more than that: where something is mounted the API server mounts no token
    found.append({"name": f"{name}-no-token", "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}})
    return found


def _mounts(settings: Settings) -> list[dict[str, object]]:
    name = settings.container
    places = [
        (f"{name}-config", CONFIG_DIR),
        *((f"{name}-secret-{index}", f"{SECRETS_DIR}/{secret}") for index, secret in enumerate(settings.secrets)),
        (f"{name}-no-token", _TOKEN_DIR),
    ]
    return [{"name": volume, "mountPath": path, "readOnly": True} for volume, path in places]
