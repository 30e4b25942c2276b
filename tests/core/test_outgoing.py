"""The request as a target gets it: path, key, model, without what the target rejects."""

from __future__ import annotations

import json

import pytest

from sidecar.core.affinity import Ownership
from sidecar.core.call import Call, understand
from sidecar.core.outgoing import prepare
from sidecar.core.roster import Roster
from tests.core.house import CATALOG, NOW, request_of, snapshot_of

TEXT = """
providers:
  - name: groq
    keys: [{name: a, env: A}]
  - name: cerebras
    keys: [{name: c, env: C}]
  - name: mistral
    keys: [{name: m, env: M}]
  - name: gemini
    keys: [{name: g, env: G}]
  - name: anthropic
    keys: [{name: n, env: N}]
  - name: azure-deployments
    base_url: https://me.openai.azure.com/openai
    keys: [{name: z, env: Z}]
  - {name: ollama}
  - name: xai
    keys: [{name: x, env: X}]
  - name: deepinfra
    keys: [{name: d, env: D}]
models:
  - name: fast
    chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b, mistral/x, azure-deployments/my gpt, ollama/gpt-oss:120b]
""".replace("my gpt", "my-gpt/4")
ROSTER = Roster(snapshot_of(TEXT), NOW)


def sent(target="/v1/chat/completions", body=b"", method="POST", hop=0, strict=False, **headers):
    """The head, as lines, the body and the dropped fields at a hop of the chain."""
    request = request_of(target, body, method, **headers)
    call = understand(ROSTER.snapshot, request, Ownership())
    assert isinstance(call, Call), call
    candidate = ROSTER.keys(call.route.targets[hop], NOW).candidates[0]
    outgoing = prepare(call, request, candidate, strict)
    return outgoing.head.decode().removesuffix("\r\n\r\n").split("\r\n"), outgoing.body, outgoing.dropped


FAST = (
    b'{ "model" : "fast",  "messages": [{"role": "user", "content": "\\u00e9", "name": "x"}], "store": true, "x": 1 }'
)
FIRST, SECOND, THIRD, AZURE, LOCAL = range(5)


def test_the_whole_request_as_the_first_target_gets_it():
    head, body, dropped = sent(body=b'{"model": "fast"}', x_custom="1", authorization="Bearer mine")
    assert head == [
        "POST /openai/v1/chat/completions HTTP/1.1",
        "host: api.groq.com",
        "content-type: application/json",
        "x-custom: 1",
        "authorization: Bearer secret-of-groq-a",
        "content-length: 32",
    ]
    assert body == b'{"model": "openai/gpt-oss-120b"}'
    assert dropped == ()


@pytest.mark.parametrize(
    ("hop", "body", "dropped"),
    [
        (
            FIRST,
            b'{ "model" : "openai/gpt-oss-120b",  "messages": [{"role": "user", "content": "\\u00e9"}], "x": 1 }',
            ("store", "messages[].name"),
        ),
        (
            SECOND,
            b'{ "model" : "gpt-oss-120b",  "messages": [{"role": "user", "content": "\\u00e9", "name": "x"}], "x": 1 }',
            ("store",),
        ),
        (LOCAL, FAST.replace(b'"fast"', b'"gpt-oss:120b"'), ()),
    ],
)
def test_B10_only_what_the_target_rejects_is_left_out(hop, body, dropped):
    assert sent(body=FAST, hop=hop)[1:] == (body, dropped)


def test_B10_fields_have_other_names_elsewhere():
    _, body, dropped = sent(body=b'{"model": "fast", "max_completion_tokens": 5, "seed": 7}', hop=THIRD)
    assert json.loads(body) == {"model": "x", "max_tokens": 5, "random_seed": 7}
    assert dropped == ()
    _, body, dropped = sent(body=b'{"model": "fast", "max_completion_tokens": 5, "max_tokens": 6}', hop=THIRD)
    assert json.loads(body) == {"model": "x", "max_tokens": 6}
    assert dropped == ("max_completion_tokens",)


