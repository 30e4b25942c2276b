"""The variables of an application's containers: added before its own, never in place of them (B10, B11)."""

import msgspec
import pytest

from tests.core.pods import PREFIX, SETTINGS, env_of, patched, pod, verdict

OURS = ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GROQ_BASE_URL", "OPENAI_API_KEY"]
FROM = [{"secretRef": {"name": "own"}}]


def app(*env, **fields):
    return {"name": "app", "image": "x", "env": list(env), **fields}


def var(name, value):
    return {"name": name, "value": value}


def names(out):
    return [name for name, _ in env_of(out)]


def test_the_urls_are_those_the_sdks_expect():
    assert dict(env_of(patched(pod()))) == {
        "OPENAI_BASE_URL": "http://127.0.0.1:8787/v1",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8787/p/anthropic",
        "GROQ_BASE_URL": "http://127.0.0.1:8787",
        "OPENAI_API_KEY": "sk-held-by-sidecar",
    }


def test_ours_come_first_so_that_theirs_can_use_them():
    out = patched(pod(containers=[app(var("CHAT", "$(OPENAI_BASE_URL)/chat"), var("B", "2"))]))
    assert names(out) == [*OURS, "CHAT", "B"]


@pytest.mark.parametrize(
    "own",
    [
        var("OPENAI_BASE_URL", "http://own"),
        {"name": "OPENAI_BASE_URL", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {"name": "OPENAI_BASE_URL"},
    ],
)
def test_a_name_that_is_there_is_never_overridden(own):
    out = patched(pod(containers=[app(own)]))
    assert out["spec"]["containers"][0]["env"][-1] == own
    assert names(out).count("OPENAI_BASE_URL") == 1


def test_a_pod_may_ask_for_the_override():
    own = {"name": "OPENAI_BASE_URL", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}
    spec = {"containers": [app(var("A", "1"), own, var("OPENAI_API_KEY", "own"))]}
    out = patched(pod(annotations={"env-policy": "override"}, **spec))
    assert names(out) == ["ANTHROPIC_BASE_URL", "GROQ_BASE_URL", "A", "OPENAI_BASE_URL", "OPENAI_API_KEY"]
    assert dict(env_of(out))["OPENAI_BASE_URL"] == "http://127.0.0.1:8787/v1"
    assert dict(env_of(out))["OPENAI_API_KEY"] == "own"  # a key is not ours to replace


def test_where_envfrom_may_bring_a_key_no_placeholder_hides_it():
    given = pod(containers=[app(envFrom=FROM), {"name": "other", "image": "x"}])
    out = patched(given)
    assert "OPENAI_API_KEY" not in names(out)
    assert "OPENAI_API_KEY" in dict(env_of(out, "other"))
    (warning,) = verdict(given).warnings
    assert "container app" in warning
    assert "envFrom" in warning


PROXIED = [
    ([var("HTTP_PROXY", "http://corp:3128")], "127.0.0.1,localhost", 0),
    ([var("https_proxy", "http://corp:3128")], "127.0.0.1,localhost", 0),
    ([var("HTTP_PROXY", "http://corp:3128"), var("NO_PROXY", ".svc,127.0.0.1")], ".svc,127.0.0.1", 0),
    ([var("HTTP_PROXY", "http://corp:3128"), var("NO_PROXY", ".svc")], ".svc", 1),
    ([var("NO_PROXY", ".svc")], ".svc", 0),
    ([var("A", "1")], None, 0),
]


@pytest.mark.parametrize(("env", "exceptions", "warnings"), PROXIED)
def test_loopback_is_kept_from_an_http_proxy(env, exceptions, warnings):
    given = pod(containers=[app(*env)])
    assert dict(env_of(patched(given))).get("NO_PROXY") == exceptions
    assert len(verdict(given).warnings) == warnings


def test_exceptions_that_envfrom_may_bring_are_not_hidden_and_told():
    given = pod(containers=[app(var("HTTP_PROXY", "http://corp:3128"), envFrom=FROM)])
    assert "NO_PROXY" not in names(patched(given))
    assert any("NO_PROXY" in each for each in verdict(given).warnings)


def test_lower_case_exceptions_are_exceptions_too():
    given = pod(containers=[app(var("HTTP_PROXY", "http://corp:3128"), var("no_proxy", "*"))])
    assert "NO_PROXY" not in names(patched(given))
    assert verdict(given).warnings == ()


@pytest.mark.parametrize("name", ["istio-proxy", "linkerd-proxy", "daprd", "vault-agent", "vault-agent-init"])
def test_other_sidecars_get_nothing(name):
    out = patched(pod(containers=[app(), {"name": name, "image": "x"}]))
    assert env_of(out, name) == []


def test_containers_are_chosen_by_name():
    three = [{"name": name, "image": "x"} for name in ("one", "two", "three")]
    out = patched(pod(containers=three, annotations={"include-containers": "one, two"}))
    assert [bool(env_of(out, each["name"])) for each in three] == [True, True, False]
    out = patched(pod(containers=three, annotations={"exclude-containers": "two"}))
    assert [bool(env_of(out, each["name"])) for each in three] == [True, False, True]
    found = verdict(pod(containers=three, annotations={"include-containers": "one,four"}))
    assert found.warnings == (f"annotation {PREFIX}/include-containers: the pod has no container four",)


def test_the_operator_s_list_decides():
    chosen = msgspec.structs.replace(SETTINGS, env={"LLM": "{origin}/x"}, placeholders=("KEY",))
    assert env_of(patched(pod(), chosen)) == [("LLM", "http://127.0.0.1:8787/x"), ("KEY", "sk-held-by-sidecar")]
