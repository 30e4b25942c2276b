"""A provider that closes idle connections whenever it likes, also with the next request on its way (acceptance C4)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections import Counter
from http.client import HTTPConnection

import pytest

from tests.processes import WATCHDOG_S, Serving

_CALLERS, _EACH = 4, 100
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # close() then sends RST (socket(7), SO_LINGER)
_ANSWER = b'{"id":"c","object":"chat.completion","choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}'


class Fickle:
    """Serves a few requests on each connection and then closes it in one of three ways. `served`: by their content."""

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self._draws = random.Random(4)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(self._draws.randint(1, 6)):
                self.served[await self._read(reader)] += 1
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)
                )
                writer.write(_ANSWER)
                await writer.drain()
            ending = self._draws.choice(["at once", "unread", "reset"])
            if ending != "at once":
                await reader.readexactly(1)  # the next request comes, and nobody reads it
            self.endings[ending] += 1
            if ending == "reset":
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> str:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.split(b"\r\n")]
        length = next(int(value) for name, _, value in lines if name == b"content-length")
        content = json.loads(await reader.readexactly(length))["messages"][0]["content"]
        assert isinstance(content, str)
        return content


def _caller(url: str, name: int) -> list[int]:
    """Requests one after another on one connection; their statuses."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=WATCHDOG_S)
    statuses = []
    for number in range(_EACH):
        body = {"model": "any", "messages": [{"role": "user", "content": f"{name}-{number}"}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        with connection.getresponse() as response:
            response.read()
            statuses.append(response.status)
    connection.close()
    return statuses


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_C4_connections_that_die_between_requests_cost_nobody_anything(tmp_path, loop):
    fickle = Fickle()
    server = await asyncio.start_server(fickle.serve, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    # no second try by other means: what is seen is the pool's own
    config = f"providers: [{{name: fickle, base_url: '{base_url}'}}]\nretry: {{attempts: 1}}\n"
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        stack.callback(server.close)
        sidecar = await asyncio.to_thread(Serving, tmp_path / "c4.yaml", config, words=("--loop", loop))
        stack.push_async_callback(asyncio.to_thread, sidecar.stop)
        calls = (asyncio.to_thread(_caller, sidecar.url, name) for name in range(_CALLERS))
        statuses = [status for each in await asyncio.gather(*calls) for status in each]
    assert Counter(statuses) == {200: _CALLERS * _EACH}
    assert set(fickle.served.values()) == {1}, "nothing was asked twice"
    assert len(fickle.served) == _CALLERS * _EACH
    assert min(fickle.endings[ending] for ending in ("at once", "unread", "reset")) > 10, fickle.endings
