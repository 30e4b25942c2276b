"""Where a request may go: models to chains, labels to keys, native paths to models."""

from __future__ import annotations

import pytest

from sidecar.core.catalog import NativeSurface
from sidecar.core.errors import Reason, Refusal
from sidecar.core.routing import Route, native_model, native_provider, pin, route_model
from tests.core.house import CATALOG, snapshot_of

THREE = """
providers:
  - name: groq
    keys: [{name: a, env: A}, {name: main, env: B}]
  - name: cerebras
    keys: [{name: c, env: C}, {name: main, env: D}]
  - name: gemini
    keys: [{name: g, env: G}, {name: main, env: H}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
  - {name: openai/gpt-oss-120b, chain: [cerebras/gpt-oss-120b]}
"""


def targets_of(model, text=THREE):
    return [str(target) for target in route_model(snapshot_of(text), model)]


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        # a public name
        ("fast", ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"]),
        ("openai/gpt-oss-120b", ["cerebras/gpt-oss-120b"]),
        # an id of the catalog, and its kin
        ("gpt-oss-120b", ["cerebras/gpt-oss-120b", "groq/openai/gpt-oss-120b"]),
        ("llama-3.3-70b-versatile", ["groq/llama-3.3-70b-versatile"]),
        ("gemini-2.5-flash", ["gemini/gemini-2.5-flash"]),
        ("groq/compound", ["groq/groq/compound"]),
        # a provider's own
        ("groq/openai/gpt-oss-120b", ["groq/openai/gpt-oss-120b"]),
        ("cerebras/fast", ["cerebras/fast"]),
        ("groq/groq/compound", ["groq/groq/compound"]),
        # none of these: as it is, to the first provider
        ("gpt-5", ["groq/gpt-5"]),
        ("openrouter/auto", ["groq/openrouter/auto"]),
        ("groq/", ["groq/groq/"]),
        ("/x", ["groq//x"]),
        ("Fast", ["groq/Fast"]),
        ("a\nb", ["groq/a\nb"]),
    ],
)
def test_a_model_names_a_chain(model, targets):
    assert targets_of(model) == targets


def test_without_public_names_the_catalogs_order_is_that_of_the_configuration():
    text = THREE[: THREE.index("models:")]
    assert targets_of("openai/gpt-oss-120b", text) == ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"]


def test_a_native_path_names_a_configured_provider():
    snapshot = snapshot_of(THREE)
    assert native_provider(snapshot, "gemini") is snapshot.providers["gemini"]
    refusal = native_provider(snapshot, "open" + "ai" * 100)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNKNOWN_PROVIDER
    assert "groq, cerebras, gemini" in refusal.message
    assert len(refusal.message) < 200


@pytest.mark.parametrize(
    ("label", "model", "target", "key"),
    [
        ("a", "fast", "groq/openai/gpt-oss-120b", "groq/a"),
        ("groq/a", "fast", "groq/openai/gpt-oss-120b", "groq/a"),
        ("c", "fast", "cerebras/gpt-oss-120b", "cerebras/c"),
        ("main", "fast", "groq/openai/gpt-oss-120b", "groq/main"),
        ("cerebras/main", "fast", "cerebras/gpt-oss-120b", "cerebras/main"),
        # a key of a provider that is not in the chain
        ("g", "fast", "gemini/openai/gpt-oss-120b", "gemini/g"),
        ("gemini/main", "gpt-5", "gemini/gpt-5", "gemini/main"),
        ("main", "cerebras/x", "cerebras/x", "cerebras/main"),
    ],
)
def test_a_label_chooses_the_key_and_with_it_the_target(label, model, target, key):
    snapshot = snapshot_of(THREE)
    route = pin(snapshot, route_model(snapshot, model), label)
    assert isinstance(route, Route)
    assert [str(each) for each in route.targets] == [target]
    assert route.key is not None
    assert route.key.ident == key


