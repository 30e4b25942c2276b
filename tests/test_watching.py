"""`sidecar status` as an operator types it, before a real sidecar; and what it says when there is none."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

import pytest

from tests.processes import COMMAND, ROOT, WATCHDOG_S, Running, Serving, Sim, call, clean_environ, free_port

KEY = "gsk_status_key"
CHAT = json.dumps({"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "hi"}]}).encode()


def sidecar(*words, environ=None):
    command = [*COMMAND, *words]
    return subprocess.run(
        command, env=clean_environ(environ), cwd=ROOT, capture_output=True, text=True, timeout=WATCHDOG_S, check=False
    )


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    path = tmp_path_factory.mktemp("status") / "sidecar.yaml"
    with Sim("groq", f"--key={KEY}=org-a") as sim:
        config = f"""
providers: [{{name: groq, base_url: "{sim.base_url}", keys: [{{name: main, env: GROQ_KEY}}], limits: [{{rpm: 30}}]}}]
models: [{{name: fast, chain: [groq/openai/gpt-oss-120b]}}]
"""
        with Serving(path, config, {"GROQ_KEY": KEY}) as running:
            assert call(running.url, "POST", "/v1/chat/completions", CHAT).status == 200
            yield running


def test_I3_the_table_of_a_running_sidecar(serving):
    for words in (("--config", str(serving.path)), ("--admin", serving.admin.removeprefix("http://"))):
        done = sidecar("status", *words, environ={"GROQ_KEY": KEY})
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert all(len(line) <= 100 for line in lines)
        assert any(line.split()[:4] == ["groq/main", "openai/gpt-oss-120b", "requests/min", "29/30"] for line in lines)
        assert "  fast -> groq/openai/gpt-oss-120b (ready, serves now)" in lines
        assert "\x1b" not in done.stdout, "no colours but on a terminal"
        assert KEY not in done.stdout


def test_json_passes_through(serving):
    done = sidecar("status", "--json", "--config", str(serving.path))
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert status["requests"][0]["model"] == "openai/gpt-oss-120b"
    assert status["models"][0]["hops"][0]["takes"] is True


def test_watch_prints_again_until_it_is_interrupted(serving):
    with Running(("status", "--json", "--watch", "--config", str(serving.path))) as watching:
        watching.until(lambda line: line.startswith("{"))
        watching.until(lambda line: line.startswith("{"), after=1)
        watching.signal(signal.SIGINT)
        assert watching.ended() == 0
        assert watching.stderr == []


def test_a_terminal_gets_colours_unless_told_otherwise(serving):
    for environ, is_coloured in (({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        ours, theirs = pty.openpty()
        command = [*COMMAND, "status", "--config", str(serving.path)]
        subprocess.run(command, env=clean_environ(environ), cwd=ROOT, stdout=theirs, timeout=WATCHDOG_S, check=True)
        printed = os.read(ours, 1 << 16)
        os.close(ours)
        os.close(theirs)
        assert b"sidecar at" in printed
        assert (b"\x1b[3" in printed) is is_coloured


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--admin", "nonsense"), 64, "write an IP address and a port"),
        (("--config", "/nowhere/sidecar.yaml"), 64, "cannot be read"),
        (("--frobnicate",), 64, "No such option"),
    ],
)
def test_what_is_typed_wrongly_is_usage(words, code, said):
    done = sidecar("status", *words)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""


def test_nobody_there_is_told_with_what_to_look_at():
    port = free_port()
    for more in ((), ("--json",), ("--watch",)):
        done = sidecar("status", "--admin", f"127.0.0.1:{port}", *more)
        assert done.returncode == 69
        assert done.stderr.startswith(f"sidecar: no sidecar answers at http://127.0.0.1:{port} (Connection refused)")
        assert done.stdout == ""


def test_somebody_else_there_is_told(serving):
    done = sidecar("status", "--admin", serving.url.removeprefix("http://"))
    assert done.returncode == 64
    assert "answers 404" in done.stderr
