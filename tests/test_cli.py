"""The command line as a shell sees it: what is printed where, and which exit code follows (64 usage, 70 our fault)."""

import subprocess

import pytest

from sidecar import __version__
from tests.hot_path import is_compiled
from tests.processes import COMMAND, ROOT, WATCHDOG_S, Running, Serving, Sim, call, clean_environ

KEY = "gsk_0nlyForTheProvider"
PROVIDER = "providers: [{name: groq, keys: [{name: main, env: GROQ_API_KEY}]}]\n"
EXAMPLES = sorted(
    path.name for path in (ROOT / "conf").glob("*.yaml") if path.name not in ("providers.yaml", "alerts.yaml")
)


def sidecar(*words, environ=None):
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *words], env=clean_environ(environ), cwd=ROOT, capture_output=True, text=True, timeout=WATCHDOG_S,
        check=False,
    )  # fmt: skip


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "sidecar.yaml"
    path.write_text(PROVIDER)
    return path


# usage


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["surve"], "No such command 'surve'"),
        (["serve", "--colour"], "No such option"),
        (["serve", "--loop", "gevent"], "gevent"),
        (["sim"], "--dialect"),
        (["sim", "--dialect", "groq", "--limit", "rpm"], "expected name=value"),
        (["sim", "--dialect", "groq", "--limit", "rpx=3"], "rpx"),
        (["run"], "COMMAND"),
        (["env", "--shell", "csh"], "csh"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_64(words, told):
    done = sidecar(*words)
    assert done.returncode == 64
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_and_version():
    done = sidecar("--help")
    assert done.returncode == 0
    for command in ("serve", "check", "env", "run", "status", "doctor", "sim", "demo", "inject"):
        assert f"\n  {command} " in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2], "a command's summary is cut off"
    told = sidecar("--version").stdout
    assert told == f"sidecar, version {__version__}{', compiled' if is_compiled() else ''}\n"


# configuration


@pytest.mark.parametrize("command", [["serve"], ["check"], ["run", "true"]], ids=" ".join)
def test_without_any_key_it_says_what_to_set(command):
    done = sidecar(*command)
    assert done.returncode == 64
    assert "GROQ_API_KEY" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr
    assert "--config" in done.stderr


@pytest.mark.parametrize("command", ["serve", "check", "env"])
def test_every_problem_is_told_at_once_with_its_line(tmp_path, command):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "listen: 0.0.0.0:8787\n"
        "wate: {max: 20s}\n"
        "wait: {max: 20}\n"
        "providers:\n"
        "  - name: groq\n"
        "    keys: [{name: main, evn: GROQ_API_KEY}]\n"
        "  - name: nobody\n"
    )
    done = sidecar(command, "--config", str(path))
    assert done.returncode == 64
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    for line, word in [(1, "auth.tokens"), (2, "wate"), (3, "wait.max"), (6, "evn"), (7, "base_url")]:
        assert any(f"{path}:{line}:" in each and word in each for each in lines), (line, word, lines)
    assert all(line.startswith("sidecar: ") for line in lines)


