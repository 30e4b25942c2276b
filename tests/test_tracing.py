"""Spans as a real collector gets them, of a whole sidecar before simulated providers (docs/traces.md)."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest

from sidecar.sim.config import SimConfig
from sidecar.sim.faults import Fault
from tests.collector import collecting
from tests.rig import WATCHDOG_S, chat, running, until

SERVER, CLIENT = 2, 3
UNSET, ERROR = 0, 2
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLERS = f"00-{TRACE}-{PARENT}-01"

CONFIG = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
"""
SIMS = {"groq": SimConfig("groq", gzip=False), "cerebras": SimConfig("cerebras", gzip=False)}


def house(tmp_path, endpoint=None, more="", extra=""):
    traces = "" if endpoint is None else f'traces: {{endpoint: "{endpoint}"{more}}}\n'
    return running(tmp_path, CONFIG + traces + extra, SIMS)


def sent(rig, name):
    """The trace context in each request that a provider got."""
    named = ("traceparent", "tracestate")
    found = [[(key.decode(), value.decode()) for key, value in each.headers] for _, each in rig.sims[name].requests]
    return [[header for header in headers if header[0] in named] for headers in found]


async def test_I4_a_span_for_the_request_and_one_for_each_attempt(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), collecting() as collector:
        async with house(tmp_path, collector.url) as rig:
            rig.fault("groq", Fault("status", status=500))
            answer = await rig.post(body=chat("fast", stream=True))
            assert (answer.status, answer.headers["x-sidecar-attempts"]) == (200, "2")
            line = rig.requests[-1]
        (request,) = collector.of(SERVER)
        first, second = collector.of(CLIENT)
    assert collector.resource["service.name"] == "sidecar"
    assert (request.name, request.parent, request.status) == ("chat fast", "", UNSET)
    assert {span.trace for span in collector.spans} == {request.trace}
    assert first.parent == second.parent == request.id
    assert (
        request.began_ns <= first.began_ns <= first.ended_ns <= second.began_ns <= second.ended_ns <= request.ended_ns
    )
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "cerebras",
        "gen_ai.request.model": "fast",
        "gen_ai.usage.input_tokens": line["tokens_in"],
        "gen_ai.usage.output_tokens": line["tokens_out"],
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "sidecar.request.id": line["id"],
        "sidecar.attempts": 2,
        "sidecar.key": "c",
        "sidecar.outcome": "ok",
        "sidecar.stream": True,
    }
    assert expected.items() <= request.attributes.items()
    assert request.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert (first.name, first.status) == ("chat openai/gpt-oss-120b", ERROR)
    assert {"gen_ai.provider.name": "groq", "error.type": "server_error", "http.response.status_code": 500}.items() <= (
        first.attributes.items()
    )
    assert (second.name, second.status, second.attributes["sidecar.outcome"]) == ("chat gpt-oss-120b", UNSET, "ok")
    assert second.attributes["http.request.resend_count"] == 1
    assert second.attributes["server.port"] > 0
    assert second.attributes["gen_ai.usage.output_tokens"] == line["tokens_out"]


async def test_I4_the_callers_trace_goes_on_through_the_attempt(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), collecting() as collector:
        async with house(tmp_path, collector.url) as rig:
            for _ in range(2):  # the second time the head is known
                await rig.post(body=chat("fast"), traceparent=CALLERS, tracestate="vendor=x")
            carried = sent(rig, "groq")
        requests, attempts = collector.of(SERVER), collector.of(CLIENT)
    assert {(span.trace, span.parent, span.state) for span in requests} == {(TRACE, PARENT, "vendor=x")}
    assert [span.parent for span in attempts] == [span.id for span in requests]
    assert carried == [[("traceparent", f"00-{TRACE}-{span.id}-01"), ("tracestate", "vendor=x")] for span in attempts]


async def test_I4_a_trace_that_the_caller_does_not_keep_leaves_no_span_and_goes_on_all_the_same(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), collecting() as collector, house(tmp_path, collector.url) as rig:
        await rig.post(body=chat("fast"), traceparent=CALLERS[:-1] + "0")
        (((name, value),),) = sent(rig, "groq")
    assert collector.spans == []
    assert (name, value[:36], value[-3:]) == ("traceparent", f"00-{TRACE}-", "-00")
    assert PARENT not in value


async def test_I4_of_new_traces_as_many_as_configured(tmp_path):
    async with (
        asyncio.timeout(2 * WATCHDOG_S),
        collecting() as collector,
        house(tmp_path, collector.url, ", sample: 0") as rig,
    ):
        await rig.post(body=chat("fast"))
        await rig.post(body=chat("fast"), traceparent=CALLERS)
    assert [span.trace for span in collector.of(SERVER)] == [TRACE]


async def test_I4_without_tracing_the_callers_headers_pass_as_they_are(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), house(tmp_path) as rig:
        await rig.post(body=chat("fast"), traceparent=CALLERS, tracestate="vendor=x")
        await rig.post(body=chat("fast"))
        assert sent(rig, "groq") == [[("traceparent", CALLERS), ("tracestate", "vendor=x")], []]


