"""The catalog: its types refuse what contradicts itself, `homes` orders, and the shipped file holds the known facts."""

import zoneinfo
from urllib.parse import urlsplit

import msgspec
import pytest

from sidecar.catalog_file import read_catalog
from sidecar.core.catalog import Auth, Catalog, NativeSurface, Provider, build
from sidecar.core.limits import ChargeRule

CATALOG = read_catalog()

NEEDED = [
    "groq",
    "cerebras",
    "deepinfra",
    "fireworks",
    "together",
    "sambanova",
    "openai",
    "azure",
    "anthropic",
    "gemini",
    "mistral",
    "openrouter",
    "xai",
    "deepseek",
    "nvidia",
    "ollama",
    "vllm",
]

FIREWORKS = "accounts/fireworks/models/"

# every id of the fact sheet's section 19 that is not retired: (family, provider, id)
SECTION_19 = [
    ("llama-3.3-70b", "groq", "llama-3.3-70b-versatile"),
    ("llama-3.3-70b", "deepinfra", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ("llama-3.3-70b", "fireworks", FIREWORKS + "llama-v3p3-70b-instruct"),
    ("llama-3.3-70b", "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ("llama-3.3-70b", "sambanova", "Meta-Llama-3.3-70B-Instruct"),
    ("llama-3.3-70b", "openrouter", "meta-llama/llama-3.3-70b-instruct"),
    ("llama-3.3-70b", "nvidia", "meta/llama-3.3-70b-instruct"),
    ("llama-3.3-70b", "ollama", "llama3.3:70b"),
    ("llama-3.1-8b", "groq", "llama-3.1-8b-instant"),
    ("llama-3.1-8b", "deepinfra", "meta-llama/Meta-Llama-3.1-8B-Instruct"),
    ("llama-3.1-8b", "fireworks", FIREWORKS + "llama-v3p1-8b-instruct"),
    ("llama-3.1-8b", "sambanova", "Meta-Llama-3.1-8B-Instruct"),
    ("llama-3.1-8b", "openrouter", "meta-llama/llama-3.1-8b-instruct"),
    ("llama-3.1-8b", "nvidia", "meta/llama-3.1-8b-instruct"),
    ("llama-3.1-8b", "ollama", "llama3.1:8b"),
    ("gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
    ("gpt-oss-120b", "cerebras", "gpt-oss-120b"),
    ("gpt-oss-120b", "deepinfra", "openai/gpt-oss-120b"),
    ("gpt-oss-120b", "fireworks", FIREWORKS + "gpt-oss-120b"),
    ("gpt-oss-120b", "together", "openai/gpt-oss-120b"),
    ("gpt-oss-120b", "sambanova", "gpt-oss-120b"),
    ("gpt-oss-120b", "openrouter", "openai/gpt-oss-120b"),
    ("gpt-oss-120b", "nvidia", "openai/gpt-oss-120b"),
    ("gpt-oss-120b", "ollama", "gpt-oss:120b"),
    ("gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
    ("gpt-oss-20b", "deepinfra", "openai/gpt-oss-20b"),
    ("gpt-oss-20b", "fireworks", FIREWORKS + "gpt-oss-20b"),
    ("gpt-oss-20b", "together", "openai/gpt-oss-20b"),
    ("gpt-oss-20b", "openrouter", "openai/gpt-oss-20b"),
    ("gpt-oss-20b", "nvidia", "openai/gpt-oss-20b"),
    ("gpt-oss-20b", "ollama", "gpt-oss:20b"),
    ("qwen3-32b", "groq", "qwen/qwen3-32b"),
    ("qwen3-32b", "deepinfra", "Qwen/Qwen3-32B"),
    ("qwen3-32b", "fireworks", FIREWORKS + "qwen3-32b"),
    ("qwen3-32b", "sambanova", "Qwen3-32B"),
    ("qwen3-32b", "openrouter", "qwen/qwen3-32b"),
    ("qwen3-32b", "ollama", "qwen3:32b"),
    ("kimi-k2", "openrouter", "moonshotai/kimi-k2"),
    ("kimi-k2-0905", "openrouter", "moonshotai/kimi-k2-0905"),
    ("kimi-k2-0905", "nvidia", "moonshotai/kimi-k2-instruct-0905"),
    ("kimi-k2.5", "deepinfra", "moonshotai/Kimi-K2.5"),
    ("kimi-k2.5", "together", "moonshotai/Kimi-K2.5"),
    ("kimi-k2.6", "deepinfra", "moonshotai/Kimi-K2.6"),
    ("kimi-k2.6", "fireworks", FIREWORKS + "kimi-k2p6"),
    ("kimi-k2.6", "together", "moonshotai/Kimi-K2.6"),
    ("kimi-k2.6", "openrouter", "moonshotai/kimi-k2.6"),
    ("deepseek-v3", "together", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-v3-0324", "sambanova", "DeepSeek-V3-0324"),
    ("deepseek-v3-0324", "openrouter", "deepseek/deepseek-chat-v3-0324"),
    ("deepseek-v3.1", "fireworks", FIREWORKS + "deepseek-v3p1"),
    ("deepseek-v3.1", "together", "deepseek-ai/DeepSeek-V3-1"),
    ("deepseek-v3.1", "sambanova", "DeepSeek-V3.1"),
    ("deepseek-v3.2", "deepinfra", "deepseek-ai/DeepSeek-V3.2"),
    ("deepseek-v3.2", "openrouter", "deepseek/deepseek-v3.2"),
    ("deepseek-r1", "together", "deepseek-ai/DeepSeek-R1"),
    ("deepseek-r1", "openrouter", "deepseek/deepseek-r1"),
    ("deepseek-r1-0528", "deepinfra", "deepseek-ai/DeepSeek-R1-0528"),
    ("deepseek-r1-0528", "fireworks", FIREWORKS + "deepseek-r1-0528"),
    ("deepseek-r1-0528", "sambanova", "DeepSeek-R1-0528"),
    ("deepseek-r1-0528", "openrouter", "deepseek/deepseek-r1-0528"),
    ("llama-4-scout", "groq", "meta-llama/llama-4-scout-17b-16e-instruct"),
    ("llama-4-scout", "deepinfra", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    ("llama-4-scout", "fireworks", FIREWORKS + "llama4-scout-instruct-basic"),
    ("llama-4-scout", "together", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    ("llama-4-scout", "openrouter", "meta-llama/llama-4-scout"),
    ("llama-4-maverick", "deepinfra", "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8"),
    ("llama-4-maverick", "fireworks", FIREWORKS + "llama4-maverick-instruct-basic"),
    ("llama-4-maverick", "together", "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8"),
    ("llama-4-maverick", "sambanova", "Llama-4-Maverick-17B-128E-Instruct"),
    ("llama-4-maverick", "openrouter", "meta-llama/llama-4-maverick"),
    ("llama-4-maverick", "nvidia", "meta/llama-4-maverick-17b-128e-instruct"),
]

RETIRED = [
    ("cerebras", "llama-3.3-70b"),
    ("cerebras", "llama3.1-8b"),
    ("together", "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo"),
    ("cerebras", "qwen-3-32b"),
    ("groq", "moonshotai/kimi-k2-instruct"),
    ("groq", "moonshotai/kimi-k2-instruct-0905"),
    ("groq", "deepseek-r1-distill-llama-70b"),
    ("cerebras", "llama-4-scout-17b-16e-instruct"),
    ("groq", "meta-llama/llama-4-maverick-17b-128e-instruct"),
]


def test_shipped_file_has_every_needed_provider_in_order():
    assert [name for name in CATALOG.providers if name in NEEDED] == NEEDED


def test_families_are_section_19_and_nothing_else():
    shipped = [(family, *member) for family, members in CATALOG.families.items() for member in members.items()]
    assert sorted(shipped) == sorted(SECTION_19)


@pytest.mark.parametrize(("family", "provider", "model"), SECTION_19)
def test_family_of_each_id(family, provider, model):
    assert CATALOG.family_of(provider, model) == family
    assert CATALOG.homes(model, [provider]) == [(provider, model)]


@pytest.mark.parametrize(("provider", "model"), RETIRED)
def test_retired_ids_are_left_out(provider, model):
    assert CATALOG.homes(model, [provider]) == []


ALL = tuple(CATALOG.providers)
TURBO = "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo"


@pytest.mark.parametrize(
    ("model", "configured", "homes"),
    [
        # Groq's own id is also DeepInfra's: the first configured one is home, the others follow in order
        (
            "openai/gpt-oss-120b",
            ("groq", "deepinfra", "cerebras"),
            [("groq", "openai/gpt-oss-120b"), ("deepinfra", "openai/gpt-oss-120b"), ("cerebras", "gpt-oss-120b")],
        ),
        (
            "openai/gpt-oss-120b",
            ("cerebras", "deepinfra", "groq"),
            [("deepinfra", "openai/gpt-oss-120b"), ("cerebras", "gpt-oss-120b"), ("groq", "openai/gpt-oss-120b")],
        ),
        # an id asks for the provider that lists it, also when another one stands first
        (
            "gpt-oss-120b",
            ("openai", "groq", "cerebras"),
            [("cerebras", "gpt-oss-120b"), ("groq", "openai/gpt-oss-120b")],
        ),
        ("openai/gpt-oss-120b", ("openai", "cerebras"), []),  # nobody here lists this very id
        ("gpt-4o-mini", ("groq", "openai"), [("openai", "gpt-4o-mini")]),
        ("gpt-5.2", ("groq", "openai"), [("openai", "gpt-5.2")]),
        ("o4-mini", ("openai",), [("openai", "o4-mini")]),
        ("gpt-oss-7b", ALL, []),  # open weights, and not a model of OpenAI's own API
        ("claude-sonnet-4-5", ALL, [("anthropic", "claude-sonnet-4-5")]),
        ("claude-sonnet-4-5", ("groq",), []),
        ("anthropic/claude-sonnet-4-5", ALL, []),  # a provider and a model: for the route to take apart
        ("text-embedding-004", ("openai", "gemini"), [("gemini", "text-embedding-004")]),
        ("deepseek-chat", ALL, [("deepseek", "deepseek-chat")]),
        ("groq/compound", ("deepinfra", "groq"), [("groq", "groq/compound")]),
        (FIREWORKS + "glm-4p6", ALL, [("fireworks", FIREWORKS + "glm-4p6")]),
        ("fireworks/" + FIREWORKS + "glm-4p6", ALL, []),
        (TURBO, ALL, [("deepinfra", TURBO)]),
        ("my-deployment", ALL, []),
        ("", ALL, []),
        ("gpt-4o", (), []),
        ("gpt-4o", ("unheard-of", "openai"), [("openai", "gpt-4o")]),
    ],
)
def test_homes(model, configured, homes):
    assert CATALOG.homes(model, configured) == homes


def test_an_exact_listing_goes_before_a_glob_of_an_earlier_provider():
    catalog = build({"providers": [{"name": "a", "models": ["m-*"]}, {"name": "b", "models": ["m-1"]}]})
    assert catalog.homes("m-1", ["a", "b"]) == [("b", "m-1")]
    assert catalog.homes("m-1", ["a"]) == [("a", "m-1")]
    assert catalog.homes("m-2", ["a", "b"]) == [("a", "m-2")]


def test_no_glob_matches_a_model_that_names_another_provider():
    for name in ALL:
        for model in ("x", "gpt-4o", "vendor/x"):
            assert CATALOG.homes(f"{name}/{model}", ALL) == [], name


@pytest.mark.parametrize("name", ALL)
def test_facts_of_each_provider_fit_together(name):
    provider = CATALOG.providers[name]
    if provider.base_url is not None:
        url = urlsplit(provider.base_url)
        assert url.scheme == "https" or url.hostname == "127.0.0.1"
        assert not provider.base_url.endswith("/")
        assert (url.query, url.fragment, url.username) == ("", "", None)
    assert zoneinfo.ZoneInfo(provider.timezone)
    assert all(variable.isupper() for variable in provider.key_env)
    assert not set(provider.drops) & set(provider.renames)
    assert (provider.charge.output == "assumed") == (provider.charge.assumed_output > 0)
    for auth in (provider.auth, *(surface.auth for surface in provider.native)):
        assert auth.header == auth.header.lower()


def test_azure_needs_the_operators_address():
    azure = CATALOG.providers["azure"]
    assert azure.base_url is None
    assert azure.auth == Auth(header="api-key", prefix="")
    assert azure.model_path is None
    assert CATALOG.providers["azure-deployments"].model_path == "/deployments/{model}"


def test_providers_without_keys_are_the_local_ones():
    assert [p.name for p in CATALOG.providers.values() if not p.key_env] == ["ollama", "vllm"]
    assert set(CATALOG.providers["deepinfra"].key_env) == {"DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"}


def test_windows_and_charges_of_the_providers_that_are_known():
    groq, cerebras = CATALOG.providers["groq"], CATALOG.providers["cerebras"]
    assert {groq.algorithm(window) for window in ("rpm", "rpd", "tpm", "tpd", "itpm", "otpm", "ash")} == {
        "token_bucket"
    }
    assert {cerebras.algorithm(window) for window in ("rpm", "rpd", "tpm", "tpd")} == {"fixed"}
    assert cerebras.algorithm("tph") == "sliding"
    assert cerebras.charge == ChargeRule(output="assumed", assumed_output=16384)
    assert groq.charge == ChargeRule(output="declared", cached="free")
    assert CATALOG.providers["openai"].charge == ChargeRule()
    gemini = CATALOG.providers["gemini"]
    assert (gemini.algorithm("rpd"), gemini.timezone) == ("fixed", "America/Los_Angeles")


@pytest.mark.parametrize(
    ("name", "path", "header", "model_in", "dialect"),
    [
        ("anthropic", "/v1/messages", "x-api-key", "body", "anthropic"),
        ("anthropic", "/v1/chat/completions", "authorization", "body", "openai"),
        ("gemini", "/v1beta/models/gemini-2.5-flash:generateContent", "x-goog-api-key", "path", "gemini"),
        ("gemini", "/v1beta/openai/chat/completions", "authorization", "body", "openai"),
        ("azure", "/openai/deployments/mine/chat/completions", "api-key", "path", "openai"),
        ("azure", "/openai/v1/responses", "api-key", "body", "openai"),
        ("deepinfra", "/anthropic/v1/messages", "authorization", "body", "anthropic"),
        ("deepinfra", "/v1/openai/models", "authorization", "body", "openai"),
        ("groq", "/openai/v1/chat/completions", "authorization", "body", "openai"),
    ],
)
def test_native_surface_is_the_longest_prefix(name, path, header, model_in, dialect):
    surface = CATALOG.providers[name].native_surface(path)
    assert (surface.auth.header, surface.model_in, surface.error_dialect) == (header, model_in, dialect)


def test_native_surface_not_listed_takes_the_providers_own_auth():
    auth = Auth(header="api-key", prefix="")
    assert Provider(name="p", auth=auth).native_surface("/x") == NativeSurface(auth=auth)


@pytest.mark.parametrize(
    ("tree", "where"),
    [
        (None, "Expected `object`"),
        ([], "Expected `object`"),
        ({}, "providers"),
        ({"providers": [], "extra": 1}, "extra"),
        ({"providers": [{"name": "a", "base_uri": "x"}]}, r"base_uri.*\$\.providers\[0\]"),
        ({"providers": [{"base_url": "x"}]}, "name"),
        ({"providers": [{"name": "a", "auth": {"headers": "x"}}]}, r"headers.*\.auth"),
        ({"providers": [{"name": "a", "native": [{"path": "/"}]}]}, r"path.*\.native\[0\]"),
        ({"providers": [{"name": "a", "charge": {"outputs": "none"}}]}, r"outputs.*\.charge"),
        ({"providers": [{"name": "a", "windows": {"rpm": "leaky"}}]}, "leaky"),
        ({"providers": [{"name": "a", "windows": {"rps": "fixed"}}]}, "rps"),
        ({"providers": [{"name": "a", "model_path": "/deployments"}]}, r"lacks \{model\}"),
        ({"providers": [{"name": "a", "models": ["*"]}]}, "wildcard"),
        ({"providers": [{"name": "a", "native": [{"model_in": "path"}]}]}, "exactly when"),
        ({"providers": [{"name": "a", "native": [{"model_path": "/{model}"}]}]}, "exactly when"),
        ({"providers": [{"name": "a", "native": [{"prefix": "/v1"}]}]}, "slash"),
        ({"providers": [{"name": "a", "native": [{"prefix": "v1/"}]}]}, "slash"),
        ({"providers": [{"name": "a"}, {"name": "a"}]}, "listed twice"),
        ({"providers": [{"name": "a"}], "families": {"f": {"b": "m"}}}, r"No provider is called 'b'.*families\.f"),
        ({"providers": [{"name": "a"}], "families": {"f": {"a": "m"}, "g": {"a": "m"}}}, r"also of 'f'.*families\.g"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(tree, where):
    with pytest.raises(msgspec.ValidationError, match=where):
        build(tree)


def test_a_new_provider_needs_no_code():
    catalog = build({"providers": [{"name": "new", "base_url": "https://llm.example/v1", "key_env": ["NEW_KEY"]}]})
    assert catalog.providers["new"] == Provider(name="new", base_url="https://llm.example/v1", key_env=("NEW_KEY",))


def test_repr_tells_the_providers():
    assert repr(build({"providers": [{"name": "a"}, {"name": "b"}]})) == "<Catalog of a, b; 0 families>"
    assert isinstance(CATALOG, Catalog)


def test_facts_do_not_change():
    with pytest.raises(AttributeError):
        CATALOG.providers["groq"].base_url = "http://elsewhere"  # type: ignore[misc]
