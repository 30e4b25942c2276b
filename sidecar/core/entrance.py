"""The door of the data port: who may come in, how large a body, how many at once. Decided by the head alone.

In this order: Host (a web page that rebinds its own name to 127.0.0.1 sends that name; RFC 9110 7.2), Origin (sent by
browsers, RFC 6454 7), caller token, declared length, places left. A refused request takes no place. While the process
drains, what still arrives is served: the pod's neighbours may be slower to notice than we are.
Refuses to know what a valid HTTP message is (the lanes of the edge see to that) and what the request asks for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from sidecar.core.errors import Reason, Refusal
from sidecar.core.http import Header, Notes
from sidecar.core.limits import SECOND
from sidecar.core.units import format_size

_RETRY_AFTER_NS = SECOND  # places come free many times a second; sooner would be a herd
_MATTERS: Final = frozenset({b"host", b"origin", b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
_BEARER: Final = b"bearer "
# An IP address cannot be rebound, so a page can only hold one as its own name if we served that page.
_SAFE_HOST: Final = re.compile(
    rb"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]|(?:[a-z0-9-]{1,63}\.){0,8}localhost\.?)(?::\d{1,5})?", re.IGNORECASE
)
_NAME: Final = re.compile(rb"([^:\[\]@/\s]+?)\.?(?::\d{1,5})?")


class Rules(NamedTuple):
    """What the configuration says about coming in.

    `tokens`: SHA-256 of each caller token (see `digest`) to the name it is counted under; empty = nobody is asked.
    `hosts`: lower-case names besides loopback's own and IP addresses. `origins`: as browsers write them.
    `is_loopback_only`: every listening address is loopback. Elsewhere tokens protect, and any Host is right.
    """

    max_body_bytes: int
    max_inflight: int
    max_inflight_bytes: int
    tokens: Mapping[bytes, str] = {}
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    is_loopback_only: bool = True


def digest(token: bytes) -> bytes:
    """What `Rules.tokens` is keyed by. A look-up by digest tells a guesser nothing by the time it takes."""
    return hashlib.sha256(token).digest()


class _Admission:
    """What a head amounts to under some rules, whenever it comes. `verdict`: a refusal, or the caller's name."""

    __slots__ = ("rules", "verdict")

    def __init__(self, rules: Rules, verdict: Refusal | str | None) -> None:
        self.rules: Final = rules
        self.verdict: Final = verdict


