"""`sidecar inject-check`: tries a pod by a dry run of the API server's, and says what is in the way of its sidecar.

Nothing is created. Runs where `kubectl proxy` does, or in a pod whose account may create pods. Exit codes: 0 when a
pod would get its sidecar, 1 when not, 64 for usage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import click

from sidecar.core.diagnosis import is_broken, lines
from sidecar.core.injection_settings import is_label
from sidecar.core.rehearsal import Asked, Seen, judge, pod_to_try
from sidecar.inject.api import Api, ApiError, Where, in_cluster
from sidecar.serving import OK, USAGE, complain, environment

BROKEN = 1
_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


def rehearse(asked: Asked, via: str) -> int:
    """Try, and say what came of it; the exit code. `via`: an origin that asks for no credentials, "": as a pod."""
    where = Where(via.rstrip("/")) if via else in_cluster(environment())
    if where is None:
        complain(["this is no pod: run `kubectl proxy`, and give --via http://127.0.0.1:8001"])
        return USAGE
    if not where.origin.startswith(("http://", "https://")) or not is_label(asked.namespace):
        complain(["--via is the URL of an API server, and --namespace a name in Kubernetes"])
        return USAGE
    finding = judge(asked, asyncio.run(_seen(asked, where)))
    for line in lines([finding]):
        click.echo(line)
    return BROKEN if is_broken([finding]) else OK


async def _seen(asked: Asked, where: Where) -> Seen:
    api = Api(where)
    namespace = f"/api/v1/namespaces/{asked.namespace}"
    try:
        pod, refusal = await _tried(api, f"{namespace}/pods", pod_to_try(asked))
        around = await _read(api, namespace), await _read(api, f"{_CONFIGURATIONS}/{asked.configuration}")
    finally:
        await api.close()
    return Seen(pod, refusal.status, str(refusal), *around)


async def _tried(api: Api, path: str, pod: dict[str, object]) -> tuple[Mapping[str, object] | None, ApiError]:
    try:
        return await api.rehearse(path, pod), ApiError(0, "")
    except ApiError as error:
        return None, error


async def _read(api: Api, path: str) -> Mapping[str, object] | None:
    """An object, an empty one where there is none; None where it may not be read."""
    try:
        return await api.get(path) or {}
    except ApiError:
        return None
