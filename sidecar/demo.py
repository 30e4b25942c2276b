"""`sidecar demo`: the main job, shown. Two simulated providers with tight limits, a real sidecar, a burst of SDK calls.

Everything runs as a user would run it: `sidecar sim` twice, `sidecar serve` on the normal ports, the OpenAI SDK
pointed there by its base URL. Each answer is told as it comes: who served it, what waited, what fell back.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from sidecar.serving import OK, OUR_FAULT, USAGE, complain

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionUserMessageParam

_DATA, _ADMIN, _GROQ, _CEREBRAS = 8787, 8788, 9101, 9102
_CALLS = 60
_CONFIG = f"""\
listen: 127.0.0.1:{_DATA}
admin: 127.0.0.1:{_ADMIN}
providers:
  - name: groq
    base_url: http://127.0.0.1:{_GROQ}/openai/v1
    keys:
      - {{name: team-a, env: DEMO_GROQ_A, account: org-a}}
      - {{name: team-b, env: DEMO_GROQ_B, account: org-b}}
    limits: [{{rpm: 20}}]
  - name: cerebras
    base_url: http://127.0.0.1:{_CEREBRAS}/v1
    keys:
      - {{name: main, env: DEMO_CEREBRAS}}
    limits: [{{rpm: 10}}]
models:
  - name: fast
    chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]