@pytest.mark.parametrize(
    ("label", "is_native", "words"),
    [
        ("nobody", False, "no key is called 'nobody'"),
        ("nobody", True, "no key is called 'nobody'"),
        ("x" * 200, False, f"no key is called {'x' * 64!r}"),
        ("a\r\nb", False, "no key is called 'a\\r\\nb'"),
        ("a", True, "no key of gemini is called 'a'"),
        ("groq/main", True, "no key of gemini is called 'groq/main'"),
    ],
)
def test_a_label_that_names_no_key_is_refused(label, is_native, words):
    snapshot = snapshot_of(THREE)
    refusal = pin(snapshot, route_model(snapshot, "gemini/x"), label, is_native)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNKNOWN_KEY
    assert refusal.message.partition(";")[0].rstrip(".") == f"x-sidecar-key: {words}"


@pytest.mark.parametrize(("count", "more"), [(2, ""), (16, ""), (40, " and 24 more")])
def test_the_keys_that_could_have_been_meant_are_listed(count, more):
    keys = "".join(f"      - {{name: k{n}, env: K{n}}}\n" for n in range(count))
    snapshot = snapshot_of(f"providers:\n  - name: groq\n    keys:\n{keys}")
    refusal = pin(snapshot, route_model(snapshot, "m"), "x")
    assert isinstance(refusal, Refusal)
    shown = ", ".join(f"groq/k{n}" for n in range(min(count, 16)))
    assert refusal.message.endswith(f"; there are: {shown}{more}.")


def test_a_native_path_takes_its_own_providers_key_of_that_name():
    snapshot = snapshot_of(THREE)
    route = pin(snapshot, route_model(snapshot, "gemini/x"), "main", True)
    assert isinstance(route, Route)
    assert route.key is not None
    assert route.key.ident == "gemini/main"


def test_a_label_of_several_providers_outside_the_chain_is_ambiguous():
    text = THREE + "  - {name: elsewhere, chain: [gemini/x]}\n"
    snapshot = snapshot_of(text.replace("{name: main, env: H}", "{name: h, env: H}"))
    refusal = pin(snapshot, route_model(snapshot, "elsewhere"), "main")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNKNOWN_KEY
    assert refusal.message.endswith("'main' is ambiguous; say one of groq/main, cerebras/main.")


GOOGLE = NativeSurface("/", model_in="path", model_path="/models/{model}:")
AZURE = NativeSurface("/", model_in="path", model_path="/deployments/{model}/")
LAST = NativeSurface("/", model_in="path", model_path="/models/{model}")


@pytest.mark.parametrize(
    ("surface", "path", "model"),
    [
        (GOOGLE, b"/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
        (GOOGLE, b"/v1beta/models/gemini-2.5-flash", "gemini-2.5-flash"),
        (GOOGLE, b"/v1beta/models/a%2Fb%20c:x", "a/b c"),
        (GOOGLE, b"/v1beta/models/%C3%A9:x", "é"),
        (GOOGLE, b"/v1beta/models/a%2525:x", "a%25"),
        (GOOGLE, b"/v1beta/models/:x", None),
        (GOOGLE, b"/v1beta/models/", None),
        (GOOGLE, b"/v1beta/models", None),
        (GOOGLE, b"/upload/v1beta/files", None),
        (AZURE, b"/openai/deployments/my-gpt/chat/completions", "my-gpt"),
        (AZURE, b"/openai/deployments/my-gpt", "my-gpt"),
        (AZURE, b"/openai/files", None),
        (LAST, b"/v1/models/m/versions/1", "m"),
        (NativeSurface("/"), b"/models/other:x", "body"),
        (NativeSurface("/", model_in="none"), b"/models/other:x", None),
    ],
)
def test_a_native_path_or_its_body_names_the_model(surface, path, model):
    assert native_model(surface, path, "body") == model


def test_every_native_surface_of_the_catalog_that_names_models_in_its_path_can_be_read():
    surfaces = [surface for entry in CATALOG.providers.values() for surface in entry.native]
    in_path = [surface for surface in surfaces if surface.model_in == "path"]
    assert in_path
    for surface in in_path:
        path = b"/x" + surface.model_path.format(model="m%2Fn").encode() + b"y"
        assert native_model(surface, path, None) == "m/n"
