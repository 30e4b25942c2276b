"""Which certificate authority signs, which are trusted, and what is to be done about it now: values in, a step out.

All replicas share one authority, kept in one Secret; each signs a short-lived leaf of its own. The API server trusts
what stands in `caBundle`, so the rule of every rotation is: the next authority is published first, and signs only once
it has been trusted for a while; the one before stays trusted until it expires. Whoever comes first takes the step, with
the Secret's resourceVersion as the only lock; the others read what came of it.

Knows no cryptography and no API: certificates are read and made in inject/issuing.py (kubernetes conventions, C2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from sidecar.core.limits import DAY, MINUTE


class Lifetimes(msgspec.Struct, frozen=True):
    """How long things live, in ns. The defaults are those of cert-manager's own authority, which has proved them."""

    authority_ns: int = 365 * DAY
    leaf_ns: int = 7 * DAY
    backdate_ns: int = 5 * MINUTE  # clocks of nodes differ
    overlap_ns: int = 10 * MINUTE  # every API server has seen a published authority long before


class Certificate(msgspec.Struct, frozen=True):
    """One X.509 certificate: its PEM text (one block, ends with a newline), SHA-256, and validity in Unix ns."""

    pem: str
    fingerprint: str
    not_before_ns: int
    not_after_ns: int

    def __repr__(self) -> str:
        return f"<Certificate {self.fingerprint[:12]} until {self.not_after_ns}>"

    def is_valid(self, now_ns: int) -> bool:
        """Whether a peer with our clock accepts it now."""
        return self.not_before_ns <= now_ns < self.not_after_ns

    @property
    def due_ns(self) -> int:
        """When it should be replaced: at two thirds of its life."""
        return self.not_before_ns + (self.not_after_ns - self.not_before_ns) * 2 // 3


class Signer(msgspec.Struct, frozen=True):
    """A certificate with its private key (PEM)."""

    certificate: Certificate
    key: str

    def __repr__(self) -> str:
        return f"<Signer {self.certificate!r}>"


class Leaf(NamedTuple):
    """What a replica serves with: its own signer, and the fingerprint of the authority that signed it."""

    signer: Signer
    issuer: str


class Authorities(msgspec.Struct, frozen=True):
    """What the Secret holds. `announced_ns`: since when `next` is known to stand in the live bundle, None: not yet."""

    current: Signer
    next: Signer | None = None
    announced_ns: int | None = None
    retired: tuple[Certificate, ...] = ()

    def trusted(self, now_ns: int) -> tuple[Certificate, ...]:
        """Every authority that is not expired, the signing one first."""
        following = (self.next.certificate,) if self.next else ()
        everyone = (self.current.certificate, *following, *self.retired)
        return tuple(each for each in everyone if now_ns < each.not_after_ns)


class Step(Enum):
    """The one thing to do to the Secret next."""

    KEEP = "keep"
    CREATE = "create"
    INTRODUCE = "introduce"
    ANNOUNCE = "announce"
    PROMOTE = "promote"
    FORGET = "forget"


def bundle_of(authorities: Authorities, now_ns: int) -> str:
    """The PEM text that the webhook configuration should carry."""
    return "".join(each.pem for each in authorities.trusted(now_ns))


def next_step(
    authorities: Authorities | None, bundles: Sequence[str | None], lifetimes: Lifetimes, now_ns: int
) -> Step:
    """What to do, given what the Secret holds (None: nothing usable) and the live bundles of our webhooks (PEM)."""
    if authorities is None or (now_ns >= authorities.current.certificate.not_after_ns and authorities.next is None):
        return Step.CREATE
    if authorities.next is not None:
        return _step_of_rotation(authorities, authorities.next.certificate, bundles, lifetimes, now_ns)
    if now_ns >= authorities.current.certificate.due_ns:
        return Step.INTRODUCE
    if any(now_ns >= each.not_after_ns for each in authorities.retired):
        return Step.FORGET
    return Step.KEEP


