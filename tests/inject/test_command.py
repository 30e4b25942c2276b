"""`sidecar inject` as a pod runs it: a process, its lines, its end."""

import asyncio
import json
import signal
import sys
from typing import Any

from sidecar.core.certificate_secret import authorities_in
from sidecar.core.limits import DAY
from sidecar.inject.issuing import Issuer
from tests.inject.api_server import NAMESPACE, SECRET, SERVICE
from tests.inject.rig import LIFETIMES, pod
from tests.processes import ROOT, clean_environ

WATCHDOG_S = 60


async def start(cluster, *options, environ=None):
    words = ("inject", "--service", SERVICE, *options)
    return await start_with(cluster, words, {"POD_NAMESPACE": NAMESPACE}, environ)


async def start_with(cluster, words, more=None, environ=None):
    """A process of ours in that cluster; `environ` instead of what a pod there would have."""
    told = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(cluster.api.port)}
    told |= {"SIDECAR_SERVICE_ACCOUNT_DIR": str(cluster.folder)} | (more or {})
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar", *words),
        cwd=ROOT,
        env=clean_environ(told if environ is None else environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def lines_until(process, event):
    """Its lines up to the first of that event."""
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(WATCHDOG_S):
        while not lines or lines[-1]["event"] != event:
            line = await process.stdout.readline()
            assert line, (lines, await process.stderr.read())
            lines.append(json.loads(line))
    return lines


async def test_a_whole_life(cluster, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("container: proxy\nexcluded_namespaces: [kube-system, private]\n")
    process = await start(
        cluster, "--config", str(settings), "--listen", "[::]:0", "--metrics-listen", "127.0.0.1:0", "--linger", "0s"
    )
    try:
        lines = await lines_until(process, "ready")
        listening = [line["message"] for line in lines if line["event"] == "listening"]
        port = int(listening[0].rpartition(":")[2])
        cluster.api.endpoints.append(("127.0.0.1", port))  # [::] takes IPv4 too
        admitted = await cluster.api.create_pod(pod())
        assert [each["name"] for each in admitted.pod["spec"]["initContainers"]] == ["proxy"]
        assert "initContainers" not in (await cluster.api.create_pod(pod(), "private")).pod["spec"]
        lines = await lines_until(process, "admission")
        assert lines[-1] | {"time": "", "duration_us": 0} == {
            "time": "",
            "event": "admission",
            "result": "injected",
            "pod": "default/web-1",
            "duration_us": 0,
        }
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WATCHDOG_S):
            rest, complaints = await process.communicate()
        assert process.returncode == 0, complaints
        assert b'"draining"' in rest
        assert complaints == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # the lifetimes that are promised
    authorities = authorities_in(cluster.api.objects[SECRET], Issuer(["x"], LIFETIMES))
    assert authorities is not None
    whole_ns = authorities.current.certificate.not_after_ns - authorities.current.certificate.not_before_ns
    assert 365 * DAY <= whole_ns < 366 * DAY


async def test_a_signal_in_every_state_ends_it(cluster):
    """Before the API answers, and while it lingers, when a second one does not wait."""
    cluster.api.refuses = lambda verb, path: 503
    process = await start(cluster, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--linger", "1h")
    await lines_until(process, "trouble")
    process.send_signal(signal.SIGTERM)
    await lines_until(process, "draining")
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(WATCHDOG_S):
        _, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")


async def complaint(cluster, *options, environ=None):
    process = await start(cluster, *options, environ=environ)
    async with asyncio.timeout(WATCHDOG_S):
        _, complaints = await process.communicate()
    return process.returncode, complaints.decode()


async def test_what_is_wrong_is_said_before_a_port_is_bound(cluster, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("port: 1\nuser: 0\n")
    code, said = await complaint(cluster, "--config", str(settings))
    assert code == 64
    assert "port" in said
    assert "user" in said
    code, said = await complaint(cluster, "--config", str(tmp_path / "none"))
    assert code == 64
    assert str(tmp_path / "none") in said
    code, said = await complaint(cluster, "--listen", "everywhere", "--certificate-dir", "/x")
    assert code == 64
    assert "--listen" in said
    assert "--certificate-dir" in said
    code, said = await complaint(cluster, environ={"POD_NAMESPACE": "a"})
    assert code == 64
    assert "cluster" in said


async def test_a_port_that_is_taken_is_said(cluster):
    taken = f"127.0.0.1:{cluster.api.port}"
    code, said = await complaint(cluster, "--listen", taken, "--metrics-listen", "127.0.0.1:0")
    assert code == 64
    assert str(cluster.api.port) in said
