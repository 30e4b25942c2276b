"""Every surface through the whole house: which provider, key and path a request gets, what comes back (design 3)."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.sim.config import SimConfig
from tests.rig import CHAT, KEYS, WATCHDOG_S, chat, running
from tests.upstream.scripted import answering
from tests.wire import COMPLETION, at_rest, before, error, says, seen

OK = answering(says(COMPLETION))
GROQ = "openai/gpt-oss-120b"
CONFIG = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}, {name: b, env: KEY_B}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
  - {name: scribe, chain: [groq/whisper-large-v3]}
"""
SIMS = {
    "groq": SimConfig("groq", keys={"gsk_a": "org-a", "gsk_b": "org-b"}, models=(GROQ, "whisper-large-v3"), gzip=False),
    "cerebras": SimConfig("cerebras", keys={"csk_c": "org-c"}, models=("gpt-oss-120b",), gzip=False),
}


def house(tmp_path, config=CONFIG):
    return running(tmp_path, config, SIMS)


def arrival(rig, name="groq"):
    """The last request a simulator got."""
    return rig.sims[name].requests[-1][1]


def form(**fields):
    """A multipart form of these text fields and a file; its type and its bytes."""
    parts = [f'--b0\r\ncontent-disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    head = b'--b0\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n'
    return "multipart/form-data; boundary=b0", b"".join(parts) + head + b"RIFF\r\n--b0x\0\xff\r\n--b0--\r\n"


# === the OpenAI surface ===


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings", "/responses", "/moderations"])
async def test_both_prefixes_lead_to_the_base_path_of_the_provider(tmp_path, prefix, path):
    async with before(tmp_path, OK, base="/some/base/v9") as (rig, server):
        answer = await rig.post(prefix + path, {"model": "m", "input": "x"})
        assert (answer.status, answer.body) == (200, COMPLETION)
        assert (seen(server)[0].method, seen(server)[0].target) == (b"POST", b"/some/base/v9" + path.encode())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND"])
@pytest.mark.parametrize(
    "target",
    [
        "/threads/t1/runs?limit=20&order=desc",
        "/files?purpose=a%20b&after=%2F&x=/../y&&=?",
        "/vector_stores/a%2Fb/files",
        "/a;b=c/@x:y!$&'()*+,=~",
    ],
)
async def test_any_other_path_and_its_query_pass_untouched_in_any_method(tmp_path, method, target):
    async with before(tmp_path, OK) as (rig, server):
        if method == "HEAD":
            server._script = answering(says(COMPLETION)[: -len(COMPLETION)])
        body = b"\0 not json \xff" if method in ("POST", "PUT", "PATCH") else None
        answer = await rig.send(method, "/v1" + target, body, {"content-type": "application/x-any", "x-mine": "1"})
        request = seen(server)[0]
        assert answer.status == 200
        assert (request.method, request.target, request.body) == (
            method.encode(),
            b"/v1" + target.encode(),
            body or b"",
        )
        assert (request.values(b"content-type"), request.values(b"x-mine")) == ([b"application/x-any"], [b"1"])


async def test_without_a_model_the_first_provider_is_asked(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        assert (await rig.get("/v1/files")).headers["x-sidecar-provider"] == "groq"
        assert (await rig.post("/v1/batches", {})).headers["x-sidecar-provider"] == "groq"
        assert (rig.row("groq").seen, rig.row("cerebras").seen) == (2, 0)
        await at_rest(rig)


MODELS = [
    ("fast", "groq", GROQ),
    (GROQ, "groq", GROQ),
    ("gpt-oss-120b", "cerebras", "gpt-oss-120b"),
    (f"groq/{GROQ}", "groq", GROQ),
    ("cerebras/gpt-oss-120b", "cerebras", "gpt-oss-120b"),
]


@pytest.mark.parametrize(("model", "provider", "upstream"), MODELS)
async def test_a_model_leads_to_its_provider_under_its_own_id(tmp_path, model, provider, upstream):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        body = json.dumps(chat(model, x=[1.50])).encode()
        answer = await rig.post(body=body)
        assert (answer.status, answer.headers["x-sidecar-provider"]) == (200, provider)
        assert answer.headers["x-sidecar-model"] == upstream
        assert arrival(rig, provider).body == body.replace(f'"{model}"'.encode(), f'"{upstream}"'.encode())


@pytest.mark.parametrize("path", [f"/v1/models/{GROQ}", "/v1/models/openai%2Fgpt-oss-120b", "/v1/models/fast"])
async def test_one_model_is_asked_for_with_slashes_either_way_and_by_its_public_name(tmp_path, path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.get(path)
        assert (answer.status, answer.json["id"]) == (200, GROQ)
        assert (await rig.post(body=chat("fast"))).headers["x-sidecar-provider"] == "groq"  # nothing was parked


async def test_what_the_target_rejects_is_dropped_and_named(tmp_path):
    body = chat("fast", store=True, metadata={"a": 1}, logprobs=True, temperature=0)
    body["messages"] = [{"role": "assistant", "content": "x", "reasoning": "y"}, {"role": "user", "content": "z"}]
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.post(body=body)
        assert answer.status == 200
        assert answer.headers["x-sidecar-dropped"] == "store, metadata, logprobs, messages[].reasoning"
        sent = json.loads(arrival(rig).body)
        assert list(sent) == ["model", "messages", "temperature"]
        assert list(sent["messages"][0]) == ["role", "content"]
        assert rig.requests[-1]["dropped"] == ["store", "metadata", "logprobs", "messages[].reasoning"]
        assert "x-sidecar-dropped" not in (await rig.post(body=chat("fast"))).headers


async def test_a_strict_operator_has_nothing_dropped(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path, CONFIG + "retry: {strict: true}\n") as rig:
        answer = await rig.post(body=chat("fast", store=True))
        assert (answer.status, "store" in error(answer)["message"]) == (400, True)
        assert "x-sidecar-dropped" not in answer.headers
        assert b'"store":true' in arrival(rig).body


@pytest.mark.parametrize("model", ["scribe", "groq/whisper-large-v3", "whisper-large-v3"])
async def test_the_model_in_a_form_is_replaced_and_nothing_else(tmp_path, model):
    kind, content = form(model=model, prompt="--b0 model scribe", response_format="text")
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.post("/v1/audio/transcriptions", content, content_type=kind)
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
        assert arrival(rig).body == content.replace(model.encode() + b"\r\n", b"whisper-large-v3\r\n", 1)


@pytest.mark.parametrize("kind", [b"text/plain; charset=utf-8", b"audio/mpeg", b"text/vtt", b"application/x-subrip"])
async def test_plain_and_binary_answers_keep_their_type(tmp_path, kind):
    async with before(tmp_path, answering(says(b"WEBVTT\n\0\xff", kind=kind))) as (rig, _):
        answer = await rig.post("/v1/audio/speech", {"model": "tts", "input": "x", "voice": "v"})
        assert (answer.body, answer.headers["content-type"]) == (b"WEBVTT\n\0\xff", kind.decode())


FAILED = b'{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error","message":"x"}}'


@pytest.mark.parametrize("path", ["/v1/responses/resp_1", "/v1/fine_tuning/jobs/ft-1", "/v1/batches/b-1"])
async def test_an_object_that_tells_of_an_error_is_no_error(tmp_path, path):
    async with before(tmp_path, answering(says(FAILED)), "retry: {attempts: 1}\n") as (rig, server):
        answer = await rig.get(path)
        assert (answer.status, answer.body, answer.headers["x-sidecar-attempts"]) == (200, FAILED, "1")
        # the same as the answer to who asks a model is one
        assert (await rig.post("/v1/responses", {"model": "m", "input": "x"})).status == 502
        assert len(server.requests) == 2


async def test_lines_of_json_are_no_json(tmp_path):
    lines = b'{"custom_id":"1"}\n{"custom_id":"2"}\n'
    async with before(tmp_path, answering(says(lines, kind=b"application/jsonl"))) as (rig, server):
        for kind in ("application/jsonl", "application/x-ndjson", "application/json-seq"):
            answer = await rig.send("PUT", "/v1/uploads/u1", lines, {"content-type": kind})
            assert (answer.status, answer.body, seen(server)[-1].body) == (200, lines, lines)


async def test_the_id_of_a_request_is_the_provider_s_or_ours(tmp_path):
    script = answering(says(COMPLETION, b"x-request-id: req_theirs"), says(COMPLETION), says(b"{}", status=b"400 Bad"))
    async with before(tmp_path, script) as (rig, server):
        answers = [await rig.post(body=chat("m"), x_request_id="req_callers") for _ in range(3)]
        ours = [line["id"] for line in rig.requests]
        assert [answer.headers["x-request-id"] for answer in answers] == ["req_theirs", ours[1], ours[2]]
        assert len(set(ours)) == 3
        assert seen(server)[0].values(b"x-request-id") == [b"req_callers"]


# === what belongs to a key ===


async def test_what_a_key_made_stays_with_that_key(tmp_path):
    kind, content = form(purpose="batch")
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        owners = set()
        for _ in range(6):
            made = await rig.post("/v1/files", content, content_type=kind)
            owner, name = made.headers["x-sidecar-key"], made.json["id"]
            owners.add(owner)
            batch = await rig.post("/v1/batches", {"input_file_id": name, "endpoint": CHAT, "completion_window": "24h"})
            told = [
                batch,
                await rig.get(f"/v1/files/{name}"),
                await rig.get(f"/v1/files/{name}/content"),
                await rig.get(f"/v1/batches/{batch.json['id']}"),
                await rig.post(f"/v1/batches/{batch.json['id']}/cancel", b""),
                await rig.send("DELETE", f"/v1/files/{name}", None, {}),
            ]
            assert [(each.status, each.headers["x-sidecar-key"]) for each in told] == [(200, owner)] * 6
        assert owners == {"a", "b"}
        await at_rest(rig)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stored_response_is_continued_with_its_key(tmp_path, stream):
    async with before(tmp_path, OK, keys="KEY_A KEY_B") as (rig, server):
        plain = says(b'{"id":"resp_1","object":"response","status":"completed","output":[{"type":"message"}]}')
        events = b'data: {"type":"response.created","response":{"id":"resp_1"}}\n\n' + b"".join(
            b'data: {"type":"response.%b"}\n\n' % kind for kind in (b'output_text.delta","delta":"x', b"completed")
        )
        server._script = answering(says(events, kind=b"text/event-stream") if stream else plain)
        made = await rig.post("/v1/responses", {"model": "m", "input": "x", "stream": stream})
        assert made.status == 200, made
        owner = made.headers["x-sidecar-key"]
        for _ in range(4):
            again = await rig.post("/v1/responses", {"model": "m", "input": "y", "previous_response_id": "resp_1"})
            assert again.headers["x-sidecar-key"] == owner
            assert (await rig.get("/v1/responses/resp_1")).headers["x-sidecar-key"] == owner


@pytest.mark.parametrize(("label", "key"), [("a", "gsk_a"), ("b", "gsk_b"), ("groq/b", "gsk_b"), ("c", "csk_c")])
async def test_a_label_forces_the_key(tmp_path, label, key):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        for _ in range(3):
            answer = await rig.post(body=chat("fast"), x_sidecar_key=label)
            assert (answer.status, answer.headers["x-sidecar-key"]) == (200, label[-1])
            sent = dict(arrival(rig, answer.headers["x-sidecar-provider"]).headers)
            assert sent[b"authorization"] == f"Bearer {key}".encode()
            assert not [name for name in sent if name.startswith(b"x-sidecar")]


# === the providers' own surfaces ===

MESSAGES = {"model": "claude-x", "max_tokens": 5, "messages": []}
CALLERS_KEYS = {"x_api_key": "caller-1", "authorization": "Bearer caller-2", "x_goog_api_key": "caller-3"}


async def test_anthropic_s_own_api_gets_the_operator_s_key_in_its_own_header(tmp_path):
    async with before(tmp_path, answering(says(b'{"type":"message","id":"msg_1"}')), name="anthropic") as (rig, server):
        answer = await rig.post(
            "/p/anthropic/v1/messages?beta=true",
            MESSAGES,
            anthropic_version="2023-06-01",
            anthropic_beta="x",
            **CALLERS_KEYS,
        )
        request = seen(server)[0]
        assert (answer.status, answer.json["id"], answer.headers["x-sidecar-model"]) == (200, "msg_1", "claude-x")
        assert request.target == b"/v1/messages?beta=true"
        assert request.values(b"x-api-key") == [b"gsk_a"]
        assert request.values(b"anthropic-version") == [b"2023-06-01"]
        assert request.values(b"anthropic-beta") == [b"x"]
        assert (request.values(b"authorization"), request.values(b"x-goog-api-key")) == ([], [])
        assert b"caller" not in server.requests[0]
        await rig.post("/v1/chat/completions", chat("claude-x"))
        assert seen(server)[1].values(b"authorization") == [b"Bearer gsk_a"]  # its OpenAI surface takes a bearer key


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/v1/messages", b"{", {}, 400, "invalid_json"),
        ("/v1/messages", b'{"model":"a","model":"b"}', {}, 400, "model_duplicate"),
        ("/v1/messages", None, {"x_sidecar_max_wait": "x"}, 400, "invalid_header"),
        ("/v1/messages", None, {"x_sidecar_key": "x"}, 400, "unknown_key"),
        ("/v1/messages", None, {"host": "evil.example"}, 403, "forbidden_host"),
        ("/v1/messages", b" " * 2048, {}, 413, "body_too_large"),
    ],
)
async def test_errors_of_ours_at_anthropic_s_api_have_its_shape(tmp_path, path, body, headers, status, code):
    config = "body: {max_bytes: 1KiB}\n"
    async with before(tmp_path, OK, config, name="anthropic") as (rig, server):
        answer = await rig.post(f"/p/anthropic{path}", MESSAGES if body is None else body, **headers)
        assert (answer.status, answer.json["type"], answer.json["error"]["code"]) == (status, "error", code)
        assert server.requests == []


async def test_errors_after_attempts_at_anthropic_s_api_have_its_shape(tmp_path):
    failing = says(b'{"type":"error","error":{"type":"api_error","message":"x"}}', status=b"500 Oops")
    async with before(tmp_path, answering(failing), "retry: {attempts: 1}\n", name="anthropic") as (rig, _):
        answer = await rig.post("/p/anthropic/v1/messages", MESSAGES)
        assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (502, "error", "api_error")
        assert rig.requests[-1]["trail"][0]["reason"] == "server_error"


@pytest.mark.parametrize("query", ["?key=dummy", "?alt=sse&key=dummy&x=1", "?k%65y=dummy&key", "?key=a&key=b", ""])
async def test_gemini_s_own_api_gets_the_operator_s_key_and_no_other(tmp_path, query):
    async with before(tmp_path, answering(says(b'{"candidates":[]}')), name="gemini") as (rig, server):
        path = "/v1beta/models/gemini-2.5-flash:generateContent"
        answer = await rig.post(f"/p/gemini{path}{query}", {"contents": []}, **CALLERS_KEYS)
        request = seen(server)[0]
        assert (answer.status, answer.headers["x-sidecar-model"]) == (200, "gemini-2.5-flash")
        assert request.values(b"x-goog-api-key") == [b"gsk_a"]
        assert (request.values(b"authorization"), request.values(b"x-api-key")) == ([], [])
        assert b"dummy" not in server.requests[0]
        kept = {"?alt=sse&key=dummy&x=1": "?alt=sse&x=1"}.get(query, "")
        assert request.target.decode().removesuffix("?") == path + kept


async def test_a_provider_s_own_path_starts_at_its_origin_and_keeps_its_key(tmp_path):
    async with before(tmp_path, OK, base="/openai/v1", name="groq") as (rig, server):
        body = chat("any/model", store=True)
        answer = await rig.post("/p/groq/openai/v1/chat/completions?x=%2e", body)
        assert (answer.status, answer.headers["x-sidecar-model"]) == (200, "any/model")
        request = seen(server)[0]
        assert (request.target, json.loads(request.body)) == (b"/openai/v1/chat/completions?x=%2e", body)
        assert request.values(b"authorization") == [b"Bearer " + KEYS["KEY_A"].encode()]
        assert (await rig.get("/p/groq/v7/anything?a=b")).status == 200
        assert seen(server)[1].target == b"/v7/anything?a=b"


async def test_a_label_of_another_provider_is_refused_at_a_provider_s_own_path(tmp_path):
    async with asyncio.timeout(WATCHDOG_S), house(tmp_path) as rig:
        answer = await rig.post("/p/groq/openai/v1/chat/completions", chat(GROQ), x_sidecar_key="c")
        assert (answer.status, error(answer)["code"]) == (400, "unknown_key")
        answer = await rig.post("/p/groq/openai/v1/chat/completions", chat(GROQ), x_sidecar_key="b")
        assert (answer.status, answer.headers["x-sidecar-key"]) == (200, "b")
