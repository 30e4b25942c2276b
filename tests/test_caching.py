"""Answers that are kept and answers that are shared, over the wire: a hit costs no call, and is what a call gives."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from sidecar.core.limits import HOUR, SECOND
from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.fakes import settle
from tests.rig import CHAT, WATCHDOG_S, DrivenClock, chat, pump, running, until
from tests.wire import COMPLETION, EVENTS, LAST_CHUNK, before, chunk, delta, says, seen

PROVIDERS = """
providers:
  - {name: groq, base_url: "{groq}", keys: [{name: a, env: KEY_A}]}
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b]}
"""
ON = "cache: {enabled: true}\n"
# the general lane takes what the fast lane finds odd
LANES = pytest.mark.parametrize("lane", [{}, {"proxy_connection": "keep-alive"}], ids=["fast", "general"])
MODEL = "openai/gpt-oss-120b"


def cached(tmp_path, config=ON, *, clock=None, gzip=False, tokens=32, dialect="groq", **environ):
    sims = {"groq": SimConfig(dialect, gzip=gzip, tokens_per_reply=tokens)}
    return running(tmp_path, PROVIDERS + config, sims, clock=clock, environ={"KEY_A": "gsk_a", **environ})


def asking(**fields):
    return chat(**{"temperature": 0, **fields})


def outcome(answer):
    return answer.status, answer.headers.get("x-sidecar-cache")


def events(body):
    found = [line[6:] for line in body.decode().split("\n\n") if line.startswith("data: ")]
    assert found[-1] == "[DONE]"
    return [json.loads(data) for data in found[:-1]]


def text_of(body):
    return "".join(choice["delta"].get("content") or "" for event in events(body) for choice in event["choices"])


@LANES
async def test_J5_hit_miss_bypass_are_told(tmp_path, lane):
    async with cached(tmp_path) as rig:
        first = await rig.post(body=asking(), **lane)
        second = await rig.post(body=asking(), **lane)
        assert (outcome(first), outcome(second)) == ((200, "miss"), (200, "hit"))
        assert "age" not in first.headers
        assert second.headers["age"] == "0"
        assert second.headers["content-type"] == first.headers["content-type"]
        assert {name: second.headers[name] for name in ("x-sidecar-provider", "x-sidecar-model", "x-sidecar-key")} == {
            "x-sidecar-provider": "groq", "x-sidecar-model": MODEL, "x-sidecar-key": "a",
        }  # fmt: skip
        assert (second.headers["x-sidecar-attempts"], second.headers["x-sidecar-wait-ms"]) == ("0", "0")
        assert not [name for name in second.headers if name.startswith("x-ratelimit")]
        assert second.headers["x-request-id"].startswith("req_")
        assert second.headers["x-request-id"] != first.headers["x-request-id"]
        assert second.json == first.json
        for wish in ({"cache_control": "no-store"}, {"x_sidecar_cache": "off"}):
            assert outcome(await rig.post(body=asking(), **lane, **wish)) == (200, "bypass")
        assert outcome(await rig.post(body=chat(), **lane)) == (200, "bypass")
        assert rig.row("groq").served == 4
        lines = [(line["cache"], line["attempts"]) if line.get("attempts") else line["cache"] for line in rig.requests]
        assert lines == [("miss", 1), "hit", ("bypass", 1), ("bypass", 1), ("bypass", 1)]


@LANES
async def test_J5_off_by_default(tmp_path, lane):
    async with cached(tmp_path, "") as rig:
        for _ in range(2):
            assert outcome(await rig.post(body=asking(), **lane, x_sidecar_cache="on")) == (200, None)
        assert rig.row("groq").served == 2
        assert (await rig.status())["cache"]["enabled"] is False


@LANES
@pytest.mark.parametrize(
    "fault",
    [Fault("status", status=500), Fault("empty"), Fault("rate_limit", seconds=1)],
    ids=["500", "empty", "429"],
)
async def test_J5_errors_are_not_stored(tmp_path, lane, fault):
    async with cached(tmp_path, ON + "retry: {attempts: 1}\nwait: {max: 0s}\n") as rig:
        rig.fault("groq", fault)
        answer = await rig.post(body=asking(), **lane)
        assert answer.status >= 400
        assert answer.headers["x-sidecar-cache"] == "miss"
        assert (await rig.status())["cache"].get("entries", 0) == 0


@LANES
@pytest.mark.parametrize("stream", [False, True])
async def test_J5_truncated_answers_are_not_stored(tmp_path, lane, stream):
    async with cached(tmp_path) as rig:
        for _ in range(2):
            assert outcome(await rig.post(body=asking(max_tokens=3, stream=stream), **lane)) == (200, "miss")
        assert rig.row("groq").served == 2


@LANES
async def test_tool_calls_are_stored_and_replayed(tmp_path, lane):
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    body = asking(tools=tools, tool_choice="required")
    async with cached(tmp_path) as rig:
        first = await rig.post(body=body, **lane)
        assert first.headers["x-sidecar-cache"] == "miss"
        call = first_plain(first, rig)["choices"][0]["message"]["tool_calls"][0]
        hit = await rig.post(body=body | {"stream": True}, **lane)
        assert outcome(hit) == (200, "hit")
        deltas = [choice for event in events(hit.body) for choice in event["choices"]]
        told = [each for choice in deltas for each in choice["delta"].get("tool_calls", [])]
        assert told == [{"index": 0, **call}]
        assert deltas[-1]["finish_reason"] == "tool_calls"


def first_plain(answer, rig):
    import gzip

    packed = answer.headers.get("content-encoding") == "gzip"
    return json.loads(gzip.decompress(answer.body) if packed else answer.body)


@LANES
@pytest.mark.parametrize("gzip", [True, False])
async def test_J2_a_plain_answer_serves_streams(tmp_path, lane, gzip):
    async with cached(tmp_path, gzip=gzip) as rig:
        plain = first_plain(await rig.post(body=asking(), accept_encoding="gzip", **lane), rig)
        stream = await rig.post(body=asking(stream=True), **lane)
        assert outcome(stream) == (200, "hit")
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in stream.headers
        said = plain["choices"][0]["message"]["content"]
        told = events(stream.body)
        assert text_of(stream.body) == said
        assert len(told) > len(said) / 64
        assert [event["choices"][0]["finish_reason"] for event in told][-1] == "stop"
        assert told[0]["choices"][0]["delta"]["role"] == "assistant"
        assert {(event["id"], event["model"], event["object"]) for event in told} == {
            (plain["id"], plain["model"], "chat.completion.chunk")
        }
        assert not any("usage" in event for event in told)
        asked = await rig.post(body=asking(stream=True, stream_options={"include_usage": True}), **lane)
        assert outcome(asked) == (200, "hit")
        last = events(asked.body)[-1]
        assert (last["choices"], last["usage"]) == ([], plain["usage"])
        assert rig.row("groq").served == 1


@LANES
@pytest.mark.parametrize("options", [None, {"include_usage": True}])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_J2_a_stream_serves_plain_callers(tmp_path, lane, options, path):
    body = asking(stream=True, stream_options=options) if path == CHAT else {
        "model": MODEL, "prompt": "hello", "temperature": 0, "stream": True, "stream_options": options,
    }  # fmt: skip
    async with cached(tmp_path, dialect="groq" if path == CHAT else "cerebras") as rig:
        first = await rig.post(path, body, **lane)
        assert outcome(first) == (200, "miss")
        plain = await rig.post(path, {**body, "stream": False}, **lane)
        again = await rig.post(path, body, **lane)
        assert (outcome(plain), outcome(again)) == ((200, "hit"), (200, "hit"))
        assert plain.headers["content-type"] == "application/json"
        (choice,) = plain.json["choices"]
        assert choice["finish_reason"] == "stop"
        if path == CHAT:
            assert plain.json["object"] == "chat.completion"
            assert choice["message"] == {"role": "assistant", "content": text_of(first.body)}
            assert text_of(again.body) == text_of(first.body)
        else:
            assert plain.json["object"] == "text_completion"
            said = [
                "".join(choice["text"] for e in events(each.body) for choice in e["choices"]) for each in (first, again)
            ]
            assert said == [choice["text"]] * 2
        usage = plain.json["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
        assert rig.row("groq").served == 1


@LANES
@pytest.mark.parametrize("stream", [False, True])
async def test_J3_a_hundred_at_once_are_one_call(tmp_path, lane, stream):
    async with cached(tmp_path, gzip=False) as rig, asyncio.timeout(WATCHDOG_S):
        rig.fault("groq", Fault("slow", seconds=0.05))
        answers = await asyncio.gather(*(rig.post(body=asking(stream=stream), **lane) for _ in range(100)))
        assert rig.row("groq").served == 1
        assert len({answer.body for answer in answers}) == 1
        assert sorted(answer.headers["x-sidecar-cache"] for answer in answers) == ["hit"] * 99 + ["miss"]
        assert len({answer.headers["x-request-id"] for answer in answers}) == 100
        counts = (await rig.status())["cache"]["models"][MODEL]
        assert (counts["misses"], counts["coalesced"], counts["saved_requests"]) == (1, 99, 99)
        tokens = [line.get("tokens_out") for line in rig.requests if line.get("tokens_out")]
        assert len(tokens) == 1  # what was used is told once
        assert counts["saved_output_tokens"] == 99 * tokens[0]


def say(number):
    return b"data: " + delta(f"word{number} ").encode() + b"\n\n"


END = b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def stepwise(gates, *, breaks=False):
    """A provider that says its next word when its gate opens."""

    async def script(peer):
        while True:
            await peer.request()
            peer.send(EVENTS + chunk(say(0)))
            for number, gate in enumerate(gates, 1):
                await asyncio.wait([asyncio.ensure_future(gate.wait()), gone := asyncio.ensure_future(peer.gone())],
                                   return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
                gone.cancel()
                peer.send(chunk(say(number)))
            if breaks:
                return peer.reset()
            peer.send(chunk(END) + LAST_CHUNK)

    return script


BODY = json.dumps(asking(stream=True)).encode()


@contextlib.asynccontextmanager
async def callers(rig, count, lane, body=BODY):
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(await rig.raw()) for _ in range(count)]
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in lane.items()]
        for client in opened:
            await client.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                + "".join(lines).encode() + b"content-length: %d\r\n\r\n" % len(body) + body
            )  # fmt: skip
        yield opened


async def rest_of(client):
    pieces = []
    while piece := await client.chunk():
        pieces.append(piece)
    return b"".join(pieces)


@LANES
async def test_J3_followers_get_it_from_the_start_as_it_comes(tmp_path, lane):
    gates = [asyncio.Event(), asyncio.Event()]
    async with before(tmp_path, stepwise(gates), ON) as (rig, server):
        async with callers(rig, 1, lane) as (leader,):
            assert b"x-sidecar-cache: miss" in await leader.head()
            assert await leader.chunk() == say(0)
            gates[0].set()
            assert await leader.chunk() == say(1)
            async with callers(rig, 2, lane) as followers:
                for follower in followers:
                    head = await follower.head()
                    assert b"x-sidecar-cache: hit" in head
                    assert b"age: 0" in head
                    assert await follower.chunk() == say(0) + say(1)
                gates[1].set()
                for client in (leader, *followers):
                    assert await rest_of(client) == say(2) + END
        assert len(seen(server)) == 1


@LANES
async def test_J3_the_leader_may_leave(tmp_path, lane):
    gates = [asyncio.Event()]
    async with before(tmp_path, stepwise(gates), ON) as (rig, server):
        async with callers(rig, 2, lane) as (one, other):
            heads = [await one.head(), await other.head()]
            leader, follower = (one, other) if b"cache: miss" in heads[0] else (other, one)
            await leader.chunk()
            await follower.chunk()
            leader.reset()
            await until(lambda: any(line["status"] == 499 for line in rig.requests))
            gates[0].set()
            assert await rest_of(follower) == say(1) + END
        hit = await rig.post(body=BODY, **lane)
        assert outcome(hit) == (200, "hit")
        assert len(seen(server)) == 1
        await until(lambda: len(rig.requests) == 3)
        left, stayed, _ = rig.requests
        assert (left["outcome"], left.get("attempts", 0)) == ("client_gone", 0)
        # what the call took is told once, by who was there at its end
        assert (stayed["outcome"], stayed["attempts"], stayed["provider"]) == ("ok", 1, "own")


@LANES
async def test_J3_the_last_to_leave_ends_the_call(tmp_path, lane):
    gates = [asyncio.Event()]
    async with before(tmp_path, stepwise(gates), ON) as (rig, server):
        async with callers(rig, 3, lane) as clients:
            for client in clients:
                await client.head()
            for client in clients:
                client.reset()
            await until(lambda: len(rig.requests) == 3)
            async with asyncio.timeout(WATCHDOG_S):
                await server.peers[0].gone()
        gates[0].set()
        assert outcome(await rig.post(body=BODY, **lane)) == (200, "miss")
        assert [line["status"] for line in rig.requests] == [499, 499, 499, 200]


@LANES
@pytest.mark.parametrize("status", [b"500 Oops", b"429 Slow Down"])
async def test_J3_when_the_leader_fails_one_takes_over(tmp_path, lane, status):
    first = asyncio.Event()

    async def script(peer):
        while True:
            await peer.request()
            if len(peer.server.requests) == 1:
                await first.wait()
                peer.send(says(b'{"error":{"message":"no"}}', status=status))
            else:
                peer.send(says(COMPLETION))

    config = ON + "retry: {attempts: 1}\nwait: {max: 0s}\n"
    async with before(tmp_path, script, config, keys="KEY_A KEY_B") as (rig, server):
        tasks = [asyncio.ensure_future(rig.post(body=asking(), **lane)) for _ in range(10)]
        await until(lambda: rig.sidecar._gateway._entrance.inflight == 10)
        await settle()
        first.set()
        answers = await asyncio.gather(*tasks)
        assert sorted(answer.status == 200 for answer in answers) == [False] + [True] * 9
        assert len(seen(server)) == 2


@LANES
async def test_J3_an_error_of_the_request_itself_is_everyones(tmp_path, lane):
    first = asyncio.Event()

    async def script(peer):
        await peer.request()
        await first.wait()
        peer.send(
            says(b'{"error":{"message":"bad temperature","type":"invalid_request_error"}}', status=b"400 Bad Request")
        )

    async with before(tmp_path, script, ON) as (rig, server):
        tasks = [asyncio.ensure_future(rig.post(body=asking(), **lane)) for _ in range(5)]
        await until(lambda: rig.sidecar._gateway._entrance.inflight == 5)
        await settle()
        first.set()
        answers = await asyncio.gather(*tasks)
        assert {(answer.status, answer.body) for answer in answers} == {(400, answers[0].body)}
        assert len(seen(server)) == 1


@LANES
async def test_J3_a_slow_follower_holds_back_nobody(tmp_path, lane):
    """Far more than the buffers of the system hold, and more than is kept: the one who reads nothing is cut off."""
    big = b"data: " + delta("x" * 60_000).encode() + b"\n\n"

    async def script(peer):
        await peer.request()
        peer.send(EVENTS)
        for _ in range(400):
            peer.send(chunk(big))
            await asyncio.sleep(0)
        peer.send(chunk(END) + LAST_CHUNK)

    async with before(tmp_path, script, ON) as (rig, _):
        async with callers(rig, 1, lane) as (leader,), callers(rig, 1, lane) as (sleeper,):
            sleeper.pause()
            assert await leader.head()
            assert len(await rest_of(leader)) == 400 * len(big) + len(END)
            sleeper.resume()
            with contextlib.suppress(ConnectionError):
                assert not (await sleeper.rest()).endswith(LAST_CHUNK)
        assert (await rig.status())["cache"].get("in_flight_bytes", 0) == 0


@LANES
async def test_a_stream_that_breaks_is_broken_for_all_and_not_kept(tmp_path, lane):
    gates = [asyncio.Event()]
    async with before(tmp_path, stepwise(gates, breaks=True), ON) as (rig, _):
        async with callers(rig, 2, lane) as clients:
            for client in clients:
                await client.head()
            gates[0].set()
            for client in clients:
                assert b'"error"' in await rest_of(client)
        assert (await rig.status())["cache"].get("entries", 0) == 0
        await until(lambda: len(rig.requests) == 2)
        assert {line["outcome"] for line in rig.requests} == {"broken"}


async def test_other_ways_of_asking_do_not_share_bytes(tmp_path):
    """One who wants usage, or no waiting, or another coding does not get the bytes made for another."""
    async with cached(tmp_path) as rig:
        rig.fault("groq", Fault("slow", seconds=0.05))
        body = asking(stream=True)
        asked = asking(stream=True, stream_options={"include_usage": True})
        answers = await asyncio.gather(
            rig.post(body=body),
            rig.post(body=asked),
            rig.post(body=body, x_sidecar_max_wait="0s"),
            rig.post(body=asking()),
        )
        assert [outcome(answer) for answer in answers] == [(200, "miss")] * 4
        assert "usage" in events(answers[1].body)[-1]


async def test_wishes_about_age(tmp_path):
    clock = DrivenClock()
    async with cached(tmp_path, "cache: {enabled: true, ttl: 2h}\n", clock=clock) as rig:

        async def told(**wishes):
            answer = await pump(clock, rig.post(body=asking(), **wishes))
            return answer.headers["x-sidecar-cache"], answer.headers.get("age")

        assert await told() == ("miss", None)
        clock.leap(HOUR)
        assert await told() == ("hit", "3600")
        assert await told(cache_control="max-age=3600") == ("hit", "3600")
        assert await told(cache_control="max-age=3599") == ("miss", None)  # and kept anew
        assert await told() == ("hit", "0")
        for wish in ({"cache_control": "no-cache"}, {"cache_control": "max-age=0"}, {"x_sidecar_cache": "refresh"}):
            clock.leap(60 * SECOND)
            assert await told(**wish) == ("miss", None)
            assert await told() == ("hit", "0")
        clock.leap(2 * HOUR)
        assert await told() == ("miss", None)
        counts = (await rig.status())["cache"]["models"][MODEL]
        assert (counts["expired"], counts["entries"]) == (1, 1)
        assert rig.row("groq").served == 6


async def test_who_asks_for_it_gets_answers_kept_that_may_differ(tmp_path):
    async with cached(tmp_path) as rig:
        for expected in ("miss", "hit"):
            answer = await rig.post(body=chat(temperature=0.7), x_sidecar_cache="on")
            assert answer.headers["x-sidecar-cache"] == expected
        assert (await rig.post(body=chat(), x_sidecar_cache="perhaps")).status == 400
        assert rig.reload(PROVIDERS + "cache: {enabled: true, only_deterministic: false}\n")
        assert outcome(await rig.post(body=chat(temperature=0.7))) == (200, "hit")


async def test_callers_with_other_tokens_share_nothing(tmp_path):
    config = ON + "auth: {tokens: [{env: T1}, {env: T2}]}\n"
    async with cached(tmp_path, config, T1="one-token-of-many", T2="two-token-of-many") as rig:
        one, two = ({"authorization": f"Bearer {token}-token-of-many"} for token in ("one", "two"))
        assert [outcome(await rig.post(body=asking(), **each))[1] for each in (one, two, one, two)] == [
            "miss", "miss", "hit", "hit",
        ]  # fmt: skip
        # the names that tokens are counted under go by their places; what is kept goes by the token
        assert rig.reload(PROVIDERS + ON + "auth: {tokens: [{env: T2}]}\n")
        assert outcome(await rig.post(body=asking(), **two)) == (200, "hit")
        assert (await rig.post(body=asking(), **one)).status == 401


async def test_a_reload_ends_what_it_changes(tmp_path):
    async with cached(tmp_path) as rig:
        assert outcome(await rig.post(body=asking(model="fast"))) == (200, "miss")
        assert rig.reload(PROVIDERS.replace("groq/openai/gpt-oss-120b", "groq/other") + ON)
        assert outcome(await rig.post(body=asking(model="fast"))) == (200, "miss")
        assert rig.reload(PROVIDERS + "cache: {enabled: true, max_bytes: 1KiB}\n")
        status = (await rig.status())["cache"]
        assert status.get("entries", 0) == 0
        assert sum(model["evictions"] for model in status["models"].values()) == 2
        assert rig.reload(PROVIDERS + ON)
        assert outcome(await rig.post(body=asking(model="fast"))) == (200, "miss")
        assert rig.reload(PROVIDERS)
        assert outcome(await rig.post(body=asking(model="fast"))) == (200, None)
        assert rig.reload(PROVIDERS + ON)
        assert outcome(await rig.post(body=asking(model="fast"))) == (200, "miss")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": MODEL, "input": "hello"}),
        ("/v1/responses", {"model": MODEL, "input": "hello", "temperature": 0, "store": False}),
        ("/v1/responses", {"model": MODEL, "input": "hello", "temperature": 0, "store": False, "stream": True}),
        ("/p/groq/openai/v1/chat/completions", asking()),
    ],
    ids=["embeddings", "responses", "streamed responses", "native chat"],
)
async def test_other_surfaces(tmp_path, path, body):
    async with cached(tmp_path) as rig:
        first, second = [await rig.post(path, body) for _ in range(2)]
        assert (outcome(first), outcome(second)) == ((200, "miss"), (200, "hit"))
        if "content-encoding" not in first.headers:
            assert second.body == first.body


async def test_a_transcription_is_kept_whatever_the_boundary(tmp_path):
    def form(boundary, name="a.mp3"):
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-large-v3\r\n',
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nsound\r\n',
            f"--{boundary}--\r\n",
        ]
        return "".join(parts).encode(), {"content_type": f"multipart/form-data; boundary={boundary}"}

    async with cached(tmp_path) as rig:
        told = []
        for body, kind in (form("xxx"), form("yyy"), form("yyy", "b.mp3")):
            told.append(outcome(await rig.post("/v1/audio/transcriptions", body, **kind)))
        assert told == [(200, "miss"), (200, "hit"), (200, "miss")]


async def test_answers_outlive_a_restart(tmp_path):
    config = ON + f"state: {{path: {tmp_path / 'state.db'}}}\n"
    async with cached(tmp_path, "") as house:
        providers = PROVIDERS.replace("{groq}", house.sims["groq"].base_url)

        def again(text):
            return running(tmp_path, providers + text, {}, environ={"KEY_A": "gsk_a"})

        async with again(config) as rig:
            assert outcome(await rig.post(body=asking())) == (200, "miss")
            assert (await rig.status())["cache"]["path"] == str(tmp_path / "state.db-answers")
        assert (tmp_path / "state.db-answers").stat().st_mode & 0o777 == 0o600
        async with again(config) as rig:
            async with asyncio.timeout(WATCHDOG_S):
                while (await rig.status())["cache"].get("entries") != 1:
                    pass
            assert outcome(await rig.post(body=asking(stream=True))) == (200, "hit")
            assert (await rig.status())["cache"]["models"][MODEL]["bytes"] > 0
            assert rig.reload(providers + config.replace(ON, ""))  # turned off: nothing stays
        async with again(config) as rig:
            assert outcome(await rig.post(body=asking())) == (200, "miss")


async def test_a_broken_file_costs_only_its_answers(tmp_path):
    (tmp_path / "state.db-answers").write_bytes(b"this is no database" * 1000)
    config = ON + f"state: {{path: {tmp_path / 'state.db'}}}\n"
    async with cached(tmp_path, config) as rig:
        await until(lambda: any(line.get("event") == "warning" for line in rig.lines))
        (warning,) = (line["message"] for line in rig.lines if line.get("event") == "warning")
        assert "the answers in it are asked for again" in warning
        assert [outcome(await rig.post(body=asking())) for _ in range(2)] == [(200, "miss"), (200, "hit")]


async def test_a_file_that_cannot_be_opened_leaves_the_memory(tmp_path):
    (tmp_path / "state.db-answers").mkdir()
    config = ON + f"state: {{path: {tmp_path / 'state.db'}}}\n"
    async with cached(tmp_path, config) as rig:
        await until(lambda: any(line.get("event") == "warning" for line in rig.lines))
        assert [outcome(await rig.post(body=asking())) for _ in range(2)] == [(200, "miss"), (200, "hit")]
        assert "not a file" in (await rig.status())["cache"]["problem"]


async def test_a_file_that_goes_away_is_told_once_and_tried_again(tmp_path):
    config = ON + f"state: {{path: {tmp_path / 'state.db'}}}\n"
    path = tmp_path / "state.db-answers"
    async with cached(tmp_path, config) as rig:
        await until(path.exists)
        async with asyncio.timeout(WATCHDOG_S):
            while not rig.sidecar._answers._timer:
                await settle(1)
        path.rename(tmp_path / "elsewhere")
        assert outcome(await rig.post(body=asking())) == (200, "miss")
        await rig.sidecar._answers._save(rig.sidecar._answers._store)
        await rig.sidecar._answers._save(rig.sidecar._answers._store)
        assert "gone" in (await rig.status())["cache"]["problem"]
        (tmp_path / "elsewhere").rename(path)
        await rig.sidecar._answers._save(rig.sidecar._answers._store)
        assert "problem" not in (await rig.status())["cache"]
        assert [line["event"] for line in rig.lines if line.get("event", "").startswith("answers")] == [
            "answers_not_saved"
        ]
