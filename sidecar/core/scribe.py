"""Writes access lines (access.py), most of them in one step: what requests have in common is put into words once."""

from __future__ import annotations

import msgspec

from sidecar.core.access import MILLISECOND, line_of, timestamp
from sidecar.core.limits import SECOND
from sidecar.core.record import Record

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
        ms = MILLISECOND
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
        took_ms = (now_ns - record.arrived_ns) / MILLISECOND
        return _HIT % (self._time, rest // MILLISECOND, record.id.encode(), asked, took_ms, served)

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
