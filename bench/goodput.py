"""How much of what the providers' windows allow gets through, and at what price?

Closed-loop callers ask for three times the pooled quota of two Groq accounts and a Cerebras one, for three minutes of
the clock. Every contender has simulators of its own; they are called at the same time, only LiteLLM afterwards, since
it takes a whole core. An answer counts when it is whole before the end; the windows are those from the first call until
one latency before the end, for what is admitted later cannot be answered in time.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.metadata import version
from typing import NamedTuple

from lib_callers import Caller, Seen, call_until, client
from lib_contenders import LITELLM, Contender, Endpoint, chosen, running
from lib_pool import LATENCY_S, POOL, Account, Providers, Served, steady_per_second
from lib_report import Setting, heading, keep, setting, table

_OVERLOAD = 3
_AFTER_S = 0.2  # the minute begins; kept clear of on both sides, for clocks are read by several processes
_SETTLE_S = 5  # between the warm-up and the start
_TARGET = 0.97


class Span(NamedTuple):
    """The stretch in which what is admitted counts (Unix seconds)."""

    began_s: float
    ended_s: float

    @property
    def answers_until_s(self) -> float:
        """When an answer comes too late."""
        return self.ended_s + LATENCY_S


class Result(NamedTuple):
    """What came of one contender."""

    contender: Contender
    seen: Seen
    books: list[Served]
    span: Span

    def allowed(self, accounts: tuple[Account, ...]) -> float:
        """The calls the windows of these accounts allow."""
        return sum(book.allowed(*self.span) for book in self.books if book.account in accounts)

    @property
    def share(self) -> float:
        """Whole answers as a part of what the windows of its own keys allow."""
        return len(self.seen.times_s) / self.allowed(self.contender.accounts)

    @property
    def refused(self) -> dict[str, int]:
        """The providers' refusals, by account and axis."""
        return {f"{b.account.name} {axis}": count for b in self.books for axis, count in sorted(b.refused.items())}


async def _measure(endpoint: Endpoint, callers: int, span: Span, providers: Providers) -> tuple[Seen, list[Served]]:
    seen = await call_until(endpoint, callers, span.answers_until_s)
    return seen, await asyncio.to_thread(providers.served)


async def _run(contenders: list[Contender], seconds: float, callers: int) -> list[Result]:
    with ExitStack() as stack:
        ready = [stack.enter_context(running(each)) for each in contenders]
        for contender, (endpoint, _) in zip(contenders, ready, strict=True):
            if contender.is_heavy:
                await _warm(endpoint)
        began_s = math.ceil((time.time() + _SETTLE_S) / 60) * 60 + _AFTER_S
        span = Span(began_s, began_s + seconds - 2 * _AFTER_S)
        _say(f"{callers} callers each for {', '.join(each.name for each in contenders)}; they begin at the next minute")
        await asyncio.sleep(began_s - _AFTER_S - time.time())
        for _, providers in ready:
            providers.reset()
        await asyncio.sleep(began_s - time.time())
        measured = await asyncio.gather(*(_measure(e, callers, span, providers) for e, providers in ready))
    return [Result(each, *found, span) for each, found in zip(contenders, measured, strict=True)]


async def _warm(endpoint: Endpoint) -> None:
    async with client(endpoint) as sdk:
        await asyncio.gather(*(Caller(sdk, endpoint.model, seed).call() for seed in range(4)))


def _row(result: Result, best: float) -> list[str]:
    seen, refused = result.seen, result.refused
    errors = ", ".join(f"{count} x {name}" for name, count in seen.errors.most_common())
    shares = [
        f"{book.account.name} {book.calls / book.allowed(*result.span):.0%}"
        for book in result.books
        if book.account in result.contender.accounts
    ]
    return [
        result.contender.title,
        str(len(seen.times_s)),
        f"{result.allowed(result.contender.accounts):.0f}",
        f"**{result.share:.1%}**",
        f"{len(seen.times_s) / best:.0%}",
        errors or "0",
        str(sum(refused.values())) + (f" ({', '.join(f'{n} {c}' for n, c in refused.items())})" if refused else ""),
        str(sum(book.early for book in result.books)),
        " / ".join(f"{seen.wait_s(percentile):.1f}" for percentile in (50, 95, 99)),
        ", ".join(shares),
    ]


_HEAD = (
    "contender", "answered", "its windows allow", "share", "of the whole pool", "errors its callers saw",
    "429s of the providers", "early calls", "wait p50 / p95 / p99, s", "share by key",
)  # fmt: skip


def _told(results: list[Result], callers: int, began: Setting) -> str:
    span = results[0].span
    best = max(result.allowed(POOL) for result in results)
    versions = {"openai": version("openai")}
    if any(result.contender.name == "litellm" for result in results):
        versions["litellm"] = _litellm_version()
    accounts = "; ".join(f"{a.provider} {a.name} {a.rpm} rpm {a.tpm} tpm" for a in POOL)
    return "\n".join(
        [
            heading("Goodput under limits", versions, began),
            f"{callers} closed-loop callers for each contender, {span.ended_s - span.began_s:.0f} s from the start of a"
            f" UTC minute, answers after {LATENCY_S:g} s, one in four streamed: {_OVERLOAD} x the pool of {accounts}.",
            "",
            table(_HEAD, [_row(result, best) for result in results]),
            "",
            "An early call is one that came before a time the provider had announced. Waits are what an answer took"
            f" beyond the provider's {LATENCY_S:g} s. How to read the rest: bench/README.md.",
        ]
    )


def _litellm_version() -> str:
    code = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run([LITELLM / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _misses(result: Result) -> list[str]:
    """Which targets of design.md section 5 the sidecar missed."""
    may_refuse = result.contender.name == "learned"
    most = max(result.refused.values(), default=0)
    checks = {
        f"{result.share:.1%} of what the windows allow": result.share >= _TARGET,
        f"{result.seen.errors.total()} errors seen by callers": not result.seen.errors,
        "calls before an announced time": not any(book.early for book in result.books),
        f"{most} 429s on one account and axis": most <= may_refuse,
    }
    return [f"{result.contender.title}: {text}" for text, is_met in checks.items() if not is_met]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="45 s instead of three minutes")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="configured, learned, sdk, litellm")
    parser.add_argument("--no-file", action="store_true", help="print the table without keeping it")
    options = parser.parse_args()
    contenders = chosen(options.only)
    if not contenders:
        parser.error("no such contender")
    began = setting()
    callers = math.ceil(_OVERLOAD * steady_per_second() * LATENCY_S)
    rounds = [[each for each in contenders if each.is_heavy is heavy] for heavy in (False, True)]
    seconds = 45 if options.quick else 180
    results = [result for each in rounds if each for result in asyncio.run(_run(each, seconds, callers))]
    text = _told(results, callers, began)
    print(text)
    if not options.no_file:
        _say(f"kept in {keep('goodput.md', text)}")
    misses = [
        miss for result in results if result.contender.name in ("configured", "learned") for miss in _misses(result)
    ]
    for miss in misses:
        _say(f"missed: {miss}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
