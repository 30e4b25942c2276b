"""`/status.json` as a table for a terminal: at most a hundred columns, the same words as on the page.

Names come from callers: what a terminal would act on is not passed on. Colours are told apart from text, so that who
prints decides on them. Refuses to know where the JSON is from (watching.py asks).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sidecar.core.activity_shapes import Finished
from sidecar.core.board import Chain
from sidecar.core.rows import HELD, LOW, READY, STOPPED
from sidecar.core.status import Bench, BreakerStatus, ProviderStatus, QuotaStatus, Window
from sidecar.core.waits import Waiting

COLUMNS = 100
_LAST = 10  # requests that are told
_WIDTHS = (22, 24, 17, 17, 6)  # of all columns but the last; each is followed by a space
_PER = {60: "min", 3600: "hour", 86400: "day"}
_COLOURS = {READY: "32", LOW: "33", HELD: "33", STOPPED: "31"}
_BOLD = "1"


class Told(msgspec.Struct):
    """What is read of `/status.json`; more may stand there."""

    configuration: str
    in_flight: int
    waiting: int
    providers: list[ProviderStatus]
    models: list[Chain] = []
    waits: list[Waiting] = []
    requests: list[Finished] = []


class Line(NamedTuple):
    """A line of text, and the part at its end that is coloured: from which character, and how."""

    text: str
    colour_from: int = 0
    colour: str = ""


class State(NamedTuple):
    """How a quota stands, and how bad that is."""

    word: str
    level: int


def read(body: bytes) -> Told | None:
    """The status in an answer; None where that is something else."""
    try:
        return msgspec.json.decode(body, type=Told)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def table(told: Told, place: str) -> Iterator[Line]:
    """The lines of the table of the sidecar at `place`."""
    head = f"sidecar at {place}   configuration {told.configuration}"
    yield _bold(f"{head}   {told.in_flight} in flight   {told.waiting} waiting")
    yield Line("")
    yield _bold(_columns(("PROVIDER/ACCOUNT", "MODEL", "WINDOW", "LEFT OF LIMIT", "WHOLE"), "STATE"))
    for provider in told.providers:
        for account, quotas in provider.accounts.items():
            yield from _account(provider, account, quotas)
    yield from _titled("Keys", [line for provider in told.providers for line in _keys(provider)])
    yield from _titled("Not called now", [line for provider in told.providers for line in _barred(provider)])
    yield from _titled("Models", [_chain(chain) for chain in told.models])
    yield from _titled("Waiting", [_waiting(each) for each in told.waits])
    yield from _titled("Last requests", [_request(each) for each in reversed(told.requests[-_LAST:])])


def painted(line: Line, is_coloured: bool) -> str:
    """A line as it is printed."""
    if not is_coloured or not line.colour:
        return line.text
    plain, coloured = line.text[: line.colour_from], line.text[line.colour_from :]
    return f"{plain}\x1b[{line.colour}m{coloured}\x1b[0m"


def fit(text: str, width: int) -> str:
    """The text in so many columns, cut where it is longer, without anything that a terminal acts on."""
    clean = "".join(character if character.isprintable() else "?" for character in text[: 4 * width])
    taken = 0
    for at, character in enumerate(clean):
        taken += _columns_of(character)
        if taken > width:
            return fit(clean[:at], width - 1) + "…" if width > 1 else "…"
    return clean + ("…" if len(text) > 4 * width else "")


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _columns(cells: tuple[str, ...], last: str) -> str:
    padded = ""
    for width, cell in zip(_WIDTHS, cells, strict=True):
        cut = fit(cell, width)
        padded += cut + " " * (width + 1 - sum(map(_columns_of, cut)))
    return (padded + fit(last, COLUMNS - sum(_WIDTHS) - len(_WIDTHS))).rstrip()


def _bold(text: str) -> Line:
    return Line(fit(text, COLUMNS), 0, _BOLD)


def _titled(title: str, lines: list[Line]) -> Iterator[Line]:
    if lines:
        yield Line("")
        yield _bold(title)
        yield from lines


def _account(provider: ProviderStatus, account: str, quotas: list[QuotaStatus]) -> Iterator[Line]:
    name = f"{provider.name}/{account}"
    if not quotas:
        yield Line(_columns((name, "(not used yet)", "", "", ""), ""))
    for quota in quotas:
        state = state_of(provider, quota)
        yield from _quota(name, quota, state)


def _quota(name: str, quota: QuotaStatus, state: State) -> Iterator[Line]:
    first = (name, quota.model or "(no model)")
    for window in quota.windows or (None,):
        cells = (*first, *_window(window))
        before = len(_columns(cells, "x")) - 1
        last = state.word if first[0] else ""
        yield Line(_columns(cells, last), before, _COLOURS[state.level] if last else "")
        first = ("", "")


def _window(window: Window | None) -> tuple[str, str, str]:
    if window is None:
        return "", "no limit known", ""
    counted = f"{window.counts.replace('_', ' ')}/{_PER.get(window.per_s, f'{window.per_s}s')}"
    return counted, f"{window.remaining}/{window.limit}", lasting(window.resets_in_s)


def state_of(provider: ProviderStatus, quota: QuotaStatus) -> State:
    """How a quota stands, in a word."""
    if quota.model in provider.benched:
        return State("benched", STOPPED)
    if quota.model in provider.breakers:
        return State("breaker", STOPPED)
    if quota.cooldown_s:
        return State("cooling", HELD)
    left = min((each.remaining * 100 // (each.limit or 1) for each in quota.windows), default=100)
    if left <= 0:
        return State("spent", HELD)
    if quota.waiting:
        return State("waiting", HELD)
    return State("low", LOW) if left < 10 else State("ready", READY)


def _keys(provider: ProviderStatus) -> Iterator[Line]:
    missing = [key.name for key in provider.keys if not key.present]
    text = f"  {provider.name}: {provider.usable_keys} of {len(provider.keys)} may be called"
    if missing:
        text += f"; missing: {', '.join(missing)}"
    level = READY if provider.usable_keys == len(provider.keys) else HELD if provider.usable_keys else STOPPED
    yield Line(fit(text, COLUMNS), 2, _COLOURS[level])


def _barred(provider: ProviderStatus) -> Iterator[Line]:
    for model, breaker in provider.breakers.items():
        yield _bar(f"{provider.name}/{model}", breaker)
    for model, bench in provider.benched.items():
        yield _bar(f"{provider.name}/{model}", bench)
    for key in provider.keys:
        if key.benched is not None:
            yield _bar(f"key {provider.name}/{key.name}", key.benched)
        for model, bench in key.benched_at.items():
            yield _bar(f"key {provider.name}/{key.name} at {model}", bench)


def _bar(what: str, why: Bench | BreakerStatus) -> Line:
    reason = f"breaker {why.state}: {why.reason}" if isinstance(why, BreakerStatus) else why.reason
    ends = "until somebody changes it" if why.for_s is None else f"for {lasting(why.for_s)}"
    words = f": {why.message}" if why.message else ""
    return Line(fit(f"  {what}   {reason.replace('_', ' ')}, {ends}{words}", COLUMNS), 2, _COLOURS[STOPPED])


def _chain(chain: Chain) -> Line:
    hops = " -> ".join(f"{hop.target} ({hop.state}{', serves now' if hop.takes else ''})" for hop in chain.hops)
    return Line(fit(f"  {chain.name} -> {hops}", COLUMNS))


def _waiting(each: Waiting) -> Line:
    places = "; ".join(f"{place.target} ({place.account}) for {place.wants}" for place in each.places)
    return Line(fit(f"  request {each.number} for {lasting(each.for_s)}, at {places}", COLUMNS))


def _request(each: Finished) -> Line:
    served = f"{each.provider}/{each.target or ''} key {each.key}" if each.provider else "nobody"
    failed = f", {len(each.trail)} failed attempts" if each.trail else ""
    plain = f"  {each.at[11:19]} {fit(each.model or each.path, 24)} by {fit(served, 34)}   "
    result = f"{each.status} {each.outcome.replace('_', ' ')} in {lasting(each.took_ms / 1000)}{failed}"
    level = READY if each.status < 400 else STOPPED
    return Line(fit(plain + result, COLUMNS), len(plain), _COLOURS[level])


def lasting(seconds: float) -> str:
    """A duration in few characters; nothing for none."""
    if seconds <= 0:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}min" if seconds < 7200 else f"{seconds / 3600:.0f}h"
