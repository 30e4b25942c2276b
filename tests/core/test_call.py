"""What a request is understood as: surface, model, route, size, or the reason it is refused."""

from __future__ import annotations

import json

import pytest

from sidecar.core.affinity import Ownership
from sidecar.core.call import Call, error_dialect
from sidecar.core.errors import Reason, Refusal
from sidecar.core.keys import Size
from sidecar.core.limits import SECOND
from sidecar.core.tokens import Kind
from tests.core.house import call_of, snapshot_of
from tests.values import values_of

TEXT = """
providers:
  - name: groq
    keys: [{name: a, env: A}, {name: b, env: B}]
  - name: cerebras
    keys: [{name: c, env: C}]
  - name: gemini
    keys: [{name: g, env: G}]
  - name: anthropic
    keys: [{name: n, env: N}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
"""
SNAPSHOT = snapshot_of(TEXT)
FAST = b'{"model": "fast", "messages": []}'


def understood(*args, **kwargs):
    call = call_of(SNAPSHOT, *args, **kwargs)
    assert isinstance(call, Call), call
    return call


def refused(*args, **kwargs):
    refusal = call_of(SNAPSHOT, *args, **kwargs)
    assert isinstance(refusal, Refusal)
    return refusal


def form(*fields, boundary="x"):
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields
    ]
    return ("".join(parts) + f"--{boundary}--\r\n").encode()