wait: {{max: 60s}}
"""
_KEYS = {"DEMO_GROQ_A": "gsk_demo_a", "DEMO_GROQ_B": "gsk_demo_b", "DEMO_CEREBRAS": "csk_demo"}
_SIM_GROQ = (
    "--dialect=groq", f"--port={_GROQ}", "--key=gsk_demo_a=org-a", "--key=gsk_demo_b=org-b",
    "--limit=rpm=20,tpm=60000", "--latency=0.05", "--chunk-delay=0.02",
)  # fmt: skip
_SIM_CEREBRAS = (
    "--dialect=cerebras", f"--port={_CEREBRAS}", "--key=csk_demo=main", "--limit=rpm=10,tpm=60000", "--latency=0.05",
)  # fmt: skip


class Answer(NamedTuple):
    """What one call came to."""

    number: int
    is_streamed: bool
    provider: str
    key: str
    attempts: int
    wait_s: float
    took_s: float
    error: str


def demo(stays: bool) -> int:
    """Run the show; the exit code."""
    if importlib.util.find_spec("openai") is None:
        complain(["the demo calls through the OpenAI SDK: pip install openai (or run `make demo`)"])
        return USAGE
    busy = [port for port in (_DATA, _ADMIN, _GROQ, _CEREBRAS) if _is_taken(port)]
    if busy:
        complain([f"the demo needs port {', '.join(map(str, busy))}, which something else is listening on; stop it"])
        return USAGE
    return asyncio.run(_show(stays))


async def _show(stays: bool) -> int:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "demo.yaml"
        config.write_text(_CONFIG)
        async with contextlib.AsyncExitStack() as stack:
            for words in (("sim", *_SIM_GROQ), ("sim", *_SIM_CEREBRAS), ("serve", f"--config={config}")):
                stack.push_async_callback(_end, await _start(words))
            if not await _until_ready():
                complain(["the sidecar did not get ready; run `sidecar serve` to see why"])
                return OUR_FAULT
            if stays:
                return await _stay()
            return _summary(await _burst())


async def _start(words: tuple[str, ...]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidecar", *words, env=os.environ | _KEYS, stdout=asyncio.subprocess.DEVNULL
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def _until_ready() -> bool:
    for _ in range(100):
        if all(_is_taken(port) for port in (_DATA, _ADMIN, _GROQ, _CEREBRAS)):
            return True
        await asyncio.sleep(0.1)
    return False


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _burst() -> list[Answer]:
    from openai import AsyncOpenAI

    click.echo("Groq: two accounts of 20 requests a minute each. Cerebras: one account of 10. Now:")
    click.echo(
        f"{_CALLS} calls at once to OPENAI_BASE_URL=http://127.0.0.1:{_DATA}/v1, model `fast`; every third streams."
    )
    click.echo("50 of them fit at once; the others wait for the first provider whose window opens.\n")
    click.echo(f"{'call':>5}  {'kind':<7} {'served by':<18} {'attempts':<9} {'waited':>8} {'took':>8}")
    answers: list[Answer] = []
    async with AsyncOpenAI(
        base_url=f"http://127.0.0.1:{_DATA}/v1", api_key="any", max_retries=0, timeout=120
    ) as client:
        for done in asyncio.as_completed([_call(client, number) for number in range(1, _CALLS + 1)]):
            answer = await done
            answers.append(answer)
            click.echo(_told(answer))
    return answers


async def _call(client: AsyncOpenAI, number: int) -> Answer:
    from openai import OpenAIError

    began = time.monotonic()
    is_streamed = number % 3 == 0
    question: ChatCompletionUserMessageParam = {
        "role": "user",
        "content": f"Say something nice about request {number}.",
    }
    headers: dict[str, str] = {}
    error = ""
    try:
        if is_streamed:
            async with client.chat.completions.with_streaming_response.create(
                model="fast",
                messages=[question],
                max_tokens=64,
                stream=True,
            ) as response:
                headers = dict(response.headers)
                text = await response.text()
                error = "" if "[DONE]" in text else "the stream broke off"
        else:
            raw = await client.chat.completions.with_raw_response.create(
                model="fast",
                messages=[question],
                max_tokens=64,
            )
            headers = dict(raw.headers)
    except OpenAIError as failure:
        error = str(failure)
    return Answer(
        number,
        is_streamed,
        headers.get("x-sidecar-provider", "-"),
        headers.get("x-sidecar-key", "-"),
        int(headers.get("x-sidecar-attempts", 0)),
        int(headers.get("x-sidecar-wait-ms", 0)) / 1000,
        time.monotonic() - began,
        error,
    )


def _told(answer: Answer) -> str:
    kind = "stream" if answer.is_streamed else "plain"
    served = f"{answer.provider}/{answer.key}"
    notes = []
    if answer.provider == "cerebras":
        notes.append("fell back")
    if answer.wait_s:
        notes.append("waited")
    outcome = f"FAILED: {answer.error}" if answer.error else ", ".join(notes)
    waited, took = f"{answer.wait_s:.1f} s", f"{answer.took_s:.1f} s"
    return f"{answer.number:>5}  {kind:<7} {served:<18} {answer.attempts:<9} {waited:>8} {took:>8}  {outcome}".rstrip()


def _summary(answers: list[Answer]) -> int:
    served = Counter(f"{answer.provider}/{answer.key}" for answer in answers if not answer.error)
    failed = [answer for answer in answers if answer.error]
    click.echo(f"\n{len(answers) - len(failed)} of {len(answers)} calls answered, {len(failed)} failed.")
    for who, count in served.most_common():
        click.echo(f"  {count:>3} by {who}")
    waited = [answer.wait_s for answer in answers if answer.wait_s]
    if waited:
        click.echo(f"  {len(waited)} waited for quota, {max(waited):.1f} s at most")
    for name, refused, early in _refusals():
        click.echo(f"  {name} itself refused {refused} calls; {early} came before a time it had announced")
    return OUR_FAULT if failed else OK


def _refusals() -> Iterator[tuple[str, int, int]]:
    for name, port in (("groq", _GROQ), ("cerebras", _CEREBRAS)):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_sim/stats", timeout=5) as response:
            total = json.load(response)["total"]
        yield name, sum(total["refused"].values()), total["early"]


async def _stay() -> int:
    click.echo("Two simulated providers and a sidecar are up. Paste one of these into another terminal:\n")
    click.echo(f"  curl http://127.0.0.1:{_DATA}/v1/chat/completions -H 'content-type: application/json' \\")
    click.echo("""    -d '{"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}'\n""")
    click.echo(
        "  python -c \"from openai import OpenAI; c = OpenAI(base_url='http://127.0.0.1:8787/v1', api_key='any');"
    )
    click.echo("print(c.chat.completions.create(model='fast', messages=[{'role': 'user', 'content': 'Hello'}]))\"\n")
    click.echo('  eval "$(sidecar env)"        # then start any application that uses an OpenAI SDK\n')
    click.echo(f"  curl http://127.0.0.1:{_ADMIN}/status.json\n\nCtrl-C stops everything.")
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
    return OK
