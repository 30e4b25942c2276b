"""Which conversation a request continues, and which key served its last turn: prompt caches belong to a key (J4).

A conversation is known by its beginning, the system prompt and the first thing the user said, found by looking for
bytes: nothing is parsed, and a wrong guess costs one cache miss. The memory is bounded, and forgets after five minutes
as providers' caches do. Decides nothing about keys: `keys.py` follows it only as far as balance allows.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.limits import MINUTE

_REMEMBERED_NS: Final = 5 * MINUTE
_CAPACITY: Final = 10_000  # about 200 bytes each
_SEARCHED_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 512  # up to the end of what counts: the end of the system prompt, and the user's first words
# the first text of the first message of a user, as clients write it: the role, then its content, whole or in parts
_USER: Final = re.compile(
    rb'"user"\s*,\s*"content"\s*:\s*(?:\[\s*\{[^\]"]*"type"\s*:\s*"text"\s*,\s*"text"\s*:\s*)?"[^"\\]{0,256}'
)

_ROLE: Final = b'"user"'
_PLAIN: Final = b'"user","content":"'
_WORDS: Final = 256  # bytes of them that count
_ANSWER: Final = b'"assistant"'
_NEAR_BYTES: Final = (
    4096  # from the first words, and from the end: in between are long texts, which take long to search
)


Turn = tuple[int, bool]
"""A number that the turns of a conversation share, and whether it has been answered before. Plain, for it is made on
the hot path: a named one costs a quarter of all that is done here."""


def turn_of(body: bytes) -> Turn | None:
    """Which conversation a JSON body is a turn of; None where it has no message of a user as clients write it."""
    at = body.find(_ROLE, 0, _SEARCHED_BYTES)
    if at < 0:
        return None
    start = at + len(_PLAIN)
    if body.startswith(_PLAIN, at):  # as most clients write it: up to the first quote or escape
        end = body.find(b'"', start, start + _WORDS)
        if end < 0:
            end = min(start + _WORDS, len(body))
        escaped = body.find(b"\\", start, end)
        end = end if escaped < 0 else escaped
    else:
        first = _USER.match(body, at) or _USER.search(body, at, _SEARCHED_BYTES)
        if first is None:
            return None
        end = first.end()
    head = body[end - _HEAD_BYTES : end] if end > _HEAD_BYTES else body[:end]
    is_answered = body.find(_ANSWER, end, end + _NEAR_BYTES) > 0
    if not is_answered and len(body) > end + _NEAR_BYTES:
        is_answered = body.rfind(_ANSWER, max(end, len(body) - _NEAR_BYTES)) > 0
    return hash(head), is_answered


class Pins:
    """The key that served each conversation last; the one used longest ago is forgotten first."""

    __slots__ = ("_capacity", "_pins")

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._pins: dict[int, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._pins)

    def key_of(self, conversation: int, now_ns: int) -> str | None:
        """The ident of the key that served it, as long as a prompt cache may remember."""
        pin = self._pins.get(conversation)
        return pin[0] if pin is not None and pin[1] > now_ns else None

    def note(self, conversation: int, key: str, now_ns: int) -> None:
        """That key serves it now."""
        pins = self._pins
        if pins.pop(conversation, None) is None and len(pins) >= self._capacity:
            del pins[next(iter(pins))]
        pins[conversation] = (key, now_ns + _REMEMBERED_NS)

    def __repr__(self) -> str:
        return f"<Pins {len(self._pins)} of {self._capacity}>"