FORM = {"content_type": "Multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("target", "body", "method", "targets"),
    [
        ("/v1/chat/completions", FAST, "POST", ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"]),
        ("/openai/v1/chat/completions", FAST, "POST", ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"]),
        ("/v1/responses", b'{"model": "cerebras/x"}', "POST", ["cerebras/x"]),
        ("/v1/moderations", b'{"input": "x"}', "POST", ["groq"]),
        ("/v1/moderations", b"", "POST", ["groq"]),
        ("/v1/files", b"not json", "POST", ["groq"]),
        ("/v1/files", b"", "GET", ["groq"]),
        ("/v1/models", b"", "GET", ["groq"]),
        ("/v1/models/fast", b"", "GET", ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"]),
        ("/v1/models/groq%2Fx", b"", "GET", ["groq/x"]),
        ("/p/gemini/v1beta/models/gemini-x:generateContent", b"{}", "POST", ["gemini/gemini-x"]),
        ("/p/gemini/v1beta/files", b"\0", "POST", ["gemini"]),
        ("/p/anthropic/v1/messages", b'{"model": "claude-x"}', "POST", ["anthropic/claude-x"]),
        ("/p/anthropic/v1/messages", b'{"model": "fast"}', "POST", ["anthropic/fast"]),
    ],
)
def test_a_request_names_its_targets(target, body, method, targets):
    kind = {} if body.startswith(b"{") else {"content_type": "application/octet-stream"}
    call = understood(target, body, method, **kind)
    assert [str(each) for each in call.route.targets] == targets
    assert call.route.key is None


@pytest.mark.parametrize(
    ("target", "body", "reason", "param"),
    [
        ("/v2/chat", FAST, Reason.UNKNOWN_PATH, None),
        ("/v1/../x", FAST, Reason.INVALID_PATH, None),
        ("/v1/chat/completions", b"{", Reason.INVALID_JSON, None),
        ("/v1/files", b"{", Reason.INVALID_JSON, None),  # it says that it is JSON
        ("/v1/chat/completions", b"[]", Reason.INVALID_JSON, None),
        ("/v1/chat/completions", b"{}", Reason.MODEL_MISSING, "model"),
        ("/v1/chat/completions", b"", Reason.MODEL_MISSING, "model"),
        ("/v1/completions", b'{"model": 5}', Reason.MODEL_MISSING, "model"),
        ("/v1/embeddings", b'{"model": null}', Reason.MODEL_MISSING, "model"),
        ("/v1/responses", b'{"model": ""}', Reason.MODEL_MISSING, "model"),
        ("/v1/chat/completions", b'{"model": "a", "model": "b"}', Reason.MODEL_DUPLICATE, "model"),
        ("/v1/chat/completions", b'{"model": "%s"}' % (b"m" * 513), Reason.MODEL_UNAVAILABLE, "model"),
        ("/p/anthropic/v1/messages", b'{"model": "%s"}' % (b"m" * 513), Reason.MODEL_UNAVAILABLE, "model"),
        ("/p/nobody/v1/x", FAST, Reason.UNKNOWN_PROVIDER, None),
    ],
)
def test_C16_what_cannot_be_understood_is_refused(target, body, reason, param):
    refusal = refused(target, body)
    assert (refusal.reason, refusal.param) == (reason, param)
    assert len(refusal.message) < 300


def test_E1_the_longest_name_that_is_looked_at():
    name = "m" * 512
    assert understood(body=json.dumps({"model": name}).encode()).model == name


@pytest.mark.parametrize("target", ["/v1/files", "/p/groq/openai/v1/files"])
def test_an_upload_that_is_no_json_passes_where_no_model_is_needed(target):
    assert understood(target, b"{]", content_type="text/plain").model is None
    assert refused("/v1/chat/completions", b"{]", content_type="text/plain").reason is Reason.INVALID_JSON


@pytest.mark.parametrize(
    ("headers", "key", "targets"),
    [
        ({"x_sidecar_key": "b"}, "groq/b", ["groq/openai/gpt-oss-120b"]),
        ({"x_sidecar_key": "cerebras/c"}, "cerebras/c", ["cerebras/gpt-oss-120b"]),
        ({"x_sidecar_key": "g"}, "gemini/g", ["gemini/openai/gpt-oss-120b"]),
    ],
)
def test_a_label_forces_a_key(headers, key, targets):
    route = understood(body=FAST, **headers).route
    assert route.key is not None
    assert (route.key.ident, [str(each) for each in route.targets]) == (key, targets)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x_sidecar_key": "nobody"}, Reason.UNKNOWN_KEY),
        ({"x_sidecar_key": ""}, Reason.INVALID_HEADER),
        ({"x_sidecar_max_wait": "soon"}, Reason.INVALID_HEADER),
    ],
)
def test_wishes_that_cannot_be_granted_are_refused(headers, reason):
    assert refused(body=FAST, **headers).reason is reason


def test_a_native_path_is_never_sent_to_another_provider():
    target = "/p/anthropic/v1/messages"
    assert refused(target, FAST, x_sidecar_key="groq/a").reason is Reason.UNKNOWN_KEY
    assert understood(target, FAST, x_sidecar_key="n").route.key is not None
    ownership = Ownership()
    ownership.note(["file-1"], "groq/a")
    call = understood("/p/anthropic/v1/files/file-1", method="GET", ownership=ownership)
    assert [str(each) for each in call.route.targets] == ["anthropic"]
    assert call.route.key is None


@pytest.mark.parametrize(
    ("target", "body", "owner", "key"),
    [
        ("/v1/files/file-1/content", b"", "cerebras/c", "cerebras/c"),
        ("/v1/batches", b'{"input_file_id": "file-1"}', "groq/b", "groq/b"),
        ("/v1/responses", b'{"model": "fast", "previous_response_id": "file-1"}', "cerebras/c", "cerebras/c"),
        ("/v1/files/file-1", b"", "groq/gone", None),
        ("/v1/files/file-2", b"", "groq/b", None),
    ],
)
def test_what_a_key_created_stays_with_it(target, body, owner, key):
    ownership = Ownership()
    ownership.note(["file-1"], owner)
    route = understood(target, body, "POST" if body else "GET", ownership).route
    assert (route.key and route.key.ident) == key
    forced = understood(target, body, "POST" if body else "GET", ownership, x_sidecar_key="groq/a").route
    assert forced.key is not None
    assert forced.key.ident == "groq/a", "a label goes before ownership"


AUDIO = form(("model", "whisper-large-v3"), ("file", "x" * 64_000))
PROMPT = json.dumps({"model": "fast", "max_tokens": 50, "n": 3, "messages": ["x" * 1000]}).encode()


@pytest.mark.parametrize(
    ("target", "body", "headers", "size"),
    [
        ("/v1/chat/completions", PROMPT, {}, Size(len(PROMPT), 50, 3, 0)),
        ("/v1/embeddings", b'{"model": "fast", "input": "x"}', {}, Size(31, None, 1, 0, Kind.SYMBOLS)),
        ("/p/anthropic/v1/messages", PROMPT, {}, Size(len(PROMPT), 50, 3, 0)),
        ("/p/gemini/v1beta/models/m:generateContent", PROMPT, {}, Size(len(PROMPT), 50, 3, 0)),
        ("/v1/audio/transcriptions", AUDIO, FORM, Size(0, None, 1, len(AUDIO) // 16_000 + 1)),
        ("/v1/images/edits", AUDIO, FORM, Size(0, None, 1, 0)),
        ("/v1/files", form(("file", "x" * 9000)), FORM, Size(0, None, 1, 0)),
        ("/v1/moderations", PROMPT.replace(b"model", b"mode_"), {}, Size(0, None, 1, 0)),
    ],
)
def test_G5_a_request_is_as_large_as_what_will_be_charged(target, body, headers, size):
    assert values_of(understood(target, body, **headers).size) == values_of(size)


def test_what_else_a_call_tells():
    call = understood("/v1/audio/transcriptions?x=1", AUDIO, x_sidecar_max_wait="5s", **FORM)
    assert (call.is_multipart, call.model, call.native) == (True, "whisper-large-v3", None)
    assert call.controls.max_wait_ns == 5 * SECOND
    assert call.surface.query == b"?x=1"
    native = understood("/p/gemini/v1beta/models/m:x").native
    assert native is not None
    assert native.error_dialect == "gemini"


@pytest.mark.parametrize(
    ("target", "dialect"),
    [
        (b"/v1/chat/completions", "openai"),
        (b"/v1/files", "openai"),
        (b"/p/anthropic/v1/messages", "anthropic"),
        (b"/p/anthropic/v1/chat/completions", "openai"),
        (b"/p/gemini/v1beta/models/m:x", "gemini"),
        (b"/p/nobody/v1/messages", "openai"),
        (b"/p/anthropic/../x", "openai"),
        (b"*", "openai"),
    ],
)
def test_errors_are_told_in_the_shape_that_the_callers_sdk_parses(target, dialect):
    assert error_dialect(SNAPSHOT, target) == dialect
