"""Keys and configurations that change under a running house (H1), and what switches keys and models off (H2, H5, H6).

Time is driven: files are looked at once a second, and benches last hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.fakes import settle
from tests.rig import LISTEN, WATCHDOG_S, DrivenClock, chat, running, until
from tests.upstream.scripted import answering
from tests.wire import COMPLETION, EVENTS, LAST_CHUNK, at_rest, chunk, delta, error, providers, says, scripted, seen

pytestmark = BOTH_WAYS

OK = answering(says(COMPLETION))
NO_WAIT = "wait: {max: 0s}\n"


@contextlib.asynccontextmanager
async def from_file(tmp_path, script, key, more=""):
    """A house whose only key is in the file `key` beside its configuration."""
    clock = DrivenClock()
    async with asyncio.timeout(WATCHDOG_S), scripted(script) as server:
        text = providers(server, keys="") + f"    limits: [{{model: m, rpm: 1000}}]\n{NO_WAIT}{more}"
        text = text.replace("keys: []", f"keys: [{{name: a, file: {key}}}]")
        async with running(tmp_path, text, {}, clock=clock) as rig:
            yield rig, server, clock
            await at_rest(rig)


async def ask(rig, model="m", **headers):
    return await rig.post(body=chat(model), **headers)


def keys(server):
    """The keys the provider was shown, in order."""
    return [each.values(b"authorization")[0].removeprefix(b"Bearer ").decode() for each in seen(server)]


def events(rig, name):
    return [line for line in rig.lines if line.get("event") == name]


# === H1: files ===


async def test_H1_the_next_request_uses_the_key_that_is_in_the_file_now(tmp_path):
    (tmp_path / "key").write_text("first\n")
    async with from_file(tmp_path, OK, "key") as (rig, server, clock):
        await ask(rig)
        hash_before = (await rig.status())["configuration"]
        (tmp_path / "key").write_text("the-second\n")
        await ask(rig)
        clock.advance(SECOND)
        await ask(rig)
        clock.advance(10 * SECOND)
        await ask(rig)
        assert keys(server) == ["first", "first", "the-second", "the-second"]
        assert len(events(rig, "reloaded")) == 1
        assert (await rig.status())["configuration"] == hash_before  # which tells nothing of secrets


def mounted(folder, number, key):
    """A Secret as Kubernetes mounts it: the key is a link into `..data`, itself a link to a dated directory."""
    dated = folder / f"..2026_{number}"
    dated.mkdir(parents=True)
    (dated / "key").write_text(key)
    os.utime(dated / "key", ns=(1, 1))  # the moment tells nothing
    os.symlink(dated.name, folder / "..data_tmp")
    os.replace(folder / "..data_tmp", folder / "..data")
    if not (folder / "key").is_symlink():
        os.symlink("..data/key", folder / "key")


async def test_H1_a_swapped_link_brings_the_new_key(tmp_path):
    mounted(tmp_path / "secret", 1, "key-1")
    async with from_file(tmp_path, OK, "secret/key") as (rig, server, clock):
        await ask(rig)
        for number in (2, 3):
            mounted(tmp_path / "secret", number, f"key-{number}")
            clock.advance(SECOND)
            await ask(rig)
        assert keys(server) == ["key-1", "key-2", "key-3"]


async def test_H1_running_streams_finish_with_the_old_key(tmp_path):
    (tmp_path / "key").write_text("old")
    go_on = asyncio.Event()

    async def script(peer):
        while True:
            await peer.request()
            peer.send(EVENTS + chunk(b"data: " + delta("one").encode() + b"\n\n"))
            await go_on.wait()
            peer.send(chunk(b"data: " + delta("two", finish_reason="stop").encode() + b"\n\n") + LAST_CHUNK)

    async with from_file(tmp_path, script, "key") as (rig, server, clock):
        running_one = asyncio.ensure_future(rig.post(body=chat("m", stream=True)))
        await until(lambda: len(server.requests) == 1)
        (tmp_path / "key").write_text("new-key")
        clock.advance(SECOND)
        next_one = asyncio.ensure_future(rig.post(body=chat("m", stream=True)))
        await server.until(lambda: len(server.peers) == 2)
        await settle(40)
        go_on.set()
        answers = await asyncio.gather(running_one, next_one)
        assert [b"two" in answer.body and b"error" not in answer.body for answer in answers] == [True, True]
        assert keys(server) == ["old", "new-key"]


async def test_H1_a_running_stream_finishes_though_its_provider_is_gone(tmp_path):
    go_on = asyncio.Event()

    async def script(peer):
        await peer.request()
        peer.send(EVENTS + chunk(b"data: " + delta("one").encode() + b"\n\n"))
        await go_on.wait()
        peer.send(chunk(b"data: " + delta("two", finish_reason="stop").encode() + b"\n\n") + LAST_CHUNK)

    (tmp_path / "key").write_text("old")
    async with scripted(OK) as other, from_file(tmp_path, script, "key") as (rig, server, clock):
        running_one = asyncio.ensure_future(rig.post(body=chat("m", stream=True)))
        await until(lambda: len(server.requests) == 1)
        rig.path.write_text(LISTEN + providers(other, "other"))
        clock.advance(SECOND)
        assert (await ask(rig)).headers["x-sidecar-provider"] == "other"
        go_on.set()
        assert b"two" in (await running_one).body
        assert [line["provider"] for line in rig.requests] == ["other", "own"]


BAD = [
    ("nonsense: 1\n", "nonsense: unknown field"),
    ("wait: {max: soon}\n", "wait.max: "),
    ("models: [{name: x, chain: [nobody/m]}]\n", "models[0].chain[0]: "),
    ("wait: {max: 1s\n", ""),
    ("body: {max_bytes: 0}\n", "body.max_bytes: "),
]


@pytest.mark.parametrize(("line", "told"), BAD)
async def test_H1_a_bad_configuration_is_refused_with_its_line_and_the_old_one_kept(tmp_path, line, told):
    (tmp_path / "key").write_text("old")
    async with from_file(tmp_path, OK, "key") as (rig, server, clock):
        good = rig.path.read_text()
        before = (await rig.status())["configuration"]
        bad = good.replace(NO_WAIT, "") + line
        rig.path.write_text(bad)
        (tmp_path / "key").write_text("new-key")
        for _ in range(3):
            clock.advance(SECOND)
            assert (await ask(rig)).status == 200
        (refused,) = events(rig, "reload_refused")  # told once
        place = bad.count("\n") + (not told)  # what is cut short ends a line later
        assert refused["message"].startswith(f"{rig.path}:{place}: {told}"), refused
        assert (await rig.status())["configuration"] == before
        rig.path.write_text(good)
        clock.advance(SECOND)
        await ask(rig)
        assert keys(server) == ["old", "old", "old", "new-key"]
        assert len(events(rig, "reloaded")) == 1


async def test_H1_a_configuration_that_is_away_for_a_moment_is_waited_for(tmp_path):
    (tmp_path / "key").write_text("old")
    async with from_file(tmp_path, OK, "key") as (rig, _, clock):
        text = rig.path.read_text()
        rig.path.unlink()
        clock.advance(2 * SECOND)
        assert (await ask(rig)).status == 200
        rig.path.write_text(text + "models: [{name: new, chain: [own/m]}]\n")
        clock.advance(SECOND)
        assert (await ask(rig, "new")).headers["x-sidecar-model"] == "m"


async def test_H1_a_key_that_is_not_there_yet_is_waited_for(tmp_path):
    async with from_file(tmp_path, OK, "later") as (rig, server, clock):
        answer = await ask(rig)
        assert (answer.status, error(answer)["code"]) == (503, "no_usable_key")
        assert "later cannot be read" in events(rig, "warning")[0]["message"]
        for content in ("", "\n"):
            (tmp_path / "later").write_text(content)
            clock.advance(SECOND)
            assert (await ask(rig)).status == 503
        (tmp_path / "later").write_text("here")
        clock.advance(SECOND)
        assert (await ask(rig)).status == 200
        assert keys(server) == ["here"]


async def test_H1_tokens_and_chains_change_and_what_cannot_is_told(tmp_path):
    (tmp_path / "key").write_text("k")
    (tmp_path / "door").write_text("one")
    more = "auth: {tokens: [{file: door}]}\n"
    async with from_file(tmp_path, OK, "key", more) as (rig, server, clock):
        assert (await ask(rig, authorization="Bearer one")).status == 200
        (tmp_path / "door").write_text("another")
        clock.advance(SECOND)
        answers = [await ask(rig, authorization=f"Bearer {token}") for token in ("one", "another")]
        assert [answer.status for answer in answers] == [401, 200]
        text = rig.path.read_text().replace(LISTEN, LISTEN.replace("listen: 127.0.0.1", "listen: 127.0.0.2"))
        rig.path.write_text(text.replace(more, "models: [{name: fast, chain: [own/x]}]\ntimeouts: {client_idle: 1m}\n"))
        clock.advance(SECOND)
        assert (await ask(rig, "fast")).headers["x-sidecar-model"] == "x"
        told = [line["message"].split("`")[1] for line in events(rig, "restart_needed")]
        assert told == ["listen", "timeouts.client_idle"]
        assert len(server.requests) == 3


# === H2, H6: keys ===

KEYS_OF_GROQ = "{name: a, env: KEY_A}, {name: b, env: KEY_B}"
HOUSE = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [KEYS]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
  - {name: alone, chain: [groq/openai/gpt-oss-120b]}
wait: {max: 0s}
"""
GROQ = ("openai/gpt-oss-120b", "openai/gpt-oss-20b")
SIMS = {"groq": SimConfig("groq", models=GROQ), "cerebras": SimConfig("cerebras", models=("gpt-oss-120b",))}


