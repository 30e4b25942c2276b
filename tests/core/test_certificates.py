"""When authorities and leaves are replaced, and in which order (C2)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.certificates import (
    Authorities,
    Certificate,
    Leaf,
    Lifetimes,
    Signer,
    Step,
    after,
    blocks_of,
    bundle_of,
    leaf_is_due,
    lifetime_of,
    next_step,
    trusts,
)
from sidecar.core.limits import DAY, MINUTE, SECOND

NOW = 1_700_000_000 * SECOND
LIFE = Lifetimes()


def certificate(name, start_ns=NOW - 5 * MINUTE, end_ns=NOW + 365 * DAY):
    return Certificate(f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n", name, start_ns, end_ns)


def signer(name, *validity):
    return Signer(certificate(name, *validity), f"the key of {name}")


OLD = signer("OLD1", NOW - 300 * DAY, NOW + 65 * DAY)
NEW = signer("NEW1")
GONE = certificate("GONE", NOW - 400 * DAY, NOW)
BOTH = OLD.certificate.pem + NEW.certificate.pem
ROTATING = Authorities(OLD, NEW)
ANNOUNCED = Authorities(OLD, NEW, NOW - 10 * MINUTE)
EXPIRED = signer("DEAD", NOW - 366 * DAY, NOW)


@pytest.mark.parametrize(
    ("authorities", "bundles", "step"),
    [
        (None, [], Step.CREATE),
        (Authorities(EXPIRED), [EXPIRED.certificate.pem], Step.CREATE),
        (Authorities(EXPIRED, NEW), [], Step.PROMOTE),
        (Authorities(NEW), [], Step.KEEP),
        (Authorities(OLD), [OLD.certificate.pem], Step.INTRODUCE),
        (ROTATING, [OLD.certificate.pem], Step.KEEP),
        (ROTATING, [BOTH, OLD.certificate.pem], Step.KEEP),
        (ROTATING, [BOTH, None], Step.KEEP),
        (ROTATING, [], Step.KEEP),
        (ROTATING, [BOTH, BOTH], Step.ANNOUNCE),
        (ANNOUNCED, [BOTH], Step.PROMOTE),
        (ANNOUNCED, [OLD.certificate.pem], Step.KEEP),  # wiped in between: not now
        (Authorities(OLD, NEW, NOW - 10 * MINUTE + 1), [BOTH], Step.KEEP),
        (Authorities(NEW, retired=(GONE,)), [], Step.FORGET),
        (Authorities(NEW, retired=(OLD.certificate,)), [], Step.KEEP),
    ],
)
def test_next_step(authorities, bundles, step):
    assert next_step(authorities, bundles, LIFE, NOW) is step


@pytest.mark.parametrize(
    ("step", "before", "expected"),
    [
        (Step.CREATE, None, Authorities(NEW)),
        (Step.CREATE, Authorities(EXPIRED), Authorities(NEW)),
        (Step.CREATE, Authorities(OLD, retired=(GONE,)), Authorities(OLD, NEW, None, (GONE,))),
        (Step.INTRODUCE, Authorities(OLD, retired=(GONE,)), Authorities(OLD, NEW)),
        (Step.ANNOUNCE, ROTATING, Authorities(OLD, NEW, NOW)),
        (Step.PROMOTE, ANNOUNCED, Authorities(NEW, retired=(OLD.certificate,))),
        (Step.PROMOTE, Authorities(EXPIRED, NEW), Authorities(NEW)),
        (Step.FORGET, Authorities(NEW, retired=(GONE, OLD.certificate)), Authorities(NEW, retired=(OLD.certificate,))),
    ],
)
def test_after(step, before, expected):
    assert after(step, before, NEW, NOW) == expected


def test_no_step_but_create_begins_with_nothing():
    with pytest.raises(ValueError, match="authorities"):
        after(Step.PROMOTE, None, None, NOW)


def leaf(issuer, start_ns=NOW - DAY, end_ns=NOW + 6 * DAY):
    return Leaf(signer("LEAF", start_ns, end_ns), issuer.certificate.fingerprint)


@pytest.mark.parametrize(
    ("present", "authorities", "bundles", "is_due"),
    [
        (None, Authorities(NEW), [], True),
        (leaf(NEW), Authorities(NEW), [], False),
        (leaf(NEW, NOW - 5 * DAY, NOW + 2 * DAY), Authorities(NEW), [], True),
        (leaf(NEW, NOW - 7 * DAY, NOW), Authorities(NEW), [], True),
        # signed by the one before: changed only when the new one is trusted
        (leaf(OLD), Authorities(NEW, retired=(OLD.certificate,)), [OLD.certificate.pem], False),
        (leaf(OLD), Authorities(NEW, retired=(OLD.certificate,)), [BOTH], True),
        # as long as its authority will live at all
        (leaf(OLD, NOW - 200 * DAY, OLD.certificate.not_after_ns), Authorities(OLD), [], False),
    ],
)
def test_leaf_is_due(present, authorities, bundles, is_due):
    assert leaf_is_due(present, authorities, bundles, NOW) is is_due


def test_lifetimes_are_backdated_and_a_leaf_never_outlives_its_authority():
    assert lifetime_of(LIFE, None, NOW) == (NOW - 5 * MINUTE, NOW + 365 * DAY)
    assert lifetime_of(LIFE, OLD.certificate, NOW) == (NOW - 5 * MINUTE, NOW + 7 * DAY)
    young = certificate("YOUNG", NOW - SECOND, NOW + DAY)
    assert lifetime_of(LIFE, young, NOW) == (NOW - SECOND, NOW + DAY)


def test_the_bundle_is_every_authority_that_is_not_expired():
    authorities = Authorities(OLD, NEW, None, (GONE, certificate("STILL")))
    assert bundle_of(authorities, NOW) == BOTH + certificate("STILL").pem


def test_blocks_are_compared_and_not_texts():
    wrapped = "# a comment\r\n-----BEGIN CERTIFICATE-----\r\nNE\r\nW1\r\n-----END CERTIFICATE-----"
    assert blocks_of(wrapped) == (NEW.certificate.pem,)
    assert trusts([wrapped + OLD.certificate.pem], NEW.certificate)
    assert not trusts([], NEW.certificate)
    assert not trusts(["junk"], NEW.certificate)


def test_keys_are_in_no_repr():
    assert "the key" not in repr(Authorities(OLD, NEW)) + repr(leaf(OLD)) + repr(signer("A"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40 * DAY), st.booleans(), st.booleans()), min_size=5, max_size=60))
def test_D3_no_leaf_is_ever_served_that_the_last_published_bundle_does_not_trust(turns):
    """Whatever the times of looks, and whether bundles are wiped: a leaf's issuer was trusted when it came into use.

    Exempt are the two cases in which there is nothing to lose: the first leaf, and one that replaces an expired one.
    """
    now = NOW
    state: Authorities | None = None
    live: str | None = None
    present: Leaf | None = None
    for number, (passed, is_wiped, is_patched) in enumerate(turns):
        now += passed
        live = None if is_wiped else live
        for _ in range(4):
            step = next_step(state, [live], LIFE, now)
            if step is not Step.KEEP:
                fresh = signer(f"A{number:03}", *lifetime_of(LIFE, None, now))
                state = after(step, state, fresh, now)
                continue
            assert state is not None
            expired = present is None or not present.signer.certificate.is_valid(now)
            if leaf_is_due(present, state, [live], now):
                current = state.current.certificate
                if present is not None and not expired and present.issuer != current.fingerprint:
                    assert trusts([live], current)
                present = Leaf(signer("L", *lifetime_of(LIFE, current, now)), current.fingerprint)
            if is_patched:
                live = bundle_of(state, now)
        assert state is not None
        assert present is not None
        assert present.signer.certificate.is_valid(now)
        issuers = {each.fingerprint for each in state.trusted(now)}
        assert present.issuer in issuers