def test_a_file_that_is_not_there_is_told(tmp_path):
    done = sidecar("serve", "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 64
    assert "none.yaml: cannot be read: No such file or directory" in done.stderr


def test_a_key_in_the_configuration_is_refused_and_not_repeated(tmp_path):
    path = tmp_path / "secret.yaml"
    secret = "gsk_" + "8f3kD92mXq7Lw0Zp" * 3
    path.write_text(f"providers: [{{name: groq, keys: [{{name: main, env: {secret}}}]}}]\n")
    done = sidecar("check", str(path))
    assert done.returncode == 64
    assert "secret" in done.stderr
    assert secret not in done.stderr + done.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_passes_the_check(example):
    done = sidecar("check", f"conf/{example}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("listen   http://127.0.0.1:8787/v1")
    assert "MISSING" in done.stdout, "no key is set here"


def test_A24_check_says_where_each_limit_is_from(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text(
        "providers:\n  - name: groq\n    keys: [{name: main, env: GROQ_API_KEY, account: org-a}]\n"
        "    limits: [{rpm: 30, tpd: 100000}, {model: openai/gpt-oss-120b, rpm: 60}]\n"
    )
    done = sidecar("check", str(path), environ={"GROQ_API_KEY": KEY})
    assert done.returncode == 0
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["key", "main", "account", "org-a", "env", "GROQ_API_KEY", "present"] in words
    limits = {(line[3], line[4]): line[5:] for line in words if line[:3] == ["limit", "org-a", "x"]}
    assert limits["openai/gpt-oss-120b", "rpm"][:3] == ["60", "from", "providers[0].limits[1]"]
    assert limits["*", "tpd"] == ["100000", "from", "providers[0].limits[0]", "counted", "by", "token", "bucket"]
    assert KEY not in done.stdout


def test_check_of_the_environment():
    done = sidecar("check", environ={"GROQ_API_KEY": KEY, "GROQ_API_KEY_2": f"{KEY}2", "CEREBRAS_API_KEY": f"{KEY}3"})
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("provider")] == ["groq", "cerebras"]
    assert KEY not in done.stdout


# env


def _shell(script, environ):
    """The words a shell script prints."""
    words = ["sh", "-c", script]
    done = subprocess.run(
        words, env=clean_environ(environ), cwd=ROOT, capture_output=True, text=True, timeout=WATCHDOG_S, check=True
    )
    return done.stdout.split()


def test_env_sets_what_the_sdks_read(config):
    config.write_text("listen: 127.0.0.1:9999\n" + PROVIDER)
    script = f"""eval "$({" ".join(COMMAND)} env --config '{config}')"
        printf '%s\\n' "$OPENAI_BASE_URL" "$GROQ_BASE_URL" "$OPENAI_API_KEY" "$NO_PROXY" """
    assert _shell(script, {"NO_PROXY": "intern.example"}) == [
        "http://127.0.0.1:9999/v1",
        "http://127.0.0.1:9999",
        "sk-held-by-sidecar",
        "intern.example,127.0.0.1,localhost",
    ]


def test_env_without_a_file_needs_no_key_and_keeps_the_callers():
    script = f"""eval "$({" ".join(COMMAND)} env)"; printf '%s\\n' "$OPENAI_BASE_URL" "$OPENAI_API_KEY" """
    assert _shell(script, {"OPENAI_API_KEY": "mine"}) == ["http://127.0.0.1:8787/v1", "mine"]


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("sh", "export OPENAI_BASE_URL='http://127.0.0.1:8787/v1'"),
        ("fish", "set -gx OPENAI_BASE_URL 'http://127.0.0.1:8787/v1'"),
        ("powershell", "$env:OPENAI_BASE_URL = 'http://127.0.0.1:8787/v1'"),
    ],
)
def test_env_for_other_shells(shell, line):
    assert line in sidecar("env", "--shell", shell).stdout.splitlines()


# run

_APPLICATION = """
import json, os, sys, urllib.request
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
body = json.dumps({"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "hi"}]}).encode()
request = urllib.request.Request(url, body, {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
with urllib.request.urlopen(request) as answer:
    print(json.load(answer)["choices"][0]["finish_reason"], answer.headers["x-sidecar-provider"])
sys.exit(23)
"""


@pytest.fixture(scope="module")
def sim():
    with Sim("groq", f"--key={KEY}=org-a") as running:
        yield running


@pytest.fixture
def at_sim(tmp_path, sim):
    path = tmp_path / "run.yaml"
    path.write_text(
        f"listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nproviders: [{{name: groq, base_url: '{sim.base_url}', "
        f"keys: [{{name: main, env: GROQ_API_KEY}}]}}]\n"
    )
    return str(path)


def test_run_points_the_command_here_and_exits_as_it_did(at_sim):
    words = ("run", "--config", at_sim, "--", COMMAND[0], "-c", _APPLICATION)
    done = sidecar(*words, environ={"GROQ_API_KEY": KEY})
    assert done.returncode == 23, done.stderr
    assert done.stdout == "stop groq\n", "nothing of ours is in the command's output"
    assert done.stderr == ""


