"""Targets: the surface they name, and that none leads out of a provider's base path."""

from __future__ import annotations

from urllib.parse import unquote, urljoin

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.core.errors import Reason, Refusal, render
from sidecar.core.paths import Endpoint, Kind, Surface, needs_model, resolve, segments


def openai(path, endpoint=Endpoint.OTHER, query=b"", model=None):
    return Surface(Kind.OPENAI, path, query, endpoint, "", model)


@pytest.mark.parametrize("prefix", [b"/v1", b"/openai/v1"])
@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        (b"POST", b"/chat/completions", openai(b"/chat/completions", Endpoint.CHAT)),
        (b"POST", b"/chat/completions?a=/../b", openai(b"/chat/completions", Endpoint.CHAT, b"?a=/../b")),
        (b"GET", b"/chat/completions", openai(b"/chat/completions")),
        (b"GET", b"/chat/completions/chatcmpl-1", openai(b"/chat/completions/chatcmpl-1")),
        (b"POST", b"/completions", openai(b"/completions", Endpoint.COMPLETIONS)),
        (b"POST", b"/embeddings", openai(b"/embeddings", Endpoint.EMBEDDINGS)),
        (b"POST", b"/responses", openai(b"/responses", Endpoint.RESPONSES)),
        (b"GET", b"/responses/resp_1", openai(b"/responses/resp_1")),
        (b"POST", b"/responses/resp_1/cancel", openai(b"/responses/resp_1/cancel")),
        (b"POST", b"/audio/transcriptions", openai(b"/audio/transcriptions", Endpoint.TRANSCRIPTIONS)),
        (b"POST", b"/audio/translations", openai(b"/audio/translations", Endpoint.TRANSCRIPTIONS)),
        (b"POST", b"/audio/speech", openai(b"/audio/speech", Endpoint.SPEECH)),
        (b"GET", b"/models", openai(b"/models", Endpoint.MODELS)),
        (b"HEAD", b"/models?x", openai(b"/models", Endpoint.MODELS, b"?x")),
        (b"GET", b"/models/m", openai(b"/models/m", Endpoint.MODEL, model="m")),
        (b"GET", b"/models/a/b:free", openai(b"/models/a/b:free", Endpoint.MODEL, model="a/b:free")),
        (b"GET", b"/models/a%2Fb%20c", openai(b"/models/a%2Fb%20c", Endpoint.MODEL, model="a/b c")),
        (b"GET", b"/models/", openai(b"/models/", Endpoint.MODEL)),
        (b"DELETE", b"/models/ft", openai(b"/models/ft")),
        (b"POST", b"/files", openai(b"/files")),
        (b"GET", b"/files/f.../content", openai(b"/files/f.../content")),
        (b"GET", b"/a/.b/c..", openai(b"/a/.b/c..")),
        (b"PATCH", b"/anything/else/", openai(b"/anything/else/")),
    ],
)
def test_the_openai_surface(prefix, method, path, expected):
    assert resolve(method, prefix + path) == expected


@pytest.mark.parametrize(
    ("target", "provider", "path", "query"),
    [
        (b"/p/anthropic/v1/messages", "anthropic", b"/v1/messages", b""),
        (b"/p/gemini/v1beta/models/g:streamGenerateContent?alt=sse", "gemini", None, b"?alt=sse"),
        (b"/p/my-own_1.2/", "my-own_1.2", b"/", b""),
        (b"/p/v1/p/x", "v1", b"/p/x", b""),
    ],
)
def test_the_native_surface(target, provider, path, query):
    path = path or b"/v1beta/models/g:streamGenerateContent"
    assert resolve(b"POST", target) == Surface(Kind.NATIVE, path, query, provider=provider)


