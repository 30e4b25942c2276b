"""A call to ourselves as the API server would make it: TLS by the bundle and the Service's name, one real review.

What answers is the very port and handler that admissions come to. The review's uid is drawn at the start, so that the
server can tell it apart and count no pod that never was.
"""

from __future__ import annotations

import secrets

import aiohttp
import msgspec

from sidecar.core.admission import API_VERSION
from sidecar.inject.serving_context import trusting

_LIMIT_S = 5.0


class _Response(msgspec.Struct):
    uid: str
    allowed: bool


class _Review(msgspec.Struct):
    response: _Response


class OwnCall:
    """Calls `https://ADDRESS:PORT/mutate`, expecting a certificate for `host`."""

    def __init__(self, host: str, namespace: str) -> None:
        self.uid = f"own-call-{secrets.token_hex(16)}"
        self._host = host
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own-call"}, "spec": {"containers": []}}
        request = {
            "uid": self.uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": namespace,  # the injector's own, where nothing is ever injected
            "dryRun": True,
            "object": pod,
        }
        self._body = msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "request": request})

    async def problem(self, address: tuple[str, int], bundle: str) -> str:
        """What is wrong, "" when nothing is."""
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        url = f"https://{host}:{address[1]}/mutate"
        limit = aiohttp.ClientTimeout(total=_LIMIT_S)
        try:
            context = trusting(bundle)
            async with (
                aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(force_close=True)) as session,
                session.post(
                    url,
                    data=self._body,
                    headers={"content-type": "application/json"},
                    ssl=context,
                    server_hostname=self._host,
                ) as response,
            ):
                if response.status != 200:
                    return f"a call to itself got status {response.status}"
                answer = msgspec.json.decode(await response.read(), type=_Review).response
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.DecodeError) as error:
            return f"a call to itself failed: {error or type(error).__name__}"
        return "" if (answer.uid, answer.allowed) == (self.uid, True) else "a call to itself got a wrong answer"
