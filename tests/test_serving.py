"""`sidecar serve` as a process: ready, told to reload, told to stop, its files changed under it (H1, D7, D8, H4)."""

import json
import signal
import socket
import subprocess
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.processes import COMMAND, WATCHDOG_S, Serving, Sim, call, clean_environ, free_port

OLD, NEW = "gsk_0ldKeyOfTheProvider", "gsk_newKeyOfTheProvider"
CHAT = b'{"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "hello"}]}'
STREAM = CHAT[:-1] + b', "stream": true}'
TARGET = "/v1/chat/completions"


@pytest.fixture(scope="module")
def standing_sim():
    with Sim("groq", f"--key={OLD}=org-a", f"--key={NEW}=org-a") as running:
        yield running


@pytest.fixture
def sim(standing_sim):
    standing_sim.steer("reset")
    return standing_sim


def configured(sim, key="env: GROQ_API_KEY", more=""):
    return f"providers: [{{name: groq, base_url: '{sim.base_url}', keys: [{{name: main, {key}}}]}}]\n{more}"


@pytest.fixture
def serving(tmp_path, sim):
    with Serving(tmp_path / "serving.yaml", configured(sim), {"GROQ_API_KEY": OLD}) as running:
        yield running


class Streaming:
    """A streamed answer under way, whose first event has come."""

    def __init__(self, url):
        self._connection = HTTPConnection(url.removeprefix("http://"), timeout=WATCHDOG_S)
        self._connection.request("POST", TARGET, STREAM)
        self._response = self._connection.getresponse()
        self.first = self._response.readline()

    def rest(self):
        """All that is left; http.client raises when it is not whole."""
        try:
            with self._response:
                return self._response.read()
        finally:
            self._connection.close()


def keys_seen(sim):
    return [dict(map(tuple, each["headers"]))["authorization"].removeprefix("Bearer ") for each in sim.ask("requests")]


# readiness


def test_H4_ready_without_a_word_to_any_provider(serving, sim):
    for path in ("/healthz", "/readyz", "/status.json"):
        assert call(serving.admin, "GET", path).status == 200
    assert sim.total["seen"] == 0


def test_ready_when_the_provider_is_not_there(tmp_path):
    nowhere = f"providers: [{{name: gone, base_url: 'http://127.0.0.1:{free_port()}/v1'}}]\nretry: {{attempts: 1}}\n"
    with Serving(tmp_path / "gone.yaml", nowhere) as serving:
        assert call(serving.admin, "GET", "/readyz").status == 200
        answer = call(serving.url, "POST", TARGET, CHAT)
        assert answer.status == 502
        assert answer.json["error"]["code"] == "upstream_failed"


def test_the_status_tells_labels_and_no_key(serving):
    assert call(serving.url, "POST", TARGET, CHAT).status == 200
    status = call(serving.admin, "GET", "/status.json")
    assert b'"main"' in status.body
    assert OLD.encode() not in status.body


# stopping


def test_D7_sigterm_lets_a_running_stream_finish(serving, sim):
    sim.steer("faults", {"kind": "slow", "chunk_seconds": 0.05})
    streaming = Streaming(serving.url)
    serving.signal(signal.SIGTERM)
    assert serving.event("draining")["message"] == "1 requests in flight"
    assert call(serving.admin, "GET", "/readyz").status == 503
    assert call(serving.admin, "GET", "/healthz").status == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(serving.url.rpartition(":")[2])))
    assert streaming.rest().endswith(b"data: [DONE]\n\n")
    assert serving.ended() == 0
    assert serving.request(TARGET)["outcome"] == "ok"
    assert json.loads(serving.stdout[-1])["event"] == "stopped"
    assert serving.stderr == []


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(serving, sim, second):
    sim.steer("faults", {"kind": "stall_after_headers", "after_chunks": 3})
    streaming = Streaming(serving.url)
    serving.signal(signal.SIGTERM)
    serving.event("draining")
    serving.signal(second)
    assert serving.ended() == 0
    with pytest.raises((HTTPException, ConnectionError)):
        streaming.rest()
    assert serving.request(TARGET)["outcome"] == "client_gone"
    assert serving.stderr == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_D8_an_idle_one_stops_at_once(serving, number):
    # also with a connection that is kept alive
    connection = HTTPConnection(serving.url.removeprefix("http://"), timeout=WATCHDOG_S)
    connection.request("POST", TARGET, CHAT)
    connection.getresponse().read()
    serving.signal(number)
    assert serving.ended() == 0
    connection.close()
    assert serving.stderr == []


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_C14_both_event_loops(tmp_path, sim, loop):
    words = ("--loop", loop)
    with Serving(tmp_path / "loop.yaml", configured(sim), {"GROQ_API_KEY": OLD}, words=words) as serving:
        assert call(serving.url, "POST", TARGET, STREAM).body.endswith(b"data: [DONE]\n\n")
        assert serving.stop() == 0
    assert serving.stderr == []


# reloading


def test_H1_sighup_reads_the_configuration_again(serving, sim):
    since = len(serving.stdout)
    serving.signal(signal.SIGHUP)  # nothing changed, so nobody but the signal can have caused it
    serving.event("reloaded", since)
    assert call(serving.url, "POST", TARGET, CHAT).status == 200


