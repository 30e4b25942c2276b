"""Does one quota over many sidecars stay one, and what does it cost?

1, 4, 16 and 64 sidecars in this one process (their quotas, waiting rooms and leases, each with connections of its own;
no HTTP, which other benches measure) ask a quarter more than the limit allows, which is 80 requests a second for each.
The provider counts what arrives, up to 50 ms late, in a window of the true limit. One sidecar without a store is the
measure. At the end the store is stopped for a while under four sidecars. Needs redis-server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop
from lib_report import heading, keep, setting, table

from sidecar.app import Prepared, Source, prepare
from sidecar.catalog_file import read_catalog
from sidecar.clock import LoopClock
from sidecar.core.keys import Size
from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.roster import Roster
from sidecar.core.store_url import parse
from sidecar.core.windows import make
from sidecar.leasing import Leasing
from sidecar.store.redis import RedisStore
from sidecar.waiting import WaitingRoom

_ASKED, _ALLOWED = 100, 80  # requests a second for each sidecar
_PATIENCE_NS = SECOND
_LATE_S = 0.05
_WARM_S = 5.0  # the first start of a ledger, and the bucket that is full at the start
_ABOUT = """
All in one process, asking included. Where less than 100 % of the limit was asked for, the machine was too busy to ask,
and what was served says nothing of the ledger; `share_lost` then means that this process came too late to its replies.

"""
_SIZE = Size(0, None, 1, 0)


class Provider:
    """Counts what arrives in a window of the true limit."""

    def __init__(self, limit: int) -> None:
        self._window = make("token_bucket", limit, MINUTE)
        self.served = self.refused = 0

    def spend(self, amount: int, now_ns: int) -> None:
        """Somebody else's."""
        self._window.spend(amount, now_ns)

    def arrive(self, now_ns: int) -> None:
        """One request."""
        if self._window.fits(1, now_ns):
            self._window.spend(1, now_ns)
            self.served += 1
        else:
            self.refused += 1


class Member:
    """One sidecar without its ports."""

    def __init__(self, prepared: Prepared, clock: LoopClock, provider: Provider, url: str | None) -> None:
        self._clock, self._provider = clock, provider
        self.roster = Roster(prepared.snapshot, clock.now_ns())
        self._room = WaitingRoom(clock, self.roster.shared.backlog)
        self.leasing: Leasing | None = None
        self.waits_ns: list[int] = []
        self.events: list[str] = []
        self.asked = 0
        if url is not None:
            place = parse(url)
            assert place is not None
            store = RedisStore(place, url, "bench", os.urandom(8).hex())
            self.leasing = Leasing(self.roster, store, 1, clock, lambda event, _: self.events.append(event))
            self.leasing.start(self._room)
        self._keys = self.roster.keys(prepared.snapshot.chains["m"][0], clock.now_ns())

    async def request(self) -> None:
        """One: admitted now or in a second, or turned away."""
        began_ns = self._clock.now_ns()
        cost = self._keys.cost(_SIZE)
        self.asked += 1
        admitted = self._keys.admit(cost, began_ns, ())
        if admitted is None:
            places = [(candidate, cost) for candidate in self._keys.candidates]
            admitted = await self._room.wait(places, began_ns + _PATIENCE_NS, self.asked)
            if admitted is None:
                return
        self.waits_ns.append(self._clock.now_ns() - began_ns)
        await asyncio.sleep(random.random() * _LATE_S)
        self._provider.arrive(self._clock.now_ns())
        candidate, charge = admitted
        candidate.quota.passed(charge)
        candidate.quota.settle(charge, None, self._clock.now_ns())
        candidate.breaker.heard(charge)
        if candidate.quota.has_waiters:
            self._room.poke(candidate.quota)

    async def ask(self, until_s: float) -> None:
        """At random instants, whatever becomes of those before."""
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < until_s:
                group.create_task(self.request())
                await asyncio.sleep(random.expovariate(_ASKED))

    @property
    def calls(self) -> int:
        """To the store."""
        return 0 if self.leasing is None else self.leasing.sharing.counters.calls


class Outcome(NamedTuple):
    """What one run came to."""

    sidecars: int
    seconds: float
    asked: int
    served: int
    refused: int
    calls: int
    waits_ns: list[int]
    events: list[str]

    @property
    def share(self) -> float:
        """Served, of what the limit allows until the last of those who wait at the end have been served."""
        return self.served / (self.sidecars * _ALLOWED * (self.seconds + _PATIENCE_NS / SECOND))

    def wait_ms(self, part: float) -> float:
        """A percentile of the time to admission."""
        ranked = sorted(self.waits_ns)
        return ranked[int(part * (len(ranked) - 1))] / 1e6


