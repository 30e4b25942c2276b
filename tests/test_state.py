"""What a sidecar knows outlives it: real processes, really killed (acceptance A21)."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess

import pytest

from sidecar.core.limits import DAY
from sidecar.interfaces import CannotKeep
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.fakes import settle
from tests.processes import COMMAND, WATCHDOG_S, Serving, Sim, call, clean_environ
from tests.rig import KEYS as RIG_KEYS
from tests.rig import DrivenClock, pump, running

GOOD, BAD = "sk-theKeyThatServes", "sk-theKeyThatIsRevoked"
KEYS = {"GOOD": GOOD, "BAD": BAD}
CHAT = b'{"model": "fast", "messages": [{"role": "user", "content": "hello"}]}'
TARGET = "/v1/chat/completions"
CONFIG = """
providers:
  - name: local
    base_url: {url}
    dialect: openai
    limits: [{{rpm: 50, rpd: 900, tpd: 100000}}]
    learn: false
    keys:
      - {{name: good, env: GOOD, account: one}}
      - {{name: bad, env: BAD, account: two}}
models: [{{name: fast, chain: [local/m]}}]
state: {{path: state.db}}
"""
LASTING = """
providers: [{name: groq, base_url: '{groq}', limits: [{rpd: 100}], keys: [{name: a, env: KEY_A}]}]
state: {path: state.db}
"""
KEY_A = RIG_KEYS["KEY_A"]


@pytest.fixture(scope="module")
def standing_sim():
    with Sim("openai", f"--key={GOOD}=one") as running:
        yield running


@pytest.fixture
def sim(standing_sim):
    standing_sim.steer("reset")
    return standing_sim


@pytest.fixture
def serve(tmp_path, sim):
    """Starts a sidecar; each finds the file of the one before."""
    started = []

    def start(environ=KEYS, config=CONFIG):
        started.append(Serving(tmp_path / "sidecar.yaml", config.format(url=sim.base_url), environ))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def status(serving):
    return call(serving.admin, "GET", "/status.json").json


def used(serving):
    """By account and model, what is used of the windows of a day: those of a minute may end meanwhile."""
    (provider,) = status(serving)["providers"]
    return {
        (account, quota["model"]): {
            window["counts"]: window["limit"] - window["remaining"]
            for window in quota["windows"]
            if window["per_s"] == 86400
        }
        for account, quotas in provider["accounts"].items()
        for quota in quotas
        if account == "one"
    }


def benched(serving):
    (provider,) = status(serving)["providers"]
    return {key["name"]: key["benched"] for key in provider["keys"] if key.get("benched")}


def saved(serving):
    """Ask until a save has been begun and ended: the one under way may be older than what was just done."""
    seen = {status(serving)["state"].get("saved_at")}
    while len(seen) < 3:
        seen.add(status(serving)["state"].get("saved_at"))


def kill(serving):
    serving.signal(signal.SIGKILL)
    assert serving.ended() == -signal.SIGKILL


def ask(serving, times=1):
    for _ in range(times):
        assert call(serving.url, "POST", TARGET, CHAT).status == 200


def bearers(sim):
    return [dict(map(tuple, each["headers"]))["authorization"].removeprefix("Bearer ") for each in sim.ask("requests")]


def test_A21_kill_9_costs_neither_what_was_used_nor_who_was_benched(serve, sim):
    first = serve()
    ask(first, 7)
    before, bench = used(first), benched(first)
    assert before["one", "m"]["requests"] == 7
    assert bench.keys() == {"bad"}
    saved(first)
    kill(first)
    second = serve()
    assert used(second) == before
    assert benched(second) == bench
    assert bench["bad"].get("for_s") is None
    sim.steer("reset")
    ask(second, 3)
    assert bearers(sim) == [GOOD] * 3
    assert used(second)["one", "m"]["requests"] == 10


def test_a_disk_that_takes_no_more_is_told_once_and_requests_go_on(serve):
    serving = serve()
    ask(serving)
    saved(serving)
    pid = serving.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    ask(serving, 3)
    assert "disk" in serving.event("state_not_saved")["message"]
    ask(serving, 3)
    assert status(serving)["state"]["problem"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    serving.event("state_saved")
    assert "problem" not in status(serving)["state"]
    assert len([line for line in serving.stdout if '"state_not_saved"' in line]) == 1


def test_a_directory_that_is_not_there_is_refused_before_any_port_is_opened(tmp_path, sim):
    path = tmp_path / "sidecar.yaml"
    path.write_text(CONFIG.format(url=sim.base_url).replace("state.db", "nowhere/state.db"))
    refused = subprocess.run(
        [*COMMAND, "serve", "--config", str(path)], env=clean_environ(KEYS), capture_output=True, timeout=WATCHDOG_S
    )
    assert refused.returncode == 64
    assert b"No such file or directory; create its directory" in refused.stderr
    assert refused.stdout == b""


# in one process, by a clock that is driven


def lasting(tmp_path, clock, config=LASTING):
    return running(tmp_path, config, {"groq": SimConfig("groq")}, clock=clock)


async def left_today(clock, rig):
    """Limit and rest of the day's requests; None: nothing is known of them."""
    (provider,) = (await pump(clock, rig.status()))["providers"]
    windows = [window for quota in provider["accounts"]["a"] for window in quota["windows"]]
    days = [each for each in windows if (each["counts"], each["per_s"]) == ("requests", 86400)]
    return [(day["limit"], day["remaining"]) for day in days]


