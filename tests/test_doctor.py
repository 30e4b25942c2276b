"""`sidecar doctor` before servers with real certificates: good, wrong, expired, silent, refusing; and as a command."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email.utils
import json
import socket
import ssl
import subprocess
import time

import pytest
import trustme

from sidecar.app import Prepared, Source, prepare
from sidecar.core.diagnosis import diagnose
from sidecar.doctor import measure
from sidecar.probing import Means
from sidecar.upstream.lookup import Answer
from tests.processes import COMMAND, ROOT, WATCHDOG_S, Serving, Sim, clean_environ, free_port
from tests.rig import CATALOG

MODELS = b'{"object": "list", "data": [{"id": "m"}, {"id": "n"}]}'
SECRET = "gsk_very_secret_1"
NAME = "api.provider.test"
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def certified(authority, name=NAME, **more):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name, **more).configure_cert(context)
    return context


class Provider:
    """An HTTPS server that answers with one status to whoever brings the key."""

    def __init__(self, status=200, others=401, skew_s=0):
        self.statuses, self.skew_s = (status, others), skew_s
        self.asked = []
        self.port = 0

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head)
            status = self.statuses[0 if SECRET.encode() in head else 1]
            date = email.utils.formatdate(time.time() + self.skew_s, usegmt=True)
            answer = f"HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-length: {len(MODELS)}\r\n\r\n".encode()
            writer.write(answer + MODELS)
            await writer.drain()
        writer.close()


async def resolves(host):
    if host.rstrip(".") != NAME:
        raise OSError("Name or service not known")
    return Answer([(int(socket.AF_INET), "127.0.0.1")], None)


async def silent(host):
    await asyncio.Event().wait()
    return Answer([], None)


@contextlib.asynccontextmanager
async def serving(provider, tls):
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=tls)
    provider.port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(10), server:
        yield


async def findings_of(tmp_path, authority, port, host=NAME, config="", **means):
    path = tmp_path / "sidecar.yaml"
    path.write_text(
        f"listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nproviders:\n  - name: groq\n"
        f"    base_url: 'https://{host}:{port}/v1'\n    keys: [{{name: a, env: A}}]\n{config}"
    )
    environ = {"A": SECRET}
    prepared = prepare(Source(str(path), environ), CATALOG, time.time_ns())
    assert isinstance(prepared, Prepared), prepared
    context = ssl.create_default_context()
    authority.configure_trust(context)
    usual = Means({"c-ares": resolves, "the system": resolves}, context)
    facts = await measure(prepared, environ, usual._replace(**means))
    assert SECRET not in repr(facts)
    return {finding.about: finding for finding in diagnose(facts)}


async def test_H6_all_is_well_and_nothing_but_the_model_list_was_asked(tmp_path, authority):
    provider = Provider()
    chain = "models: [{name: fast, chain: [groq/m]}, {name: odd, chain: [groq/mm]}]\n"
    async with serving(provider, certified(authority)):
        found = await findings_of(tmp_path, authority, provider.port, config=chain)
    assert {about: finding.level for about, finding in found.items()} == {
        "name": "ok", "connection": "ok", "certificate": "ok", "key": "ok", "clock": "ok", "model": "warning",
    }  # fmt: skip
    assert found["key"].message == "it is valid; 2 models are listed for it"
    assert found["model"].subject == "groq/mm"
    assert [head.partition(b"\r\n")[0] for head in provider.asked] == [b"GET /v1/models HTTP/1.1"] * 2
    assert sum(SECRET.encode() in head for head in provider.asked) == 1, "the second time without a key"


@pytest.mark.parametrize(
    ("status", "others", "level", "said"),
    [
        (401, 401, "broken", "calls it invalid (401)"),
        (403, 403, "warning", "not proven"),
        (200, 200, "ok", "without any key"),
        (500, 500, "warning", "in trouble (500)"),
        (307, 401, "warning", "answers 307"),
    ],
)
async def test_H6_what_the_provider_says_to_a_key(tmp_path, authority, status, others, level, said):
    provider = Provider(status, others)
    async with serving(provider, certified(authority)):
        found = await findings_of(tmp_path, authority, provider.port)
    assert found["key"].level == level
    assert said in found["key"].message


async def test_a_clock_that_goes_wrong(tmp_path, authority):
    provider = Provider(skew_s=-3600)
    async with serving(provider, certified(authority)):
        found = await findings_of(tmp_path, authority, provider.port)
    assert (found["clock"].level, found["clock"].message) == ("warning", "is 3600 s ahead of the providers'")


@pytest.mark.parametrize(
    ("kind", "said"),
    [("expired", "it has expired"), ("named", f"it is not for {NAME}"), ("unknown", "its issuer is not trusted here")],
)
async def test_G8_certificates_that_are_wrong_and_the_key_stays_here(tmp_path, authority, kind, said):
    contexts = {
        "expired": lambda: certified(
            authority,
            not_before=datetime.datetime.now(datetime.UTC) - 9 * DAY,
            not_after=datetime.datetime.now(datetime.UTC) - DAY,
        ),
        "named": lambda: certified(authority, "other.provider.test"),
        "unknown": lambda: certified(trustme.CA()),
    }
    provider = Provider()
    async with serving(provider, contexts[kind]()):
        found = await findings_of(tmp_path, authority, provider.port)
    assert (found["connection"].level, found["certificate"].level) == ("ok", "broken")
    assert said in found["certificate"].message
    assert found["key"].level == "warning"
    assert provider.asked == []


async def test_no_tls_where_tls_is_expected(tmp_path, authority):
    provider = Provider()
    async with serving(provider, None):
        found = await findings_of(tmp_path, authority, provider.port, patience_s=0.3)
    assert found["certificate"].level == "broken"
    assert SECRET.encode() not in b"".join(provider.asked)


async def test_a_name_that_does_not_resolve_and_one_resolver_that_is_silent(tmp_path, authority):
    found = await findings_of(tmp_path, authority, 443, host="nowhere.provider.test")
    assert (found["name"].level, "connection" in found) == ("broken", False)
    provider = Provider()
    async with serving(provider, certified(authority)):
        lookups = {"c-ares": silent, "the system": resolves}
        found = await findings_of(tmp_path, authority, provider.port, lookups=lookups, patience_s=0.3)
    assert (found["name"].level, found["key"].level) == ("warning", "ok")
    assert "c-ares (no answer in 0.3 s)" in found["name"].message


async def test_a_port_where_nobody_listens(tmp_path, authority):
    found = await findings_of(tmp_path, authority, free_port())
    assert (found["connection"].level, "certificate" in found) == ("broken", False)
    assert "refused" in found["connection"].message.lower()


async def test_a_server_that_takes_connections_and_says_nothing(tmp_path, authority):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = await findings_of(tmp_path, authority, listening.getsockname()[1], patience_s=0.2)
    assert (found["connection"].level, found["certificate"].level) == ("ok", "broken")
    assert "no answer in 0.2 s" in found["certificate"].message


def doctor(*words, environ=None):
    command = [*COMMAND, "doctor", *words]
    return subprocess.run(
        command, env=clean_environ(environ), cwd=ROOT, capture_output=True, text=True, timeout=WATCHDOG_S, check=False
    )


def test_the_command_before_a_running_sidecar(tmp_path):
    path, key = tmp_path / "sidecar.yaml", tmp_path / "key"
    key.write_text(SECRET)
    key.chmod(0o600)
    with Sim("groq", f"--key={SECRET}=org-a", "--model=m") as sim:
        config = f"""
