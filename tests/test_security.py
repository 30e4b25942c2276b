"""Whose key goes where, and who may call, through the whole house (acceptance G2 to G5, H4).

Every test of `guarded` ends with a search: no byte of a key in an answer, a header, a log line or a status page.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.admin.log import LineLog
from sidecar.app import Prepared, Sidecar, Source, prepare
from sidecar.sim.config import SimConfig
from tests.both_ways import BOTH_WAYS
from tests.edge.raw import RawClient, post, request
from tests.fakes import LoopClock, settle
from tests.rig import CATALOG, KEYS, WATCHDOG_S, chat, running
from tests.upstream.scripted import Scripted, answering
from tests.wire import COMPLETION, EVENTS, LAST_CHUNK, at_rest, before, chunk, delta, error, providers, says, seen

MARK = b"0nlyForTheProvider"
SECRETS = {"KEY_A": "sk-live-0nlyForTheProvider-a", "KEY_B": "sk-live-0nlyForTheProvider-b"}
KEY = SECRETS["KEY_A"].encode()
OK = answering(says(COMPLETION))


class Witness:
    """A caller that remembers every byte it was told."""

    def __init__(self, rig):
        self.rig = rig
        self.told = []

    async def post(self, *args, **headers):
        return self._note(await self.rig.post(*args, **headers))

    async def send(self, *args):
        return self._note(await self.rig.send(*args))

    def _note(self, answer):
        self.told.append(repr(answer.headers).encode() + answer.body)
        if answer.headers.get("content-encoding") == "gzip":
            self.told.append(gzip.decompress(answer.body))
        return answer

    async def search(self):
        for page in ("/status.json", "/healthz", "/readyz", "/nothing"):
            async with self.rig.client.get(self.rig.admin + page) as answer:
                self.told.append(await answer.read())
        self.told.append(json.dumps(self.rig.lines).encode())
        self.told.append(repr(self.rig.sidecar.config).encode())
        found = [each for each in self.told if MARK in each]
        assert found == []


@contextlib.asynccontextmanager
async def guarded(tmp_path, script, config="", **provider):
    async with before(tmp_path, script, config, environ=SECRETS, **provider) as (rig, server):
        witness = Witness(rig)
        yield witness, server
        await settle()
        await witness.search()


# === G2: nobody but the operator says where a key goes ===


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_G2_a_redirect_is_returned_and_not_followed(tmp_path, status):
    async with Scripted(OK) as other:
        location = f"http://127.0.0.1:{other.origin.port}/v1/chat/completions".encode()
        moved = says(b"gone there", b"location: " + location, status=b"%d Moved" % status, kind=b"text/plain")
        async with guarded(tmp_path, answering(moved)) as (caller, server):
            answer = await caller.post(body=chat("m"))
            assert (answer.status, answer.headers["location"]) == (status, location.decode())
            assert (len(server.requests), other.peers) == (1, [])


STEERING = [
    "base-url", "x-base-url", "api-base", "x-api-base", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server",
    "forwarded", "x-original-url", "x-rewrite-url", "x-original-host", "x-host", "x-upstream", "x-target-url", "via",
    "x-portkey-custom-host", "x-portkey-config", "helicone-target-url", "x-sidecar-provider", "x-sidecar-base-url",
    "x-sidecar-host", "x-real-ip", "location", "referer", "destination", "x-envoy-original-path",
]  # fmt: skip


async def test_G2_no_known_way_of_naming_a_host_is_one_here(tmp_path):
    async with Scripted(OK) as other, guarded(tmp_path, OK) as (caller, server):
        place = f"127.0.0.1:{other.origin.port}"
        url = f"http://{place}/v1"
        own = f"127.0.0.1:{server.origin.port}".encode()
        for name in STEERING:
            for value in (
                url,
                place,
                f'{{"custom_host":"{url}","base_url":"{url}"}}',
                f"for=x;host={place};proto=http",
            ):
                answer = await caller.post(body=chat("m"), **{name: value})
                assert answer.status == 200
        body = chat("m", base_url=url, api_base=url, host=place, url=url, provider=url, endpoint=url, api_key="x")
        for extra in ({}, {"model": url}, {"model": f"{url}/m"}, {"model": f"//{place}/m"}, {"model": f"@{place}/m"}):
            assert (await caller.post(body=body | extra)).status == 200
        for path in (
            f"/v1/files/http://{place}/x", f"/v1/files/http:%2F%2F{place}/x", f"/v1/@{place}/x", f"/v1/files?url={url}",
            f"/p/own/@{place}/", f"/p/own/{place}", f"/p/{place}/v1/x", f"/p/own@{place}/v1/x", f"//{place}/v1/models",
        ):  # fmt: skip
            assert (await caller.send("GET", path, None, {})).status in (200, 400, 404)
        assert other.peers == []
        assert {request.values(b"host")[0] for request in seen(server)} == {own}


async def test_G2_an_absolute_target_names_this_proxy_and_no_other(tmp_path):
    async with Scripted(OK) as other, guarded(tmp_path, OK) as (caller, server):
        body = json.dumps(chat("m")).encode()
        for authority, status in (
            (b"127.0.0.1:%d" % other.origin.port, 200),  # an address may be ours: the provider is ours to choose
            (b"localhost:1", 200),
            (b"evil.example", 403),
            (b"user:pass@127.0.0.1", 403),
            (b"127.0.0.1@evil.example", 403),
        ):
            async with await caller.rig.raw() as client:
                await client.send(
                    b"POST http://%b/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b"
                    % (authority, len(body), body)
                )
                answer = await client.answer()
                assert answer.status in (status, 400 if status == 403 else status)
        assert (other.peers, len(server.requests)) == ([], 2)
        assert {request.target for request in seen(server)} == {b"/v1/chat/completions"}


async def test_G2_each_provider_gets_its_own_key_alone(tmp_path):
    """Through a chain that falls back, a label and a provider's own path."""
    busy = answering(says(b'{"error":{"message":"x"}}', status=b"503 Busy"))
    async with Scripted(OK) as second:
        more = providers(second, "second", keys="KEY_B").removeprefix("providers:\n")
        config = more + "models: [{name: fast, chain: [own/m, second/m]}]\n"
        async with guarded(tmp_path, busy, config) as (caller, first):
            assert (await caller.post(body=chat("fast"))).headers["x-sidecar-provider"] == "second"
            assert (await caller.post(body=chat("own/m"), x_sidecar_key="key-b")).status == 200
            assert (await caller.send("GET", "/p/second/v1/x", None, {})).status == 200
            assert (len(first.requests), len(second.requests)) == (1, 3)
            assert {each.values(b"authorization")[0] for each in seen(first)} == {b"Bearer " + KEY}
            assert {each.values(b"authorization")[0] for each in seen(second)} == {
                b"Bearer " + SECRETS["KEY_B"].encode()
            }


