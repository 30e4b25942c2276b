"""One request on its way and what attempts at it are made with: what the gateway, attempts and hedges share."""

from __future__ import annotations

from typing import Final

from sidecar.core.affinity import Ownership
from sidecar.core.attempts import Attempts, Policy
from sidecar.core.call import Call
from sidecar.core.http import Request
from sidecar.core.keys import Candidate
from sidecar.core.record import Record
from sidecar.core.rejections import Rejections
from sidecar.core.snapshot import Snapshot
from sidecar.core.totals import Totals
from sidecar.interfaces import Clock, Reply
from sidecar.upstream.pool import Pool
from sidecar.waiting import WaitingRoom


class Shells:
    """What an attempt is made with; the gateway is it. `ambiguous`: how many connections were lost when the request may
    have been served (acceptance B13)."""

    clock: Clock
    pool: Pool
    ownership: Ownership
    room: WaitingRoom
    rejections: Rejections
    totals: Totals
    ambiguous: int

    def note_organization(self, candidate: Candidate, organization: str) -> None:
        """An error named the organisation that a key is of: two accounts may turn out to be one (A7)."""


class Job:
    """One request on its way."""

    __slots__ = ("attempts", "call", "policy", "record", "reply", "request", "snapshot")

    def __init__(  # noqa: PLR0913 - a value has as many as it has fields
        self,
        snapshot: Snapshot,
        request: Request,
        reply: Reply,
        record: Record,
        call: Call,
        policy: Policy,
        attempts: Attempts,
    ) -> None:
        self.snapshot: Final = snapshot
        self.request: Final = request
        self.reply: Final = reply
        self.record: Final = record
        self.call: Final = call
        self.policy: Final = policy
        self.attempts: Final = attempts
