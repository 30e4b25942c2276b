"""The few calls to the Kubernetes API that an injector makes: get, create, replace, patch, list, watch.

The service account's token is read for every call, because the kubelet replaces it every hour; the authority's file
is read again when it has changed. An answer that is no success is an `ApiError` with the API's own message, which is
written for people and holds no secret. Waiting and repeating are the callers' affair.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from sidecar.core.watch_events import Lines, WatchEvent, read_event

_CALL_S = 10.0
_WATCH_S = 120  # a connection that died unnoticed is found by then; what it missed, by the next full look
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

Object = dict[str, object]


class ApiError(Exception):
    """The API refused, or was not reached (`status` 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})" if status else message)
        self.status = status


CONFLICT = 409
NOT_FOUND = 404
INVALID = 422


class Where(NamedTuple):
    """How to reach the API server: its origin, and the files with the token and the authority to trust.

    Neither of them when somebody else sees to it, as `kubectl proxy` does on loopback.
    """

    origin: str
    token_file: Path | None = None
    authority_file: Path | None = None


def in_cluster(environ: Mapping[str, str]) -> Where | None:
    """Where a pod finds it; None outside of a cluster."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return None
    account = Path(environ.get("SIDECAR_SERVICE_ACCOUNT_DIR", _ACCOUNT))
    origin = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Where(origin, account / "token", account / "ca.crt")


class Api:
    """A client of one API server. Made inside a running loop; `close` it."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CALL_S), trust_env=False)
        self._trust: tuple[bytes, ssl.SSLContext] | None = None

    def __repr__(self) -> str:
        return f"<Api {self._where.origin}>"

    async def close(self) -> None:
        """Close its connections."""
        await self._session.close()

    async def get(self, path: str) -> Object | None:
        """An object, or None when there is none of that name."""
        try:
            return await self._call("GET", path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def create(self, path: str, wanted: Object) -> Object:
        """Make an object; ApiError CONFLICT when there is one of that name."""
        return await self._call("POST", path, wanted)

    async def rehearse(self, path: str, wanted: Object) -> Object:
        """What would be stored if this were created: everything is done, admission too, and nothing is kept."""
        return await self._call("POST", path, wanted, query={"dryRun": "All"})

    async def replace(self, path: str, wanted: Object) -> Object:
        """Write an object; ApiError CONFLICT when its resourceVersion is not the latest any more."""
        return await self._call("PUT", path, wanted)

    async def patch(self, path: str, operations: list[dict[str, object]]) -> Object:
        """Apply a JSON patch; ApiError INVALID when a test in it fails."""
        return await self._call("PATCH", path, operations, "application/json-patch+json")

    async def list(self, path: str, query: Mapping[str, str]) -> Object:
        """A list as the API gives it; its own metadata hold the version to watch from."""
        return await self._call("GET", path, query=query)

    async def watch(self, path: str, query: Mapping[str, str], version: str) -> AsyncIterator[WatchEvent]:
        """Events after `version`, until the server ends the watch, as it does every few minutes."""
        asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        asked["timeoutSeconds"] = str(_WATCH_S)
        limit = aiohttp.ClientTimeout(total=_WATCH_S + 2 * _CALL_S, sock_connect=_CALL_S)
        lines = Lines()
        try:
            headers, trust = self._headers(), self._context()
            async with self._session.get(
                self._url(path), params=asked, timeout=limit, headers=headers, ssl=trust, allow_redirects=False
            ) as response:
                await _check(response)
                async for piece in response.content.iter_any():
                    for line in lines.feed(piece):
                        yield read_event(line)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _unreachable(error) from None

    async def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        sent = None if body is None else msgspec.json.encode(body)
        try:
            headers, trust = self._headers() | {"content-type": kind}, self._context()
            async with self._session.request(
                method, self._url(path), data=sent, params=query, headers=headers, ssl=trust, allow_redirects=False
            ) as response:
                await _check(response)
                return msgspec.json.decode(await response.read(), type=Object)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.DecodeError) as error:
            raise _unreachable(error) from None

    def _url(self, path: str) -> str:
        return self._where.origin + path

    def _headers(self) -> dict[str, str]:
        if self._where.token_file is None:
            return {"accept": "application/json"}
        token = self._where.token_file.read_text().strip()
        return {"authorization": f"Bearer {token}", "accept": "application/json"}

    def _context(self) -> ssl.SSLContext | bool:
        if self._where.authority_file is None:
            return True
        pem = self._where.authority_file.read_bytes()
        if self._trust is None or self._trust[0] != pem:
            self._trust = pem, ssl.create_default_context(cafile=os.fspath(self._where.authority_file))
            # API servers of many clusters have certificates without a key identifier
            self._trust[1].verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        return self._trust[1]


class _Status(msgspec.Struct):
    message: str = ""


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 300:
        return
    body = await response.read()
    try:
        message = msgspec.json.decode(body, type=_Status).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = ""
    raise ApiError(response.status, message or response.reason or "refused")


def _unreachable(error: Exception) -> ApiError:
    return ApiError(0, f"the API server was not reached: {error or type(error).__name__}")