async def test_G2_what_a_caller_holds_for_a_key_reaches_nobody_even_where_none_is_needed(tmp_path):
    async with guarded(tmp_path, OK, keys="") as (caller, server):
        for name in ("authorization", "x_api_key", "api_key", "x_goog_api_key", "cookie", "proxy_authorization"):
            answer = await caller.post(body=chat("m"), **{name: "callers-own"})
            assert (answer.status, answer.headers["x-sidecar-key"]) == (200, "none")
        assert b"callers-own" not in b"".join(server.requests)


def test_G2_no_headers_whatever_send_the_key_elsewhere_or_another_in_its_place(tmp_path):
    with asyncio.Runner() as runner:
        other = Scripted(OK)
        runner.run(other.__aenter__())
        opened = guarded(tmp_path, OK)
        caller, server = runner.run(opened.__aenter__())
        place = f"127.0.0.1:{other.origin.port}".encode()
        own = f"127.0.0.1:{server.origin.port}".encode()
        names = st.sampled_from(
            [name.encode() for name in STEERING]
            + [b"authorization", b"Authorization", b"x-api-key", b"api-key", b"X-Goog-Api-Key", b"cookie"]
            + [
                b"connection",
                b"te",
                b"proxy-authorization",
                b"openai-organization",
                b"openai-project",
                b"x-any",
                b"expect",
            ]
        ) | st.from_regex(rb"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
        values = st.sampled_from(
            [
                place,
                b"http://" + place,
                b"Bearer evil",
                b"host",
                b"authorization",
                b"close, host",
                b"x, authorization",
                b"",
            ]
        ) | st.binary(max_size=20).map(lambda raw: bytes(byte for byte in raw if byte not in b"\r\n\0"))
        framing = {b"host", b"content-length", b"transfer-encoding", b"expect", b"origin", b"content-type", b"upgrade"}

        async def ask(lines):
            async with await caller.rig.raw() as client:
                await client.send(post(b'{"model":"m"}', *lines))
                return await client.answer()

        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(names, values), max_size=6))
        def fuzz(pairs):
            server.requests.clear()
            answer = runner.run(ask([b": ".join(pair) for pair in pairs if pair[0].lower() not in framing]))
            assert answer.status in (200, 400)
            assert MARK not in b"".join(answer.lines)
            for each in seen(server):
                assert each.values(b"host") == [own]
                assert each.values(b"authorization") == [b"Bearer " + KEY]
                names_sent = {name for name, _ in each.headers}
                assert names_sent.isdisjoint(
                    {b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"openai-organization", b"openai-project"}
                )
                assert not any(name.startswith((b"x-sidecar", b"proxy-")) for name in names_sent)
                assert b"\n" not in b"".join(value for _, value in each.headers)

        fuzz()
        assert other.peers == []
        runner.run(opened.__aexit__(None, None, None))
        runner.run(other.__aexit__(None, None, None))


