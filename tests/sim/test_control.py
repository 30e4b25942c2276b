"""The control calls: what they show, what they change, what they refuse."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest
import trustme

from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.server import Listen, Simulator, run
from tests.fakes import FakeClock
from tests.sim.rig import simulated


async def test_stats_are_json():
    async with simulated("groq", LimitRule(rpm=1)) as rig:
        await rig.chat()
        await rig.chat()
        stats = (await rig.call("GET", "/_sim/stats")).json
        assert stats["total"] | {"refused": {"rpm": 1}} == stats["total"]
        assert stats["keys"]["k1"]["served"] == 1
        assert stats["quotas"]["org-a/m"]["seen"] == 2


async def test_requests_are_shown_whole():
    async with simulated("groq") as rig:
        await rig.chat(headers={"X-Twice": "1"})
        await rig.call("POST", "/files", data=b"\xff\xfe")
        text, binary = (await rig.call("GET", "/_sim/requests")).json
        assert (text["method"], text["target"]) == ("POST", "/openai/v1/chat/completions")
        assert ["x-twice", "1"] in text["headers"]
        assert ["authorization", "Bearer k1"] in text["headers"]
        assert '"model": "m"' in text["body"]
        assert binary["body_base64"] == "//4="


async def test_faults_are_listed_and_cleared():
    async with simulated("groq") as rig:
        listed = (await rig.fault(kind="cut", after_chunks=3)).json["faults"]
        assert listed == (await rig.call("GET", "/_sim/faults")).json == [{"kind": "cut", "after_chunks": 3}]
        await rig.call("DELETE", "/_sim/faults")
        assert (await rig.call("GET", "/_sim/faults")).json == []
        assert (await rig.chat()).status == 200


@pytest.mark.parametrize("wrapped", [False, True])
async def test_limits_change_live(wrapped):
    async with simulated("groq", LimitRule(rpm=1)) as rig:
        await rig.chat()
        assert (await rig.chat()).status == 429
        rule = {"account": "org-a", "rpm": 2}
        await rig.call("POST", "/_sim/limits", json=[rule] if wrapped else rule)
        assert [(await rig.chat()).status for _ in range(2)] == [200, 429]


async def test_reset_forgets_all_but_the_limits():
    async with simulated("groq", LimitRule(rpm=1)) as rig:
        await rig.fault(kind="busy")
        await rig.chat()
        assert (await rig.call("POST", "/_sim/reset")).status == 200
        assert (rig.sim.stats.total.seen, len(rig.sim.requests)) == (0, 0)
        assert [(await rig.chat()).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "faults", b"{", 400, "fault: "),
        ("POST", "faults", b"\xff", 400, "fault: "),
        ("POST", "faults", b'{"kind":"flood"}', 400, "Invalid enum value 'flood' - at `$.kind`"),
        ("POST", "faults", b'{"kind":"cut","afterchunks":1}', 400, "unknown field `afterchunks`"),
        ("POST", "faults", b'{"kind":"cut","probability":2}', 400, "$.probability"),
        ("POST", "faults", b'{"kind":"cut","count":0}', 400, "$.count"),
        ("POST", "faults", b'{"kind":"status"}', 400, "needs `status`"),
        ("POST", "faults", b'{"kind":"down","mode":"refuse"}', 400, "needs `seconds`"),
        ("POST", "limits", b'[{"rpm":0}]', 400, "$[0].rpm"),
        ("POST", "limits", b'{"rpm":"x"}', 400, "limits: "),
        ("POST", "limits", b'{"rps":1}', 400, "unknown field `rps`"),
        ("GET", "nothing", b"", 404, "no control call GET /_sim/nothing"),
        ("PUT", "faults", b"", 404, "no control call PUT"),
    ],
)
async def test_control_calls_that_mean_nothing(method, path, body, status, text):
    async with simulated("groq") as rig:
        got = await rig.call(method, f"/_sim/{path}", data=body)
        assert got.status == status
        assert text in got.json["error"]
        assert rig.sim.provider.faults.faults == []


async def test_run_serves_several_until_cancelled():
    ready: asyncio.Future[list[Simulator]] = asyncio.get_running_loop().create_future()
    listens = [Listen(SimConfig(dialect="groq")), Listen(SimConfig(dialect="cerebras"))]
    task = asyncio.create_task(run(listens, FakeClock(), ready.set_result))
    async with asyncio.timeout(5), aiohttp.ClientSession(headers={"authorization": "Bearer any"}) as session:
        simulators = await ready
        for simulator in simulators:
            async with session.get(simulator.base_url + "/models") as answer:
                assert answer.status == 200
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(simulators[0].base_url + "/models")


async def test_run_stops_all_when_one_port_is_taken():
    async with simulated("groq") as rig:
        port = int(rig.root.rpartition(":")[2])
        listens = [Listen(SimConfig(dialect="groq")), Listen(SimConfig(dialect="openai"), port=port)]
        async with asyncio.timeout(5):
            with pytest.raises(OSError, match="address already in use"):
                await run(listens, FakeClock(), lambda _: None)


@pytest.mark.parametrize("mode", ["rst", "eof"])
async def test_tls(mode):
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    async with simulated("groq") as rig, asyncio.timeout(5):
        await rig.sim.stop()
        port = await rig.sim.start("127.0.0.1", 0, server)
        connector = aiohttp.TCPConnector(ssl=client)
        headers = {"authorization": "Bearer k1"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            url = f"https://localhost:{port}"
            assert rig.sim.base_url == f"https://127.0.0.1:{port}/openai/v1"
            async with session.get(url + "/openai/v1/models") as answer:
                assert answer.status == 200
            async with session.post(url + "/_sim/faults", json={"kind": "down", "mode": mode}) as answer:
                assert answer.status == 200
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(url + "/openai/v1/models")
