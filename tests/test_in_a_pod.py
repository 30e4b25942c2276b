"""`sidecar serve` as the injector starts it: mounted volumes, a read-only root, SIGTERM in any state (D8, D9).

What needs a kubelet is not here; docs/kubernetes.md says what that is.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from sidecar.core.injection import Settings
from sidecar.core.injection_container import CONFIG_FILE, SECRETS_DIR
from tests.core.pods import patched, pod, sidecar_of
from tests.processes import COMMAND, WATCHDOG_S, Running, Sim, call, clean_environ, free_port

KEY = "gsk_theKeyInTheSecret"
OTHER = "gsk_theNextKeyInTheSecret"
TARGET = "/v1/chat/completions"
CHAT = b'{"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "hello"}]}'


class Volume:
    """A ConfigMap or Secret as the kubelet mounts it: links into a directory that a link names, swapped in one step."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)

    def put(self, **files):
        version = self.folder / f"..version_{len(list(self.folder.glob('..version_*')))}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_text(content)
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(self.folder / "..data")
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


class Pod:
    """The sidecar of an injected pod as a process: the container's own words, with its mounts in a folder of ours."""

    def __init__(self, folder, command=COMMAND):
        self.config, self.keys = Volume(folder / "config"), Volume(folder / "secrets" / "sidecar-keys")
        self.port, self.admin_port = free_port(), free_port()
        annotations = {"port": str(self.port), "admin-port": str(self.admin_port)}
        words = sidecar_of(patched(pod(annotations=annotations), Settings(mode="native")))[0]["args"]
        self.words = [word.replace(CONFIG_FILE, str(folder / "config" / "sidecar.yaml")) for word in words]
        self.url, self.admin = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"
        self.secret = str(folder / "secrets" / "sidecar-keys" / "groq")
        assert f"{SECRETS_DIR}/sidecar-keys/groq".endswith("secrets/sidecar-keys/groq")

    def configuration(self, sim, more=""):
        # an address of its own, which the injector's words beat
        return (
            f"listen: 127.0.0.1:1\nproviders: [{{name: groq, base_url: '{sim.base_url}', "
            f"keys: [{{name: main, file: '{self.secret}'}}]}}]\n{more}"
        )


@pytest.fixture
def sim():
    with Sim("groq", f"--key={KEY}=org-a", f"--key={OTHER}=org-a") as running:
        yield running


def event(running, name, after=0):
    return json.loads(running.until(lambda line: json.loads(line).get("event") == name, after))


def absent(injected):
    """What the metrics say of a configuration that is not there."""
    page = call(injected.admin, "GET", "/metrics").body.decode()
    (line,) = [line for line in page.splitlines() if line.startswith("sidecar_config_absent ")]
    return line.rpartition(" ")[2]


def test_D8_D9_everything_comes_later_than_the_sidecar_and_changes_under_it(tmp_path, sim):
    injected = Pod(tmp_path)
    with Running(injected.words) as running:
        assert "does not exist yet" in event(running, "warning")["message"]
        event(running, "listening")
        # ready, else the application would never start; what is missing is told to who asks
        assert call(injected.admin, "GET", "/readyz").status == 200
        answer = call(injected.url, "POST", TARGET, CHAT)
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_usable_key")
        assert absent(injected) == "1"

        since = len(running.stdout)
        injected.config.put(**{"sidecar.yaml": injected.configuration(sim)})
        event(running, "reloaded", since)
        assert absent(injected) == "0"
        assert call(injected.url, "POST", TARGET, CHAT).status == 503

        for key in (KEY, OTHER):
            since = len(running.stdout)
            injected.keys.put(groq=key)
            event(running, "reloaded", since)
            assert call(injected.url, "POST", TARGET, CHAT).status == 200

        since = len(running.stdout)
        injected.config.put(**{"sidecar.yaml": "providers: nonsense\n"})
        event(running, "reload_refused", since)
        assert call(injected.url, "POST", TARGET, CHAT).status == 200

        since = len(running.stdout)
        more = "models: [{name: fast, chain: [groq/openai/gpt-oss-20b]}]\n"
        injected.config.put(**{"sidecar.yaml": injected.configuration(sim, more)})
        event(running, "reloaded", since)
        assert call(injected.url, "POST", TARGET, CHAT.replace(b"openai/gpt-oss-120b", b"fast")).status == 200
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    used = [dict(map(tuple, each["headers"]))["authorization"] for each in sim.ask("requests")]
    assert used == [f"Bearer {key}" for key in (KEY, OTHER, OTHER, OTHER)]
    assert not [line for line in running.stdout + running.stderr if KEY in line or OTHER in line]


