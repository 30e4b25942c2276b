"""What a request costs on the hot path, counted: bytecodes of our own modules, and processor time of a whole process.

Both are told as multiples of a reference workload that runs beside them, so that they hold on any machine. Bytecodes
are the same in every run, whatever else the machine does, but do not see what C code costs; processor time sees all of
it, and is noisy. `python -m tests.hot_path` prints the figures, `--renew` keeps them in tests/hot_path.json, with which
test_hot_path.py compares. Renew them when the hot path has become cheaper, or dearer for a reason the commit tells.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

from sidecar.core import quota
from tests.fakes import settle
from tests.processes import Running, clean_environ, free_port
from tests.rig import running

ROOT = Path(__file__).parents[1]
STORED = Path(__file__).with_name("hot_path.json")
ENVIRON = {"KEY_A": "gsk_a", "KEY_B": "gsk_b"}
_OURS = f"{ROOT / 'sidecar'}/"
_MODEL = "openai/gpt-oss-120b"
_BATCHES, _REQUESTS = 5, 20  # the cheapest batch counts: in it, no timer of the process happened to ring
_EVENTS = 50
_COMPILED = " compiled"
FOREIGN = 1.12  # how much more may be found on an interpreter of which no figures are kept
_SDK = (
    "accept: application/json\r\naccept-encoding: gzip, deflate\r\ncontent-type: application/json\r\n"
    "user-agent: AsyncOpenAI/Python 3.54.0\r\nx-stainless-lang: python\r\nx-stainless-package-version: 3.54.0\r\n"
    "x-stainless-os: Linux\r\nx-stainless-arch: x64\r\nx-stainless-runtime: CPython\r\n"
    "x-stainless-runtime-version: 3.11.2\r\nauthorization: Bearer x\r\nx-stainless-async: async:asyncio\r\n"
    "x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"
)
_LIMITS = b"".join(
    b"x-ratelimit-%b: %b\r\n" % pair
    for pair in (
        (b"limit-requests", b"100000000"),
        (b"remaining-requests", b"99999990"),
        (b"reset-requests", b"6ms"),
        (b"limit-tokens", b"1000000000"),
        (b"remaining-tokens", b"999999000"),
        (b"reset-tokens", b"1ms"),
    )
)
_ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"openai/gpt-oss-120b","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":10,'
    b'"total_tokens":30}}'
)
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
    _LIMITS, len(_ANSWER), _ANSWER,
)  # fmt: skip
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n%btransfer-encoding: chunked\r\n\r\n" % _LIMITS
_EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"openai/gpt-oss-120b","choices":[{"index":0,'
    b'"delta":{"content":" hello"},"finish_reason":null}]}\n\n'
)
_END = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,'
    b'"completion_tokens":10,"total_tokens":30}}\n\ndata: [DONE]\n\n'
)


def config(base_url: str, keys: int = 2) -> str:
    """So many keys of as many accounts, each with four ample windows."""
    listed = "".join(f"      - {{name: k{at}, env: KEY_{'AB'[at % 2]}, account: org-{at}}}\n" for at in range(keys))
    return (
        f"providers:\n  - name: groq\n    base_url: {base_url}\n    keys:\n{listed}"
        '    limits: [{model: "*", rpm: 100000000, tpm: 1000000000, rpd: 1000000000, tpd: 10000000000}]\n'
    )


def request(is_streamed: bool = False) -> bytes:
    """A chat request as the OpenAI SDK sends it."""
    messages = [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": "Hello there, " * 9}]
    body = json.dumps({"model": _MODEL, "messages": messages, "max_tokens": 64, "stream": is_streamed}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n{_SDK}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Provider(asyncio.Protocol):
    """Answers at once; a stream goes on by one event for each `more`."""

    streams: list[Provider]

    def __init__(self, streams: list[Provider]) -> None:
        self.streams = streams
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        if not self._held.endswith(b"}"):
            return
        is_streamed = b'"stream": true' in self._held
        self._held = b""
        if is_streamed:
            self._transport.write(_HEAD)
            self.streams.append(self)
        else:
            self._transport.write(_WHOLE)

    def more(self, piece: bytes = _EVENT, tail: bytes = b"") -> None:
        """One more chunk."""
        self._transport.write(b"%x\r\n%b\r\n%b" % (len(piece), piece, tail))


class Caller:
    """One connection to the sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self) -> None:
        """A plain request, and its whole answer."""
        self._writer.write(request())
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await self._reader.readexactly(len(_ANSWER))

    async def stream(self, streams: list[Provider], during: Callable[[], object]) -> None:
        """A stream of which every event has been read before the next is sent; `during` is called after the first."""
        self._writer.write(request(is_streamed=True))
        while not streams:
            await settle(1)
        provider = streams.pop()
        for at in range(_EVENTS + 1):
            provider.more()
            await self._reader.readuntil(b"\n\n")
            if at == 0:
                during()
        during()
        provider.more(_END, b"0\r\n\r\n")
        await self._reader.readuntil(b"\r\n0\r\n\r\n")