@contextlib.asynccontextmanager
async def house(tmp_path, own_keys=KEYS_OF_GROQ, sims=SIMS):
    """Two providers, on a driven clock."""
    clock = DrivenClock()
    async with (
        asyncio.timeout(WATCHDOG_S),
        running(tmp_path, HOUSE.replace("KEYS", own_keys), sims, clock=clock) as rig,
    ):
        yield rig, clock
        await at_rest(rig)


def key_row(rig, secret):
    row = rig.sims["groq"].stats.keys.get(secret)
    return row.seen if row is not None else 0


def bench(status, name):
    """Why a key of the first provider is not called, by its label."""
    return next(key for key in status["providers"][0]["keys"] if key["name"] == name)


async def test_H6_a_401_switches_the_key_off_until_its_secret_changes(tmp_path):
    (tmp_path / "key").write_text("revoked")
    own_keys = "{name: a, file: key}, {name: b, env: KEY_B}"
    sims = SIMS | {"groq": SimConfig("groq", keys={"gsk_b": "org-b", "renewed": "org-a"}, models=GROQ)}
    async with house(tmp_path, own_keys, sims) as (rig, clock):
        for hours in (0, 0, 0, 1, 24, 24 * 365):
            clock.leap(hours * HOUR)
            for _ in range(4):
                answer = await ask(rig, "fast")
                assert (answer.status, answer.headers["x-sidecar-key"]) == (200, "b")
        assert rig.row("groq").refused == {"invalid_api_key": 1}
        shown = bench(await rig.status(), "a")["benched"]
        assert (shown["reason"], shown["for_s"]) == ("key_invalid", None)
        rig.path.write_text(rig.path.read_text() + "\n# touched, which is no reason\n")
        clock.advance(SECOND)
        await ask(rig, "fast")
        assert rig.row("groq").refused == {"invalid_api_key": 1}
        (tmp_path / "key").write_text("renewed")
        clock.advance(SECOND)
        served = {(await ask(rig, "fast")).headers["x-sidecar-key"] for _ in range(4)}
        assert served == {"a", "b"}
        assert rig.row("groq").refused == {"invalid_api_key": 1}


