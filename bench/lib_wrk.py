"""Closed-loop load by wrk, with the headers of the OpenAI SDK; and what one burst of it cost the process that answered.

wrk sends as fast as it is answered, so that the proxy's core is busy all the time: the figures are throughput on one
core and processor time for each request. For latencies at a rate that someone else sets see lib_openloop.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lib_gateways import Door
from lib_machine import spent
from lib_processes import LOGS
from lib_upstream import MODEL, find

SDK_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "content-type": "application/json",
    "user-agent": "AsyncOpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.2",
    "authorization": "Bearer sk-of-the-application",
    "x-stainless-async": "async:asyncio",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
    "x-stainless-poll-helper": "false",
}
_TRIES = 4
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("\\n@ %d %d %d %d %d\\n", summary.requests, summary.duration, e.status, e.connect + e.read + e.write, e.timeout))
end
"""  # noqa: E501  one line of Lua


def body_of(size: int, model: str = MODEL, **more: object) -> bytes:
    """The body of a chat request of that many bytes, or of as few as there can be."""
    system = {"role": "system", "content": "You are a helpful assistant."}
    fields: dict[str, object] = {
        "model": model,
        "messages": [system, {"role": "user", "content": ""}],
        "max_tokens": 64,
    }
    bare = len(json.dumps(fields | more))
    words = "Say something about proxies that nobody has said before. "
    text = (words * (size // len(words) + 1))[: max(2, size - bare)]
    fields["messages"] = [system, {"role": "user", "content": text}]
    return json.dumps(fields | more).encode()


class Load(NamedTuple):
    """One kind of load: bodies in turn, connections, headers beyond those of the SDK."""

    bodies: tuple[bytes, ...]
    connections: int = 16
    headers: Mapping[str, str] = {}


class Burst(NamedTuple):
    """What came of one burst."""

    requests: int
    seconds: float
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        """Processor time of the proxy for each request, in microseconds."""
        return self.cpu_s / self.requests * 1e6

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self.requests / self.seconds


def burst(door: Door, load: Load, seconds: float) -> Burst:
    """Load for so long, again where nothing was answered by then; RuntimeError: not all was answered with 2xx."""
    for _ in range(_TRIES - 1):
        try:
            return _burst(door, load, seconds)
        except _Silence as silence:
            print(f"  once more: {silence}", file=sys.stderr)
    return _burst(door, load, seconds)


class _Silence(RuntimeError):
    """No answer and no failure: one that needs longer for its first (LiteLLM), or a machine without time for us."""


def _burst(door: Door, load: Load, seconds: float) -> Burst:
    script = _script(door, load)
    whole = max(1, round(seconds))
    words = [find("wrk", "wrk"), "-t1", f"-c{load.connections}", f"-d{whole}s", "--timeout", "30s", "-s", str(script)]
    before = spent(door.pid) if door.pid else None
    run = subprocess.run([*words, door.url], capture_output=True, text=True, check=False)
    after = spent(door.pid) if door.pid else None
    figures = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("@ ")]
    if not figures:
        raise RuntimeError(f"wrk failed at {door.url}: {run.stdout[-300:]} {run.stderr[-300:]}")
    requests, micros, bad, broken, late = map(int, figures[0])
    if bad or broken or late or not requests:
        told = f"{requests} answered, {bad} not with 2xx, {broken} connections broken, {late} timed out"
        raise (RuntimeError if requests or bad or broken else _Silence)(f"{door.url}: {told}")
    return Burst(requests, micros / 1e6, after.since(before) if after and before else 0.0)


def _script(door: Door, load: Load) -> Path:
    folder = LOGS / "wrk"
    folder.mkdir(parents=True, exist_ok=True)
    bodies = folder / "bodies"
    bodies.write_bytes(b"\n".join(load.bodies))  # JSON of ours has no newline
    headers = SDK_HEADERS | dict(door.headers) | dict(load.headers)
    lines = ['wrk.method = "POST"', *(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items())]
    lines += ["local bodies = {}", f"for line in io.lines({json.dumps(str(bodies))}) do bodies[#bodies + 1] = line end"]
    if len(load.bodies) == 1:
        lines.append("wrk.body = bodies[1]")
    else:
        lines += [
            "local made, at = {}, 0",
            "init = function() for i, body in ipairs(bodies) do made[i] = wrk.format(nil, nil, nil, body) end end",
            "request = function() at = at % #made + 1; return made[at] end",
        ]
    path = folder / "load.lua"
    path.write_text("\n".join(lines) + _DONE)
    return path
