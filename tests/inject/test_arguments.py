"""The arguments of the Deployment are arguments of `sidecar inject`: a process with exactly these serves."""

import pytest
import trustme
import yaml

from sidecar.cli import inject
from tests.inject.api_server import NAMESPACE, REPORTING, SERVICE
from tests.inject.test_command import lines_until, start_with
from tests.k8s.helm import render as render_chart
from tests.k8s.kustomize import FOLDER, render

RENDERED = ("base", *(f"overlays/{path.name}" for path in sorted((FOLDER / "overlays").iterdir())))
CHARTS = {
    "chart": {},
    "chart, cert-manager": {"certificates": "cert-manager"},
    "chart, files": {"certificates": "files", "caBundle": "QUJD"},
    "chart, reporting": {"reportUninjected": True},
    "chart, ports": {"hostNetwork": True, "ports": {"webhook": 10260, "metrics": 10261}},
}


def objects_of(name):
    return render_chart(CHARTS[name]) if name in CHARTS else render(name)


def container_of(objects):
    (deployment,) = [each for each in objects if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def entrypoint():
    dockerfile = (FOLDER.parent / "Dockerfile").read_text()
    (line,) = [line for line in dockerfile.splitlines() if line.startswith("ENTRYPOINT")]
    return yaml.safe_load(line.removeprefix("ENTRYPOINT"))


@pytest.mark.parametrize("name", [*RENDERED, *CHARTS])
def test_every_argument_is_a_flag_of_the_command(name):
    container = container_of(objects_of(name))
    # the image's own entrypoint goes before them
    assert "command" not in container
    assert entrypoint() == ["sidecar"]
    command, *words = container["args"]
    assert command == inject.name
    flags = {flag for option in inject.params for flag in option.opts}
    given = [word.partition("=")[0] for word in words]
    assert set(given) <= flags
    assert len(set(given)) == len(given)
    # as click reads them; only what the kubelet puts in is left as it stands
    inject.make_context(command, list(words)).close()
    variables = {each["name"] for each in container["env"]}
    assert all(f"$({variable})" in str(words) for variable in variables)


@pytest.mark.parametrize("name", ["base", "overlays/report-uninjected", "overlays/cert-manager", "chart"])
async def test_D4_a_process_with_exactly_these_arguments_serves(cluster, tmp_path, name):
    cluster.api.rights |= REPORTING
    objects = objects_of(name)
    container = container_of(objects)
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (settings,) = [each for each in objects if each["kind"] == "ConfigMap"]
    for volume in ("settings", "tls"):
        (tmp_path / volume).mkdir()
    (tmp_path / "settings" / "settings.yaml").write_text(settings["data"]["settings.yaml"])
    authority = trustme.CA()
    pair = authority.issue_cert(f"{SERVICE}.{NAMESPACE}.svc")
    authority.cert_pem.write_to_path(str(tmp_path / "tls" / "ca.crt"))
    pair.private_key_pem.write_to_path(str(tmp_path / "tls" / "tls.key"))
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "tls" / "tls.crt"))
    # what the kubelet does, and ports of this machine that are free
    replaced = {path: str(tmp_path / volume) for volume, path in mounted.items()}
    replaced |= {"$(POD_NAMESPACE)": NAMESPACE, ":10250": ":0", ":8080": ":0"}
    words = container["args"]
    for old, new in replaced.items():
        assert any(old in word for word in words)
        words = [word.replace(old, new) for word in words]
    process = await start_with(cluster, words, {"POD_NAMESPACE": NAMESPACE})
    try:
        await lines_until(process, "ready")
    finally:
        process.kill()
        await process.wait()