async def test_H6_when_every_key_is_refused_the_caller_is_told_and_nobody_is_asked_again(tmp_path):
    sims = SIMS | {"groq": SimConfig("groq", keys={"other": "org-x"})}
    async with house(tmp_path, sims=sims) as (rig, clock):
        for number in range(3):
            answer = await ask(rig, "alone")
            assert (answer.status, error(answer)["code"]) == (503, "no_usable_key")
            assert answer.headers["x-should-retry"] == "false"
            assert rig.row("groq").seen == 2, number
            clock.leap(DAY)


async def test_H2_a_402_benches_the_key_for_hours(tmp_path):
    async with house(tmp_path) as (rig, clock):
        rig.fault("groq", Fault("status", status=402, key="gsk_a"))
        for _ in range(6):
            assert (await ask(rig, "fast")).headers["x-sidecar-key"] == "b"
        assert key_row(rig, "gsk_a") == 1
        shown = bench(await rig.status(), "a")["benched"]
        assert (shown["reason"], shown["for_s"]) == ("key_unpaid", 6 * 3600)
        for _ in range(24 * 4):  # a day, a request each quarter of an hour: not more than one wasted call an hour
            clock.leap(15 * MINUTE)
            assert (await ask(rig, "fast")).status == 200
        assert 2 <= key_row(rig, "gsk_a") <= 5
        rig.sims["groq"].provider.faults.clear()
        clock.leap(6 * HOUR)
        assert {(await ask(rig, "fast")).headers["x-sidecar-key"] for _ in range(4)} == {"a", "b"}


async def test_H2_a_403_benches_the_key_for_that_model_alone(tmp_path):
    async with house(tmp_path) as (rig, clock):
        rig.fault("groq", Fault("status", status=403, key="gsk_a", model="openai/gpt-oss-120b"))
        for _ in range(6):
            assert (await ask(rig, "fast")).headers["x-sidecar-key"] == "b"
        assert key_row(rig, "gsk_a") == 1
        shown = bench(await rig.status(), "a")
        assert "benched" not in shown or shown["benched"] is None
        assert shown["benched_at"]["openai/gpt-oss-120b"]["reason"] == "key_forbidden"
        assert {(await ask(rig, "groq/openai/gpt-oss-20b")).headers["x-sidecar-key"] for _ in range(4)} == {"a", "b"}
        clock.leap(HOUR)
        await asyncio.gather(*(ask(rig, "fast") for _ in range(2)))
        assert key_row(rig, "gsk_a") == 4  # one more, beside the two at the other model


