"""Writes access lines (access.py), most of them in one step: what requests have in common is put into words once."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.access import line_of, timestamp
from sidecar.core.limits import SECOND
from sidecar.core.record import Record

_encode: Final = msgspec.json.Encoder().encode
_MOST_PHRASES: Final = 4096  # half a kilobyte each; callers name models and paths at will
_MICROSECOND: Final = 1_000  # ns
_MILLISECOND: Final = 1_000_000
_OK: Final = "ok"
# to put a number into digits costs more than all the rest
_NUMBERS: Final = [str(number) for number in range(1000)]
_PARTS: Final = [f".{number:03d}" for number in range(1000)]


class Scribe:
    """Writes lines. What requests of one kind have in common is put into words once."""

    __slots__ = ("_phrases", "_second_ns", "_time")

    def __init__(self) -> None:
        self._phrases: dict[tuple[object, ...], tuple[str, str]] = {}
        self._second_ns = -SECOND
        self._time = ""

    def line(self, record: Record, now_ns: int) -> bytes:
        """The line of a request that ended at `now_ns`, as JSON with its end."""
        if record.cache is not None:
            return self._hit(record, now_ns) if record.cache == "hit" else _long(record, now_ns)
        content_ns, usage, ours_ns = record.content_ns, record.usage, record.overhead_ns(now_ns)
        is_plain = record.outcome == _OK and record.attempts == 1 and record.status == 200 and not record.wait_ns
        if not is_plain or content_ns is None or usage is None or ours_ns is None:
            return _long(record, now_ns)
        if record.dropped or record.trail or record.caller is not None or record.key is None:
            return _long(record, now_ns)
        name = (record.path, record.model, record.provider, record.key, record.target_model, record.method)
        asked, served = self._phrases.get(name) or self._put(name, record, now_ns)
        arrived_ns = record.arrived_ns
        part = self._part(arrived_ns)
        if record.is_streamed:
            served += ',"stream":true'
        return (
            f'{self._time}{part}Z","id":"{record.id}{asked}{_milliseconds(now_ns - arrived_ns)},{served},'
            f'"attempts":1,"wait_ms":0,'
            f'"overhead_ms":{_milliseconds(ours_ns)},"first_content_ms":{_milliseconds(content_ns - arrived_ns)},'
            f'"tokens_in":{_digits(usage.input_tokens)},"tokens_out":{_digits(usage.output_tokens)}}}\n'
        ).encode()

    def _hit(self, record: Record, now_ns: int) -> bytes:
        """The line of one that was answered from the cache; of one that was shared there is more to say."""
        is_plain = record.outcome == _OK and record.status == 200 and not record.attempts and not record.wait_ns
        if not is_plain or record.usage is not None or record.key is not None or record.content_ns is not None:
            return _long(record, now_ns)
        if record.caller is not None or record.dropped or record.trail or record.ours_ns is not None:
            return _long(record, now_ns)
        name = (record.path, record.model, None, None, None, record.method)
        asked, served = self._phrases.get(name) or self._put(name, record, now_ns)
        if served:
            served += ","
        if record.is_streamed:
            served += '"stream":true,'
        part = self._part(record.arrived_ns)
        return (
            f'{self._time}{part}Z","id":"{record.id}{asked}{_milliseconds(now_ns - record.arrived_ns)},{served}'
            f'"wait_ms":0,"cache":"hit"}}\n'
        ).encode()

    def _part(self, unix_ns: int) -> str:
        """The milliseconds of a moment; the beginning of a line, to the second, is ready then."""
        if not 0 <= unix_ns - self._second_ns < SECOND:
            self._second_ns = unix_ns // SECOND * SECOND
            self._time = f'{{"time":"{timestamp(unix_ns)[:-5]}'
        return _PARTS[(unix_ns - self._second_ns) // _MILLISECOND]

    def _put(self, name: tuple[object, ...], record: Record, now_ns: int) -> tuple[str, str]:
        """The two pieces that lines of this kind share: from behind the id to the duration, and what is told of who
        served them."""
        line = line_of(record, now_ns)
        asked = _encode({"method": line.method, "path": line.path, "status": 200, "outcome": _OK}).decode()
        asked = f'",{asked[1:-1]},"duration_ms":'
        told = {"model": line.model, "provider": line.provider, "target_model": line.target_model, "key": line.key}
        served = _encode({word: value for word, value in told.items() if value is not None})[1:-1].decode()
        if len(self._phrases) >= _MOST_PHRASES:
            self._phrases.clear()
        self._phrases[name] = (asked, served)
        return asked, served


def _long(record: Record, now_ns: int) -> bytes:
    return _encode(line_of(record, now_ns)) + b"\n"


def _milliseconds(duration_ns: int) -> str:
    if duration_ns < 0:
        return f"-{_milliseconds(-duration_ns)}"
    whole = (duration_ns + _MICROSECOND // 2) // _MICROSECOND
    return _digits(whole // 1000) + _PARTS[whole % 1000]


def _digits(number: int) -> str:
    return _NUMBERS[number] if 0 <= number < 1000 else str(number)
