"""The main promise: while the pooled quota suffices, the application never sees a 429; and what it sees at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.house import HELLO, KEYS, async_openai_client, openai_client, text_of
from tests.processes import Serving, Sim

_TWO_PROVIDERS = """
providers:
  - name: groq
    base_url: {groq}
    keys:
      - {{name: team-a, env: GROQ_A, account: org-a}}
      - {{name: team-b, env: GROQ_B, account: org-b}}
  - name: cerebras
    base_url: {cerebras}
    keys: [{{name: main, env: OPENAI_MAIN}}]
models:
  - name: fast
    chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]
"""


def _groq(limit: str) -> Sim:
    return Sim("groq", f"--key={KEYS['GROQ_A']}=org-a", f"--key={KEYS['GROQ_B']}=org-b", f"--limit={limit}")


async def _burst(url: str, count: int) -> list[Any]:
    """That many calls at once, every third streamed, with no retry by the SDK; the headers of each answer."""

    async def one(sdk: openai.AsyncOpenAI, number: int) -> Any:
        fields: Any = {"model": "fast", "messages": [{"role": "user", "content": f"number {number}"}], "max_tokens": 16}
        calls = sdk.chat.completions.with_raw_response
        if number % 3:
            whole = await calls.create(**fields)
            assert len(whole.parse().choices[0].message.content.split()) == 16
            return whole.headers
        streamed = await calls.create(**fields, stream=True)
        async with streamed.parse() as chunks:
            words = [choice.delta.content or "" async for chunk in chunks for choice in chunk.choices]
        assert len("".join(words).split()) == 16
        return streamed.headers

    async with asyncio.timeout(20), async_openai_client(url) as sdk:
        return await asyncio.gather(*(one(sdk, number) for number in range(count)))


async def test_A13_B16_a_burst_beyond_two_keys_goes_on_at_the_next_provider(tmp_path):
    with contextlib.ExitStack() as stack:
        groq = stack.enter_context(_groq("rpm=10"))
        cerebras = stack.enter_context(Sim("cerebras", f"--key={KEYS['OPENAI_MAIN']}=main", "--limit=rpm=1000"))
        config = _TWO_PROVIDERS.format(groq=groq.base_url, cerebras=cerebras.base_url)
        sidecar = stack.enter_context(Serving(tmp_path / "burst.yaml", config, KEYS))
        answers = await _burst(sidecar.url, 48)
        served = Counter((headers["x-sidecar-provider"], headers["x-sidecar-key"]) for headers in answers)
        # it was told no limits: some calls found out, and nobody noticed
        assert served["groq", "team-a"] >= 10
        assert served["groq", "team-b"] >= 10
        assert served.total() == 48
        assert served["cerebras", "main"] == 48 - served["groq", "team-a"] - served["groq", "team-b"] > 20
        asked = groq.total["seen"]
        later = await _burst(sidecar.url, 6)
        assert {headers["x-sidecar-provider"] for headers in later} == {"cerebras"}
        assert groq.total["seen"] == asked, "nobody comes before the announced time (A9)"
    assert [line["status"] for line in sidecar.requests] == [200] * 54


async def test_A14_told_limits_are_kept_and_the_rest_waits(tmp_path):
    limits = "    limits: [{rpm: 40}]\n"
    with contextlib.ExitStack() as stack:
        groq = stack.enter_context(_groq("rpm=40"))
        sidecar = stack.enter_context(
            Serving(tmp_path / "wait.yaml", _ONE_PROVIDER.format(groq.base_url) + limits, KEYS)
        )
        answers = await _burst(sidecar.url, 41)
        assert groq.total["refused"] == {}, "nobody asked the provider too early"
        assert groq.total["served"] == 41
        waited = [headers for headers in answers if int(headers["x-sidecar-wait-ms"])]
        assert len(waited) == 1, "40 pass at once"
        assert {headers["x-sidecar-attempts"] for headers in answers} == {"1"}


_ONE_PROVIDER = """
models: [{{name: fast, chain: [groq/openai/gpt-oss-120b]}}]
providers:
  - name: groq
    base_url: {}
    keys: [{{name: team-a, env: GROQ_A}}]
