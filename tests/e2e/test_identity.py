"""What passes, passes byte for byte: the answer through the sidecar is the one the provider gives (C6, C9, C10).

Two simulators with the same history on a clock that stands still give the same answers to the byte, ids and times
included; so does a provider that answers from a table. One is asked directly, the other through the sidecar.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.server import Simulator
from tests.e2e.house import MARK
from tests.fakes import FakeClock
from tests.processes import Answer, Serving, call

KEY = f"sk-identity-{MARK}"
# what frames a message, and what says when it was passed on
_OF_THE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date"}
JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
GZIP = JSON | {"accept-encoding": "gzip"}
FORM = JSON | {"content-type": "multipart/form-data; boundary=XyZ"}
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello, 世界 🌍"}]}
TOOL = {"type": "function", "function": {"name": "weather"}}
SPOKEN = (
    b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--XyZ\r\nContent-Disposition: form-data; name="response_format"\r\n\r\nvtt\r\n'
    b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\x00\xff\r\n--XyZ--\r\n'
)


def _json(**fields: object) -> bytes:
    return json.dumps({**HELLO, **fields}, ensure_ascii=False).encode()


REQUESTS = {
    "plain": ("chat/completions", _json(), JSON),
    "tools": ("chat/completions", _json(tools=[TOOL], n=2), JSON),
    "gzip": ("chat/completions", _json(), GZIP),
    "streamed": ("chat/completions", _json(stream=True), JSON),
    "streamed, gzip wanted": ("chat/completions", _json(stream=True), GZIP),
    "streamed with usage": ("chat/completions", _json(stream=True, stream_options={"include_usage": True}), JSON),
    "streamed tools": ("chat/completions", _json(stream=True, tools=[TOOL]), JSON),
    "responses": ("responses", b'{"model": "gpt-4o-mini", "input": "hello"}', JSON),
    "responses streamed": ("responses", b'{"model": "gpt-4o-mini", "input": "hello", "stream": true}', JSON),
    "embeddings": ("embeddings", b'{"model": "text-embedding-3-small", "input": ["a", "b"]}', GZIP),
    "400": ("chat/completions", _json(max_tokens="many"), JSON),
    "400 gzip": ("chat/completions", _json(max_tokens="many"), GZIP),
    "404": ("batches/none/cancel", b"{}", JSON),
    "binary": ("audio/speech", b'{"model": "tts-1", "input": "hello", "voice": "alloy"}', JSON),
    "form, text": ("audio/transcriptions", SPOKEN, FORM),
}


@contextlib.asynccontextmanager
async def _pair(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The base URLs of a simulator, and of a sidecar before its twin."""
    clock = FakeClock()
    config = SimConfig("openai", keys={KEY: "org-1"}, limits=(LimitRule(rpm=100, tpm=100_000),), seed=7)
    twins = [Simulator(config, clock) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        for twin in twins:
            await twin.start("127.0.0.1", 0)
            stack.push_async_callback(twin.stop)
        sidecar = await _serving(tmp_path, twins[1].base_url, "openai")
        stack.push_async_callback(asyncio.to_thread, sidecar.stop)
        yield twins[0].base_url, f"{sidecar.url}/v1"


async def _serving(tmp_path: Path, base_url: str, dialect: str) -> Serving:
    config = f"""
providers:
  - name: openai
    base_url: {base_url}
    dialect: {dialect}
    keys: [{{name: main, env: KEY}}]
"""
    return await asyncio.to_thread(Serving, tmp_path / "identity.yaml", config, {"KEY": KEY})


async def _ask(base_url: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
    scheme, _, rest = base_url.partition("://")
    host, _, base = rest.partition("/")
    method = "GET" if body is None else "POST"
    return await asyncio.to_thread(call, f"{scheme}://{host}", method, f"/{base}/{path}", body, headers)


def _assert_same(direct: Answer, relayed: Answer) -> None:
    assert relayed.status == direct.status
    assert relayed.body == direct.body
    assert _end_to_end(relayed) == _end_to_end(direct)
    framing = direct.header("content-length")
    assert framing is None or relayed.header("content-length") == framing


def _end_to_end(answer: Answer) -> list[tuple[str, str]]:
    return [each for each in answer.headers if each[0] not in _OF_THE_HOP and not each[0].startswith("x-sidecar-")]


async def test_a_relayed_answer_is_the_direct_one(tmp_path):
    async with asyncio.timeout(30), _pair(tmp_path) as (direct, relayed):
        for name, (path, body, headers) in REQUESTS.items():
            answers = [await _ask(base_url, path, body, headers) for base_url in (direct, relayed)]
            with _named(name):
                _assert_same(*answers)
            assert answers[1].header("x-sidecar-key") == "main"
            assert answers[0].header("x-request-id"), "the provider's own id passes"


def _answer(status: str, body: bytes, *headers: str, framing: str | None = None) -> bytes:
    framing = f"content-length: {len(body)}" if framing is None else framing
    lines = [f"HTTP/1.1 {status}", "X-Request-ID: req_1", *headers, *([framing] if framing else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-Trailer: 1\r\n\r\n"


_EVENT = 'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"世🌍"}}]}'
_LAST = 'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
_EVENTS = "text/event-stream; charset=utf-8"
_LONG = _EVENT.replace("世🌍", "x" * (8 << 20))
_RAW = bytes(range(256)) * 8


def _stream(*lines: str, end: str = "\n", size: int = 7) -> bytes:
    body = _chunked("".join(line + end for line in lines).encode(), size)
    return _answer("200 OK", body, f"Content-Type: {_EVENTS}", framing="transfer-encoding: chunked")


# answers as a server may give them; none is decoded on the way, so the bytes need not even be what they claim
JSON_TYPE = "content-type: application/json"
TABLE = {
    "br": _answer("200 OK", _RAW, JSON_TYPE, "content-encoding: br"),
    "zstd": _answer("200 OK", _RAW, JSON_TYPE, "content-encoding: zstd"),
    "chained": _answer("200 OK", _RAW, JSON_TYPE, "content-encoding: gzip, br"),
    "broken-gzip": _answer("200 OK", b"\x1f\x8b" + _RAW, JSON_TYPE, "content-encoding: gzip"),
    "204": _answer("204 No Content", b"", framing=""),
    "empty": _answer("200 OK", b"", "content-type: application/octet-stream"),
    "odd-status": _answer("299 Fine By Me", b"{}", JSON_TYPE, "X-Odd: \xe9 tab\tok"),
    "redirect": _answer("307 Temporary Redirect", b"", "location: http://elsewhere.example/v1"),
    "repeated": _answer("200 OK", b"{}", JSON_TYPE, "x-twice: 1", "x-twice: 2"),
    "surrogates": _answer("200 OK", b'{"a": "\\ud800", "b": 123456789012345678901234567890}', JSON_TYPE),
    "not-json": _answer("200 OK", b"<html>\xff</html>", JSON_TYPE),
    "crlf": _stream(": ping", "", _EVENT, "", _EVENT, "", _LAST, "", "data: [DONE]", "", end="\r\n"),
    "cr": _stream(_EVENT, "", _LAST, "", "data: [DONE]", "", end="\r"),
    "byte-by-byte": _stream(": 世界", "event: x", _EVENT, "", _LAST, "", "data: [DONE]", "", size=1),
    "no-final-newline": _stream(f"{_EVENT}\n\n{_LAST}\n\ndata: [DONE]", end=""),
    "long-line": _stream(_LONG, "", _LAST, "", "data: [DONE]", "", size=1 << 16),
    "html-400": _answer("400 Bad Request", b"<html>no</html>", "content-type: text/html"),
}  # fmt: skip


async def _serve_table(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
            )
            await reader.readexactly(length)
            writer.write(TABLE[head.split(b" ", 2)[1].rpartition(b"/")[2].decode()])
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_C6_C9_C10_nothing_is_decoded_joined_or_cut(tmp_path, loop):
    server = await asyncio.start_server(_serve_table, "127.0.0.1", 0)
    direct = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    config = f"providers: [{{name: table, base_url: '{direct}', dialect: vllm}}]\n"
    async with asyncio.timeout(30), contextlib.AsyncExitStack() as stack:
        stack.callback(server.close)
        sidecar = await asyncio.to_thread(Serving, tmp_path / "table.yaml", config, words=("--loop", loop))
        stack.push_async_callback(asyncio.to_thread, sidecar.stop)
        for name in TABLE:
            answers = [await _ask(base_url, f"files/{name}", None, {}) for base_url in (direct, f"{sidecar.url}/v1")]
            with _named(name):
                _assert_same(*answers)


@contextlib.contextmanager
def _named(case: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        error.add_note(f"case: {case}")
        raise
