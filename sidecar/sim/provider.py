"""A simulated provider without its sockets: what it does about each request, and what it has counted.

`begin` turns a request into an act, metered and ready to be played; `end` settles it by what was really sent. The
clock's reading and the random draw are arguments; server.py plays the act.
"""

from __future__ import annotations

import enum
import gzip

import msgspec

from sidecar.core.http import find
from sidecar.core.limits import SECOND
from sidecar.sim import intake, tally
from sidecar.sim.axes import Demand, Denied
from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.dialects import DIALECTS, own_headers, quota_headers
from sidecar.sim.endpoints import Job, frames, reply
from sidecar.sim.faults import Ending, Facts, Fault, FaultPlan, Frame, replaces, spoiled_body, spoiled_frames
from sidecar.sim.intake import Arrival, Call
from sidecar.sim.meter import Caller, Meter, Ticket
from sidecar.sim.mishaps import mishap
from sidecar.sim.objects import Shelf
from sidecar.sim.refusals import Answer, denied
from sidecar.sim.streams import error_frame
from sidecar.sim.tally import Announcements, Labels, Row, Stats, Tally


class Act(msgspec.Struct):
    """What is to be played on the wire, and what its end has to settle.

    `answer` None: the connection ends without an answer. `frames`: the events of a streamed answer, else the body of
    the answer is sent, `length` being what its head tells. `pause_ns` after `pause_at` events or before the body.
    """

    rows: tuple[Row, ...]
    answer: Answer | None = None
    frames: list[Frame] | None = None
    ending: Ending = Ending.WHOLE
    length: int = 0
    delay_ns: int = 0
    gap_ns: int = 0
    pause_at: int = 0
    pause_ns: int = 0
    ticket: Ticket | None = None
    used: Demand = Demand()
    announced: tuple[str, str] | None = None
    ended: bool = False


class Played(enum.Enum):
    """How the playing of an act went."""

    TO_ITS_END = "to its end"
    ABANDONED = "abandoned"  # the caller left before
    STOPPED = "stopped"  # the simulator itself was stopped


