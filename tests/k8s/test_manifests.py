"""k8s/: every manifest meets Kubernetes' own schema, and says what docs and code say (kubernetes.md A, C, D)."""

import json
import os
import re
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sidecar.catalog_file import read_catalog
from sidecar.core.config_problems import problems
from sidecar.core.injection import Settings, read_settings
from sidecar.core.injection_env import wanted
from sidecar.core.injection_options import Options, options
from sidecar.core.injection_settings import CLUSTER_NAMESPACES, PREFIX
from sidecar.core.variables import PLACEHOLDER_KEY
from sidecar.loading import known_from
from tests.core.pods import patched, pod, sidecar_of
from tests.inject.api_server import CONFIGURATIONS, EVENTS, LEAST, PODS, REPORTING, SECRETS
from tests.k8s.helm import CHART, overlaid
from tests.k8s.helm import render as render_chart
from tests.k8s.kustomize import FOLDER, render

RENDERED = ("base", *(f"overlays/{path.name}" for path in sorted((FOLDER / "overlays").iterdir())))
EXAMPLES = sorted((FOLDER / "examples").glob("*.yaml"))
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
# kind -> the first version that has it, where that is later than the first of VERSIONS
SINCE = {"ValidatingAdmissionPolicy": 30, "ValidatingAdmissionPolicyBinding": 30}
SINCE |= {"MutatingAdmissionPolicy": 36, "MutatingAdmissionPolicyBinding": 36}
OTHERS = ("cert-manager.io/v1", "monitoring.coreos.com/v1")  # of other projects; Kubernetes has no schema of theirs