def _prepared(folder: Path, limit: int, url: str | None) -> Prepared:
    path = folder / "share.yaml"
    text = f"""
providers: [{{name: groq, keys: [{{name: a, env: KEY}}], learn: false, limits: [{{rpm: {limit}}}]}}]
models: [{{name: m, chain: [groq/m]}}]
share: {{url: {url or "null"}}}
"""
    path.write_text(text)
    prepared = prepare(Source(str(path), {"KEY": "gsk_" + "Bench4" * 6}), read_catalog(), time.time_ns())
    if isinstance(prepared, list):
        raise SystemExit("\n".join(prepared))
    return prepared


async def _run(count: int, seconds: float, url: str | None, stopped: tuple[int, float] | None = None) -> Outcome:
    """`stopped`: the process of the store, and for how long it is stopped in the middle."""
    clock = LoopClock(asyncio.get_running_loop())
    limit = count * _ALLOWED * 60
    provider = Provider(limit)
    with tempfile.TemporaryDirectory() as folder:
        prepared = _prepared(Path(folder), limit, url)
    members = [Member(prepared, clock, provider, url) for _ in range(count)]
    _drain(provider, limit, members[0], clock.now_ns())
    end_s = time.monotonic() + _WARM_S + seconds
    asking = [asyncio.ensure_future(member.ask(end_s)) for member in members]
    await asyncio.sleep(_WARM_S)
    served, calls = provider.served, sum(member.calls for member in members)
    asked = sum(member.asked for member in members)
    for member in members:
        member.waits_ns.clear()
    if stopped is not None:
        await asyncio.sleep((seconds - stopped[1]) / 2)
        os.kill(stopped[0], signal.SIGSTOP)
        await asyncio.sleep(stopped[1])
        os.kill(stopped[0], signal.SIGCONT)
    await asyncio.gather(*asking)
    outcome = Outcome(
        count, seconds, sum(m.asked for m in members) - asked,
        provider.served - served, provider.refused, sum(m.calls for m in members) - calls,
        [wait for m in members for wait in m.waits_ns], [event for m in members for event in m.events],
    )  # fmt: skip
    for member in members:
        if member.leasing is not None:
            await member.leasing.stop()
    return outcome


def _drain(provider: Provider, limit: int, first: Member, now_ns: int) -> None:
    """A bucket that is full at the start would hide what the rate is: the provider's is emptied, and it is told."""
    provider.spend(limit, now_ns)
    for quota in first.roster.ledger:
        for budget in quota.budgets:
            budget.window.spend(limit, now_ns)


def _row(name: str, outcome: Outcome, measure: float) -> list[str]:
    return [
        name,
        f"{outcome.asked / (outcome.sidecars * _ALLOWED * outcome.seconds):.0%}",
        str(outcome.served),
        f"{outcome.share:.1%}",
        f"{outcome.share / measure:.1%}",
        str(outcome.refused),
        f"{outcome.calls / max(1, outcome.served):.3f}",
        " / ".join(f"{outcome.wait_ms(part):.1f}" for part in (0.5, 0.99)),
        ", ".join(f"{each} x {outcome.events.count(each)}" for each in dict.fromkeys(outcome.events)) or "none",
    ]


def main() -> int:
    """Run all, keep the table; 1 when a target is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--stop", type=float, default=30, help="how long the store is stopped")
    options.add_argument("--sidecars", type=int, nargs="+", default=[1, 4, 16, 64])
    chosen = options.parse_args()
    began = setting()
    folder = tempfile.mkdtemp(prefix="share")
    words = ["redis-server", "--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--dir", folder]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        while not Path(folder, "s").exists():
            time.sleep(0.05)
        url = f"unix://{folder}/s"
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            alone = runner.run(_run(1, chosen.seconds, None))
            rows = [_row("1, no store", alone, alone.share)]
            missed = []
            for count in chosen.sidecars:
                outcome = runner.run(_run(count, chosen.seconds, url))
                rows.append(_row(str(count), outcome, alone.share))
                is_met = outcome.refused == 0 and outcome.share >= 0.95 * alone.share
                if not is_met or outcome.calls >= 0.1 * outcome.served:
                    missed.append(str(count))
                subprocess.run(["redis-cli", "-s", f"{folder}/s", "flushall"], check=True, stdout=subprocess.DEVNULL)
            stopped = runner.run(_run(4, 2 * chosen.stop, url, (server.pid, chosen.stop)))
            rows.append(_row(f"4, stopped {chosen.stop:.0f} of {2 * chosen.stop:.0f} s", stopped, alone.share))
            if stopped.refused:
                missed.append("stopped")
    finally:
        server.kill()
        server.wait()
    head = ("sidecars", "asked, of the limit", "served", "of the limit", "of one alone", "refused by the provider",
            "store calls per request",
            "admission p50 / p99, ms", "events")  # fmt: skip
    text = heading("One quota over many sidecars", {}, began) + _ABOUT + table(head, rows)
    print(text)
    keep("share.md", text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