async def test_I5_no_key_no_prompt_and_no_answer_in_a_span(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), collecting() as collector, house(tmp_path, collector.url) as rig:
        leaking = '{"error":{"message":"key gsk_a may not ask secret-question","type":"invalid_request_error"}}'
        rig.fault("groq", Fault("status", status=400, count=1, body=leaking))
        question = [{"role": "user", "content": "secret-question"}]
        for _ in range(2):
            body = {"model": "fast", "messages": question, "user": "someone"}
            answer = await rig.post("/v1/chat/completions?api-key=gsk_q", body, authorization="Bearer gsk_z")
        said = answer.json["choices"][0]["message"]["content"]
    assert len(collector.spans) == 4
    for secret in ("gsk_", "csk_", "secret-question", "someone", said):
        assert secret.encode() not in collector.raw


async def test_what_is_refused_leaves_a_span_too(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), collecting() as collector, house(tmp_path, collector.url) as rig:
        assert (await rig.post("/nowhere")).status == 404
        await rig.post(body=b"x" * 100, host="evil.example")
    assert [span.attributes["http.response.status_code"] for span in collector.of(SERVER)] == [404, 403]
    assert {span.status for span in collector.spans} == {UNSET}, "the caller's own fault"
    assert [span.attributes["error.type"] for span in collector.of(SERVER)] == ["unknown_path", "forbidden_host"]


async def test_the_loser_of_two_at_once_has_its_span(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), collecting() as collector:
        async with house(tmp_path, collector.url, extra="hedge: {after: 10ms}\n") as rig:
            rig.fault("groq", Fault("stall_before_headers"))
            assert (await rig.post(body=chat("fast"))).headers["x-sidecar-provider"] == "cerebras"
        outcomes = [span.attributes["sidecar.outcome"] for span in collector.of(CLIENT)]
    assert outcomes == ["hedged", "ok"]
    assert {span.status for span in collector.spans} == {UNSET}


async def test_a_kept_answer_has_no_attempt_and_a_call_outlives_who_asked_first(tmp_path):
    async with asyncio.timeout(2 * WATCHDOG_S), collecting() as collector:
        async with house(tmp_path, collector.url, extra="cache: {enabled: true}\n") as rig:
            body = chat("fast", temperature=0)
            for _ in range(2):
                await rig.post(body=body)
            rig.fault("groq", Fault("stall_before_headers"))
            late = [asyncio.ensure_future(rig.post(body=chat("fast", temperature=0, seed=1))) for _ in range(2)]
            await until(lambda: rig.row("groq").seen == 2)
            for each in late:
                each.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            await until(lambda: len(rig.requests) == 4)
        requests, attempts = collector.of(SERVER), collector.of(CLIENT)
    assert [span.attributes["sidecar.cache"] for span in requests[:2]] == ["miss", "hit"]
    assert len(requests) == 4
    assert [span.attributes["sidecar.outcome"] for span in attempts] == ["ok", "client_gone"]
    assert attempts[0].parent == requests[0].id
    assert attempts[1].parent in {span.id for span in requests[2:]}


async def test_a_collector_that_is_away_hurts_nobody_and_is_told_of(tmp_path):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # nobody listens
        async with asyncio.timeout(3 * WATCHDOG_S):
            async with house(tmp_path, f"http://127.0.0.1:{bound.getsockname()[1]}") as rig:
                for _ in range(20):
                    assert (await rig.post(body=chat("fast"))).status == 200
            events = [line["event"] for line in rig.lines if "event" in line]
    assert events.count("traces_not_sent") == 1
    assert events[-1] == "stopped"


async def test_a_collector_that_never_answers_delays_no_request(tmp_path):
    async with asyncio.timeout(3 * WATCHDOG_S), collecting() as collector:
        collector.is_deaf = True
        async with house(tmp_path, collector.url) as rig:
            # more than the SDK puts into one post: its thread hangs there from now on
            answers = await asyncio.gather(*(rig.get("/nowhere") for _ in range(600)))
            assert {answer.status for answer in answers} == {404}
            await until(lambda: collector.posts == 1)
            assert (await rig.post(body=chat("fast"))).status == 200
            collector.opened.set()
    assert len(collector.spans) == 602


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from sidecar.cli import main
main()
"""
IDLE = """
import sys
from sidecar.cli import main
try:
    main()
finally:
    assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
"""


@pytest.mark.parametrize(
    ("code", "traces", "status", "said"),
    [
        (
            WITHOUT,
            "traces: {endpoint: http://h:4318}",
            64,
            "traces.endpoint: needs OpenTelemetry, which is not installed",
        ),
        (WITHOUT, "", 0, ""),
        (IDLE, "", 0, ""),
    ],
    ids=["asked for", "not asked for", "not loaded"],
)
def test_without_the_extra_what_to_do_is_said(tmp_path, code, traces, status, said):
    path = tmp_path / "sidecar.yaml"
    path.write_text(f"providers: [{{name: groq, keys: [{{name: a, env: KEY_A}}]}}]\n{traces}\n")
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "--config", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={"KEY_A": "gsk_a"},
    )
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert ('pip install "sidecar[otel]"' in done.stderr) == bool(said)