async def ask_here(clock, rig, times=1):
    for _ in range(times):
        assert (await pump(clock, rig.post())).status == 200


def events(rig, name):
    return [line["message"] for line in rig.lines if line.get("event") == name]


async def test_A21_stopped_in_order_nothing_is_lost_and_a_reload_keeps_saving(tmp_path):
    clock = DrivenClock()
    async with lasting(tmp_path, clock) as rig:
        await ask_here(clock, rig, 4)
        assert rig.reload(LASTING.replace("rpd: 100", "rpd: 50"))
        await ask_here(clock, rig)
        assert await left_today(clock, rig) == [(50, 45)]
    async with lasting(tmp_path, clock) as rig:
        assert await left_today(clock, rig) == [(100, 95)]
        await ask_here(clock, rig)
    clock.leap(2 * DAY)
    async with lasting(tmp_path, clock) as rig:
        assert await left_today(clock, rig) == [(100, 100)]


async def test_no_secret_and_nothing_said_is_in_the_file(tmp_path):
    clock = DrivenClock()
    async with lasting(tmp_path, clock) as rig:
        rig.fault("groq", Fault(kind="status", status=401))
        await pump(clock, rig.post())
    content = (tmp_path / "state.db").read_bytes()
    assert b"key groq/a" in content
    assert KEY_A.encode() not in content
    assert b"hello" not in content


@pytest.mark.parametrize("what", ["damaged", "older"])
async def test_a_file_that_cannot_be_used_is_set_aside_with_a_warning(tmp_path, what):
    clock, path = DrivenClock(), tmp_path / "state.db"
    async with lasting(tmp_path, clock) as rig:
        await ask_here(clock, rig)
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 0")
        connection.close()
    async with lasting(tmp_path, clock) as rig:
        assert await left_today(clock, rig) == []
        await ask_here(clock, rig)
        (warning,) = events(rig, "warning")
        assert "state.db.broken-" in warning
    assert len(list(tmp_path.glob("state.db.broken-*[0-9]"))) == 1


async def test_a_second_one_on_the_same_file_is_refused(tmp_path):
    clock = DrivenClock()
    async with lasting(tmp_path, clock) as rig:
        with pytest.raises(CannotKeep, match="another process has it open"):
            async with lasting(tmp_path, clock):
                pass
        await ask_here(clock, rig)


async def test_without_a_path_nothing_is_written(tmp_path):
    clock = DrivenClock()
    config = LASTING.replace("state: {path: state.db}", "")
    async with lasting(tmp_path, clock, config) as rig:
        await ask_here(clock, rig)
        assert (await pump(clock, rig.status()))["state"] == {"path": None}
        assert rig.reload(LASTING)
        await settle()
        assert events(rig, "restart_needed") == ["a change of `state` takes effect after a restart"]
    assert [each.name for each in tmp_path.iterdir()] == ["sidecar.yaml"]