def test_the_admin_port_is_on_every_address_and_the_data_port_on_loopback(tmp_path):
    injected = Pod(tmp_path)
    with Running(injected.words) as running:
        event(running, "listening")
        # any address of 127/8 is another interface's, as far as a socket on 127.0.0.1 is concerned
        with closing(socket.create_connection(("127.0.0.2", injected.admin_port), WATCHDOG_S)):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", injected.port), WATCHDOG_S)
        # and what tells more than a probe needs is not for everybody
        assert call(injected.admin, "GET", "/status.json").status == 401


def test_D8_sigterm_while_it_waits_for_its_configuration(tmp_path):
    injected = Pod(tmp_path)
    with Running(injected.words) as running:
        event(running, "listening")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
        assert running.stderr == []


def test_D8_sigterm_while_it_reads_its_configuration(tmp_path):
    injected = Pod(tmp_path)
    pipe = tmp_path / "config" / "sidecar.yaml"
    os.mkfifo(pipe)
    with Running(injected.words) as running:
        writing = os.open(pipe, os.O_WRONLY)  # returns when it has opened the other end
        try:
            running.signal(signal.SIGTERM)
            assert running.ended() == 0
        finally:
            os.close(writing)


def test_D8_a_bad_configuration_ends_it_with_the_line(tmp_path):
    injected = Pod(tmp_path)
    injected.config.put(**{"sidecar.yaml": "providers:\n  - {name: groq, kyes: []}\n"})
    done = subprocess.run(
        [*COMMAND, *injected.words], env=clean_environ({}), capture_output=True, text=True, timeout=WATCHDOG_S
    )
    assert done.returncode == 64
    assert "sidecar.yaml:2: providers[0].kyes: unknown field" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--listen", "nowhere"], "--listen"),
        (["--admin", "*"], "--admin"),
        (["--listen", "*:8787"], "reachable by others"),
        (["--listen", "127.0.0.1:9000", "--admin", "127.0.0.1:9000"], "is the data port too"),
    ],
)
def test_bad_addresses_are_usage_errors(tmp_path, words, told):
    done = subprocess.run(
        [*COMMAND, "serve", "--config", str(tmp_path / "none.yaml"), "--wait-for-config", *words],
        env=clean_environ({}),
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
    )
    assert done.returncode == 64
    assert told in done.stderr


# tells each attempt to write anywhere, and goes on
WATCHED = """
import os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}
def watch(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & WRITING and args[0] != os.devnull:
        sys.stderr.write(f"wrote {args[0]}\\n")
    elif event in CHANGING or event.startswith("tempfile."):
        sys.stderr.write(f"wrote {event} {args}\\n")
sys.addaudithook(watch)
from sidecar.cli import main
main()
"""


def test_D9_nothing_is_written_anywhere(tmp_path, sim):
    # on a read-only root, under a user without a home or an entry in /etc/passwd, there is no place for it
    injected = Pod(tmp_path)
    injected.config.put(**{"sidecar.yaml": injected.configuration(sim)})
    injected.keys.put(groq=KEY)
    environ = clean_environ({"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent", "TMPDIR": "/nonexistent"})
    command = [sys.executable, "-c", WATCHED, *injected.words]
    with subprocess.Popen(command, env=environ, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"listening" in process.stdout.readline()
        assert call(injected.url, "POST", TARGET, CHAT).status == 200
        process.terminate()
        _, errors = process.communicate(timeout=WATCHDOG_S)
    assert (process.returncode, errors) == (0, b"")