def test_H1_a_bad_configuration_is_refused_and_the_old_one_kept(serving, sim):
    before = call(serving.admin, "GET", "/status.json").json["configuration"]
    since = len(serving.stdout)
    serving.write(configured(sim, more="wate: {max: 1s}\nretry: {attempts: 0}\n"))
    serving.signal(signal.SIGHUP)
    refused = serving.event("reload_refused", since)
    assert f"{serving.path}:4: wate: unknown field" in refused["message"]
    serving.until(lambda line: "retry.attempts" in line, since)
    assert call(serving.admin, "GET", "/status.json").json["configuration"] == before
    assert call(serving.admin, "GET", "/readyz").status == 200
    assert call(serving.url, "POST", TARGET, CHAT).status == 200

    since = len(serving.stdout)
    serving.write(configured(sim, more="models: [{name: fast, chain: [groq/openai/gpt-oss-20b]}]\n"))
    serving.signal(signal.SIGHUP)
    serving.event("reloaded", since)
    after = call(serving.admin, "GET", "/status.json").json["configuration"]
    assert after != before
    answer = call(serving.url, "POST", TARGET, CHAT.replace(b"openai/gpt-oss-120b", b"fast"))
    assert answer.header("x-sidecar-model") == "openai/gpt-oss-20b"


def test_H1_a_changed_file_is_found_without_a_signal(serving, sim):
    since = len(serving.stdout)
    serving.write(configured(sim, more="models: [{name: fast, chain: [groq/openai/gpt-oss-20b]}]\n"))
    serving.event("reloaded", since)
    answer = call(serving.url, "GET", "/v1/models")
    assert answer.json["data"][0]["id"] == "fast", answer


def test_H1_what_needs_a_restart_says_so(serving, sim):
    since = len(serving.stdout)
    serving.path.write_text(serving.path.read_text().replace("listen: 127.0.0.1:0", f"listen: 127.0.0.1:{free_port()}"))
    serving.signal(signal.SIGHUP)
    assert "`listen`" in serving.event("restart_needed", since)["message"]
    assert call(serving.url, "POST", TARGET, CHAT).status == 200


def test_H1_a_running_stream_finishes_through_a_reload(serving, sim):
    sim.steer("faults", {"kind": "slow", "chunk_seconds": 0.05, "count": 1})
    streaming = Streaming(serving.url)
    since = len(serving.stdout)
    serving.signal(signal.SIGHUP)
    serving.event("reloaded", since)
    assert streaming.rest().endswith(b"data: [DONE]\n\n")


class Plain:
    """A file that is written anew."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "key"

    def put(self, key: str) -> None:
        self.path.write_text(key + "\n")


class Swapped:
    """A volume of Kubernetes: the file is a link into a directory that a link points to, and that link is swapped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "key"

    def put(self, key: str) -> None:
        version = self._folder / f"..version_{len(list(self._folder.glob('..version_*')))}"
        version.mkdir()
        (version / "key").write_text(key)
        fresh = self._folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(self._folder / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to("..data/key")


@pytest.mark.parametrize("kind", [Plain, Swapped])
def test_H1_a_changed_key_is_used_and_streams_go_on(tmp_path, sim, kind):
    folder = tmp_path / "secret"
    folder.mkdir()
    key = kind(folder)
    key.put(OLD)
    with Serving(tmp_path / "rotated.yaml", configured(sim, f"file: '{key.path}'")) as serving:
        sim.steer("faults", {"kind": "slow", "chunk_seconds": 0.05, "count": 1})
        streaming = Streaming(serving.url)
        since = len(serving.stdout)
        key.put(NEW)
        serving.event("reloaded", since)
        assert call(serving.url, "POST", TARGET, CHAT).status == 200
        assert keys_seen(sim) == [OLD, NEW]
        assert streaming.rest().endswith(b"data: [DONE]\n\n")
        assert serving.stop() == 0
    assert not [line for line in serving.stdout + serving.stderr if OLD in line or NEW in line]


def test_H1_H2_a_refused_key_is_used_again_when_it_has_changed(tmp_path, sim):
    path = tmp_path / "key"
    path.write_text("gsk_nobodyKnowsThisOne")
    with Serving(tmp_path / "refused.yaml", configured(sim, f"file: '{path}'")) as serving:
        for _ in range(3):
            assert call(serving.url, "POST", TARGET, CHAT).status == 503
        assert keys_seen(sim) == ["gsk_nobodyKnowsThisOne"], "asked once, and not again"
        since = len(serving.stdout)
        path.write_text(NEW)
        serving.event("reloaded", since)
        assert call(serving.url, "POST", TARGET, CHAT).status == 200


def test_a_key_that_is_not_there_yet(tmp_path, sim):
    path = tmp_path / "key"
    with Serving(tmp_path / "late.yaml", configured(sim, f"file: '{path}'")) as serving:
        assert str(path) in serving.event("warning")["message"]
        assert call(serving.admin, "GET", "/readyz").status == 200
        answer = call(serving.url, "POST", TARGET, CHAT)
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_usable_key")
        since = len(serving.stdout)
        path.write_text(OLD)
        serving.event("reloaded", since)
        assert call(serving.url, "POST", TARGET, CHAT).status == 200


def test_a_reader_of_the_log_that_goes_away_does_not_end_it(tmp_path, sim):
    config = tmp_path / "pipe.yaml"
    port = free_port()
    config.write_text(f"listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:0\n" + configured(sim))
    environ = clean_environ({"GROQ_API_KEY": OLD})
    words = [*COMMAND, "serve", "--config", str(config)]
    with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"listening" in process.stdout.readline()
        process.stdout.close()
        try:
            for _ in range(3):
                assert call(f"http://127.0.0.1:{port}", "POST", TARGET, CHAT).status == 200
        finally:
            process.terminate()
            assert process.wait(WATCHDOG_S) == 0
        assert process.stderr.read() == b""
