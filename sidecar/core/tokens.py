"""How many tokens a request will take, before anyone has counted them.

Decides by the size of the body and by what the provider reported for earlier ones: bytes per token is a property of the
model's tokenizer and of the kind of text, so it is learned for each model and kind. What kind a body is, its bytes
tell: prose and code have 4 to 5 bytes a token, JSON 3, Chinese 3 to 4 in UTF-8 and 8 when escaped (bench/tokens.py).
Refuses to know JSON and tokenizers.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from sidecar.core.limits import ChargeRule, Cost

_START: Final = 4000  # thousandths of a byte per token: English text in most tokenizers
LEAST: Final = 1000
MOST: Final = 16_000  # escaped non-Latin text reaches 12 bytes per token
_SMALL: Final = 16  # tokens; below, the envelope of the request outweighs its text
_BASE64_FROM: Final = 16 * 1024  # bytes; smaller bodies hold no picture worth the search
_MEDIUM_BYTES: Final = (
    1024  # what a picture or a sound counts for: 256 tokens, between what providers take for small and large
)
_MARK: Final = b";base64,"
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\\"  # a slash may be escaped
# A picture is found where one of its bytes is looked at: to search for all marks would take longer than a decoder.
_PROBED_EVERY: Final = 4096
_MOST_APART: Final = 16 * 1024  # in large bodies
_PROBE: Final = 16
_SAMPLE: Final = 256  # bytes, at each of four places of a larger body
_PLAIN: Final = b" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ABOVE_ASCII: Final = bytes(range(128, 256))


class Kind(enum.Enum):
    """What a body's bytes are mostly made of. The value names the calibration."""

    __hash__ = object.__hash__  # of members there is one each; the enum module's own is slow

    PROSE = ""  # letters and blanks; most program code too
    SYMBOLS = "symbols"  # digits and punctuation: JSON, tables
    SCRIPT = "script"  # UTF-8 beyond ASCII
    ESCAPES = "escapes"  # the same as `\\uXXXX`


_PROSE, _SYMBOLS = Kind.PROSE, Kind.SYMBOLS  # an enum's member costs a look-up through its metaclass
_TELLING: Final = 64  # tokens declared, from which on a refusal tells whether they were counted


class SizedRequest(NamedTuple):
    """What a provider `requested` for a request: the bytes of its text, its declared output, and tokens in all."""

    input_bytes: int
    declared: int
    requested: int


class Calibration:
    """Bytes per token of one provider's model and one kind of text, in thousandths, following what is reported.

    It follows a request that took more tokens than thought four times as fast as one that took fewer: too low an
    estimate costs a 429, too high a one only some waiting.
    """

    __slots__ = ("counts_declared", "milli_bytes")

    def __init__(self, milli_bytes: int = _START) -> None:
        self.milli_bytes = milli_bytes
        self.counts_declared: bool | None = (
            None  # whether declared output is charged, as refusals showed; else the rule
        )

    def estimate(self, input_bytes: int) -> int:
        """Tokens in that many bytes of text, rounded up."""
        return -(-input_bytes * 1000 // self.milli_bytes)

    def report(self, input_bytes: int, input_tokens: int) -> None:
        """A provider counted `input_tokens` in a body of which `text_bytes` was `input_bytes`."""
        if input_tokens < _SMALL or input_bytes <= 0:
            return
        now = self.milli_bytes
        # one odd request (a picture counted as text, say) moves the estimate by an eighth at most
        seen = min(max(input_bytes * 1000 // input_tokens, now // 2), now * 2)
        step = (seen - now) // 4 if seen < now else (seen - now) // 16
        self.milli_bytes = min(max(now + step, LEAST), MOST)

    def hear_requested(self, told: SizedRequest, counted: bool | None) -> bool | None:
        """A refusal named what it took the request for: that tells the prompt's tokens, and whether the declared output
        is charged with them (`counted`: what is known of that, also returned; providers.md 2.5)."""
        size, declared, requested = told
        prompt = self.estimate(size)
        if declared >= max(_TELLING, prompt):
            counted = 2 * (requested - prompt) > declared
        read = requested - declared if counted else requested
        is_known = counted is not None or not declared  # else it may be the one or the other
        if is_known and prompt <= 4 * read <= 16 * prompt:
            self.report(size, read)
        return counted

    def __repr__(self) -> str:
        return f"<Calibration {self.milli_bytes / 1000:g} bytes per token>"


def text_bytes(body: bytes) -> int:
    """The size of a JSON body with each base64 run (a data URL) counted as a small, fixed one: each of 4 KiB and more,
    in bodies beyond 512 KiB each of a 128th, in those beyond 2 MiB each of 16 KiB."""
    size = whole = len(body)
    if size <= _BASE64_FROM:
        return size
    step = min(max(_PROBED_EVERY, whole >> 7), _MOST_APART)
    at, floor = step, 0
    while at < whole:
        if body[at : at + _PROBE].translate(None, _BASE64):  # of a text, as a rule
            at += step
            continue
        # no base64 has a `;`: the last one before tells
        mark = body.rfind(b";", floor, at)
        if mark >= 0 and body.startswith(_MARK, mark) and body.find(b'"', mark, at) < 0:
            end = body.find(b'"', at)
            if end < 0:
                end = whole
            size -= max(0, end - mark - len(_MARK) - _MEDIUM_BYTES)
            floor = end
            at = end + step
        else:
            floor = at - len(_MARK)
            at += step
    return size


def kind(body: bytes) -> Kind:
    """What a body is mostly made of, by samples of it."""
    size = len(body)
    if size > 4 * _SAMPLE:
        body = b"".join([body[at : at + _SAMPLE] for at in (size // 8, size * 3 // 8, size * 5 // 8, size * 7 // 8)])
        size = len(body)
    # a quarter, at six bytes each; one byte is found faster than two are counted
    if body.find(b"\\") >= 0 and 24 * body.count(b"\\u") > size:
        return Kind.ESCAPES
    if not body.isascii() and 4 * len(body.translate(None, _ABOVE_ASCII)) < 3 * size:
        return Kind.SCRIPT
    # an English text has a tenth of digits and punctuation, code a fifth, JSON half
    return _SYMBOLS if 10 * len(body.translate(None, _PLAIN)) > 3 * size else _PROSE


def cost(input_tokens: int, declared_output: int | None, n: int, rule: ChargeRule) -> Cost:
    """What a request is expected to take: `input_tokens` from a calibration, `declared_output` the caller's max tokens
    for each of `n` choices, reserved as the provider's charge rule says."""
    output, charged = 0, rule.output
    if charged != "none" and declared_output is not None:
        output = declared_output
    elif charged == "assumed":
        output = rule.assumed_output
    return Cost(input_tokens, max(0, output) * max(1, n))