def read(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def of(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def only(objects, kind):
    (found,) = of(objects, kind)
    return found


def meets_schema(objects, version):
    for each in objects:
        if each["apiVersion"] in OTHERS or int(version.partition(".")[2]) < SINCE.get(each["kind"], 0):
            continue
        kubernetes_validate.validate(each, version, strict=True)


def distinct(objects):
    """Each object once: overlays have most of theirs in common."""
    return {json.dumps(each, sort_keys=True): each for each in objects}.values()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_kustomize_renders_meets_the_schema(version):
    meets_schema(distinct(each for name in RENDERED for each in render(name)), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_examples_meet_the_schema(version):
    for path in EXAMPLES:
        meets_schema(read(path), version)


def test_the_schema_refuses_what_is_wrong():
    webhook = only(render("base"), "MutatingWebhookConfiguration")
    entry = {name: value for name, value in webhook["webhooks"][0].items() if name != "sideEffects"}
    for wrong in (entry, webhook["webhooks"][0] | {"failurePolcy": "Fail"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(webhook | {"webhooks": [wrong]}, "1.33", strict=True)


# === the webhook configuration ===


def entries(objects):
    return {each["name"].partition(".")[0]: each for each in only(objects, "MutatingWebhookConfiguration")["webhooks"]}


def expressions(selector):
    return {(each["key"], each["operator"]): each.get("values") for each in selector["matchExpressions"]}


@pytest.mark.parametrize("name", RENDERED)
def test_D1_only_pods_that_opted_in_depend_on_the_webhook(name):
    found = entries(render(name))
    assert set(found) == {"namespace", "object"}
    by_namespace, by_object = found["namespace"], found["object"]
    assert expressions(by_namespace["namespaceSelector"])[f"{PREFIX}/injection", "In"] == ["enabled"]
    assert expressions(by_namespace["objectSelector"]) == {(f"{PREFIX}/inject", "NotIn"): ["false"]}
    # `disabled` on the namespace beats all: neither enabled nor absent
    assert (f"{PREFIX}/injection", "DoesNotExist") in expressions(by_object["namespaceSelector"])
    assert expressions(by_object["objectSelector"]) == {(f"{PREFIX}/inject", "In"): ["true"]}
    for each in found.values():
        excluded = expressions(each["namespaceSelector"])["kubernetes.io/metadata.name", "NotIn"]
        assert set(excluded) == {*CLUSTER_NAMESPACES, "sidecar-injector"}
        assert expressions(each["namespaceSelector"])["kubernetes.azure.com/managedby", "NotIn"] == ["aks"]
        assert expressions(each["namespaceSelector"])["control-plane", "NotIn"] == ["true"]


@pytest.mark.parametrize("name", RENDERED)
def test_D10_D11_pods_are_mutated_at_their_creation_and_asked_for_again(name):
    for each in entries(render(name)).values():
        (rule,) = each["rules"]
        assert (rule["operations"], rule["resources"], rule["apiGroups"]) == (["CREATE"], ["pods"], [""])
        assert (rule["scope"], each["matchPolicy"]) == ("Namespaced", "Equivalent")
        assert each["admissionReviewVersions"] == ["v1"]
        assert each["reinvocationPolicy"] == "IfNeeded"
        assert (each["sideEffects"], each["failurePolicy"], each["timeoutSeconds"]) == ("None", "Fail", 5)
        assert {condition["name"] for condition in each["matchConditions"]} == {
            "not-a-mirror-pod",
            "not-on-the-host-network",
            "not-on-windows",
        }


@pytest.mark.parametrize("name", [*RENDERED, "chart"])
def test_D3_a_bundle_is_never_applied(name):
    objects = render_chart() if name == "chart" else render(name)
    assert all("caBundle" not in each["clientConfig"] for each in entries(objects).values())


# === the deployment ===


def pod_of(objects):
    return only(objects, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", RENDERED)
def test_D4_the_service_leads_to_the_port_that_is_listened_on(name):
    objects = render(name)
    (container,) = pod_of(objects)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"--listen=[::]:{ports['webhook']}" in container["args"]
    assert f"--metrics-listen=[::]:{ports['metrics']}" in container["args"]
    assert only(objects, "Service")["spec"]["ports"][0]["targetPort"] == "webhook"
    assert (ports["webhook"] == 10250) == (name != "overlays/host-network")
    for each in entries(objects).values():
        assert each["clientConfig"]["service"] == {
            "name": "sidecar-injector",
            "namespace": "sidecar-injector",
            "path": "/mutate",
            "port": 443,
        }
    probes = container["readinessProbe"]["httpGet"], container["livenessProbe"]["httpGet"]
    assert [(probe["path"], probe["port"], probe["scheme"]) for probe in probes] == [
        ("/readyz", "webhook", "HTTPS"),
        ("/healthz", "webhook", "HTTPS"),
    ]


@pytest.mark.parametrize("name", RENDERED)
def test_D2_two_replicas_one_of_which_is_always_there(name):
    objects = render(name)
    spec = only(objects, "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert spec["template"]["spec"]["topologySpreadConstraints"]
    selected = only(objects, "Service")["spec"]["selector"].items()
    assert selected <= spec["template"]["metadata"]["labels"].items()


def test_D2_reporting_has_rights_of_its_own():
    objects = render("overlays/report-uninjected")
    assert "--report-uninjected" in pod_of(objects)["containers"][0]["args"]
    roles = {each["metadata"]["name"]: each["rules"] for each in of(objects, "ClusterRole")}
    assert roles["sidecar-injector-report"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]


@pytest.mark.parametrize("name", RENDERED)
def test_D9_the_injector_itself_meets_the_restricted_standard(name):
    (container,) = pod_of(render(name))["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["runAsNonRoot"], context["readOnlyRootFilesystem"]) == (True, True)
    assert context["allowPrivilegeEscalation"] is False
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert container["resources"]["requests"]


def granted(rules):
    """What rules of the injector's own namespace and of the cluster allow, in the words of the tests' API server."""
    collections = {"secrets": SECRETS, "mutatingwebhookconfigurations": CONFIGURATIONS, "pods": PODS, "events": EVENTS}
    for rule in rules:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames", [""]):
                yield from ((verb, collections[resource], name) for verb in rule["verbs"])


@pytest.mark.parametrize("name", ["base", "chart"])
def test_the_rights_granted_are_the_rights_used(name):
    # what the code uses is held to LEAST and REPORTING by tests/inject: test_the_rights_it_uses_are_the_least, and D2's
    objects = render_chart() if name == "chart" else render(name)
    roles = [*of(objects, "ClusterRole"), *of(objects, "Role")]
    rights = [each for role in roles for each in granted(role["rules"])]
    assert sorted(rights) == sorted(LEAST - {("get", "/version", "")})
    (report,) = [
        each for each in of(render("overlays/report-uninjected"), "ClusterRole") if "report" in each["metadata"]["name"]
    ]
    assert set(granted(report["rules"])) == REPORTING


def test_the_rights_are_the_least():
    objects = render("base")
    (cluster_rule,) = only(objects, "ClusterRole")["rules"]
    assert cluster_rule["resourceNames"] == ["sidecar-injector"]
    assert set(cluster_rule["verbs"]) == {"get", "list", "watch", "patch"}
    create, keep = only(objects, "Role")["rules"]
    assert (create["resources"], create["verbs"]) == (["secrets"], ["create"])
    assert keep["resourceNames"] == ["sidecar-injector-ca"]
    assert not {"delete", "*"} & {verb for rule in (cluster_rule, create, keep) for verb in rule["verbs"]}


def test_with_cert_manager_there_is_no_right_and_no_token():
    objects = render("overlays/cert-manager")
    assert not [each for each in objects if "Role" in each["kind"]]
    assert pod_of(objects)["automountServiceAccountToken"] is False
    webhook = only(objects, "MutatingWebhookConfiguration")
    certificate = only(objects, "Certificate")
    place = f"{certificate['metadata']['namespace']}/{certificate['metadata']['name']}"
    assert webhook["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": place}
    secrets = [volume["secret"]["secretName"] for volume in pod_of(objects)["volumes"] if "secret" in volume]
    assert secrets == [certificate["spec"]["secretName"]]
    assert "sidecar-injector.sidecar-injector.svc" in certificate["spec"]["dnsNames"]


@pytest.mark.parametrize("name", RENDERED)
def test_the_settings_are_right(name):
    data = only(render(name), "ConfigMap")["data"]["settings.yaml"]
    settings, found = read_settings(yaml.safe_load(data))
    assert found == ()
    assert settings.mode == ("container" if name == "overlays/container-mode" else "auto")
    assert settings.image == pod_of(render(name))["containers"][0]["image"]


# === the chart ===

VARIANTS = [
    ("base", {}),
    ("overlays/cert-manager", {"certificates": "cert-manager"}),
    ("overlays/container-mode", {"settings": {"mode": "container"}}),
    ("overlays/report-uninjected", {"reportUninjected": True}),
    ("overlays/host-network", {"hostNetwork": True, "ports": {"webhook": 10260, "metrics": 10261}}),
]


def comparable(objects):
    """By kind and name; without the namespace, which helm makes itself, and with the settings as they mean."""
    found = {}
    for each in json.loads(json.dumps(objects)):
        if each["kind"] == "Namespace":
            continue
        if each["kind"] == "ConfigMap":
            each["data"] = read_settings(yaml.safe_load(each["data"]["settings.yaml"]))
        if each["kind"] == "Deployment":
            each["spec"]["template"]["spec"]["volumes"].sort(key=lambda one: one["name"])
            for container in each["spec"]["template"]["spec"]["containers"]:
                container["volumeMounts"].sort(key=lambda one: one["name"])
        found[each["kind"], each["metadata"]["name"]] = each
    return found


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_the_chart_renders_the_same_objects(name, values):
    theirs, ours = comparable(render(name)), comparable(render_chart(values))
    if name == "overlays/host-network":  # a rule for a port that is another there
        ports = theirs["NetworkPolicy", "sidecar-injector"]["spec"]["egress"][0]["ports"]
        ports[-1]["port"] = 10260
    assert ours.keys() == theirs.keys()
    for key, each in theirs.items():
        assert ours[key] == each, key


MORE = [
    {"certificates": "files", "caBundle": "QUJD"},
    {"failurePolicy": "Ignore", "timeoutSeconds": 3, "excludedNamespaces": []},
    {"user": 0, "priorityClassName": "system-cluster-critical", "networkPolicy": False},
    {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "imagePullSecrets": [{"name": "pull"}]},
    {"prefix": "llm.example.com", "image": {"tag": "1.2"}, "settings": {"port": 9000}},
]


def test_the_chart_meets_the_schema_whatever_its_values():
    schema = json.loads((CHART / "values.schema.json").read_text())
    from_file = yaml.safe_load((CHART / "values.yaml").read_text())
    several = [{}, *(values for _, values in VARIANTS), *MORE]
    for values in several:
        valid(overlaid(from_file, values), schema)
    for version in ("1.29", "1.37"):
        meets_schema(distinct(each for values in several for each in render_chart(values, "elsewhere")), version)


def valid(values, schema):
    jsonschema.validate(values, schema)


def test_another_namespace_and_prefix_are_everywhere():
    text = json.dumps(render_chart({"prefix": "llm.example.com"}, namespace="elsewhere"))
    assert PREFIX not in text
    for each in entries(render_chart(namespace="elsewhere")).values():
        assert each["clientConfig"]["service"]["namespace"] == "elsewhere"
        assert "elsewhere" in expressions(each["namespaceSelector"])["kubernetes.io/metadata.name", "NotIn"]


@pytest.mark.parametrize(
    "wrong", [{"replicas": 0}, {"replcas": 2}, {"certificates": "files"}, {"settings": {"image": "x"}}]
)
def test_wrong_values_are_refused(wrong):
    schema = json.loads((CHART / "values.schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        valid(yaml.safe_load((CHART / "values.yaml").read_text()) | wrong, schema)


# === the examples ===


def configurations():
    for path in EXAMPLES:
        for each in of(read(path), "ConfigMap"):
            yield path.name, yaml.safe_load(each["data"]["sidecar.yaml"])


@pytest.mark.parametrize(("name", "tree"), list(configurations()))
def test_the_configurations_are_right_and_name_what_is_mounted(name, tree):
    assert problems(tree, known_from(read_catalog())) == []
    files = [key["file"] for provider in tree["providers"] for key in provider.get("keys", [])]
    assert files == ["/etc/sidecar/secrets/sidecar-keys/groq"]


def example(name):
    return read(FOLDER / "examples" / name)


def test_what_is_labelled_gets_a_sidecar():
    for name in ("deployment.yaml", "job.yaml"):
        template = example(name)[0]["spec"]["template"]
        out = patched({"apiVersion": "v1", "kind": "Pod"} | template)
        sidecar_of(out)
        security = [each["securityContext"] for each in out["spec"]["containers"]]
        assert all(each["runAsNonRoot"] for each in security)


def defaults():
    return patched(pod(), Settings(mode="native"))


def test_the_handwritten_one_is_what_the_injector_writes():
    (given,) = example("handwritten.yaml")
    assert sidecar_of(given)[0] == sidecar_of(defaults())[0]
    assert given["spec"]["volumes"] == defaults()["spec"]["volumes"]
    assert given["metadata"]["labels"] == {f"{PREFIX}/inject": "false", f"{PREFIX}/injected": "true"}


def cel(value, path):
    """A value as CEL writes an object of that type."""
    if isinstance(value, dict):
        free = path.endswith((".requests", ".limits"))  # maps, whose keys are anybody's
        fields = ", ".join(
            f"{json.dumps(k) if free else k}: {cel(v, path if free else f'{path}.{k}')}" for k, v in value.items()
        )
        return f"{{{fields}}}" if free else f"Object.{path}{{{fields}}}"
    if isinstance(value, list):
        return f"[{', '.join(cel(each, path) for each in value)}]"
    return json.dumps(value)


def test_the_policy_without_a_webhook_writes_the_same():
    policy = only(example("without-webhook.yaml"), "MutatingAdmissionPolicy")
    first, second = (each["jsonPatch"]["expression"] for each in policy["spec"]["mutations"])
    out = defaults()
    assert f"path: '/spec/initContainers/0', value: {cel(sidecar_of(out)[0], 'spec.initContainers')}" in first
    for volume in out["spec"]["volumes"]:
        assert f"path: '/spec/volumes/-', value: {cel(volume, 'spec.volumes')}" in first
    chosen = options({}, Settings())
    assert isinstance(chosen, Options)
    variables = wanted(chosen) | {"OPENAI_API_KEY": PLACEHOLDER_KEY}
    assert re.findall(r"env\{name: '(\w+)', value: '([^']+)'\}", second) == [*reversed(variables.items())]
    assert "!has(object.spec.containers[i].envFrom)" in second
    for expression in (first, second):
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")
        assert expression.count("[") == expression.count("]")


def test_D2_the_backstop_asks_of_the_pods_that_the_webhook_is_for():
    objects = example("backstop.yaml")
    found = entries(render("base"))
    bindings = {
        each["metadata"]["name"].rpartition("-")[2]: each for each in of(objects, "ValidatingAdmissionPolicyBinding")
    }
    for name, binding in bindings.items():
        resources = binding["spec"]["matchResources"]
        assert resources["objectSelector"] == found[name]["objectSelector"]
        assert (
            resources["namespaceSelector"]["matchExpressions"]
            == found[name]["namespaceSelector"]["matchExpressions"][:1]
        )
        assert binding["spec"]["validationActions"] == ["Deny"]
    policy = only(objects, "ValidatingAdmissionPolicy")["spec"]
    assert policy["matchConditions"] == found["object"]["matchConditions"]
    assert "'llm-proxy'" in policy["validations"][0]["expression"]


def test_metrics_are_found_by_what_the_injector_marks():
    sidecars, injector = example("podmonitor.yaml")
    assert sidecars["spec"]["selector"]["matchLabels"].items() <= defaults()["metadata"]["labels"].items()
    assert sidecars["spec"]["podMetricsEndpoints"][0]["port"] == sidecar_of(defaults())[0]["ports"][0]["name"]
    labels = only(render("base"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert injector["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_uninstalling_begins_with_the_webhook_configuration(tmp_path):
    log = tmp_path / "log"
    fake = tmp_path / "kubectl"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    fake.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([FOLDER / "uninstall.sh"], env={"PATH": path}, check=True)
    calls = log.read_text().splitlines()
    assert calls[0].startswith("delete mutatingwebhookconfiguration sidecar-injector")
    assert calls[-1].startswith("delete namespace sidecar-injector")


def test_nothing_in_the_folder_is_left_out():
    named = {path.parent for path in FOLDER.rglob("kustomization.yaml")}
    assert {FOLDER / name for name in RENDERED} | {FOLDER / "injector"} == named