"""


@pytest.fixture(scope="module")
def spent(tmp_path_factory):
    """A sidecar whose only key may be used once a second, and has had its minute."""
    folder: Path = tmp_path_factory.mktemp("spent")
    limits = "    limits: [{rpm: 60}]\nwait: {max: 0s}\n"
    with (
        _groq("rpm=60") as groq,
        Serving(folder / "spent.yaml", _ONE_PROVIDER.format(groq.base_url) + limits, KEYS) as it,
    ):
        yield it


def test_A16_the_sdk_sleeps_as_long_as_a_local_429_says(spent):
    with openai_client(spent.url) as once, openai_client(spent.url, max_retries=1) as patient:
        refusal = _first_refusal(once)
        headers = refusal.response.headers
        assert headers["retry-after"] in ("1", "2")
        assert once._parse_retry_after_header(headers) == int(headers["retry-after"])
        assert "x-should-retry" not in headers
        assert headers["x-sidecar-attempts"] == "0", "the provider was not asked"
        assert (refusal.code, refusal.type) == ("rate_limit_exceeded", "rate_limit_error")
        # It sleeps that long by itself, and then it passes: half a second, its own first pause, would be too short
        # for at least one of these calls, whatever the time between them.
        retries = [_retries(patient) for _ in range(2)]
    assert max(retries) == 1
    statuses = [line["status"] for line in spent.requests]
    assert statuses.count(429) == 1 + sum(retries)


def _first_refusal(sdk: openai.OpenAI) -> openai.RateLimitError:
    for _ in range(200):
        try:
            sdk.chat.completions.create(model="fast", messages=HELLO, max_tokens=1)
        except openai.RateLimitError as error:
            return error
    raise AssertionError("200 requests passed where one a second may")


def _retries(sdk: openai.OpenAI) -> int:
    raw = sdk.chat.completions.with_raw_response.create(model="fast", messages=HELLO, max_tokens=1)
    assert raw.status_code == 200
    return raw.retries_taken


def test_A15_a_reset_beyond_the_wait_is_told_at_once_with_the_true_time(tmp_path):
    with _groq("rpm=1") as groq:
        config = _ONE_PROVIDER.format(groq.base_url) + "    limits: [{rpm: 1}]\n"
        with Serving(tmp_path / "far.yaml", config, KEYS) as sidecar, openai_client(sidecar.url) as sdk:
            sdk.chat.completions.create(model="fast", messages=HELLO)
            with pytest.raises(openai.RateLimitError) as caught:
                sdk.chat.completions.create(model="fast", messages=HELLO)
            assert 50 <= int(caught.value.response.headers["retry-after"]) <= 61
            assert "x-sidecar-wait-ms" in caught.value.response.headers
            assert groq.total["seen"] == 1


def test_B4_a_stream_that_breaks_is_an_error_of_the_sdk(house, client):
    for mode in ("rst", "eof", "end"):
        house.groq.steer("faults", {"kind": "cut", "mode": mode, "after_chunks": 4, "count": 1})
        since = len(house.sidecar.stdout)
        heard = []
        with (
            pytest.raises(openai.APIError) as caught,
            client.chat.completions.create(model="fast", messages=HELLO, stream=True) as stream,
        ):
            heard.extend(stream)
        assert "broke off" in caught.value.message
        assert len(heard) == 4, "what had come was passed on"
        assert {chunk.id for chunk in heard} == {heard[0].id}, "and nothing of another attempt (B6)"
        assert house.sidecar.request("/v1/chat/completions", since, outcome="broken")["stream"] is True
    assert house.openai.total["seen"] == 0
    with client.chat.completions.create(model="fast", messages=HELLO, stream=True) as stream:
        assert len(text_of(stream).split()) == 32


# Each at a model of its own, for what they do to a target outlives the request; the last one condemns the key.
_FAULTS: list[dict[str, object]] = [
    {"kind": "down", "mode": "rst"},
    {"kind": "down", "mode": "eof"},
    {"kind": "cut", "after_chunks": 1, "mode": "rst"},
    {"kind": "cut", "after_chunks": 1, "mode": "end"},
    {"kind": "error_event", "after_chunks": 0},
    {"kind": "error_event", "after_chunks": 1},
    {"kind": "empty", "mode": "body"},
    {"kind": "empty", "mode": "completion"},
    {"kind": "malformed", "after_chunks": 1},
    {"kind": "status", "status": 503},
    {"kind": "rate_limit"},
    {"kind": "rate_limit_bare"},
    {"kind": "insufficient_quota"},
]


def test_B3_B5_what_fails_before_its_first_content_is_answered_elsewhere(tmp_path, house):
    chains = "".join(f"  - {{name: m{at}, chain: [groq/m{at}, openai/gpt-4o-mini]}}\n" for at in range(len(_FAULTS)))
    with _groq("rpm=1000") as groq:
        config = _PAIR.format(groq=groq.base_url, openai=house.openai.base_url) + "models:\n" + chains
        with Serving(tmp_path / "b3.yaml", config, KEYS) as sidecar, openai_client(sidecar.url) as sdk:
            for at, fault in enumerate(_FAULTS):
                groq.steer("faults", {**fault, "count": 1})
                since = len(sidecar.stdout)
                raw = sdk.chat.completions.with_raw_response.create(model=f"m{at}", messages=HELLO, stream=True)
                with raw.parse() as stream:
                    assert len(text_of(stream).split()) == 32, fault
                assert raw.headers["x-sidecar-provider"] == "openai", fault
                assert raw.headers["x-sidecar-attempts"] == "2", fault
                trail = sidecar.request("/v1/chat/completions", since, trail=...)["trail"]
                assert [step["target"] for step in trail] == [f"groq/m{at}"]
            assert groq.total["seen"] == len(_FAULTS)


_PAIR = """
providers:
  - name: groq
    base_url: {groq}
    keys: [{{name: team-a, env: GROQ_A}}]
  - name: openai
    base_url: {openai}
    keys: [{{name: main, env: OPENAI_MAIN}}]