class Entrance:
    """Counts who is inside. Rules may be replaced while requests run; those inside keep their places."""

    def __init__(self, rules: Rules) -> None:
        self.inflight = 0
        self.inflight_bytes = 0
        self.replace(rules)

    def __repr__(self) -> str:
        rules = self._rules
        return (
            f"Entrance(inflight={self.inflight}/{rules.max_inflight}, "
            f"bytes={self.inflight_bytes}/{rules.max_inflight_bytes}, tokens={len(rules.tokens)})"
        )

    def replace(self, rules: Rules) -> None:
        """Judge by these rules from now on."""
        self._rules = rules
        self._hosts = frozenset(name.lower().encode() for name in rules.hosts)
        self._origins = frozenset(origin.lower().encode() for origin in rules.origins)
        self._most, self._most_bytes = rules.max_inflight, rules.max_inflight_bytes
        self._largest = min(rules.max_body_bytes, rules.max_inflight_bytes)

    def enter(self, headers: list[Header], length: int | None, notes: Notes | None = None) -> Refusal | Place:
        """A place for the request of this head, or why there is none. `length`: content-length, None = not declared;
        `notes`: kept with a head that may come again."""
        admission = None if notes is None else notes.admission
        if not isinstance(admission, _Admission) or admission.rules is not self._rules:
            admission = _Admission(self._rules, self._judged(headers))
            if notes is not None:
                notes.admission = admission
        caller = admission.verdict
        if caller is not None and isinstance(caller, Refusal):
            return caller
        declared = length or 0
        if (
            declared > self._largest or self.inflight >= self._most or self.inflight_bytes + declared > self._most_bytes
        ):  # one of these three says why not
            refusal = self._room(declared)
            if refusal is not None:
                return refusal
        return Place(self, caller, declared)

    def _judged(self, headers: list[Header]) -> Refusal | str | None:
        tokens = []
        for name, value in headers:
            if name not in _MATTERS:
                continue
            if name == b"host":
                if not self._is_right_host(value):
                    return _FORBIDDEN_HOST
            elif name == b"origin":
                if value.lower() not in self._origins:
                    return _FORBIDDEN_ORIGIN
            else:
                tokens.append(value)
        if not self._rules.tokens:
            return None
        return self._known(tokens) or _UNAUTHORIZED

    def grown(self, received: int, more: int) -> Refusal | None:
        """Whether a body of `received` bytes may grow by `more` that are not yet counted; counts them if so."""
        refusal = self._too_large(received) or self._too_much(more)
        if refusal is None:
            self.inflight_bytes += more
        return refusal

    def shrunk(self, less: int) -> None:
        """So many bytes that were counted as grown are gone again."""
        self.inflight_bytes -= less

    def _is_right_host(self, value: bytes) -> bool:
        if not self._rules.is_loopback_only or _SAFE_HOST.fullmatch(value):
            return True
        name = _NAME.fullmatch(value)
        return name is not None and name[1].lower() in self._hosts

    def _known(self, values: Iterable[bytes]) -> str | None:
        """The name of the first token that is one of ours, however it is sent."""
        for value in values:
            token = value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else value
            caller = self._rules.tokens.get(digest(token))
            if caller is not None:
                return caller
        return None

    def _room(self, length: int) -> Refusal | None:
        if refusal := self._too_large(length):
            return refusal
        if self.inflight >= self._rules.max_inflight:
            return _overloaded(f"{self.inflight} requests are in flight, and inflight.max allows no more")
        return self._too_much(length)

    def _too_large(self, length: int) -> Refusal | None:
        # A body above the sum of all bodies would be told to come again, for ever.
        cap, field = min(
            (self._rules.max_body_bytes, "body.max_bytes"), (self._rules.max_inflight_bytes, "inflight.bytes")
        )
        if length <= cap:
            return None
        message = f"the request body has {length} bytes or more; {field} allows {cap} ({format_size(cap)})"
        return Refusal(Reason.BODY_TOO_LARGE, message)

    def _too_much(self, more: int) -> Refusal | None:
        if more and self.inflight_bytes + more > self._rules.max_inflight_bytes:
            return _overloaded(
                f"bodies of {self.inflight_bytes} bytes are in flight, and inflight.bytes allows no more"
            )
        return None


class Place:
    """One request's place inside. `caller` is the name of the token it came with, None where none is asked for."""

    __slots__ = ("_counted", "_entrance", "_received", "caller")

    def __init__(self, entrance: Entrance, caller: str | None, declared: int) -> None:
        entrance.inflight += 1
        entrance.inflight_bytes += declared
        self.caller = caller
        self._entrance: Entrance | None = entrance
        self._counted = declared  # a declared body is counted whole before it comes
        self._received = 0

    def __repr__(self) -> str:
        state = "left" if self._entrance is None else f"{self._received} of {self._counted} bytes"
        return f"Place(caller={self.caller!r}, {state})"

    def grow(self, length: int) -> Refusal | None:
        """Count `length` more bytes of body; a Refusal when the body or all bodies together exceed the cap."""
        if self._entrance is None:
            return None
        received = self._received + length
        more = max(0, received - self._counted)
        refusal = self._entrance.grown(received, more) if more else None
        if refusal is None:
            self._received = received
            self._counted += more
        return refusal

    def leave(self) -> None:
        """Give the place and its bytes back; harmless when called again."""
        entrance, self._entrance = self._entrance, None
        if entrance is not None:
            entrance.inflight -= 1
            entrance.inflight_bytes -= self._counted


def _overloaded(message: str) -> Refusal:
    return Refusal(Reason.OVERLOADED, message, _RETRY_AFTER_NS)


_FORBIDDEN_HOST: Final = Refusal(
    Reason.FORBIDDEN_HOST,
    "the Host header names neither loopback nor an IP address; if that name is meant to reach this proxy, "
    "list it in auth.hosts",
)
_FORBIDDEN_ORIGIN: Final = Refusal(
    Reason.FORBIDDEN_ORIGIN,
    "the request comes from a web page whose origin may not call this proxy; if it is yours, list it in auth.origins",
)
_UNAUTHORIZED: Final = Refusal(
    Reason.UNAUTHORIZED,
    "this proxy asks for one of its own tokens (auth.tokens), sent as `Authorization: Bearer`, `x-api-key`, `api-key` "
    "or `x-goog-api-key`; none of the request's is one",
)
