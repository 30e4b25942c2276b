"""The head of an answer as the caller gets it: the provider's own headers, and how the request was served.

What says how: `x-sidecar-provider`, `-model`, `-key` (the label, never the key), `-attempts`, `-wait-ms`, `-reason` of
the attempts that failed before, `-dropped`, and `x-request-id` where the provider sent none (acceptance B11, G3).
"""

from __future__ import annotations

from typing import Final

from sidecar.core.errors import Reason, Refusal, Step, render
from sidecar.core.headers import header_lines, response_headers
from sidecar.core.hot_answer import Known
from sidecar.core.http import Header, find
from sidecar.core.keys import Candidate, header_text
from sidecar.core.record import Record
from sidecar.core.snapshot import Key

_MILLISECOND: Final = 1_000_000
_SERVED: Final = b"x-sidecar-attempts: %d\r\nx-sidecar-wait-ms: %d\r\n"
_AT_ONCE: Final = _SERVED % (1, 0)  # as nearly every answer is
_HIDDEN: Final = b"[key withheld]"
_SEALED: Final = (
    "The provider's error is withheld, because it is in a content coding that cannot be read here, and it might repeat "
    "the operator's key; ask with `accept-encoding: gzip` or `identity` to see it."
)


def answer_headers(headers: list[Header], record: Record, candidate: Candidate) -> list[Header]:
    """The head of a provider's answer, without framing."""
    secret = candidate.key.secret_bytes
    head = response_headers(headers, (secret,) if secret else ())
    head += _served_by(record, candidate)
    if find(headers, b"x-request-id") is None:
        head.append((b"x-request-id", record.id.encode("ascii")))
    return head


def answer_lines(known: Known, record: Record, candidate: Candidate) -> bytes | None:
    """The same of a head that was recognised, as lines; None where one of them has to be looked at."""
    lines = known.lines
    if candidate.secret is not None and lines.find(candidate.secret) >= 0:
        return None
    waited_ms = record.wait_ns // _MILLISECOND
    if not record.trail and not record.dropped and known.pattern.has_request_id:
        is_plain = record.attempts == 1 and not waited_ms
        served = _AT_ONCE if is_plain else _SERVED % (record.attempts, waited_ms)
        return b"".join((lines, candidate.lines, served))
    served_by = _served_by(record, candidate)
    if not known.pattern.has_request_id:
        served_by.append((b"x-request-id", record.id.encode("ascii")))
    return lines + header_lines(served_by)


def _served_by(record: Record, candidate: Candidate) -> list[Header]:
    served: list[Header] = [
        *candidate.labels,
        (b"x-sidecar-attempts", b"%d" % record.attempts),
        (b"x-sidecar-wait-ms", b"%d" % (record.wait_ns // _MILLISECOND)),
    ]
    if record.trail:
        served.append((b"x-sidecar-reason", _reasons(record.trail)))
    if record.dropped:
        served.append((b"x-sidecar-dropped", header_text(", ".join(record.dropped))))
    return served


def refusal_headers(record: Record, refusal: Refusal) -> list[Header]:
    """What an error of our own says besides: how often and how long it was tried."""
    headers: list[Header] = [
        (b"x-request-id", record.id.encode("ascii")),
        (b"x-sidecar-attempts", b"%d" % record.attempts),
        (b"x-sidecar-wait-ms", b"%d" % (record.wait_ns // _MILLISECOND)),
    ]
    if refusal.trail:
        headers.append((b"x-sidecar-reason", _reasons(refusal.trail)))
    return headers


def _reasons(trail: tuple[Step, ...]) -> bytes:
    """Which attempts failed before, and why."""
    return header_text(", ".join(f"{step.target} {step.key}: {step.reason}" for step in trail))


def cleaned(
    head: list[Header], body: bytes, plain: bytes, key: Key, dialect: str = "openai"
) -> tuple[list[Header], bytes]:
    """An error's head and body as the caller may have them. `plain`: the body unpacked, used where it has to be; empty
    where that cannot be done."""
    secret = key.secret_bytes
    if not secret or (secret not in plain and (plain or not body or find(head, b"content-encoding") is None)):
        return head, body
    kept = [header for header in head if header[0] != b"content-encoding"]
    if plain:
        return kept, redacted(plain, key)
    # nobody here can tell whether it repeats the key, so it is not passed on
    kept = [header for header in kept if header[0] != b"content-type"] + [(b"content-type", b"application/json")]
    return kept, render(Refusal(Reason.UPSTREAM_FAILED, _SEALED), dialect).body


def redacted(body: bytes, key: Key) -> bytes:
    """An error's body without the key, should the provider have repeated it."""
    secret = key.secret_bytes
    return body.replace(secret, _HIDDEN) if secret and secret in body else body
