"""A Kubernetes API server as far as an injector meets one, over real TLS. Its semantics were seen on a real one (1.36).

- Objects have a resourceVersion; a write with an old one is a 409, a create of what exists too; watches send what came
  after a version, 410 when that is forgotten, bookmarks, and end when the server says so.
- Each call needs the service account's present token and a right to exactly that verb, resource and name: else 401 or
  403.
- A pod that is posted with `dryRun=All` goes through admission and is not kept.
- `create_pod` is the admission chain: selectors, AdmissionReview over TLS that trusts `caBundle` alone and asks for the
  Service's name, the patch applied by the jsonpatch library, the ServiceAccount plugin, re-invocation of every webhook
  with IfNeeded, validation. Which errors fail the request and which are left to `failurePolicy` is B19.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import copy
import json
import ssl
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohttp
import jsonpatch
import trustme
from aiohttp import web

NAMESPACE, SERVICE = "sidecar-system", "sidecar-injector"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
SECRET = f"{SECRETS}/{SERVICE}-ca"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
CONFIGURATION = f"{CONFIGURATIONS}/{SERVICE}"
PODS = "/api/v1/pods"
EVENTS = "/api/v1/namespaces/default/events"
PREFIX = "sidecar.internal"
DEADLINE = "context deadline exceeded"

# (verb, collection, name or "" for any): what docs/webhook.md says an injector needs, and nothing more
LEAST = {
    ("create", SECRETS, ""),
    *((verb, SECRETS, f"{SERVICE}-ca") for verb in ("get", "list", "watch", "update")),
    *((verb, CONFIGURATIONS, SERVICE) for verb in ("get", "list", "watch", "patch")),
    ("get", "/version", ""),
}
# what `sidecar inject-check` asks for, as whoever runs it
REHEARSING = {
    ("create", "/api/v1/namespaces/default/pods", ""),
    ("get", "/api/v1/namespaces", "default"),
    ("get", CONFIGURATIONS, SERVICE),
}
REPORTING = {("list", PODS, ""), ("create", EVENTS, "")}


class Refused(Exception):
    """The request for a pod failed; `code` is the HTTP status that kubectl would get."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class CallFailed(Exception):
    """A webhook could not be called or understood: failurePolicy decides."""


class Admitted(NamedTuple):
    """A pod as it would be stored."""

    pod: dict[str, Any]
    warnings: list[str]
    calls: int


