"""Five thousand mixed requests while the providers go down, stall, cut, err and refuse at random, by a seed.

Of every one: exactly one answer, the right bytes of one attempt or an honest error, and at the end nothing is left.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import aiohttp
import msgspec

from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.faults import Fault
from tests.both_ways import BOTH_WAYS
from tests.rig import CHAT, chat, running
from tests.wire import at_rest

REQUESTS, CALLERS = 5000, 48
CONFIG = """
providers:
  - name: groq
    base_url: {groq}
    keys:
      - {name: a, env: KEY_A, account: org-a}
      - {name: b, env: KEY_B, account: org-b}
  - name: cerebras
    base_url: {cerebras}
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
wait: {max: 2s}
retry: {base: 5ms, cap: 50ms}
timeouts: {connect: 1s, headers: 250ms, first_content: 250ms, idle: 250ms, answer: 250ms, total: 5s}
"""
LIMITS = (LimitRule(rpm=40_000, tpm=40_000_000),)
SIMS = {
    "groq": SimConfig("groq", keys={"gsk_a": "org-a", "gsk_b": "org-b"}, limits=LIMITS, keep_requests=0),
    "cerebras": SimConfig("cerebras", keys={"csk_c": "org-c"}, limits=LIMITS, keep_requests=0),
}
FAULTS = [
    *(Fault("down", mode=mode, probability=0.006) for mode in ("rst", "eof")),
    Fault("status", status=500, probability=0.006),
    Fault("status", status=503, probability=0.006),
    Fault("stall_before_headers", probability=0.002),
    Fault("stall_after_headers", probability=0.002, after_chunks=0),
    *(Fault("cut", probability=0.006, after_chunks=after, mode=mode) for after in (0, 3) for mode in ("rst", "eof")),
    Fault("error_event", probability=0.006, after_chunks=0),
    Fault("error_event", probability=0.006, after_chunks=4),
    Fault("rate_limit", probability=0.001, seconds=1),
    Fault("busy", probability=0.006),
    Fault("malformed", probability=0.006, after_chunks=0),
    *(Fault("empty", probability=0.01, mode=mode) for mode in ("body", "completion")),
]


def told(events: bytes) -> tuple[set[str], bool, bool]:
    """Of a stream: the ids of its answers, whether it finished, and whether it tells of an error."""
    ids, finished, errs = set(), False, False
    for event in events.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data or data == b"[DONE]":
            continue
        said = msgspec.json.decode(data)
        errs = errs or "error" in said
        if "id" in said:
            ids.add(said["id"])
        finished = finished or any(choice.get("finish_reason") for choice in said.get("choices", ()))
    return ids, finished, errs


def judge(status: int, body: bytes, is_streamed: bool) -> str:
    """What an answer is; the test fails on one that lies."""
    if status != 200:
        error = msgspec.json.decode(body)["error"]
        assert error["message"]
        assert error["type"]
        assert status in (429, 500, 502, 503, 504), (status, body)
        return "refused"
    if not is_streamed:
        answer = msgspec.json.decode(body)
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] > 0
        return "answered"
    ids, finished, errs = told(body)
    if errs and not ids:
        return "refused"  # an error event that is the caller's own fault (Groq's tool_use_failed) is relayed as it is
    assert len(ids) == 1, ("events of two attempts, or none", body)
    assert finished or errs, "a silent end"
    return "broken" if errs else "answered"


async def call(rig, number: int, draws: random.Random) -> str:
    """One request, some of whose callers leave at any moment."""
    is_streamed = number % 2 == 0
    body = msgspec.json.encode(chat("fast", stream=is_streamed, max_tokens=64))
    patience = draws.uniform(0, 0.02) if draws.random() < 0.05 else None
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    try:
        async with asyncio.timeout(patience), rig.client.post(rig.url + CHAT, data=body, headers=headers) as answer:
            return judge(answer.status, await answer.read(), is_streamed)
    except TimeoutError:
        assert patience is not None
        return "left"
    except aiohttp.ClientPayloadError:
        assert not is_streamed, "a stream is ended properly whatever happens"
        return "broken"


@BOTH_WAYS
async def test_B3_B4_B6_every_request_has_one_honest_answer_in_chaos(tmp_path):
    draws = random.Random(20261122)
    numbers = iter(range(REQUESTS))
    seen: Counter[str] = Counter()

    async def caller(rig) -> None:
        for number in numbers:
            seen[await call(rig, number, draws)] += 1

    async with asyncio.timeout(120), running(tmp_path, CONFIG, SIMS) as rig:
        for name in SIMS:
            for fault in FAULTS:
                rig.fault(name, fault)
        await asyncio.gather(*(caller(rig) for _ in range(CALLERS)))
        await at_rest(rig)
        assert seen.total() == REQUESTS
        # who left before the request was sent was never seen
        assert REQUESTS - seen["left"] <= len(rig.requests) <= REQUESTS
        assert seen["answered"] > REQUESTS * 0.8, seen
        assert seen["left"] > 0, seen
        # how many come to each of them depends on how soon the others are called again
        storms = [sum(rig.row(name).faulted.values()) for name in SIMS]
        assert min(storms) > 0, storms
        assert sum(storms) > REQUESTS * 0.02, "the storm did not come"