@pytest.mark.parametrize(
    ("model", "sent_as", "gone"),
    [
        ("xai/m", {"model": "m", "max_completion_tokens": 5}, ("metadata",)),  # which only drops
        ("deepinfra/m", {"model": "m", "max_tokens": 5, "metadata": {}}, ()),  # which only renames
    ],
)
def test_B10_each_provider_has_its_own_list(model, sent_as, gone):
    _, body, dropped = sent(body=json.dumps({"model": model, "max_completion_tokens": 5, "metadata": {}}).encode())
    assert (json.loads(body), dropped) == (sent_as, gone)


def test_B10_strictly_nothing_is_left_out():
    _, body, dropped = sent(body=FAST, strict=True)
    assert body == FAST.replace(b'"fast"', b'"openai/gpt-oss-120b"')
    assert dropped == ()


def test_a_body_that_fits_already_is_the_very_same():
    body = b'{"model":\n"gpt-oss-120b", "seed": 1}'
    assert sent(body=body)[1] is body


@pytest.mark.parametrize(
    ("target", "method", "body", "hop", "line"),
    [
        ("/v1/files?limit=2", "GET", b"", 0, "GET /openai/v1/files?limit=2 HTTP/1.1"),
        ("/openai/v1/files", "HEAD", b"", 0, "HEAD /openai/v1/files HTTP/1.1"),
        (
            "/v1/chat/completions?api-version=1",
            "POST",
            FAST,
            3,
            "POST /openai/deployments/my-gpt%2F4/chat/completions?api-version=1 HTTP/1.1",
        ),
        (
            "/v1/embeddings",
            "POST",
            b'{"model": "azure-deployments/a?b#c\\nd"}',
            0,
            "POST /openai/deployments/a%3Fb%23c%0Ad/embeddings HTTP/1.1",
        ),
        ("/v1/chat/completions", "POST", FAST, 4, "POST /v1/chat/completions HTTP/1.1"),
        ("/p/gemini/v1beta/models/a%2Fb:x?alt=sse", "POST", b"{}", 0, "POST /v1beta/models/a%2Fb:x?alt=sse HTTP/1.1"),
        # one model: by the id of the provider that is asked
        ("/v1/models/fast", "GET", b"", 0, "GET /openai/v1/models/openai/gpt-oss-120b HTTP/1.1"),
        ("/v1/models/fast", "GET", b"", 1, "GET /v1/models/gpt-oss-120b HTTP/1.1"),
        ("/v1/models/fast", "GET", b"", 3, "GET /openai/models/my-gpt/4 HTTP/1.1"),
        ("/v1/models/fast", "GET", b"", 4, "GET /v1/models/gpt-oss:120b HTTP/1.1"),
        ("/v1/models/cerebras/a%20b", "GET", b"", 0, "GET /v1/models/a%20b HTTP/1.1"),
        ("/v1/models/cerebras%2Fa%3Fb", "GET", b"", 0, "GET /v1/models/a%3Fb HTTP/1.1"),
        ("/v1/models/whatever%2Felse", "GET", b"", 0, "GET /openai/v1/models/whatever%2Felse HTTP/1.1"),
    ],
)
def test_the_path_is_the_providers_own(target, method, body, hop, line):
    assert sent(target, body, method, hop)[0][0] == line


@pytest.mark.parametrize(
    ("method", "body", "headers", "length"),
    [
        ("GET", b"", {}, None),
        ("HEAD", b"", {}, None),
        ("DELETE", b"", {}, None),
        ("GET", b"", {"content_length": "0"}, "0"),
        ("POST", b"", {"content_length": "0"}, "0"),
        ("POST", b"", {}, "0"),
        ("POST", b"ab", {"transfer_encoding": "chunked"}, "2"),
        ("DELETE", b"ab", {}, "2"),
        ("POST", b"ab", {"content_length": "99"}, "2"),
    ],
)
def test_a_length_is_told_where_there_is_a_body_or_one_was_announced(method, body, headers, length):
    head, _, _ = sent("/v1/files", body, method, content_type="text/plain", **headers)
    found = [line.partition(": ")[2] for line in head if line.startswith("content-length")]
    assert found == ([] if length is None else [length])
    assert not any(line.startswith("transfer-encoding") for line in head)