# === G3: what a provider repeats of a key goes no further ===

TOLD = b'{"error":{"message":"You said ' + KEY + b'.","type":"x","code":"y"}}'
ECHOES = {
    "a header": says(COMPLETION, b"x-debug: auth=" + KEY + b";", b"x-kept: 1"),
    "a header of an error": says(b'{"error":{}}', b"x-echo: Bearer " + KEY, b"x-kept: 1", status=b"400 Bad"),
    "a redirect": says(b"", b"location: http://x/?key=" + KEY, b"x-kept: 1", status=b"302 Found"),
    "a header of events": EVENTS[:-2] + b"x-debug: " + KEY + b"\r\nx-kept: 1\r\n\r\n"
    + chunk(b"data: " + delta("x", finish_reason="stop").encode() + b"\n\n") + LAST_CHUNK,
    "an error that is relayed": says(TOLD, b"x-kept: 1", status=b"400 Bad Request"),
    "an error that is packed": says(
        gzip.compress(TOLD), b"content-encoding: gzip", b"x-kept: 1", status=b"422 Unprocessable"
    ),
    "an error in plain text": says(b"no: " + KEY, b"x-kept: 1", status=b"400 Bad Request", kind=b"text/plain"),
    "a 401": says(TOLD, status=b"401 Unauthorized"),
    "a 403": says(TOLD, status=b"403 Forbidden"),
    "a 429": says(TOLD, b"retry-after: 100", status=b"429 Too Many"),
    "a 500": says(TOLD, status=b"500 Oops"),
    "an error within a 200": says(TOLD),
    "an error of the caller within a 200": says(TOLD.replace(b'"x"', b'"invalid_request_error"')),
    "an error within a packed 200": says(
        gzip.compress(TOLD.replace(b'"x"', b'"invalid_request_error"')), b"content-encoding: gzip"
    ),
    "an error within events": EVENTS + chunk(b"data: " + TOLD + b"\n\n") + LAST_CHUNK,
    "a broken head": b"HTTP/1.1 200 OK\r\nx: " + KEY + b"\r\n" + KEY + b"\r\n\r\n",
    "no HTTP": KEY + b"\r\n\r\n",
}  # fmt: skip


RELAYED = {
    "an error that is relayed",
    "an error that is packed",
    "an error in plain text",
    "an error within a packed 200",
}


@pytest.mark.parametrize("fallback", ["on", "off"])
@pytest.mark.parametrize("name", ECHOES)
async def test_G3_a_key_that_is_repeated_is_withheld(tmp_path, name, fallback):
    script = answering(ECHOES[name])
    async with guarded(tmp_path, script, "retry: {attempts: 1}\nwait: {max: 0s}\n") as (caller, server):
        for _ in range(2):
            answer = await caller.post(body=chat("m", stream="events" in name), x_sidecar_fallback=fallback)
            if b"x-kept" in ECHOES[name]:
                assert answer.headers["x-kept"] == "1"
                assert "x-debug" not in answer.headers
        if name in RELAYED:
            assert b"[key withheld]" in answer.body
        assert KEY in server.requests[0]


async def test_G3_the_list_of_models_tells_no_key(tmp_path):
    script = answering(says(b'{"data":[]}', b"x-debug: " + KEY))
    async with guarded(tmp_path, script) as (caller, _):
        assert (await caller.send("GET", "/v1/models", None, {})).status == 200


async def test_G3_a_broken_configuration_tells_no_key(tmp_path):
    async with guarded(tmp_path, OK) as (caller, _):
        text = caller.rig.path.read_text()
        for bad in (
            KEY.decode(),
            f"providers: [{{name: groq, keys: [{{name: a, env: {KEY.decode()}}}]}}]",
            f"{KEY.decode()}: 1",
        ):
            caller.rig.path.write_text(text + bad + "\n")
            assert not caller.rig.sidecar.reload()


