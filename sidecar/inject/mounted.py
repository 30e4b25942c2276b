"""Certificates from files, `tls.crt` and `tls.key` of a mounted Secret: cert-manager's, or ones that were given.

The kubelet swaps a link when the Secret changes, so the files are compared with what is served, every ten seconds; what
is no pair, half written or broken, changes nothing, and is said. Somebody else keeps `caBundle` here, and this process
has no right to read it: that the bundle fits is seen from admissions alone, and /readyz vouches for the rest.
"""

from __future__ import annotations

from pathlib import Path

from sidecar.core.certificates import Lifetimes
from sidecar.core.limits import SECOND
from sidecar.inject.issuing import Issuer
from sidecar.inject.replica import Replica
from sidecar.interfaces import sleep_until

_EVERY_NS = 10 * SECOND


class MountedCertificate:
    """Runs until cancelled. `ca.crt` beside the two, where it exists, is what a call to ourselves trusts."""

    def __init__(self, replica: Replica, folder: Path) -> None:
        self._replica = replica
        self._folder = folder
        self._served: tuple[str, str] | None = None
        self._reader = Issuer(replica.place.hosts, Lifetimes())
        now_ns = replica.clock.now_ns()
        # a handshake must work before the files are there: the kubelet asks /healthz, and verifies nothing
        passing = self._reader.leaf(self._reader.authority(now_ns), now_ns).signer
        replica.serving.load(passing.certificate.pem, passing.key)
        replica.standing.bundle = ""

    async def run(self) -> None:
        """Follow the files until cancelled."""
        clock = self._replica.clock
        while True:
            await self.turn()
            await sleep_until(clock, clock.now_ns() + _EVERY_NS)

    async def turn(self) -> None:
        """Serve with what is in the files now, if it is any good, and call ourselves."""
        try:
            self._look()
        except (OSError, ValueError) as error:
            self._replica.trouble(f"the certificate in {self._folder} cannot be used: {error}")
        else:
            self._replica.well()
        if self._served is not None:
            await self._replica.call_itself(self._trusted())

    def _look(self) -> None:
        chain = (self._folder / "tls.crt").read_text()
        key = (self._folder / "tls.key").read_text()
        if (chain, key) != self._served:
            leaf = self._reader.signer(chain, key).certificate
            self._replica.serve_with(leaf, chain, key)
            self._served = chain, key
            self._replica.say("certificates", "files: loaded")

    def _trusted(self) -> str:
        try:
            authority = (self._folder / "ca.crt").read_text()
        except (OSError, ValueError):
            authority = ""
        served = self._served[0] if self._served else ""
        return authority or served
