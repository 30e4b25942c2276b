"""What one replica of the injector is made of and knows: shared by those who get certificates and those who serve.

`Replica.serve_with` is the one place where a certificate comes into service.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.core.admission_counts import Counts
from sidecar.core.admission_standing import Standing, why_unready
from sidecar.core.certificate_secret import Place
from sidecar.core.certificates import Certificate
from sidecar.inject.own_call import OwnCall
from sidecar.inject.serving_context import ServingContext
from sidecar.interfaces import Clock


class Replica:
    """`say(event, message)` writes a line for the operator. `port`: where the TLS server listens, 0 until it does."""

    def __init__(self, place: Place, clock: Clock, say: Callable[[str, str], None]) -> None:
        self.place = place
        self.clock = clock
        self.say = say
        self.standing = Standing()
        self.counts = Counts()
        self.serving = ServingContext()
        self.own_call = OwnCall(place.host, place.namespace)
        self.address = ("127.0.0.1", 0)
        self._said = ""
        self._was_ready = False

    def __repr__(self) -> str:
        return f"<Replica of {self.place.host} {self.standing!r}>"

    def serve_with(self, certificate: Certificate, chain: str, key: str) -> None:
        """Serve with another certificate from now on. Raises ValueError when chain and key (PEM) are no pair."""
        self.serving.load(chain, key)
        self.standing.leaf = certificate
        self.counts.rotations["leaf"] += 1

    async def call_itself(self, bundle: str) -> None:
        """Find out whether an API server that trusts this bundle (PEM) could call us."""
        self.standing.call = await self.own_call.problem(self.address, bundle)
        if self.standing.call:
            self.trouble(self.standing.call)
        elif not self._was_ready and not why_unready(self.standing, self.clock.now_ns()):
            self._was_ready = True
            self.say("ready", f"admissions may come to {self.place.host}")

    def trouble(self, message: str) -> None:
        """Something is wrong: said when it is new, not each time it is met."""
        if message != self._said:
            self._said = message
            self.say("trouble", message)

    def well(self) -> None:
        """Nothing is wrong any more."""
        if self._said:
            self._said = ""
            self.say("recovered", "certificates and webhook configuration are in order again")
