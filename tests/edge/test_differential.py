"""The same bytes on both lanes: the same answers (Date apart), the same requests at the service, the same end.

The bytes go to the protocols themselves, so that each piece is exactly what a test says, with the turns of the loop in
between that everything needs to come to rest.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.http import Request
from sidecar.edge.lanes import DataLanes
from tests.edge.raw import post, request
from tests.edge.stage import RULES, TIMING, HandClock, ScriptedService, echo

_DATE = re.compile(rb"^date: [^\r]*\r\n", re.MULTILINE)
_TURNS = 12  # aiohttp takes six from the bytes to the answer


class Played(NamedTuple):
    """What came of some bytes. `is_ended`: the caller is told that no further answer comes."""

    output: bytes
    requests: list[Request]
    heads: list[tuple[bytes, bytes, int | None]]
    is_ended: bool


class Memory(asyncio.Transport):
    """A transport into a list. The socket is there for its options alone."""

    def __init__(self, protocol: asyncio.BaseProtocol, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.protocol = protocol
        self.written: list[bytes] = []
        self.is_ended = False
        self.is_deaf = False
        self._is_closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        assert not self.is_ended
        self.written.append(data)

    def write_eof(self) -> None:
        self.is_ended = True

    def pause_reading(self) -> None:
        self.is_deaf = True

    def resume_reading(self) -> None:
        self.is_deaf = False

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = self.is_ended = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()


async def settle():
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def play(lane, pieces, script=echo):
    service = ScriptedService(script, RULES)
    lanes = DataLanes(service, TIMING, HandClock(), has_fast_lane=lane == "fast")
    with socket.socket() as sock:
        protocol = lanes._make_protocol()
        transport = Memory(protocol, sock)
        protocol.connection_made(transport)
        for piece in pieces:
            if piece and not transport.is_closing():
                assert not transport.is_deaf
                transport.protocol.data_received(piece)
                await settle()
        is_ended = transport.is_ended
        transport.abort()
        await lanes.close()
    assert (service.entrance.inflight, service.entrance.inflight_bytes) == (0, 0)
    return Played(_DATE.sub(b"", b"".join(transport.written)), service.requests, service.heads, is_ended)


def bytewise(data):
    return [data[index : index + 1] for index in range(len(data))]


TAIL = post(b"tail", b"x-tail: 1")
MESSAGES = [
    post(b'{"model":"m"}', b"Content-Type: application/json", b"Authorization: Bearer x"),
    request(b"/v1/models?a=b&c=%20#f"),
    request(b"/", method=b"HEAD"),
    request(b"/", method=b"DELETE"),
    request(b"/", b"content-length: 0", method=b"POST"),
    request(b"/", b"Content-Length:\t 5 \t", method=b"PUT") + b"hello",
    request(b"/", b"x-empty:", b"x-b:  two words ", b"x-tab: a\tb"),
    request(b"/", b"x-a: 1", b"x-a: 2"),
    request(b"/", b"x-latin: caf\xe9"),
    request(b"/", b"connection: Keep-Alive"),
    request(b"/", b"connection: close"),
    request(b"/", b"connection: keep-alive, x-b"),
    request(b"/", b"content-length: 005", method=b"POST") + b"hello",
    request(b"http://localhost/v1/models"),
    request(b"/", method=b"PROPFIND"),
    request(b"*", method=b"OPTIONS"),
    b"\r\n" + request(b"/"),
    b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    request(b"/", b"upgrade: websocket", b"connection: upgrade"),
    request(b"/", b"transfer-encoding: chunked", method=b"POST") + b"5\r\nhello\r\n0\r\n\r\n",
    post(b"hello", b"expect: 100-continue"),
]
MALFORMED = [
    request(b"/", b"content-length: 5", b"content-length: 5", method=b"POST") + b"hello",
    request(b"/", b"content-length: 5", b"transfer-encoding: chunked", method=b"POST") + b"0\r\n\r\n",
    request(b"/", b"content-length: +5", method=b"POST") + b"hello",
    request(b"/", b"content-length: 5,5", method=b"POST") + b"hello",
    request(b"/", b"content-type: a/b", b"content-type: c/d"),
    request(b"/", b"host: localhost"),
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost:localhost\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\nhost: localhost\n\n",
    request(b"/", b"x: a\nb: c"),
    request(b"/", b"x: a\rb"),
    request(b"/", b"x: \x00"),
    request(b"/", b"x y: z"),
    request(b"/", b": z"),
    request(b"/", b"no colon"),
    b"GET  / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /\tx HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/1.2\r\nhost: localhost\r\n\r\n",
    b"get / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"garbage",
]


def agree(some, everything):
    """Whether `some` is what came, or that without answers to requests before what is not HTTP.

    aiohttp forgets the requests that come in one piece with garbage behind them, and may then word the error otherwise.
    """
    if some == everything:
        return True
    before, _, _ = some.output.rpartition(b"HTTP/1.1 400 ")
    return (
        some.is_ended
        and everything.is_ended
        and everything.output.startswith(before)
        and everything.requests[: len(some.requests)] == some.requests
    )


@pytest.mark.parametrize("tail", [b"", TAIL, b"garbage\r\n\r\n"])
@pytest.mark.parametrize("message", MESSAGES + MALFORMED)
async def test_whole_and_byte_by_byte_and_with_a_tail(message, tail):
    expected = await play("general", [message, tail])
    assert expected.output
    assert await play("fast", [message, tail]) == expected
    assert await play("fast", bytewise(message + tail)) == await play("general", bytewise(message + tail))
    if message in MESSAGES:
        whole = await play("fast", [message + tail])
        assert whole == expected if tail == TAIL else agree(whole, expected)


@pytest.mark.parametrize("message", [MESSAGES[0], MESSAGES[1], MESSAGES[6], MESSAGES[-2]])
async def test_cut_at_every_offset(message):
    data = message + TAIL + message
    expected = await play("general", [message, TAIL, message])
    assert len(expected.requests) == (3 if b"chunked" not in message else 1)
    for cut in range(1, len(data)):
        assert await play("fast", [data[:cut], data[cut:]]) == expected, cut


async def test_cut_in_three_within_the_first_head():
    data = MESSAGES[0] + TAIL
    expected = await play("general", [MESSAGES[0], TAIL])
    for first in range(25, MESSAGES[0].index(b"\r\n\r\n") + 4, 7):
        for second in range(first + 1, len(data), 11):
            assert await play("fast", [data[:first], data[first:second], data[second:]]) == expected, (first, second)


async def test_many_requests_in_one_piece():
    data = (MESSAGES[0] + MESSAGES[1] + MESSAGES[5]) * 20
    played = await play("fast", [data])
    assert len(played.requests) == 60
    assert played == await play("general", [MESSAGES[0], MESSAGES[1], MESSAGES[5]] * 20)


@pytest.mark.parametrize("script", ["forgets", "starts", "fails", "streams"])
async def test_answers_of_every_kind(script):
    async def answer(request, reply):
        if script in ("starts", "streams"):
            await reply.start(200, [(b"content-type", b"text/event-stream")], 10 if request.method == b"PUT" else None)
            await reply.write(b"0123456789")
        if script == "streams":
            await reply.finish()
        if script == "fails":
            raise KeyError

    for message in MESSAGES[:8]:
        expected = await play("general", [message, TAIL], answer)
        assert await play("fast", [message, TAIL], answer) == expected
        assert await play("fast", [message + TAIL], answer) == expected


METHODS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"FETCH", b"CONNECT", b"p"]
)
TARGETS = st.one_of(
    st.sampled_from(
        [b"/", b"/v1/chat/completions?x=y", b"*", b"http://localhost/a", b"//a//b", b"/%zz#x?y", b"x", b""]
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=6).map(lambda text: b"/" + text.encode()),
)
LINES = st.one_of(
    st.sampled_from(
        [
            b"content-type: a/b", b"Accept: */*", b"connection: close", b"Connection: keep-alive",
            b"connection: x-a, close",
            b"transfer-encoding: chunked", b"transfer-encoding: identity", b"upgrade: h2c", b"proxy-connection: close",
            b"sec-websocket-key1: x", b"te: trailers", b"trailer: x", b"user-agent: u", b"Host: localhost", b"etag: x",
            b"content-length: 0", b"content-length: 3", b"Content-Length: 7", b"content-length: 03",
            b"content-length: 3x", b"content-length: -1", b"content-length:", b"content-length : 3", b" folded",
            b"\tfolded", b"x:y", b":", b"", b"x", b"x\x00: y", b"x: y\x7f", b"x: \x80", b"x: a\rb", b"x: a\nb",
            b"cookie: a=b", b"content-encoding: gzip",
        ]
    ),
    st.binary(max_size=6).map(lambda value: b"x-b: " + value),
    st.binary(max_size=4).map(lambda name: name + b": v"),
)  # fmt: skip


@st.composite
def messages(draw):
    version = draw(st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b""]))
    lines = draw(st.lists(LINES, max_size=4))
    host = draw(st.sampled_from([[b"host: localhost"]] * 8 + [[], [b"host:"], [b"host: 127.0.0.1:80"]]))
    body = draw(st.binary(max_size=8))
    if draw(st.booleans()):
        lines.append(b"content-length: %d" % len(body))
    head = [b" ".join([draw(METHODS), draw(TARGETS), version]), *host, *lines]
    return draw(st.sampled_from([b"\r\n"] * 9 + [b"\n"])).join(head) + b"\r\n\r\n" + body


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=1, max_size=3), st.lists(st.integers(1, 400), max_size=3))
def test_C11_any_requests_cut_anywhere(requests, cuts):
    data = b"".join(requests)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    with asyncio.Runner() as runner:
        assert agree(runner.run(play("fast", pieces)), runner.run(play("general", bytewise(data))))
