"""One key at one target: the quota it draws on, and the standings it depends on.

Decides whether it may be called as far as standings say, and takes over what an answer says about the time to come, as
far as that reaches. Refuses to know the other keys (keys.py) and what its quota allows (quota.py).
"""

from __future__ import annotations

from collections.abc import Collection

from sidecar.core.breaker import Breaker
from sidecar.core.error_classes import CROWDED_NS
from sidecar.core.headers import header_lines
from sidecar.core.health import FOREVER_NS, Bar, Standing
from sidecar.core.http import Header
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.quota import Quota
from sidecar.core.snapshot import Key, Target


class Candidate:
    """One key at one target: the quota it draws on, the standings it depends on, and the target's breaker."""

    __slots__ = (
        "at_model",
        "at_provider",
        "breaker",
        "ident",
        "is_present",
        "key",
        "key_line",
        "labels",
        "lines",
        "of_key",
        "quota",
        "secret",
        "target",
    )

    def __init__(  # its parts, and what it is in one tuple
        self, target: Target, key: Key, quota: Quota, standings: tuple[Standing, Standing, Standing], breaker: Breaker
    ) -> None:
        self.target = target
        self.key = key
        self.ident = key.ident
        self.is_present = key.is_present
        self.quota = quota
        self.at_provider, self.of_key, self.at_model = standings
        self.breaker = breaker
        self.key_line = header_lines(target.provider.auth[key.ident])
        self.labels: list[Header] = [
            (b"x-sidecar-provider", header_text(target.provider.name)),
            (b"x-sidecar-model", header_text(target.model)),
            (b"x-sidecar-key", header_text(key.name)),
        ]
        self.lines = header_lines(self.labels)  # the same as they stand on the wire
        self.secret = key.secret_bytes

    def standing(self) -> Bar:
        """What bars it longest: the target's breaker, or the standing of the target, the key, or the key here."""
        bars: tuple[Bar, ...] = (self.at_provider, self.of_key, self.at_model, self.breaker)
        return max(bars, key=_until)

    def may_be_called(self, now_ns: int, passed_over: Collection[Candidate]) -> bool:
        """Whether nothing but its quota may stand against it. Newcomers never overtake those who wait for that."""
        return not (
            self.of_key.until_ns > now_ns
            or self.at_provider.until_ns > now_ns
            or self.at_model.until_ns > now_ns
            or self.breaker.until_ns > now_ns
            or self.quota.line.waiting > 0
            or not self.is_present
            or (len(passed_over) > 0 and self in passed_over)
        )

    def apply(self, feedback: Feedback, now_ns: int) -> None:
        """Take over what an answer says about the time to come, as far as it reaches."""
        until_ns = feedback.until_ns
        if until_ns is None and feedback.outcome is Outcome.KEY_INVALID:
            until_ns = FOREVER_NS  # until the secret changes
        if until_ns is None or until_ns <= now_ns:
            return
        if feedback.scope is Scope.QUOTA:
            is_unannounced = feedback.outcome is Outcome.CONCURRENCY and until_ns <= now_ns + CROWDED_NS
            if not (is_unannounced and self.quota.inflight):  # else the next to end makes room, see concurrency.py
                self.quota.cool(until_ns)
        elif feedback.scope is Scope.TARGET:
            self.at_provider.bench(until_ns, feedback.outcome, feedback.message)
        elif feedback.scope is Scope.KEY:
            self.of_key.bench(until_ns, feedback.outcome, feedback.message)
        elif feedback.scope is Scope.KEY_MODEL:
            self.at_model.bench(until_ns, feedback.outcome, feedback.message)

    def __repr__(self) -> str:
        return f"<Candidate {self.target} {self.key.name} {self.standing()!r} {self.quota!r}>"


def header_text(text: str) -> bytes:
    """A name as a header's value: a caller's own model may hold anything (RFC 9110, 5.5)."""
    return "".join(c if "!" <= c <= "~" or c == " " else "?" for c in text[:256]).encode("ascii")


def _until(standing: Bar) -> int:
    return standing.until_ns