class Provider:
    """One simulated provider."""

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self.dialect = DIALECTS[config.dialect]
        self.faults = FaultPlan()
        self._rules = config.limits
        self._serial = 0
        self.reset()

    def __repr__(self) -> str:
        return f"<Provider {self.dialect.name} {self._tally!r} {self.faults!r}>"

    def reset(self) -> None:
        """Forget everything but the limits: counts, windows, faults, announced waits, objects."""
        self.faults.clear()
        self._meter = Meter(self.dialect.style, self.dialect.default_limits + self._rules)
        self._tally = Tally()
        self._told = Announcements(self.config.grace_ns)
        self._shelf = Shelf()

    @property
    def stats(self) -> Stats:
        """A copy of all counts."""
        return self._tally.stats()

    def set_limits(self, rules: tuple[LimitRule, ...], now: int) -> None:
        """Other limits from now on; what was spent stays spent."""
        self._rules = rules
        self._meter.set_rules(self.dialect.default_limits + rules, now)

    def begin(self, arrival: Arrival, now: int, draw: float) -> Act:
        """Decide on a request; count and charge it. `draw`: uniform in [0, 1), decides on faults."""
        self._serial += 1
        call = intake.read(self.config, self.dialect, arrival)
        act = Act(self._counted(call, now))
        fault = self.faults.decide(Facts(call.secret, call.model, call.path), draw)
        if fault is not None:
            tally.faulted(act.rows, fault.kind)
            if replaces(fault):
                self._replace(act, call, fault, now)
                return act
        self._answer(act, call, fault, now)
        if act.answer is not None and fault is not None and act.answer.status < 300:
            _spoil(act, fault, error_frame(self.dialect))
        elif self.config.gzip:
            _pack(act, arrival)
        return act

    def told(self, act: Act, now: int) -> None:
        """The head of the answer is on its way: from now on the wait it announces binds."""
        if act.announced is not None and act.answer is not None and act.answer.wait_ns:
            self._told.announce(*act.announced, now, now + act.answer.wait_ns)

    def end(self, act: Act, tokens_sent: int, now: int, played: Played) -> None:
        """The act is over; `tokens_sent` is the output its sender delivered. Harmless when called again."""
        if act.ended:
            return
        act.ended = True
        tally.left(act.rows)
        if played is Played.ABANDONED:
            tally.aborted(act.rows)
        if act.answer is None or act.answer.status >= 300:
            return
        is_served = played is Played.TO_ITS_END and act.ending is Ending.WHOLE
        if is_served:
            tally.served(act.rows)
        if act.ticket is not None:
            tally.billed(act.rows, act.used.input, tokens_sent, is_served)
            used = act.used._replace(output=tokens_sent, tokens=act.used.input + tokens_sent)
            self._meter.settle(act.ticket, used, now)

    def _counted(self, call: Call, now: int) -> tuple[Row, ...]:
        known = call.model if not self.config.models or call.model in self.config.models else ""
        account = call.account or ""
        rows = self._tally.rows(Labels(call.secret if account else "", account, known))
        tally.entered(rows)
        if self._told.is_early(account, known, now):
            tally.early(rows)
        return rows

    def _answer(self, act: Act, call: Call, fault: Fault | None, now: int) -> None:
        refusal = intake.refusal(self.config, self.dialect, call)
        if refusal is None and call.is_metered:
            refusal = self._admit(act, call, now)
        if refusal is not None or call.operation is None or call.account is None:
            self._refuse(act, refusal)
            return
        wordless = fault is not None and fault.mode == "completion"
        plan = intake.plan(call, self._serial, now // SECOND, 0 if wordless else self.config.tokens_per_reply)
        job = Job(self.dialect, self.config, call.operation, call.body, call.form, plan, call.account, self._shelf)
        act.frames = frames(job)
        answer = Answer(200, [("content-type", "text/event-stream")], b"") if act.frames is not None else reply(job)
        if answer.status >= 300:
            self._refuse(act, answer)
            return
        output = plan.output_tokens if call.generates else 0
        act.used = Demand(plan.input_tokens + output, plan.input_tokens, output)
        act.delay_ns, act.gap_ns = self.config.latency_ns, self.config.chunk_delay_ns
        self._set(act, answer, quota_headers(self.dialect, act.ticket.states) if act.ticket is not None else [])

    def _admit(self, act: Act, call: Call, now: int) -> Answer | None:
        account = call.account or ""
        wanted = intake.demand(call, self.dialect.charge, self.config.tokens_per_reply)
        verdict = self._meter.admit(Caller(call.secret, account), call.model, wanted, now)
        if not isinstance(verdict, Denied):
            act.ticket = verdict
            return None
        act.announced = (account, call.model)
        return denied(self.dialect, verdict, account, call.model)

    def _refuse(self, act: Act, answer: Answer | None) -> None:
        if answer is not None:
            tally.refused(act.rows, answer.kind)
            self._set(act, answer, [])

    def _replace(self, act: Act, call: Call, fault: Fault, now: int) -> None:
        account = call.account or ""
        if fault.kind == "down":
            act.ending = Ending(fault.mode or "rst")
        elif fault.kind == "stall_before_headers":
            act.ending = Ending.STALL
        else:
            states = self._meter.states(Caller(call.secret, account), call.model, now)
            act.announced = (account, call.model)
            self._set(act, mishap(self.dialect, fault, states, account, call.model), [])

    def _set(self, act: Act, answer: Answer, more: list[tuple[str, str]]) -> None:
        headers = answer.headers + more + own_headers(self.dialect, f"req_sim{self._serial:010d}")
        act.answer, act.length = answer._replace(headers=headers), len(answer.body)


def _spoil(act: Act, fault: Fault, error: Frame) -> None:
    if fault.seconds is not None and fault.kind in ("slow", "stall_before_headers"):
        act.delay_ns += round(fault.seconds * SECOND)
    elif fault.seconds is not None and fault.kind == "stall_after_headers":
        act.pause_at, act.pause_ns = fault.after_chunks, round(fault.seconds * SECOND)
    act.gap_ns += round(fault.chunk_seconds * SECOND)
    if act.frames is not None:
        act.frames, act.ending = spoiled_frames(fault, act.frames, error)
    elif act.answer is not None:
        whole = error.data.partition(b"data: ")[2].strip()
        body, act.ending = spoiled_body(fault, act.answer.body, whole)
        act.length = len(body) if act.ending is Ending.WHOLE else act.length
        act.answer = act.answer._replace(body=body)


def _pack(act: Act, arrival: Arrival) -> None:
    """Compress JSON where the caller takes it, as providers do, and nothing else (providers.md 1.4)."""
    if (
        act.answer is None
        or act.frames is not None
        or b"gzip" not in (find(arrival.headers, b"accept-encoding") or b"")
    ):
        return
    if ("content-type", "application/json") in act.answer.headers:
        body = gzip.compress(act.answer.body, compresslevel=1, mtime=0)
        headers = [*act.answer.headers, ("content-encoding", "gzip")]
        act.answer, act.length = act.answer._replace(body=body, headers=headers), len(body)