providers:
  - name: groq
    base_url: "{sim.base_url}"
    keys: [{{name: a, file: {key}}}, {{name: b, env: KEY_B}}]
models: [{{name: fast, chain: [groq/m]}}]
"""
        data = f"127.0.0.1:{free_port()}"
        with Serving(path, config, {"KEY_B": SECRET + "x"}, listen=data):
            environ = {"KEY_B": SECRET + "x", "https_proxy": "http://user:password@proxy.test", "no_proxy": "localhost"}
            done = doctor("--config", str(path), environ=environ)
            as_json = doctor("--json", "--config", str(path), environ=environ)
        assert sim.total["input_tokens"] + sim.total["output_tokens"] == 0, "no token is spent"
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert "ok       key groq/a: it is valid; 1 models are listed for it" in lines
    assert "BROKEN   key groq/b: the provider calls it invalid (401)" in lines
    assert f"ok       port listen {data}: a sidecar serves here already" in lines
    assert f"ok       file {key}: key groq/a: 0600" in lines
    assert "ok       proxy https_proxy: sidecar asks no proxy and connects to providers itself" in lines
    assert "password" not in done.stdout
    assert SECRET not in done.stdout + as_json.stdout
    assert as_json.returncode == 1
    findings = json.loads(as_json.stdout)["findings"]
    assert {"level": "ok", "about": "port", "subject": f"listen {data}"}.items() <= next(
        each for each in findings if each["subject"] == f"listen {data}"
    ).items()


def test_the_command_on_a_machine_without_a_sidecar(tmp_path):
    path, key = tmp_path / "sidecar.yaml", tmp_path / "key"
    key.write_text("k")
    key.chmod(0o644)
    with Sim("groq") as sim, socket.create_server(("127.0.0.1", 0)) as busy:
        taken = f"127.0.0.1:{busy.getsockname()[1]}"
        path.write_text(
            f"listen: 127.0.0.1:{free_port()}\nadmin: {taken}\n"
            f"providers: [{{name: groq, base_url: '{sim.base_url}', keys: [{{name: a, file: {key}}}]}}]\n"
        )
        done = doctor("--config", str(path))
    assert done.returncode == 1
    assert f"BROKEN   port admin {taken}: another program listens here" in done.stdout
    assert "every user may read it (0644)" in done.stdout
    assert doctor("--config", str(tmp_path / "none.yaml")).returncode == 64
