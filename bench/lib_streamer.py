"""A provider that streams: events of 230 bytes, each at its own time, in a process of its own.

`max_tokens` of a request says how many events, `seed` how many milliseconds lie between two. Every event is one chunk
and one write, and tells when it was written (CLOCK_MONOTONIC, the same in all processes): a reader knows its delay.
Run as `python lib_streamer.py PORT`.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop
from lib_processes import Process, free_port
from lib_upstream import ANSWER, Upstream

EVENT_BYTES = 230
MARK = b':"t='  # followed by the time in DIGITS digits
DIGITS = 19
_BEGIN = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1750000000,'
    b'"model":"openai/gpt-oss-120b","choices":[{"index":0,"delta":{"content":"t='
)
_END = b'"},"finish_reason":null}]}\n\n'
_PAD = b" " * (EVENT_BYTES - len(_BEGIN) - DIGITS - len(_END))
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"x-ratelimit-limit-requests: 100000000\r\nx-ratelimit-remaining-requests: 99999990\r\n"
    b"x-ratelimit-limit-tokens: 1000000000\r\nx-ratelimit-remaining-tokens: 999999000\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_USAGE = b'"usage":{"prompt_tokens":60,"completion_tokens":200,"total_tokens":260}'
_LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1750000000,"model":"openai/gpt-oss-120b",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],' + _USAGE + b"}\n\ndata: [DONE]\n\n"
)
_PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER.encode(),
)
_READY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_NUMBER = re.compile(rb'"(max_tokens|seed)": ?(\d+)')


def event() -> bytes:
    """One event, as it is now."""
    return _BEGIN + b"%019d" % time.monotonic_ns() + _PAD + _END


class _Streamer(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self._held = b""
            self._transport.write(_READY)
        elif body.endswith(b"}") or body.endswith(b"0\r\n\r\n"):  # Envoy may send it in chunks
            self._held = b""
            if b'"stream"' not in body:
                self._transport.write(_PLAIN)
                return
            asked = {name: int(value) for name, value in _NUMBER.findall(body)}
            self._transport.write(_HEAD)
            self._begin(asked.get(b"max_tokens", 10), asked.get(b"seed", 10) / 1000)

    def _begin(self, count: int, gap_s: float) -> None:
        began = self._loop.time()

        def send(number: int) -> None:
            self._transport.write(b"%x\r\n%b\r\n" % (EVENT_BYTES, event()))
            if number + 1 < count:
                self._timer = self._loop.call_at(began + (number + 1) * gap_s, send, number + 1)
            else:
                self._timer = self._loop.call_later(gap_s, self._finish)

        send(0)

    def _finish(self) -> None:
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_LAST), _LAST))


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Streamer(loop), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


@contextmanager
def streaming(cores: frozenset[int]) -> Iterator[Upstream]:
    """Such a provider, under way."""
    port = free_port()
    with Process("streamer", [sys.executable, __file__, str(port)], {}, f"http://127.0.0.1:{port}/", cores):
        yield Upstream("http", port, Path())


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