@pytest.mark.parametrize(
    ("target", "credential", "secret"),
    [
        ("/p/groq/openai/v1/models", "authorization", "Bearer secret-of-groq-a"),
        ("/p/anthropic/v1/messages", "x-api-key", "secret-of-anthropic-n"),
        ("/p/anthropic/v1/chat/completions", "authorization", "Bearer secret-of-anthropic-n"),
        ("/p/gemini/v1beta/models/x:y", "x-goog-api-key", "secret-of-gemini-g"),
        ("/p/gemini/v1beta/openai/models", "authorization", "Bearer secret-of-gemini-g"),
        ("/p/azure-deployments/openai/deployments/x/y", "api-key", "secret-of-azure-deployments-z"),
        ("/p/ollama/api/tags", "", ""),
    ],
)
def test_G2_one_credential_is_sent_the_operators_as_that_surface_takes_it(target, credential, secret):
    mine = {
        "authorization": "Bearer mine",
        "x_api_key": "mine",
        "api_key": "mine",
        "x_goog_api_key": "mine",
        "cookie": "mine",
    }
    head, _, _ = sent(target, b'{"model": "x"}', x_sidecar_fallback="off", **mine)
    assert not any("mine" in line or "x-sidecar" in line for line in head)
    assert [line for line in head if "secret-of" in line] == ([f"{credential}: {secret}"] if credential else [])


@pytest.mark.parametrize("native", [True, False])
def test_G2_every_way_the_catalog_sends_a_key_replaces_the_callers(native):
    for entry in CATALOG.providers.values():
        for auth in [surface.auth for surface in entry.native] if native else [entry.auth]:
            assert auth.header.lower() in {"authorization", "x-api-key", "api-key", "x-goog-api-key"}, entry.name


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?key=mine", ""),
        ("?alt=sse&key=mine", "?alt=sse"),
        ("?key=mine&alt=sse&key=again", "?alt=sse"),
        ("?%6Bey=mine&k%65%79=mine&x=1", "?x=1"),
        ("?key", ""),
        ("?keys=1&monkey=2", "?keys=1&monkey=2"),
        ("?", "?"),
        ("?a&&b=", "?a&&b="),
        ("", ""),
    ],
)
def test_G2_a_callers_key_in_the_query_is_dropped_and_the_rest_kept(query, kept):
    head, _, _ = sent(f"/p/gemini/v1beta/models/x:y{query}")
    assert head[0] == f"POST /v1beta/models/x:y{kept} HTTP/1.1"


def test_where_no_key_stands_in_queries_they_pass_as_they_are():
    assert sent("/p/groq/openai/v1/models?key=1", method="GET")[0][0] == "GET /openai/v1/models?key=1 HTTP/1.1"


def test_a_native_body_passes_as_it_is():
    body = b'{"model": "fast", "store": true}'
    assert sent("/p/groq/openai/v1/chat/completions", body)[1:] == (body, ())


PART = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FORM = PART % (b"model", b"fast") + PART % (b"store", b"1") + b"--x--\r\n"
FORM_TYPE = {"content_type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize("target", ["/v1/audio/transcriptions", "/v1/images/edits"])
def test_the_model_in_a_form_is_fitted_and_nothing_else(target):
    head, body, dropped = sent(target, FORM, hop=SECOND, **FORM_TYPE)
    assert body == FORM.replace(b"\r\nfast\r\n", b"\r\ngpt-oss-120b\r\n")
    assert dropped == ()
    assert f"content-length: {len(body)}" in head
    assert sent(target, FORM.replace(b"fast", b"unknown"), **FORM_TYPE)[1] == FORM.replace(b"fast", b"unknown")


@pytest.mark.parametrize("name", ["x\r\nx-evil", "x evil", "x:y"])
def test_no_line_is_smuggled_into_the_head(name):
    request = request_of("/v1/chat/completions", b'{"model": "fast"}', **{name: "1"})
    call = understand(ROSTER.snapshot, request, Ownership())
    assert isinstance(call, Call)
    head = prepare(call, request, ROSTER.keys(call.route.targets[0], NOW).candidates[0], False).head
    assert b"evil" not in head
    assert b"x:y" not in head
