"""docs/fallback.md, written from the tables themselves: what decides is what is documented, and a test holds it so.

Decides words and layout only. Refuses to know files: `page` returns the text.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.core.breaker import (
    FAULTS,
    IN_A_ROW,
    OPEN_MOST_NS,
    OPEN_NS,
    OVERTAKEN_IN_A_ROW,
    PROBE_NS,
    TRANSITIONS,
    WINDOW_LEAST,
    WINDOW_NS,
    State,
)
from sidecar.core.error_classes import ROWS, Row, Until
from sidecar.core.errors import Reason, Refusal
from sidecar.core.fallback import RULES, Blame, Next
from sidecar.core.outcomes import Outcome, Scope
from sidecar.core.units import format_duration

MEANINGS = {
    Outcome.OK: "an answer",
    Outcome.RATE_LIMITED: "a window of this account and model is spent",
    Outcome.TOO_LARGE: "the request can never fit here: limit, context or body size",
    Outcome.BUSY: "the provider is at its capacity, whatever our quota",
    Outcome.CONCURRENCY: "too many requests at once with this account and model",
    Outcome.KEY_INVALID: "the key is not accepted; off until it changes",
    Outcome.KEY_UNPAID: "the account has to be paid",
    Outcome.KEY_FORBIDDEN: "the key may not use this model",
    Outcome.MODEL_UNAVAILABLE: "unknown, retired or not for this request",
    Outcome.NOT_FOUND: "no such path or object there",
    Outcome.FIELD_REJECTED: "a field that this target does not take, and the answer can do without",
    Outcome.FIELD_NEEDED: "such a field, without which the answer would be another one",
    Outcome.SERVER_ERROR: "the server failed, or sent an error or nothing inside a 200",
    Outcome.BAD_REQUEST: "any other 4xx: the request itself is wrong",
    Outcome.CONNECT_FAILED: "no connection (name, TCP, TLS): no byte of the request was sent",
    Outcome.HEADERS_TIMEOUT: "no status line in time",
    Outcome.CONTENT_TIMEOUT: "a status line, but no content in time",
    Outcome.AMBIGUOUS: "the connection was lost when the request was sent and no status had come",
    Outcome.BROKEN: "the answer broke off, or was not HTTP",
    Outcome.CLIENT_GONE: "the caller left",
    Outcome.HEDGED: "another target, asked beside this one, answered first",
}
_THEN = {
    Next.AGAIN: "the same target, without the field",
    Next.KEY: "another key of the target, then the next target",
    Next.TARGET: "the next target",
    Next.RELAY: "to the caller, as it came",
}
_BLAME = {Blame.NOBODY: "nobody", Blame.CLIENT: "the request", Blame.KEY: "the key", Blame.TARGET: "the target"}
_SCOPE = {
    Scope.REQUEST: "nothing",
    Scope.QUOTA: "this account and model",
    Scope.KEY: "the key",
    Scope.KEY_MODEL: "the key for this model",
    Scope.TARGET: "the model at this provider",
    Scope.PROVIDER: "the provider",
}
_OVER = frozenset({Outcome.OK, Outcome.CLIENT_GONE, Outcome.HEDGED})  # after which nothing follows

_PHASES = """\
# What happens when a provider fails

Written by `sidecar/core/fallback_doc.py` from the tables that decide; a test keeps this page equal to them.

## Two phases

**Before the commit** the caller has heard nothing. An answer is held until it is known to be one: a stream until its
first content (text, reasoning, a tool call or a reason to finish; comments, a role or an empty delta are not content),
a JSON answer until it is whole. Whatever fails until then may be answered by another key or another target, and the
caller sees that answer alone; `x-sidecar-attempts` and `x-sidecar-reason` tell what came before. One deadline,
`timeouts.total`, covers waiting, pauses and attempts until the commit; `retry.attempts` is how many there may be.

**After the commit** the answer is the caller's. Nothing is replayed and nothing hidden: a stream that breaks off ends
with an error event and its end marker, anything else with a closed connection. From here `timeouts.idle` alone counts.

With `timeouts.ping`, a silence commits as content does: the ping is the first byte the caller gets, and what fails
later is told in the stream. With `hedge.after`, a target that is silent for so long gets company: another one is asked
beside it, the first to have an answer is kept, and the other is given up. Both are charged.

A caller that leaves ends the attempt at once, in either phase. What was never sent is not charged; what was sent is
charged as the provider will charge it.

## After each outcome

"Again" says whether the same target may be tried once more after a pause (`retry.base`, doubling to `retry.cap`, within
`retry.budget`). "Told as" is what the caller gets when nothing else is left. Where the provider's own words say it best
and nobody else could be asked, they are relayed instead.
"""
_CLASSES = """
## What an error of a provider is