class Opcodes:
    """Counts the bytecodes that run in our modules, between `start` and `stop`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.count = 0

    def start(self) -> None:
        """Count from now on."""
        self.count = 0
        sys.settrace(self._enter)

    def stop(self) -> int:
        """How many there were."""
        sys.settrace(None)
        return self.count

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._prefix):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            self.count += 1
        return self._step


class _Window:
    """A part of the reference workload: an object with state, asked and changed by methods."""

    def __init__(self, limit: int) -> None:
        self.limit, self.level, self.at = limit, 0, 0

    def admit(self, amount: int, now: int) -> bool:
        """Much as a bucket does."""
        self.level = max(0, self.level - (now - self.at))
        self.at = now
        if self.level + amount > self.limit:
            return False
        self.level += amount
        return True


async def reference(rounds: int) -> int:
    """The reference workload: what interpreters do for a proxy, in no particular order, and nothing of ours."""
    windows = [_Window(1_000_000 + at) for at in range(8)]
    head = request().partition(b"\r\n\r\n")[0]
    total = 0

    async def step(now: int) -> int:
        fields = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b": ")
            if name not in (b"connection", b"host"):
                fields[name.lower()] = value
        admitted = sum(window.admit(len(fields), now) for window in windows)
        made = b"".join([b"%b: %b\r\n" % pair for pair in fields.items()])
        return admitted + len(made) + len(json.loads(_ANSWER))

    for now in range(rounds):
        total += await step(now)
    return total


async def _cheapest(run: Callable[[], Awaitable[int]]) -> int:
    return min([await run() for _ in range(_BATCHES)])


async def count_reference() -> float:
    """Bytecodes of one round of the reference workload."""
    opcodes = Opcodes(__file__)
    opcodes.start()
    await reference(20)
    return opcodes.stop() / 20


async def count(folder: Path, keys: int = 2) -> dict[str, float]:
    """Bytecodes for a request and for a relayed event."""
    streams: list[Provider] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(streams), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(folder, config(f"http://127.0.0.1:{port}/openai/v1", keys), {}, environ=ENVIRON) as rig:
        host, at = rig.url.removeprefix("http://").rsplit(":", 1)
        caller = Caller(*await asyncio.open_connection(host, int(at)))
        opcodes = Opcodes(_OURS)

        async def requests() -> int:
            opcodes.start()
            for _ in range(_REQUESTS):
                await caller.ask()
            return opcodes.stop()

        async def events() -> int:
            calls = iter((opcodes.start, opcodes.stop))
            await caller.stream(streams, lambda: next(calls)())
            return opcodes.count

        for _ in range(3 * keys):  # of every key the limits are learned, and what was made once is there
            await caller.ask()
        await requests()
        found = {"request": await _cheapest(requests) / _REQUESTS, "event": await _cheapest(events) / _EVENTS}
    server.close()
    return found


def cpu_ns(pid: int) -> int:
    """Processor time of a process with one busy thread: in ns where the kernel tells them, else in its ticks."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 10_000_000