def _step_of_rotation(
    authorities: Authorities, coming: Certificate, bundles: Sequence[str | None], lifetimes: Lifetimes, now_ns: int
) -> Step:
    if now_ns >= authorities.current.certificate.not_after_ns:
        return Step.PROMOTE  # nothing is left to wait for
    if not trusts(bundles, coming):
        return Step.KEEP
    if authorities.announced_ns is None:
        return Step.ANNOUNCE
    return Step.PROMOTE if now_ns - authorities.announced_ns >= lifetimes.overlap_ns else Step.KEEP


def after(step: Step, authorities: Authorities | None, fresh: Signer | None, now_ns: int) -> Authorities:
    """What the Secret should hold after a step. `fresh`: a new authority, for CREATE and INTRODUCE.

    With CREATE, `authorities` are those that this replica remembers of a Secret that has vanished: they go on signing,
    and the new one is introduced beside them, so that whoever deletes the Secret gets a rotation and no outage.
    """
    if step is Step.CREATE and fresh is not None:
        if authorities is None or now_ns >= authorities.current.certificate.not_after_ns:
            return Authorities(fresh)
        return Authorities(authorities.current, fresh, None, authorities.retired)
    if authorities is None:
        raise ValueError(f"{step} needs authorities")
    valid = tuple(each for each in authorities.retired if now_ns < each.not_after_ns)
    if step is Step.INTRODUCE and fresh is not None:
        return Authorities(authorities.current, fresh, None, valid)
    if step is Step.ANNOUNCE:
        return Authorities(authorities.current, authorities.next, now_ns, valid)
    if step is Step.PROMOTE and authorities.next is not None:
        old = authorities.current.certificate
        kept = (old,) if now_ns < old.not_after_ns else ()
        return Authorities(authorities.next, None, None, (*kept, *valid))
    return Authorities(authorities.current, authorities.next, authorities.announced_ns, valid)


def leaf_is_due(leaf: Leaf | None, authorities: Authorities, bundles: Sequence[str | None], now_ns: int) -> bool:
    """Whether this replica should sign itself a new leaf.

    One of another authority is wanted only when the API server trusts that authority already: until then the old leaf
    serves on, unless it is no longer valid anyway.
    """
    if leaf is None or not leaf.signer.certificate.is_valid(now_ns):
        return True
    current = authorities.current.certificate
    if leaf.issuer == current.fingerprint:
        # a leaf cannot outlive its authority, so at its very end a new one would be due at once again
        return now_ns >= leaf.signer.certificate.due_ns and leaf.signer.certificate.not_after_ns < current.not_after_ns
    return trusts(bundles, current) and current.is_valid(now_ns)


def lifetime_of(lifetimes: Lifetimes, authority: Certificate | None, now_ns: int) -> tuple[int, int]:
    """(not before, not after), Unix ns, of what is issued now: an authority, or a leaf that `authority` outlives."""
    start_ns = now_ns - lifetimes.backdate_ns
    if authority is None:
        return start_ns, now_ns + lifetimes.authority_ns
    return max(start_ns, authority.not_before_ns), min(now_ns + lifetimes.leaf_ns, authority.not_after_ns)


_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def blocks_of(pem: str) -> tuple[str, ...]:
    """The certificates of a text, each one normalised; what is around them is left out."""
    return tuple(
        f"-----BEGIN CERTIFICATE-----\n{_folded(match[1])}-----END CERTIFICATE-----\n" for match in _BLOCK.finditer(pem)
    )


def _folded(encoded: str) -> str:
    bare = "".join(encoded.split())
    return "".join(bare[at : at + 64] + "\n" for at in range(0, len(bare), 64))


def trusts(bundles: Sequence[str | None], certificate: Certificate) -> bool:
    """Whether every live bundle holds that authority; no bundle at all trusts nobody."""
    wanted = blocks_of(certificate.pem)
    return bool(bundles) and all(bundle is not None and set(wanted) <= set(blocks_of(bundle)) for bundle in bundles)
