"""Odd bodies that must arrive as they are (C16), and bad requests: JSON that says what is wrong; nobody is asked."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.raw import post, request
from tests.rig import CHAT, chat
from tests.upstream.scripted import answering
from tests.wire import COMPLETION, at_rest, before, error, says, seen

OK = answering(says(COMPLETION))
FAST = "models: [{name: fast, chain: [own/m]}]\n"

# what replaces it must be the model alone
ODD = {
    "big integer": b'{"model":%b,"seed":123456789012345678901234567890,"messages":[]}',
    "digits without end": b'{"model":%b,"seed":' + b"9" * 5000 + b"}",
    "numbers": b'{"model":%b,"a":1e400,"b":-0.0,"c":1E+2,"d":0.10000000000000000000001}',
    "not a number": b'{"temperature":NaN,"top_p":Infinity,"min_p":-Infinity,"model":%b}',
    "lone surrogates": b'{"model":%b,"messages":[{"role":"user","content":"\\ud800 \\udfff\\ud83d"}]}',
    "bad UTF-8": b'{"messages":[{"role":"user","content":"\xff\xfe\xc3("}],"model":%b,"user":"\xed\xa0\x80"}',
    "CJK, escaped and not": '{"messages":[{"role":"user","content":"日本 \\u65e5 👩‍👧"}],"model":%s}'.encode().replace(
        b"%s", b"%b"
    ),
    "unknown fields": b'{"x-new":{"deep":[[[{"model":"inner"}]]]},"model":%b,"":null,"model ":1}',
    "fields twice": b'{"a":1,"model":%b,"a":2,"a":{"a":1,"a":2}}',
    "white space": b' \r\n\t{ "model"\n:\t%b , "messages" : [ ] }\n\n',
    "escaped name": b'{"\\u006dodel":%b,"messages":[]}',
    "wrong types": b'{"model":%b,"stream":"yes","max_tokens":"12","n":-1,"stream_options":7,"messages":"hi"}',
    "negative maximum": b'{"max_tokens":-5,"model":%b}',
    "byte order mark": b'\xef\xbb\xbf{"model":%b}',
    "a quote in a text": b'{"messages":[{"role":"user","content":"\\"model\\":\\"x\\""}],"model":%b}',
    "NUL, escaped": b'{"model":%b,"stop":"\\u0000"}',
    "deep": b'{"model":%b,"x":' + b"[" * 200 + b"]" * 200 + b"}",
}


@pytest.mark.parametrize("name", ODD)
async def test_C16_what_is_odd_reaches_the_provider_byte_by_byte(tmp_path, name):
    async with before(tmp_path, OK, FAST) as (rig, server):
        for model in (b'"own/m"', b'"fast"', b'"m"'):
            answer = await rig.post(body=ODD[name].replace(b"%b", model))
            assert answer.status == 200, answer
        assert {each.body for each in seen(server)} == {ODD[name].replace(b"%b", b'"m"')}


# white space before the next member goes with the member that is removed
@pytest.mark.parametrize("name", sorted(ODD.keys() - {"white space"}))
async def test_C16_what_is_odd_survives_the_removal_of_fields(tmp_path, name):
    body = ODD[name].replace(b"%b", b'"m"')
    start = body.index(b"{") + 1
    async with before(tmp_path, OK, name="groq") as (rig, server):
        answer = await rig.post(body=body[:start] + b'"logprobs":true,' + body[start:])
        assert (answer.status, answer.headers["x-sidecar-dropped"]) == (200, "logprobs")
        assert seen(server)[0].body == body


BAD_JSON = {
    "cut": b'{"model":"m"',
    "a list": b'[{"model":"m"}]',
    "a text": b'"model"',
    "a number": b"1",
    "null": b"null",
    "no JSON": b"model=m",
    "two values": b'{"model":"m"}{"model":"m"}',
    "a comma too many": b'{"model":"m",}',
    "single quotes": b"{'model':'m'}",
    "bad UTF-8 alone": b"\xff",
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "NUL": b'{"model":"m"}\0',
    "control character": b'{"model":"m","a":"\n',
    "half an escape": b'{"model":"m","a":"\\u12"}',
    "too deep": b"[" * 100_000,
    "too deep in a field": b'{"model":"m","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


async def refused(rig, server, answer, status, code):
    """It is JSON with that code, not to be retried, and nobody was asked."""
    assert (answer.status, error(answer)["code"]) == (status, code), answer
    assert error(answer)["message"]
    assert error(answer)["type"] == "invalid_request_error"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"] == rig.requests[-1]["id"]
    assert (rig.requests[-1]["status"], rig.requests[-1]["outcome"]) == (status, code)
    assert server.requests == []
    await at_rest(rig)


@pytest.mark.parametrize("name", BAD_JSON)
async def test_C16_bad_json_is_400(tmp_path, name):
    async with before(tmp_path, OK) as (rig, server):
        await refused(rig, server, await rig.post(body=BAD_JSON[name]), 400, "invalid_json")


MODELS = [
    (b"{}", "model_missing"),
    (b"", "model_missing"),
    (b'{"model":null}', "model_missing"),
    (b'{"model":7}', "model_missing"),
    (b'{"model":["m"]}', "model_missing"),
    (b'{"model":""}', "model_missing"),
    (b'{"messages":[{"model":"inner"}]}', "model_missing"),
    (b'{"model":"m","model":"m"}', "model_duplicate"),
    (b'{"model":"m","x":NaN,"model":"other"}', "model_duplicate"),
    (b'{"model":"m","mod\\u0065l":"other"}', "model_duplicate"),
]


@pytest.mark.parametrize(("body", "code"), MODELS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/v1/completions", "/v1/embeddings", "/v1/responses"])
async def test_the_model_must_be_one(tmp_path, path, body, code):
    async with before(tmp_path, OK) as (rig, server):
        answer = await rig.post(path, body)
        await refused(rig, server, answer, 400, code)
        assert error(answer)["param"] == "model"


async def test_a_model_inside_a_message_is_no_second_one(tmp_path):
    async with before(tmp_path, OK) as (rig, _):
        answer = await rig.post(body=chat("m", metadata={"model": "x"}, tools=[{"model": "y"}]))
        assert answer.status == 200


TARGETS = [
    ("GET", "/", 404, "unknown_path"),
    ("GET", "/v1", 404, "unknown_path"),
    ("GET", "/v1/", 404, "unknown_path"),
    ("GET", "/v2/models", 404, "unknown_path"),
    ("GET", "/p/own", 404, "unknown_path"),
    ("POST", "/chat/completions", 404, "unknown_path"),
    ("GET", "/p/nobody/v1/models", 404, "unknown_provider"),
    ("GET", "/p/127.0.0.1/v1/models", 404, "unknown_provider"),
    ("GET", "/v1/../admin", 400, "invalid_path"),
    ("GET", "/v1/files/..", 400, "invalid_path"),
    ("GET", "/v1/files/%2e%2e/x", 400, "invalid_path"),
    ("GET", "/v1/files/%252e%252e/x", 400, "invalid_path"),
    ("GET", "/v1/./files", 400, "invalid_path"),
    ("GET", "/v1/files/..;x=1/y", 400, "invalid_path"),
    ("GET", "/v1//files", 400, "invalid_path"),
    ("GET", "/v1/files/a%5c..%5cb", 400, "invalid_path"),
    ("GET", "/v1/files/%00", 400, "invalid_path"),
    ("GET", "/v1/files/%zz", 400, "invalid_path"),
    ("GET", "/p/own/../x", 400, "invalid_path"),
    ("GET", "/v1/embeddings", 405, "method_not_allowed"),
    ("DELETE", "/v1/chat/completions", 405, "method_not_allowed"),
    ("PUT", "/openai/v1/responses", 405, "method_not_allowed"),
    ("POST", "/v1/models", 405, "method_not_allowed"),
    ("DELETE", "/v1/models", 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "target", "status", "code"), TARGETS)
async def test_a_bad_target_is_refused_in_json(tmp_path, method, target, status, code):
    async with before(tmp_path, OK) as (rig, server):
        await refused(rig, server, await rig.send(method, target, None, {}), status, code)


HEADERS = [
    ("x_sidecar_max_wait", "5", "invalid_header"),
    ("x_sidecar_max_wait", "soon", "invalid_header"),
    ("x_sidecar_max_wait", "-5s", "invalid_header"),
    ("x_sidecar_max_wait", "", "invalid_header"),
    ("x_sidecar_fallback", "no", "invalid_header"),
    ("x_sidecar_key", "", "invalid_header"),
    ("x_sidecar_key", "nobody", "unknown_key"),
]


@pytest.mark.parametrize(("name", "value", "code"), HEADERS)
async def test_a_bad_control_header_is_400_and_says_which(tmp_path, name, value, code):
    async with before(tmp_path, OK) as (rig, server):
        answer = await rig.post(body=chat("m"), **{name: value})
        await refused(rig, server, answer, 400, code)
        assert name.replace("_", "-") in error(answer)["message"]


async def test_an_unknown_label_is_told_the_known_ones(tmp_path):
    async with before(tmp_path, OK, keys="KEY_A KEY_B") as (rig, _):
        message = error(await rig.post(body=chat("m"), x_sidecar_key="key-x"))["message"]
        assert "own/key-a, own/key-b" in message
        assert "gsk" not in message


FORMS = {
    "no boundary": (b"multipart/form-data", b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--'),
    "no end": (b"multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm'),
    "no part": (b"multipart/form-data; boundary=b", b"hello"),
}


@pytest.mark.parametrize("name", FORMS)
async def test_a_form_that_cannot_be_read_is_never_500(tmp_path, name):
    kind, body = FORMS[name]
    async with before(tmp_path, OK) as (rig, _):
        answer = await rig.post("/v1/audio/transcriptions", body, content_type=kind.decode())
        assert answer.status in (200, 400)  # what we do not understand is the provider's to judge
        chatted = await rig.post(CHAT, body, content_type=kind.decode())
        assert (chatted.status, error(chatted)["code"]) in [(400, "invalid_http"), (400, "model_missing")]


def test_C16_no_body_is_our_fault(tmp_path):
    """Whatever the bytes: passed on as they are, or 400."""
    with asyncio.Runner() as runner:
        opened = before(tmp_path, OK, FAST)
        rig, server = runner.run(opened.__aenter__())

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            st.one_of(
                st.binary(max_size=60),
                st.builds(
                    lambda head, tail, fill: b'{"model":"' + head + b'","x":' + fill + tail,
                    st.sampled_from([b"m", b"fast", b"own/m", b"\xff", b"\\ud800", b"a\\\\b"]),
                    st.sampled_from([b"}", b"", b"}}", b',"model":"m"}', b"}\n"]),
                    st.binary(max_size=30) | st.sampled_from([b"NaN", b'"\xff"', b"1e999", b"[]", b'"\\"model\\""']),
                ),
            )
        )
        def fuzz(body):
            server.requests.clear()
            answer = runner.run(rig.post(body=body))
            assert answer.status in (200, 400), (body, answer)
            if answer.status == 200 and b"fast" not in body and b"own/m" not in body:
                assert seen(server)[0].body == body
            elif answer.status == 400:
                assert error(answer)["code"] in ("invalid_json", "model_missing", "model_duplicate")

        fuzz()
        runner.run(opened.__aexit__(None, None, None))


def test_no_request_line_or_header_is_our_fault(tmp_path):
    """Whatever the path and headers: never a 500, and the connection goes on or ends in order."""
    with asyncio.Runner() as runner:
        opened = before(tmp_path, OK)
        rig, _ = runner.run(opened.__aenter__())
        text = st.binary(max_size=30).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
        names = st.sampled_from([b"x-sidecar-max-wait", b"x-sidecar-key", b"x-a", b"accept", b"cache-control"])

        async def ask(target, name, value):
            async with await rig.raw() as client:
                await client.send(request(b"/v1/" + target, name + b": " + value, method=b"GET"))
                return await client.answer()

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(text, names, text)
        def fuzz(target, name, value):
            answer = runner.run(ask(target, name, value))
            assert answer.status in (200, 400, 404, 405), answer

        fuzz()
        runner.run(opened.__aexit__(None, None, None))


async def test_every_refusal_leaves_the_connection_usable(tmp_path):
    async with before(tmp_path, OK) as (rig, server), await rig.raw() as client:
        for bad in (post(b"{"), request(b"/nowhere"), post(b"{}"), request(b"/v1/embeddings")):
            await client.send(bad)
            assert (await client.answer()).status in (400, 404, 405)
        await client.send(post(json.dumps(chat("m")).encode()))
        assert (await client.answer()).status == 200
        assert len(server.requests) == 1