@pytest.mark.parametrize(
    "target",
    [b"", b"*", b"v1/models", b"http://evil/v1/models", b"//evil/v1/models", b"evil:443", b"/v1/models#x"]
    + [b"/v1/a b", b"/v1/\xc3\xa9", b"/v1/a\tb", b"/v1/a\0", b"/v1/x?a b", b"/v1/x?\xff", b"/v1/x?#"]
    + [b"/v1/%", b"/v1/%zz", b"/v1/%2", b"/v1/%00", b"/v1/%0d%0aX", b"/v1/%7f", b"/v1/%ff", b"/v1/%C3%25A9"]
    + [
        b"/v1/" + dots
        for dots in b".. . ../x x/.. x/./y %2e%2e %2E. .%2e/x %2e x%2f.. ..%2fx ..%2Fx %2e%2e%2fx".split()
        + rb"x\y ..\x %5c ..%5cx %5C%2e%2e ..;/x ..;a=b/x %2e%2e;/x %252e%252e/x %25252e%25252e .%252e%252fx".split()
        + b"a//b a/%2fb %2f%2fevil models/a%2f%2e%2e%2fb models/%2e%2e%2f%2e%2e".split()
    ]
    + [b"/p/groq/../x", b"/p/groq//evil/x", b"/p/../x", b"/p/groq/%2e%2e/x", b"/v1//chat/completions", b"/p//x"],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_G2_a_path_that_could_lead_elsewhere_is_refused(method, target):
    refusal = resolve(method, target)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.status) == (Reason.INVALID_PATH, 400)


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/v1",
        b"/v1/",
        b"/v1?x",
        b"/v2/models",
        b"/V1/models",
        b"/v1x/models",
        b"/chat/completions",
        b"/openai",
        b"/openai/v1",
        b"/openai/models",
        b"/p",
        b"/p/",
        b"/p/groq",
        b"/p/gr%6fq/x",
        b"/p/-x/y",
        b"/v1%2Fmodels",
        b"/" + b"x" * 5000,
    ],
)
def test_an_unknown_path_is_told_the_right_ones(target):
    refusal = resolve(b"POST", target)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNKNOWN_PATH
    assert "/v1/" in refusal.message
    assert "/p/{provider}/" in refusal.message
    assert len(refusal.message) < 400


@pytest.mark.parametrize(
    ("method", "path"),
    [(b"GET", path) for path in b"/completions /embeddings /responses /audio/speech /audio/transcriptions".split()]
    + [(b"PUT", b"/chat/completions"), (b"POST", b"/models"), (b"DELETE", b"/models"), (b"OPTIONS", b"/embeddings")],
)
def test_wrong_methods(method, path):
    refusal = resolve(method, b"/v1" + path)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.status) == (Reason.METHOD_NOT_ALLOWED, 405)
    assert (b"allow", refusal.allow.encode()) in render(refusal).headers
    assert method.decode() not in refusal.allow.split(", ")
    assert path.decode() in refusal.message


def test_needs_model():
    needing = {endpoint for endpoint in Endpoint if needs_model(endpoint)}
    assert needing == {Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.RESPONSES}


def test_segments():
    assert segments(b"/files/a%2Fb/content/") == ("files", "a/b", "content", "")


PIECES = st.sampled_from(
    rb"/ // . .. %2e %2E %2f %2F \ %5c ; : ? # % %25 %252e %c0%ae %00 @ evil.com http: v1 p groq models a %".split()
)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([b"/v1/", b"/openai/v1/", b"/p/groq/", b"/v1/models/", b"/"]),
    st.lists(PIECES, max_size=6).map(b"".join) | st.binary(max_size=12),
)
@example(b"/v1/models/", b"%C3%25A9")
def test_G2_whatever_passes_stays_below_the_base(prefix, rest):
    surface = resolve(b"GET", prefix + rest)
    if isinstance(surface, Refusal):
        return
    assert prefix + rest == b"".join((prefix + rest)[: -len(surface.path + surface.query)].split()) + (
        surface.path + surface.query
    )
    base = "https://api.example/base/v1"
    path = surface.path.decode("ascii")
    while True:
        landed = urljoin(base + path, base + path.replace("\\", "/"))
        assert landed.startswith(base + "/")
        assert urljoin("https://api.example/", path).startswith("https://api.example/")
        assert ".." not in path.split("/")
        if unquote(path) == path:
            break
        path = unquote(path)