def test_run_without_a_file_takes_a_port_of_its_own():
    code = "import os; print(os.environ['OPENAI_BASE_URL'], os.environ['GROQ_BASE_URL'], os.environ['OPENAI_API_KEY'])"
    done = sidecar("run", COMMAND[0], "-c", code, environ={"GROQ_API_KEY": KEY})
    assert done.returncode == 0, done.stderr
    base, origin, key = done.stdout.split()
    assert base == f"{origin}/v1"
    assert origin.startswith("http://127.0.0.1:")
    assert origin != "http://127.0.0.1:8787"
    assert key == "sk-held-by-sidecar"


@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["false"], 1), (["sh", "-c", "kill -9 $$"], 137), (["sh", "-c", "exit 255"], 255)],
    ids=str,
)
def test_run_passes_the_exit_code(command, code):
    assert sidecar("run", "--", *command, environ={"GROQ_API_KEY": KEY}).returncode == code


def test_run_of_what_cannot_be_run():
    done = sidecar("run", "--", "no-such-command-here", environ={"GROQ_API_KEY": KEY})
    assert done.returncode == 64
    assert "no-such-command-here cannot be run: No such file or directory" in done.stderr


_TOLD = """
import os, signal, sys
def told(number, frame):
    os.write(1, b"told\\n")
    sys.exit(5)
signal.signal(signal.SIGTERM, told)
os.write(1, b"ready\\n")
signal.pause()
"""


def test_run_passes_signals_on():
    words = ("run", "--", COMMAND[0], "-c", _TOLD)
    with Running(words, {"GROQ_API_KEY": KEY}) as running:
        running.until(lambda line: line == "ready")
        running.process.terminate()
        running.until(lambda line: line == "told")
        assert running.ended() == 5


# ports


def test_a_port_in_use_is_told_with_a_remedy(tmp_path, sim, at_sim):
    with Serving(tmp_path / "first.yaml", PROVIDER, {"GROQ_API_KEY": KEY}) as first:
        for field, taken in (("listen", first.url), ("admin", first.admin)):
            other = "admin" if field == "listen" else "listen"
            path = tmp_path / f"{field}.yaml"
            path.write_text(f"{field}: {taken.removeprefix('http://')}\n{other}: 127.0.0.1:0\n" + PROVIDER)
            done = sidecar("serve", "--config", str(path), environ={"GROQ_API_KEY": KEY})
            assert done.returncode == 64, field
            assert taken.removeprefix("http://") in done.stderr
            assert "Address already in use; another process listens there: stop it, or choose another" in done.stderr
            assert "Traceback" not in done.stderr
        assert call(first.admin, "GET", "/readyz").status == 200
    done = sidecar("sim", "--dialect", "groq", "--port", sim.origin.rpartition(":")[2])
    assert done.returncode == 64
    assert "choose another --port" in done.stderr


def test_a_privileged_or_foreign_address_is_told(tmp_path):
    path = tmp_path / "foreign.yaml"
    path.write_text("listen: 192.0.2.1:8787\nadmin: 127.0.0.1:0\nauth: {tokens: [{env: TOKEN}]}\n" + PROVIDER)
    done = sidecar("serve", "--config", str(path), environ={"GROQ_API_KEY": KEY, "TOKEN": "t0ken"})
    assert done.returncode == 64
    assert "cannot listen on 192.0.2.1:8787" in done.stderr
    assert "no interface of this machine has that address" in done.stderr


def test_a_provider_whose_days_begin_elsewhere_needs_zone_data(tmp_path):
    path = tmp_path / "gemini.yaml"
    path.write_text("providers: [{name: gemini, keys: [{name: main, env: GEMINI_API_KEY}]}]\n")
    environ = {"GEMINI_API_KEY": KEY, "PYTHONTZPATH": str(tmp_path)}
    done = sidecar("check", str(path), environ=environ)
    assert done.returncode == 64
    assert "tzdata" in done.stderr
    assert "Traceback" not in done.stderr
    path.write_text(PROVIDER)
    assert sidecar("check", str(path), environ=environ).returncode == 0