# === G4: who may call ===


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "'[::]:0'", "[127.0.0.1:0, 0.0.0.0:0]", "192.0.2.1:8787"])
def test_G4_off_loopback_is_refused_without_a_token(tmp_path, listen):
    path = tmp_path / "sidecar.yaml"
    path.write_text(f"providers: [{{name: ollama}}]\nlisten: {listen}\n")
    problems = prepare(Source(str(path), {}), CATALOG, 0)
    assert isinstance(problems, list)
    assert problems[0].startswith(f"{path}:2: listen: ")
    assert "auth.tokens" in problems[0]


HOSTS = [
    (b"127.0.0.1", 200), (b"127.0.0.1:8787", 200), (b"localhost", 200), (b"LOCALHOST:1", 200), (b"[::1]:8787", 200),
    (b"app.localhost", 200), (b"10.1.2.3", 200), (b"my-service:8787", 200), (b"MY-SERVICE", 200),
    (b"evil.example", 403), (b"127.0.0.1.evil.example", 403), (b"localhost.evil.example:8787", 403), (b"", 403),
    (b"my-service.evil.example", 403), (b"0x7f000001", 403), (b"evil.example#localhost", 403),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
async def test_G4_a_page_that_rebinds_its_name_gets_nowhere(tmp_path, host, status):
    async with guarded(tmp_path, OK, "auth: {hosts: [my-service]}\n") as (caller, server):
        for port, path in (
            (caller.rig.sidecar.listening[0].port, b"/v1/x"),
            (caller.rig.sidecar.admin_port, b"/status.json"),
        ):
            address = caller.rig.sidecar.listening[0]
            async with await RawClient.open(type(address)(address.host, port)) as client:
                await client.send(b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path, host))
                answer = await client.answer()
                assert answer.status == status
                if status == 403:
                    assert json.loads(answer.body)["error"]["code"] == "forbidden_host"
        assert len(server.requests) == (status == 200)


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://app.example", 200), ("https://evil.example", 403), ("null", 403), ("http://127.0.0.1:8787", 403)],
)
async def test_G4_a_web_page_may_call_only_when_it_is_listed(tmp_path, origin, status):
    async with guarded(tmp_path, OK, "auth: {origins: ['https://app.example']}\n") as (caller, server):
        answer = await caller.post(body=chat("m"), origin=origin)
        assert answer.status == status
        assert status == 200 or error(answer)["code"] == "forbidden_origin"
        async with caller.rig.client.get(caller.rig.admin + "/status.json", headers={"origin": origin}) as page:
            assert page.status == status
        assert len(server.requests) == (status == 200)


SENT = [
    ({}, 401),
    ({"authorization": "Bearer door-1"}, 200),
    ({"authorization": "bearer  door-1 "}, 200),
    ({"x_api_key": "door-2"}, 200),
    ({"api_key": "door-1"}, 200),
    ({"x_goog_api_key": "door-1"}, 200),
    ({"authorization": "Bearer wrong", "x_api_key": "door-1"}, 200),
    ({"authorization": "Bearer door-"}, 401),
    ({"authorization": "Bearer door-11"}, 401),
    ({"authorization": "Bearer "}, 401),
    ({"authorization": "Basic door-1"}, 401),
    ({"authorization": f"Bearer {SECRETS['KEY_A']}"}, 401),
    ({"x_sidecar_key": "door-1"}, 401),
]


@pytest.mark.parametrize(("headers", "status"), SENT)
async def test_G4_with_tokens_nobody_calls_without_one(tmp_path, headers, status):
    token = tmp_path / "token"
    token.write_text("door-2\n")
    config = "auth: {tokens: [{env: DOOR}, {file: token}]}\n"
    environ = SECRETS | {"DOOR": "door-1"}
    async with before(tmp_path, OK, config, environ=environ) as (rig, server):
        answer = await rig.post(body=chat("m"), **headers)
        assert answer.status == status
        if status == 401:
            assert error(answer)["code"] == "invalid_api_key"
            assert server.requests == []
        else:
            assert rig.requests[-1]["caller"] in ("token-0", "token-1")
            assert b"door" not in server.requests[0]
        assert "door" not in json.dumps(rig.lines)


async def test_G4_a_token_that_is_missing_lets_nobody_in(tmp_path):
    config = "auth: {tokens: [{env: NOT_SET}, {file: nowhere}]}\n"
    async with before(tmp_path, OK, config) as (rig, server):
        for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer None"}, {"x_api_key": ""}):
            assert (await rig.post(body=chat("m"), **headers)).status == 401
        assert server.requests == []
        assert sum(line.get("event") == "warning" for line in rig.lines) == 2