def configuration(policy: str = "Fail", reinvocation: str = "IfNeeded") -> dict[str, Any]:
    """The webhook configuration as a manifest has it: without caBundle."""
    service = {"namespace": NAMESPACE, "name": SERVICE, "path": "/mutate", "port": 443}
    webhook = {
        "name": "object.sidecar.internal",
        "clientConfig": {"service": service},
        "objectSelector": {"matchLabels": {f"{PREFIX}/inject": "true"}},
        "failurePolicy": policy,
        "reinvocationPolicy": reinvocation,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    elsewhere = {
        "name": "other.example.com",
        "clientConfig": {"service": {"namespace": "other", "name": "other"}, "caBundle": "b3RoZXI="},
        "objectSelector": {"matchLabels": {"nobody": "has-this"}},
        "failurePolicy": "Ignore",
    }
    twin = {**copy.deepcopy(webhook), "name": "namespace.sidecar.internal"}
    twin["objectSelector"] = {"matchLabels": {"namespace-is": "labelled"}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": SERVICE},
        "webhooks": [elsewhere, webhook, twin],
    }


class ApiServer:
    """`endpoints`: where the Service leads to; the first that takes a connection answers, as in kube-proxy's eyes."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.token = "token-1"
        self.rights = set(LEAST)
        self.used: set[tuple[str, str, str]] = set()
        self.objects: dict[str, dict[str, Any]] = {}
        self.endpoints: list[tuple[str, int]] = []
        self.refuses: Callable[[str, str], int] = lambda verb, path: 0  # an HTTP status to answer with instead
        self.before_write: Callable[[str], None] = lambda path: None
        self.calls: list[tuple[str, str]] = []
        self.reviews: list[dict[str, Any]] = []
        self._version = 100
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []  # (version, collection, type, object)
        self._forgotten = 0
        self._news = asyncio.Event()
        self._watches = 0
        self._ends = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = 0
        self.proxy_port = 0  # `kubectl proxy`: in the clear, with its user's credentials
        self.drops = False  # a firewall between here and webhooks

    async def __aenter__(self) -> ApiServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port, self.proxy_port = (address[1] for address in self._runner.addresses)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=90))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end_watches()
        assert self._session is not None
        await self._session.close()
        assert self._runner is not None
        await self._runner.cleanup()

    # what an operator does

    @property
    def watches(self) -> int:
        """Watches that are open now."""
        return self._watches

    def put(self, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """`kubectl replace`: write an object whatever it was."""
        self._version += 1
        stored = copy.deepcopy(wanted)
        stored.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        kind = "MODIFIED" if path in self.objects else "ADDED"
        self.objects[path] = stored
        self._tell(path, kind, stored)
        return stored

    def delete(self, path: str) -> None:
        """`kubectl delete`."""
        self._version += 1
        gone = self.objects.pop(path)
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell(path, "DELETED", gone)

    def forget(self) -> None:
        """Compact: who comes with a version from before gets 410."""
        self._version += 1
        self._forgotten = self._version
        self._events.clear()

    def end_watches(self) -> None:
        """End every open watch in order, as a server does every few minutes."""
        self._ends.set()
        self._ends = asyncio.Event()

    def bundles(self) -> list[str | None]:
        """The PEM text in each webhook of ours."""
        found = [each["clientConfig"].get("caBundle") for each in self.objects[CONFIGURATION]["webhooks"][1:]]
        return [base64.b64decode(each).decode() if each else None for each in found]

    def field(self, name: str) -> str:
        """A field of the Secret, decoded."""
        return base64.b64decode(self.objects[SECRET]["data"][name]).decode()

    def _tell(self, path: str, kind: str, stored: dict[str, Any]) -> None:
        self._events.append((self._version, path.rpartition("/")[0], kind, copy.deepcopy(stored)))
        self._news.set()
        self._news = asyncio.Event()

    # the REST API

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        verb, collection, name = _asked(request)
        self.calls.append((verb, request.path))
        if request.secure and request.headers.get("authorization") != f"Bearer {self.token}":
            return _failure(401, "Unauthorized")
        status = self.refuses(verb, request.path)
        if status:
            return _failure(status, "the test says so")
        if (verb, collection, name) not in self.rights:
            resource = collection.rpartition("/")[2]
            words = f'{resource} is forbidden: User "theirs" cannot {verb} resource "{resource}"'
            return _failure(403, f"{words} at {collection} {name}")
        self.used.add((verb, collection, name))
        if verb == "watch":
            return await self._watch(request, collection, name)
        if verb == "list":
            return self._list(request, collection, name)
        body = json.loads(await request.read() or b"null")
        if verb == "create" and collection.endswith("/pods"):
            return await self._rehearse(request, body)
        return self._object(verb, request, body)

    def _object(self, verb: str, request: web.BaseRequest, body: Any) -> web.StreamResponse:
        path = request.path
        if verb == "get":
            return _success(self.objects[path]) if path in self.objects else _failure(404, "not found")
        if verb == "create":
            path = f"{path}/{body['metadata']['name']}"
        self.before_write(path)
        if verb == "create":
            return _failure(409, "already exists") if path in self.objects else _success(self.put(path, body), 201)
        if path not in self.objects:
            return _failure(404, "not found")
        if verb == "update":
            version = body["metadata"].get("resourceVersion")
            if version and version != self.objects[path]["metadata"]["resourceVersion"]:
                return _failure(409, "the object has been modified")
            return _success(self.put(path, body))
        assert request.content_type == "application/json-patch+json"
        try:
            return _success(self.put(path, jsonpatch.apply_patch(self.objects[path], body)))
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            return _failure(422, f"the patch cannot be applied: {error}")

    async def _rehearse(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        assert request.query == {"dryRun": "All"}, "the tests create pods in no other way"
        try:
            admitted = await self.create_pod(body, request.path.split("/")[-2], dry_run=True)
        except Refused as refused:
            return _failure(refused.code, str(refused))
        return _success(admitted.pod, 201)

    def _list(self, request: web.BaseRequest, collection: str, name: str) -> web.StreamResponse:
        if collection == PODS:
            return self._list_pods(request)
        items = [each for path, each in self.objects.items() if path == f"{collection}/{name}"]
        return _success({"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items})

    def _list_pods(self, request: web.BaseRequest) -> web.StreamResponse:
        wanted, unwanted = request.query["labelSelector"].split(",")
        found = []
        pods = [each for path, each in self.objects.items() if "/pods/" in path]
        for pod in pods:
            labels = [f"{key}={value}" for key, value in pod["metadata"].get("labels", {}).items()]
            if wanted in labels and unwanted.replace("!=", "=") not in labels:
                found.append(pod)
        start = int(request.query.get("continue", "0"))
        page = found[start : start + 2]
        rest = {"continue": str(start + 2)} if len(found) > start + 2 else {}
        return _success({"kind": "PodList", "metadata": {"resourceVersion": "1", **rest}, "items": page})

    async def _watch(self, request: web.BaseRequest, collection: str, name: str) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self._forgotten:
            return _failure(410, "too old resource version")
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        self._watches += 1
        try:
            await self._send_events(response, collection, name, version)
        except ConnectionError:
            pass
        finally:
            self._watches -= 1
        return response

    async def _send_events(self, response: web.StreamResponse, collection: str, name: str, version: int) -> None:
        ends = self._ends
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}
        await response.write(json.dumps(bookmark).encode() + b"\n")
        while not ends.is_set():
            news = self._news
            if version < self._forgotten:
                gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
                await response.write(json.dumps(gone).encode() + b"\n")
                return
            for number, where, kind, stored in [each for each in self._events if each[0] > version]:
                version = number
                if where == collection and stored["metadata"]["name"] == name:
                    await response.write(json.dumps({"type": kind, "object": stored}).encode() + b"\n")
            done = [asyncio.ensure_future(each.wait()) for each in (news, ends)]
            await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.cancel()

    # the admission chain

    async def create_pod(self, pod: dict[str, Any], namespace: str = "default", *, dry_run: bool = False) -> Admitted:
        """What `kubectl create` of this pod comes to; Refused when it fails."""
        pod = copy.deepcopy(pod)
        warnings: list[str] = []
        calls = 0
        called = []
        webhooks = self.objects.get(CONFIGURATION, {}).get("webhooks", [])
        for webhook in webhooks:
            if _selects(webhook, pod):
                pod = await self._admit(webhook, pod, namespace, warnings, dry_run)
                called.append(webhook)
                calls += 1
        pod = _with_account(pod)  # an in-tree plugin that runs again, and changes what we have just put in
        for webhook in called:
            if webhook.get("reinvocationPolicy") == "IfNeeded":
                pod = await self._admit(webhook, pod, namespace, warnings, dry_run)
                calls += 1
        _validate(pod)
        return Admitted(pod, warnings, calls)

    async def _admit(
        self, webhook: dict[str, Any], pod: dict[str, Any], namespace: str, warnings: list[str], dry_run: bool
    ) -> dict[str, Any]:
        try:
            response = await self._call(webhook, _review(pod, namespace, dry_run))
        except CallFailed as error:
            if webhook["failurePolicy"] == "Ignore":
                return pod
            raise Refused(500, f'failed calling webhook "{webhook["name"]}": {error}') from None
        warnings += response.get("warnings", [])
        if not response["allowed"]:
            status = response.get("status", {})
            message = f'admission webhook "{webhook["name"]}" denied the request: {status.get("message")}'
            raise Refused(status.get("code", 400), message)
        if "patch" not in response:
            return pod
        try:
            patched: dict[str, Any] = jsonpatch.apply_patch(pod, json.loads(base64.b64decode(response["patch"])))
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            raise Refused(500, f"the patch cannot be applied: {error}") from None
        return patched

    async def _call(self, webhook: dict[str, Any], review: dict[str, Any]) -> dict[str, Any]:
        client = webhook["clientConfig"]
        host = f"{client['service']['name']}.{client['service']['namespace']}.svc"
        context = _context_of(client.get("caBundle"))
        answer = await self._post(host, client["service"]["path"], context, review)
        response = answer.get("response")
        if not isinstance(response, dict) or response.get("uid") != review["request"]["uid"]:
            raise CallFailed("expected response.uid")
        if answer.get("apiVersion") != "admission.k8s.io/v1" or answer.get("kind") != "AdmissionReview":
            raise CallFailed("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview")
        if "patch" in response and response.get("patchType") != "JSONPatch":
            raise CallFailed("webhook returned response.patch but not response.patchType")
        return response

    async def _post(self, host: str, path: str, context: ssl.SSLContext, review: dict[str, Any]) -> dict[str, Any]:
        assert self._session is not None
        self.reviews.append(review)
        if self.drops:
            raise CallFailed(f'failed to call webhook: Post "https://{host}:443{path}?timeout=5s": {DEADLINE}')
        error: Exception = CallFailed("no endpoints available")
        for address, port in self.endpoints:
            where = f"[{address}]" if ":" in address else address
            try:
                async with self._session.post(
                    f"https://{where}:{port}{path}", json=review, ssl=context, server_hostname=host
                ) as response:
                    body = await response.read()
                    if response.status != 200:
                        raise CallFailed(f"status {response.status}: {body[:200]!r}")
                    return dict(json.loads(body))
            except aiohttp.ClientConnectorCertificateError as failed:
                raise CallFailed(str(failed)) from None
            except aiohttp.ClientConnectorError as failed:
                error = failed  # nobody listens: kube-proxy had taken it out
            except (aiohttp.ClientError, ValueError) as failed:
                raise CallFailed(str(failed)) from None
        raise CallFailed(str(error))


_CONTEXTS: dict[str, ssl.SSLContext] = {}


def _context_of(encoded: str | None) -> ssl.SSLContext:
    """TLS that trusts a caBundle alone. One context for each bundle, so that connections are kept as in Go."""
    if not encoded:
        raise CallFailed("x509: certificate signed by unknown authority (no caBundle)")
    if encoded not in _CONTEXTS:
        try:
            pem = base64.b64decode(encoded, validate=True).decode()
            _CONTEXTS[encoded] = ssl.create_default_context(cadata=pem)
        except (binascii.Error, ValueError, ssl.SSLError):
            raise CallFailed("unable to load root certificates: unable to parse bytes as PEM block") from None
    return _CONTEXTS[encoded]


def _asked(request: web.BaseRequest) -> tuple[str, str, str]:
    """(verb, collection, name) as the authorizer sees a request; lists by a field selector have its name."""
    if request.path == "/version":
        return "get", "/version", ""
    is_collection = request.path.rpartition("/")[2] in ("secrets", "mutatingwebhookconfigurations", "pods", "events")
    if is_collection:
        name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        verb = "create" if request.method == "POST" else "watch" if "watch" in request.query else "list"
        return verb, request.path, "" if verb == "create" else name
    collection, _, name = request.path.rpartition("/")
    return {"GET": "get", "PUT": "update", "PATCH": "patch"}[request.method], collection, name


def _success(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def _failure(status: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "code": status, "message": message}, status=status)


def _selects(webhook: dict[str, Any], pod: dict[str, Any]) -> bool:
    wanted = webhook["objectSelector"]["matchLabels"].items()
    return bool(wanted <= pod["metadata"].get("labels", {}).items())


def _review(pod: dict[str, Any], namespace: str, dry_run: bool) -> dict[str, Any]:
    request = {
        "uid": str(uuid.uuid4()),
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "name": pod["metadata"].get("name", ""),
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {"username": "system:admin"},
        "object": pod,
        "oldObject": None,
        "dryRun": dry_run,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def _with_account(pod: dict[str, Any]) -> dict[str, Any]:
    pod = copy.deepcopy(pod)
    volumes = pod["spec"].setdefault("volumes", [])
    if not any(volume["name"] == "kube-api-access" for volume in volumes):
        volumes.append({"name": "kube-api-access", "projected": {"sources": []}})
    for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
        mounts = container.setdefault("volumeMounts", [])
        if not any(mount["mountPath"] == _TOKEN_PATH for mount in mounts):
            mounts.append({"name": "kube-api-access", "mountPath": _TOKEN_PATH, "readOnly": True})
    return pod


def _validate(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    names = [container.get("name") for container in containers]
    if not spec.get("containers") or len(set(names)) < len(names) or not all(names):
        raise Refused(422, "the Pod is invalid: spec.containers")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    if not {mount["name"] for each in containers for mount in each.get("volumeMounts", [])} <= volumes:
        raise Refused(422, "the Pod is invalid: volumeMounts")
