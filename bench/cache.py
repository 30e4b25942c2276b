"""What a kept answer costs against a proxied one, and whether a million distinct requests stay within the cap (J6).

Two sidecars in one run, one with the cache and one without, before one provider that answers at once; requests are sent
by this process over kept connections, in rounds that take turns. CPU is process time of the sidecar, from the kernel's
account, divided by requests. Run: `python bench/cache.py`; `--quick` sends a twentieth. Fails when a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import uvloop
from lib_processes import ROOT, SIDECAR, Process, free_port
from lib_report import heading, keep, setting, table

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20
_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1764000000,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"It depends on what you mean by that. " * 12 + b'"},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":90,"total_tokens":110}}'
)
_ROUNDS = 5
_CONNECTIONS = 16
_MAX_HIT = 0.6  # of a proxied request
_CAP_MIB = 64
_SLACK = 1.1


class _Provider(asyncio.Protocol):
    """Answers each request, whose body has a content-length, with the same completion."""

    _REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(_ANSWER),
        _ANSWER,
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end >= 0:
            length = int(self._held[:end].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if len(self._held) >= end + 4 + length:
                self._held = b""
                self._transport.write(self._REPLY)


class _Caller(asyncio.Protocol):
    """One connection that sends the next request when the answer to the last one is whole."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self._done.set_result(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        length = int(self._held[:end].partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._held) >= end + 4 + length:
            if not self._held.startswith(b"HTTP/1.1 200"):
                self._done.set_exception(RuntimeError(self._held[:200].decode()))
                return self._transport.close()
            self._held = b""
            self._next()
        return None


async def _send(port: int, requests: Iterator[bytes]) -> None:
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(_CONNECTIONS)]
    for each in done:
        await loop.create_connection(partial(_Caller, requests, each), "127.0.0.1", port)
    await asyncio.gather(*done)


def _request(body: bytes) -> bytes:
    """As the OpenAI SDK sends it."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip, deflate\r\n"
        b"Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        b"User-Agent: OpenAI/Python 2.8.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.0\r\n"
        b"X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n"
        b"X-Stainless-Runtime-Version: 3.11.7\r\nAuthorization: Bearer none\r\nX-Stainless-Async: false\r\n"
        b"x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )


def _body(number: int) -> bytes:
    return (
        b'{"messages":[{"role":"system","content":"You are a helpful assistant. Answer briefly."},{"role":"user",'
        b'"content":"What is the capital of the country with number %09d, and why was it chosen?"}],"model":"m",'
        b'"max_tokens":200,"temperature":0}' % number
    )


def _distinct(start: int, count: int) -> Iterator[bytes]:
    return (_request(_body(number)) for number in range(start, start + count))


def _same(count: int) -> Iterator[bytes]:
    request = _request(_body(0))
    return (request for _ in range(count))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _sidecar(name: str, provider: int, folder: str, extra: str) -> tuple[Process, int]:
    port, admin = free_port(), free_port()
    path = Path(folder) / f"{name}.yaml"
    path.write_text(
        f"listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:{admin}\nproviders:\n"
        f"  - {{name: own, base_url: 'http://127.0.0.1:{provider}/v1', keys: [{{name: a, env: KEY}}]}}\n{extra}"
    )
    words = [*SIDECAR, "serve", "--config", str(path)]
    return Process(f"cache-{name}", words, {"KEY": "sk-x"}, f"http://127.0.0.1:{admin}/readyz"), port


def _measured(pid: int, port: int, requests: Callable[[], Iterator[bytes]], count: int) -> float:
    """Microseconds of the process for one request."""
    before = _cpu_s(pid)
    uvloop.run(_send(port, requests()))
    return (_cpu_s(pid) - before) / count * 1e6


def _provide(port: int) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Provider, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(serve())


def _costs(off: tuple[Process, int], on: tuple[Process, int], count: int) -> list[tuple[str, float]]:
    """The best of some rounds of each, which take turns."""
    plans: list[tuple[str, Process, int, Callable[[int], Iterator[bytes]]]] = [
        ("proxied, without the cache", *off, lambda _: _same(count)),
        ("a miss, kept", *on, lambda turn: _distinct(10**8 + turn * count, count)),
        ("a hit", *on, lambda _: _same(count)),
    ]
    best = dict.fromkeys((name for name, *_ in plans), float("inf"))
    for turn in range(_ROUNDS):
        for name, process, port, requests in plans:
            took = _measured(process.pid, port, partial(requests, turn), count)
            best[name] = min(best[name], took)
    return list(best.items())


def main() -> int:
    """Print and keep the figures; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the requests, nothing kept")
    parser.add_argument("--provide", type=int, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.provide:
        _provide(said.provide)
    began = setting()
    count, many = (5_000, 50_000) if said.quick else (20_000, 1_000_000)
    provider = free_port()
    words = [sys.executable, str(ROOT / "bench" / "cache.py"), "--provide", str(provider)]
    cap = f"cache: {{enabled: true, max_bytes: {_CAP_MIB}MiB}}\n"
    with tempfile.TemporaryDirectory() as folder, Process("cache-provider", words, {}, ""):
        off, on = _sidecar("off", provider, folder, ""), _sidecar("on", provider, folder, cap)
        with off[0], on[0]:
            uvloop.run(_send(off[1], _same(2000)))
            uvloop.run(_send(on[1], _same(2000)))
            costs = _costs(off, on, count)
            idle = _resident(off[0].pid)  # as warm as the other one, and with nothing kept
            uvloop.run(_send(on[1], _distinct(0, many)))
            grown = (_resident(on[0].pid) - idle) / _MIB
    ratio = costs[2][1] / costs[0][1]
    rows = [(name, f"{took:.1f}", f"{took / costs[0][1]:.2f}") for name, took in costs]
    text = heading("What a kept answer costs, and what a million hold", {}, began)
    text += "\n" + table(["", "CPU us a request", "of a proxied one"], rows) + "\n\n"
    text += f"- after {many:,} distinct requests under a cap of {_CAP_MIB} MiB: {grown:.1f} MiB more resident\n"
    sys.stdout.write(text)
    if not said.quick:
        keep("cache.md", text)
    return int(ratio > _MAX_HIT or grown > _CAP_MIB * _SLACK)


if __name__ == "__main__":
    sys.exit(main())