async def test_G4_off_loopback_the_status_page_asks_for_a_token_and_probes_do_not(tmp_path):
    path = tmp_path / "sidecar.yaml"
    path.write_text("listen: 0.0.0.0:0\nadmin: 0.0.0.0:0\nauth: {tokens: [{env: DOOR}]}\nproviders: [{name: ollama}]\n")
    source, clock = Source(str(path), {"DOOR": "door-1"}), LoopClock()
    prepared = prepare(source, CATALOG, clock.now_ns())
    assert isinstance(prepared, Prepared), prepared
    async with asyncio.timeout(WATCHDOG_S), aiohttp.ClientSession() as client:
        sidecar = Sidecar(source, prepared, CATALOG, clock, LineLog(lambda _: None))
        await sidecar.start()

        async def ask(port, page, **headers):
            async with client.get(f"http://127.0.0.1:{port}{page}", headers=headers) as answer:
                return answer.status

        admin, data = sidecar.admin_port, sidecar.listening[0].port
        right, wrong = {"authorization": "Bearer door-1"}, {"authorization": "Bearer door-2"}
        assert [await ask(admin, page) for page in ("/healthz", "/readyz", "/status.json")] == [200, 200, 401]
        assert [await ask(admin, "/status.json", **each) for each in (right, wrong)] == [200, 401]
        # the name is the operator's own business there
        assert await ask(admin, "/status.json", host="sidecar.example", **right) == 200
        assert [await ask(data, "/v1/models", **each) for each in ({}, wrong)] == [401, 401]
        assert await ask(data, "/nowhere", host="sidecar.example", **right) == 404
        await client.close()
        await settle()
        await sidecar.stop()


# === G5: no shape of request goes uncharged ===

SHAPES = [
    ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x" * 4000}]}),
    ("/v1/chat/completions", {"model": "m", "x": "x" * 4000}),
    ("/v1/completions", {"model": "m", "prompt": "x" * 4000}),
    ("/v1/embeddings", {"model": "m", "input": ["x" * 2000, "x" * 2000]}),
    ("/v1/responses", {"model": "m", "input": [{"content": [{"text": "x" * 4000}]}]}),
    ("/v1/rerank", {"model": "m", "query": "x", "documents": ["x" * 4000]}),
    ("/v1/audio/speech", {"model": "m", "input": "x" * 4000}),
    ("/p/own/v1/messages", {"model": "m", "contents": "x" * 4000}),
    ("/p/own/anything", {"model": "m", "unheard": {"of": "x" * 4000}}),
]


@pytest.mark.parametrize(("path", "body"), SHAPES)
async def test_G5_every_shape_is_charged_by_its_size(tmp_path, path, body):
    limits = "    limits: [{model: m, tpm: 1500, rpm: 10}]\nwait: {max: 0s}\n"
    async with guarded(tmp_path, answering(says(b"{}")), limits) as (caller, server):
        assert (await caller.post(path, body)).status in (200, 502)  # {} is no completion
        refused = await caller.post(path, body)
        assert (refused.status, error(refused)["code"]) == (429, "rate_limit_exceeded"), refused
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        much = await caller.post(path, body | {"more": "x" * 8000})
        assert (much.status, error(much)["code"]) == (413, "request_too_large")
        assert len(server.requests) == 1


async def test_G5_a_request_without_a_model_is_one_request(tmp_path):
    limits = "    limits: [{model: '*', rpm: 1}]\nwait: {max: 0s}\n"
    async with guarded(tmp_path, OK, limits) as (caller, server):
        for number in range(3):
            answer = await caller.post("/v1/moderations", {"input": "x"})
            assert answer.status == (429 if number else 200)
        assert len(server.requests) == 1


# === H4: no call that nobody asked for ===


@BOTH_WAYS
async def test_H4_nothing_is_asked_of_a_provider_without_a_caller(tmp_path):
    config = 'providers: [{name: groq, base_url: "{groq}", keys: [{name: a, env: KEY_A}]}]\n'
    sims = {"groq": SimConfig("groq")}
    async with asyncio.timeout(WATCHDOG_S), running(tmp_path, config, sims, environ=KEYS) as rig:
        for page in ("/readyz", "/healthz", "/status.json") * 3:
            async with rig.client.get(rig.admin + page) as answer:
                assert answer.status == 200
        for path in ("/nowhere", "/v1/embeddings"):
            assert (await rig.get(path)).status in (404, 405)
        assert (await rig.post(body=b"{")).status == 400
        assert rig.sidecar.reload()
        async with await rig.raw() as client:
            await client.send(request(b"/v1/models", b"host: x"))
            assert (await client.answer()).status == 400
        await at_rest(rig)
        assert (rig.row("groq").seen, (await rig.status())["connections"]["open"]) == (0, 0)