async def time_request(folder: Path) -> float:
    """Processor time of a `sidecar serve` for a request, over a round of the reference; interleaved, the cheapest."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider([]), "127.0.0.1", 0)
    port, ports = server.sockets[0].getsockname()[1], (free_port(), free_port())
    path = folder / "timed.yaml"
    listen = f"listen: 127.0.0.1:{ports[0]}\nadmin: 127.0.0.1:{ports[1]}\n"
    path.write_text(listen + config(f"http://127.0.0.1:{port}/openai/v1"))
    with Running(["serve", "--config", str(path)], ENVIRON) as process:
        process.until(lambda line: '"listening"' in line)
        callers = [Caller(*await asyncio.open_connection("127.0.0.1", ports[0])) for _ in range(8)]

        async def work(caller: Caller) -> None:
            for _ in range(_REQUESTS):
                await caller.ask()

        ours, theirs = [], []
        for _ in range(12):
            before = time.process_time_ns()
            await reference(400)
            theirs.append((time.process_time_ns() - before) / 400)
            before = cpu_ns(process.process.pid)
            await asyncio.gather(*map(work, callers))
            ours.append((cpu_ns(process.process.pid) - before) / (_REQUESTS * len(callers)))
    server.close()
    return min(ours[1:]) / min(theirs[1:])


async def figures() -> dict[str, float]:
    """All of them, as multiples of a round of the reference workload; of what is compiled, time alone."""
    if is_compiled():
        return {"cpu": await timed()}
    unit = await count_reference()
    with tempfile.TemporaryDirectory() as name:
        counted = await count(Path(name))
        took = await time_request(Path(name))
    return {"request": counted["request"] / unit, "event": counted["event"] / unit, "cpu": took}


async def growth() -> float:
    """Bytecodes for a request with a thousand keys over those with one."""
    with tempfile.TemporaryDirectory() as name:
        one = await count(Path(name), 1)
        many = await count(Path(name), 1000)
    return many["request"] / one["request"]


def is_compiled() -> bool:
    """Whether the hot path that is found here is the compiled one (`make compiled`)."""
    return not quota.__file__.endswith(".py")


def version() -> str:
    """Of this interpreter: each compiles our code and the reference a little differently."""
    return f"{sys.version_info.major}.{sys.version_info.minor}{_COMPILED if is_compiled() else ''}"


def stored() -> tuple[dict[str, float], bool]:
    """The figures to compare with, and whether they are of this version; else those of the newest that has any."""
    kept = _alike(json.loads(STORED.read_text()))
    mine = kept.get(version())
    return (mine, True) if mine is not None else (kept[max(kept, key=lambda name: int(name[2:4]))], False)


def renew(found: dict[str, float]) -> None:
    """Keep these figures for this version; those of others change in the same proportion."""
    kept: dict[str, dict[str, float]] = json.loads(STORED.read_text()) if STORED.exists() else {}
    before = kept.get(version(), found)
    for figures_of in _alike(kept).values():
        figures_of.update({name: round(figures_of[name] * found[name] / before[name], 4) for name in found})
    kept[version()] = found
    STORED.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def _alike(kept: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Those of what is compiled, or of what is not."""
    return {name: each for name, each in kept.items() if name.endswith(_COMPILED) == is_compiled()}


async def timed() -> float:
    """Processor time alone."""
    with tempfile.TemporaryDirectory() as name:
        return await time_request(Path(name))


def measured(*words: str) -> dict[str, float]:
    """What this module prints, run in a process of its own."""
    command = [sys.executable, "-m", "tests.hot_path", *words]
    run = subprocess.run(
        command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return cast(dict[str, float], json.loads(run.stdout))


def main(words: list[str]) -> None:
    """Print the figures; keep them with `--renew`; `--growth` and `--time` print one alone."""
    if "--growth" in words:
        found = {"growth": asyncio.run(growth())}
    elif "--time" in words:
        found = {"cpu": asyncio.run(timed())}
    else:
        found = asyncio.run(figures())
    found = {name: round(figure, 4) for name, figure in found.items()}
    if "--renew" in words:
        renew(found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