The first row that matches decides. "Names" are the types and codes of its error body; where a row has known texts as
well, either will do. "Not called" is how far the consequence reaches and for how long: *stated* is the time the
provider names in headers, error body or text.
"""


def page() -> str:
    """The whole page."""
    parts = [_PHASES, *_outcomes(), _breaker(), _CLASSES, *_classes()]
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def _outcomes() -> Iterable[str]:
    yield "| Outcome | Meaning | Whose fault | Then | Again | Breaker | Told as |"
    yield "|---|---|---|---|---|---|---|"
    for outcome in Outcome:
        rule = RULES[outcome]
        is_over = outcome in _OVER
        then = "-" if is_over else _THEN[rule.then]
        told = "-" if is_over or rule.then is Next.RELAY else _told(rule.reason)
        again = "yes" if rule.may_retry else "-"
        counts = "counts" if outcome in FAULTS else "-"
        row = (f"`{outcome.value}`", MEANINGS[outcome], _BLAME[rule.blame], then, again, counts, told)
        yield f"| {' | '.join(row)} |"


def _told(reason: Reason) -> str:
    return f"{Refusal(reason, '').status} `{reason.value}`"


def _breaker() -> str:
    moves = [
        f"| `{state.value}` | {event.value} | `{then.value}` |"
        for (state, event), then in TRANSITIONS.items()
        if then is not state
    ]
    return f"""
An ambiguous failure ends the request where `retry.ambiguous` is `fail`; `/status.json` counts them (`ambiguous`).

## Breakers

Each target (a model at a provider) has a breaker: `{State.CLOSED.value}` lets calls pass, `{State.OPEN.value}` rejects
them, `{State.HALF_OPEN.value}` has a probe out. It opens after {IN_A_ROW} failures in a row, or when half of the calls
within {format_duration(WINDOW_NS)} failed, if those were {WINDOW_LEAST} or more. Of one request the first failure alone
counts, so that one bad request does not open the breakers of a whole chain. It opens too when another target, asked
beside this one by `hedge.after`, was faster {OVERTAKEN_IN_A_ROW} times in a row; one answer in time begins that anew.

A provider that is at its capacity and names no time is not benched for that: one busy answer among many is about one of
its machines. The request goes on elsewhere, or comes again after its own pause, and several such answers open the
breaker. A time that is named is kept to.

| From | When | To |
|---|---|---|
{chr(10).join(moves)}

It is open for {format_duration(OPEN_NS)} at first, twice as long each time a probe fails, up to
{format_duration(OPEN_MOST_NS)}, each less up to a quarter at random. A target behind an open breaker is passed over at
once. Where it is the only one left, a request waits as it waits for quota, or is refused with 503 and `Retry-After`.
Those who wait go as soon as a probe passes: two at once, and two more with each answer that follows. A
probe without a verdict after {format_duration(PROBE_NS)} makes room for another (then after twice that), so that a slow
answer does not keep a target closed off that is well. `/status.json` shows every breaker that is not closed. Breakers
are not kept in `state.path`: what they know is seconds old at most, and a new process that finds out for itself loses
{IN_A_ROW} calls that are answered elsewhere, where an old verdict could keep it from a target that is well."""


def _classes() -> Iterable[str]:
    yield "| Status | Names | Only for | Outcome | Not called | For |"
    yield "|---|---|---|---|---|---|"
    for row in ROWS:
        names = ", ".join(f"`{name}`" for name in sorted(row.names)) or ("-" if row.text is None else "")
        words = ", or known texts" if row.names and row.text else "known texts" if row.text else ""
        cells = (
            _statuses(row.statuses),
            names + words,
            _narrowed(row),
            f"`{row.outcome.value}`",
            _SCOPE[row.scope] if _lasts(row) else "-",
            _lasts(row) or "-",
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _statuses(statuses: frozenset[int]) -> str:
    listed = sorted(statuses)
    if len(listed) > 10:
        return f"{listed[0]} and above"
    return ", ".join(map(str, listed)) or "any other"


def _narrowed(row: Row) -> str:
    said = [", ".join(sorted(row.dialects))] if row.dialects else []
    return "; ".join([*said, *([row.trait.value] if row.trait else [])]) or "-"


def _lasts(row: Row) -> str:
    own = "" if row.bench_ns is None else format_duration(row.bench_ns)
    if row.outcome is Outcome.KEY_INVALID:
        return "until it changes"
    match row.until:
        case Until.NEVER:
            return ""
        case Until.WINDOW:
            return "stated, else the window it names"
        case Until.STATED:
            return f"stated, else {own}" if own else "stated"
        case Until.AT_LEAST:
            return f"{own}, or longer if stated"