"""
_FALLBACK = _PAIR + "models: [{{name: fast, chain: [groq/openai/gpt-oss-120b, openai/gpt-4o-mini]}}]\n"


def test_B15_without_fallback_there_is_exactly_one_call(house, client):
    once = client.with_options(default_headers={"x-sidecar-fallback": "off"})
    house.groq.steer("faults", {"kind": "status", "status": 400, "body": '{"error": {"message": "no"}}'})
    house.openai.steer("faults", {"kind": "status", "status": 400, "body": '{"error": {"message": "no"}}'})
    calls = [
        lambda: once.chat.completions.create(model="fast", messages=HELLO),
        lambda: once.chat.completions.create(model="fast", messages=HELLO, stream=True),
        lambda: once.embeddings.create(model="text-embedding-3-small", input="x"),
        lambda: once.responses.create(model="gpt-4o-mini", input="x"),
        lambda: once.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"x")),
        lambda: once.files.create(file=("a.txt", b"x"), purpose="batch"),
    ]
    for count, make in enumerate(calls, 1):
        with pytest.raises(openai.APIStatusError):
            make()
        assert house.groq.total["seen"] + house.openai.total["seen"] == count


@pytest.mark.parametrize("status", [500, 503, 429])
def test_B15_without_fallback_a_failure_is_the_providers_own(tmp_path, house, status):
    config = _FALLBACK.format(groq=house.groq.base_url, openai=house.openai.base_url)
    house.groq.steer("faults", {"kind": "status", "status": status, "body": '{"error": {"message": "mine"}}'})
    with Serving(tmp_path / "b15.yaml", config, KEYS) as sidecar, openai_client(sidecar.url) as sdk:
        with pytest.raises(openai.APIStatusError) as caught:
            sdk.chat.completions.create(model="fast", messages=HELLO, extra_headers={"x-sidecar-fallback": "off"})
        assert (caught.value.status_code, "mine" in caught.value.message) == (status, True)
    assert (house.groq.total["seen"], house.openai.total["seen"]) == (1, 0)


def test_A17_retries_do_not_multiply(house, tmp_path):
    config = _FALLBACK.format(groq=house.groq.base_url, openai=house.openai.base_url)
    for sim in (house.groq, house.openai):
        sim.steer("faults", {"kind": "status", "status": 401})
    with Serving(tmp_path / "a17.yaml", config, KEYS) as sidecar, openai_client(sidecar.url, max_retries=2) as sdk:
        with pytest.raises(openai.APIStatusError) as caught:
            sdk.chat.completions.create(model="fast", messages=HELLO)
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert "401" not in str(caught.value.status_code), "the application's key is not what is wrong"
    assert (house.groq.total["seen"], house.openai.total["seen"]) == (1, 1)
