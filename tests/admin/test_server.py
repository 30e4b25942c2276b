"""The admin port on a real socket: alive, ready, the status; and who may see it."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiohttp
import pytest

from sidecar.admin.server import AdminServer
from sidecar.core.config import Address
from sidecar.core.entrance import Entrance, Rules, digest
from sidecar.edge.listening import open_sockets
from tests.edge.raw import RawClient, request

STATUS = b'{"providers": []}'
LOCAL = Rules(1, 1, 1)
ABROAD = LOCAL._replace(is_loopback_only=False, tokens={digest(b"letmein"): "token-0"})
SHUT = LOCAL._replace(tokens={b"": "nobody"})
NAMED = LOCAL._replace(hosts=frozenset({"my-pod"}), origins=frozenset({"https://app.example.org"}))


class Admin:
    """A running admin port, whether it is ready, and how often the status was made."""

    def __init__(self, rules):
        self.is_ready = True
        self.made = 0
        self.entrance = Entrance(rules)
        self.server = AdminServer(lambda: self.is_ready, self._status, self.entrance)
        self.port = 0

    def _status(self):
        self.made += 1
        return STATUS

    async def ask(self, path, method="GET", **headers):
        """Status, headers and body of an answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession() as client,
            client.request(method, url, headers=named, allow_redirects=False) as answer,
        ):
            return answer.status, answer.headers, await answer.read()


@contextlib.asynccontextmanager
async def running(rules=LOCAL):
    admin = Admin(rules)
    (bound,) = open_sockets([Address("127.0.0.1", 0)])
    async with asyncio.timeout(5):
        admin.port = await admin.server.start(bound)
        try:
            yield admin
        finally:
            await admin.server.close()
    assert admin.entrance.inflight == 0


@pytest.mark.parametrize("rules", [LOCAL, ABROAD, SHUT, NAMED])
@pytest.mark.parametrize("headers", [{}, {"host": "evil.example.org"}, {"origin": "https://evil.example.org"}])
async def test_H4_a_kubelet_is_answered_whoever_it_is(rules, headers):
    async with running(rules) as admin:
        status, _, body = await admin.ask("/healthz", **headers)
        assert (status, body) == (200, b"ok\n")
        status, _, body = await admin.ask("/readyz", **headers)
        assert (status, body) == (200, b"ok\n")
        assert admin.made == 0


async def test_H4_readiness_ends_with_draining_and_liveness_does_not():
    async with running() as admin:
        admin.is_ready = False
        status, _, body = await admin.ask("/readyz")
        assert (status, body) == (503, b"draining\n")
        assert (await admin.ask("/healthz"))[0] == 200
        admin.is_ready = True
        assert (await admin.ask("/readyz?verbose"))[0] == 200


async def test_I3_the_status_is_json_that_nobody_keeps():
    async with running() as admin:
        status, headers, body = await admin.ask("/status.json")
        assert (status, body) == (200, STATUS)
        assert headers["content-type"].partition(";")[0] == "application/json"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert (await admin.ask("/status.json?pretty=%FF"))[2] == STATUS


@pytest.mark.parametrize(
    ("rules", "headers", "code"),
    [
        (LOCAL, {"host": "localhost:8788"}, None),
        (LOCAL, {"host": "127.0.0.1"}, None),
        (LOCAL, {"host": "my-pod"}, "forbidden_host"),
        (LOCAL, {"host": "rebound.example.org:8788"}, "forbidden_host"),
        (LOCAL, {"origin": "http://localhost:3000"}, "forbidden_origin"),
        (LOCAL, {"origin": "null"}, "forbidden_origin"),
        (NAMED, {"host": "my-pod:8788"}, None),
        (NAMED, {"origin": "https://app.example.org"}, None),
        (ABROAD, {}, "invalid_api_key"),
        (ABROAD, {"authorization": "Bearer wrong"}, "invalid_api_key"),
        (ABROAD, {"authorization": "Bearer letmein"}, None),
        (ABROAD, {"x_api_key": "letmein", "host": "anything"}, None),
        (ABROAD, {"authorization": "Bearer letmein", "origin": "https://x.y"}, "forbidden_origin"),
        (SHUT, {}, "invalid_api_key"),
        (SHUT, {"authorization": "Bearer "}, "invalid_api_key"),
    ],
)
async def test_G4_who_may_see_the_status(rules, headers, code):
    async with running(rules) as admin:
        status, _, body = await admin.ask("/status.json", **headers)
        assert admin.made == (1 if code is None else 0)
        if code is None:
            assert (status, body) == (200, STATUS)
        else:
            assert status in (401, 403)
            assert json.loads(body)["error"]["code"] == code


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/healthz/", "/status.json/x", "/v1/models"])
async def test_what_is_not_there_is_404_in_json(path):
    async with running() as admin:
        status, headers, body = await admin.ask(path)
        assert status == 404
        assert headers["content-type"].partition(";")[0] == "application/json"
        error = json.loads(body)["error"]
        assert error["code"] == "unknown_path"
        assert "/status.json" in error["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/healthz", "/status.json", "/nowhere"])
async def test_other_methods_are_told_which_are_right(method, path):
    async with running() as admin:
        status, headers, body = await admin.ask(path, method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert json.loads(body)["error"]["code"] == "method_not_allowed"
        assert admin.made == 0


@pytest.mark.parametrize("path", ["/healthz", "/status.json"])
async def test_head_is_get_without_a_body(path):
    async with running() as admin:
        _, got, body = await admin.ask(path)
        status, headers, nothing = await admin.ask(path, "HEAD")
        assert (status, nothing) == (200, b"")
        assert headers["content-length"] == got["content-length"] == str(len(body))


async def test_bytes_that_are_no_text_break_nothing():
    async with running() as admin:
        for target in (b"/status.json?\xff", b"/%FF", b"/healthz?%00"):
            async with await RawClient.open(Address("127.0.0.1", admin.port)) as client:
                await client.send(request(target))
                assert (await client.answer()).status in (200, 400, 404)
        assert (await admin.ask("/healthz"))[0] == 200


async def test_after_closing_nobody_answers_and_closing_what_never_ran_is_harmless():
    async with running() as admin:
        pass
    with pytest.raises(aiohttp.ClientConnectorError):
        async with asyncio.timeout(5):
            await admin.ask("/healthz")
    await AdminServer(lambda: True, lambda: b"", Entrance(LOCAL)).close()
