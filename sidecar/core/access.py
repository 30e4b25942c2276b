"""What is remembered of one request while it lives, and the one JSON line it leaves.

Never a key, a prompt or an answer: labels, names, numbers and the trail of attempts only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from sidecar.core.errors import Step
from sidecar.core.limits import SECOND, Usage

if TYPE_CHECKING:
    from sidecar.core.trace import Trace

_MILLISECOND = 1_000_000
_NAME_CHARS = 128  # a caller's model name or path may be anything; the line stays short


class Record(msgspec.Struct):
    """One request as it goes; filled in by the gateway, read once at its end. Times in Unix ns."""

    id: str
    arrived_ns: int
    method: bytes
    path: bytes
    number: int = 0  # its place among all requests of the process, by arrival
    dialect: str = "openai"  # whose error shape the caller parses
    caller: str | None = None
    model: str | None = None  # as the caller named it
    is_streamed: bool = False
    provider: str | None = None
    target_model: str | None = None
    key: str | None = None
    attempts: int = 0
    wait_ns: int = 0
    ours_ns: int | None = None  # from its arrival until it was first sent, less the wait; None: it never was
    status: int = 0
    outcome: str = ""
    content_ns: int | None = None  # when the first content had come
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()
    trail: tuple[Step, ...] = ()
    cache: str | None = None  # hit, miss or bypass; None: there is no cache
    trace: Trace | None = None  # while requests are traced

    def sent_at(self, now_ns: int) -> None:
        """It goes to a provider; only the first time counts."""
        if self.ours_ns is None:
            self.ours_ns = now_ns - self.arrived_ns - self.wait_ns


class Line(msgspec.Struct, omit_defaults=True):
    """The access line. Durations in milliseconds; `trail` holds the attempts that failed."""

    time: str
    id: str
    method: str
    path: str
    status: int
    outcome: str
    duration_ms: float
    model: str | None = None
    stream: bool = False
    provider: str | None = None
    target_model: str | None = None
    key: str | None = None
    attempts: int = 0
    wait_ms: float = 0
    overhead_ms: float | None = None
    first_content_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    dropped: tuple[str, ...] = ()
    trail: tuple[Step, ...] = ()
    caller: str | None = None
    cache: str | None = None


def line_of(record: Record, now_ns: int) -> Line:
    """The line of a request that ended at `now_ns`."""
    usage = record.usage
    content_ns = record.content_ns
    ours_ns = overhead_ns(record, now_ns)
    return Line(
        time=timestamp(record.arrived_ns),
        id=record.id,
        method=record.method.decode("ascii", "replace"),
        path=record.path.partition(b"?")[0][:_NAME_CHARS].decode("ascii", "replace"),
        status=record.status,
        outcome=record.outcome,
        duration_ms=_milliseconds(now_ns - record.arrived_ns),
        model=record.model[:_NAME_CHARS] if record.model else None,
        stream=record.is_streamed,
        provider=record.provider,
        target_model=record.target_model[:_NAME_CHARS] if record.target_model else None,
        key=record.key,
        attempts=record.attempts,
        wait_ms=_milliseconds(record.wait_ns),
        overhead_ms=None if ours_ns is None else _milliseconds(ours_ns),
        first_content_ms=None if content_ns is None else _milliseconds(content_ns - record.arrived_ns),
        tokens_in=None if usage is None else usage.input_tokens,
        tokens_out=None if usage is None else usage.output_tokens,
        dropped=record.dropped,
        trail=record.trail,
        caller=record.caller,
        cache=record.cache,
    )


_encode = msgspec.json.Encoder().encode
_MOST_PHRASES = 256  # callers name models and paths at will
_PLAIN = (
    b'{"time":"%b.%03dZ","id":"%b",%b,"status":200,"outcome":"ok","duration_ms":%.3f,%b,"attempts":1,"wait_ms":0,'
    b'"overhead_ms":%.3f,"first_content_ms":%.3f,"tokens_in":%d,"tokens_out":%d}\n'
)


_HIT = b'{"time":"%b.%03dZ","id":"%b",%b,"status":200,"outcome":"ok","duration_ms":%.3f,%b"wait_ms":0,"cache":"hit"}\n'


class Scribe:
    """Writes lines. What requests of one kind have in common is put into words once."""

    __slots__ = ("_phrases", "_second", "_time")

    def __init__(self) -> None:
        self._phrases: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self._second = -1
        self._time = b""

    def line(self, record: Record, now_ns: int) -> bytes:
        """The line of a request that ended at `now_ns`, as JSON with its end."""
        if record.cache == "hit":
            return self._hit(record, now_ns)
        content_ns, usage, ours_ns = record.content_ns, record.usage, record.ours_ns
        is_plain = record.outcome == "ok" and record.attempts == 1 and record.status == 200 and not record.wait_ns
        if not is_plain or content_ns is None or usage is None or ours_ns is None or record.cache is not None:
            return _encode(line_of(record, now_ns)) + b"\n"
        if record.dropped or record.trail or record.caller is not None or record.key is None:
            return _encode(line_of(record, now_ns)) + b"\n"
        name = (record.path, record.model, record.provider, record.key, record.target_model, record.method)
        asked, served = self._phrases.get(name) or self._put(name, record, now_ns)
        arrived_ns = record.arrived_ns
        rest = self._rest(arrived_ns)
        took_ns = now_ns - arrived_ns
        if record.is_streamed:
            served += b',"stream":true'
        else:
            ours_ns += now_ns - content_ns
        ms = _MILLISECOND
        return _PLAIN % (
            self._time, rest // ms, record.id.encode(), asked, took_ns / ms, served,
            ours_ns / ms, (content_ns - arrived_ns) / ms, usage[0], usage[1],
        )  # fmt: skip

    def _hit(self, record: Record, now_ns: int) -> bytes:
        """The line of one that was answered from the cache; of one that was shared there is more to say."""
        is_plain = record.outcome == "ok" and record.status == 200 and not record.attempts and not record.wait_ns
        if not is_plain or record.usage is not None or record.key is not None or record.content_ns is not None:
            return _encode(line_of(record, now_ns)) + b"\n"
        if record.caller is not None or record.dropped or record.trail or record.ours_ns is not None:
            return _encode(line_of(record, now_ns)) + b"\n"
        name = (record.path, record.model, None, None, None, record.method)
        asked, served = self._phrases.get(name) or self._put(name, record, now_ns)
        if served:
            served += b","
        if record.is_streamed:
            served += b'"stream":true,'
        rest = self._rest(record.arrived_ns)
        took_ms = (now_ns - record.arrived_ns) / _MILLISECOND
        return _HIT % (self._time, rest // _MILLISECOND, record.id.encode(), asked, took_ms, served)

    def _rest(self, arrived_ns: int) -> int:
        """What a moment is past its second, of which the text is ready then."""
        second, rest = divmod(arrived_ns, SECOND)
        if second != self._second:
            self._second, self._time = second, timestamp(arrived_ns)[:-5].encode()
        return rest

    def _put(self, name: tuple[object, ...], record: Record, now_ns: int) -> tuple[bytes, bytes]:
        line = line_of(record, now_ns)
        asked = _encode({"method": line.method, "path": line.path})[1:-1]
        told = {"model": line.model, "provider": line.provider, "target_model": line.target_model, "key": line.key}
        served = _encode({word: value for word, value in told.items() if value is not None})[1:-1]
        if len(self._phrases) >= _MOST_PHRASES:
            self._phrases.clear()
        self._phrases[name] = (asked, served)
        return asked, served


def overhead_ns(record: Record, now_ns: int) -> int | None:
    """What we added to a request that ended at `now_ns`: all before it was first sent but the wait for quota, and of a
    plain answer that was read whole all after it was there; anything else is passed on piece by piece, as it comes.
    None: it was never sent."""
    is_whole = record.usage is not None and not record.is_streamed
    if record.ours_ns is None or record.content_ns is None or not is_whole:
        return record.ours_ns
    return record.ours_ns + now_ns - record.content_ns


def _milliseconds(duration_ns: int) -> float:
    return round(duration_ns / _MILLISECOND, 3)


def timestamp(unix_ns: int) -> str:
    whole, rest = divmod(unix_ns, SECOND)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest // _MILLISECOND:03d}Z"