async def test_H2_the_caller_s_own_words_switch_no_key_off(tmp_path):
    async with house(tmp_path) as (rig, _):
        for text in ("invalid api key", "Incorrect API key provided", "insufficient_quota", "model_not_found"):
            body = f'{{"error":{{"message":"messages.0: unexpected {text}","type":"invalid_request_error"}}}}'
            rig.fault("groq", Fault("status", status=400, count=1, body=body))
            assert (await ask(rig, "fast")).status == 400
        assert {(await ask(rig, "fast")).headers["x-sidecar-key"] for _ in range(4)} == {"a", "b"}


# === H5: models ===


def listed(answer):
    return [each["id"] for each in answer.json["data"]]


async def test_H5_the_list_of_models_is_what_can_be_called(tmp_path):
    async with house(tmp_path) as (rig, _):
        answer = await rig.get("/v1/models")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert listed(answer) == ["fast", "alone", *GROQ, "gpt-oss-120b"]
        assert answer.json["object"] == "list"
        assert listed(await rig.get("/openai/v1/models")) == listed(answer)
        assert (rig.row("groq").seen, rig.row("cerebras").seen) == (1, 1)  # asked once for both


@pytest.mark.parametrize("status", [404, 410])
async def test_H5_a_model_that_is_gone_is_parked_for_a_day_and_the_chain_goes_on(tmp_path, status):
    async with house(tmp_path) as (rig, clock):
        await rig.get("/v1/models")
        asked = rig.row("groq").seen
        body = '{"error":{"message":"The model `x` has been decommissioned","code":"model_decommissioned"}}'
        rig.fault("groq", Fault("status", status=status, model="openai/gpt-oss-120b", body=body))
        for hours in (0, 0, 1, 22.9):
            clock.leap(int(hours * HOUR))
            assert (await ask(rig, "fast")).headers["x-sidecar-provider"] == "cerebras"
            assert listed(await rig.get("/v1/models")) == ["fast", "openai/gpt-oss-20b", "gpt-oss-120b"]
        lists = 2  # it was asked for again after the hours
        assert rig.row("groq").seen - asked - lists == 1
        assert (await ask(rig, "groq/openai/gpt-oss-20b")).status == 200
        answer = await ask(rig, "alone")
        assert (answer.status, error(answer)["code"]) == (404, "model_not_found")
        benched = (await rig.status())["providers"][0]["benched"]["openai/gpt-oss-120b"]
        assert (benched["reason"], benched["for_s"] > 0) == ("model_unavailable", True)
        rig.sims["groq"].provider.faults.clear()
        clock.leap(HOUR)
        assert (await ask(rig, "fast")).headers["x-sidecar-provider"] == "groq"


async def test_H5_a_404_for_an_object_parks_nothing(tmp_path):
    async with house(tmp_path) as (rig, _):
        assert (await rig.get("/v1/files/file-unknown")).status == 404
        assert (await rig.get("/v1/no/such/path")).status == 404
        assert (await ask(rig, "fast")).headers["x-sidecar-provider"] == "groq"
        assert (await rig.status())["providers"][0].get("benched", {}) == {}


async def test_H5_models_behind_refused_keys_are_not_listed(tmp_path):
    sims = SIMS | {"groq": SimConfig("groq", keys={"gsk_a": "org-a", "gsk_b": "org-b"}, models=GROQ)}
    async with house(tmp_path, sims=sims) as (rig, clock):
        assert listed(await rig.get("/v1/models")) == ["fast", "alone", *GROQ, "gpt-oss-120b"]
        rig.fault("groq", Fault("status", status=401))
        assert (await ask(rig, "fast")).headers["x-sidecar-provider"] == "cerebras"
        assert listed(await rig.get("/v1/models")) == ["fast", "gpt-oss-120b"]
        clock.leap(HOUR)
        assert listed(await rig.get("/v1/models")) == ["fast", "gpt-oss-120b"]


async def test_H5_a_provider_that_cannot_be_asked_is_listed_by_what_is_known_of_it(tmp_path):
    async with house(tmp_path) as (rig, _):
        rig.fault("groq", Fault("status", status=500))
        assert {"openai/gpt-oss-120b", "whisper-large-v3", "gpt-oss-120b"} <= set(listed(await rig.get("/v1/models")))


async def test_H5_where_every_key_is_refused_at_the_list_itself_its_models_are_left_out(tmp_path):
    sims = SIMS | {"groq": SimConfig("groq", keys={"other": "org-x"}, models=GROQ)}
    async with house(tmp_path, sims=sims) as (rig, _):
        assert "openai/gpt-oss-20b" not in listed(await rig.get("/v1/models"))
