"""Which requests share a quota, and which quotas may be forgotten."""

from __future__ import annotations

import pytest

from sidecar.core.ledger import Ledger, QuotaSpec
from sidecar.core.limits import MINUTE, SECOND, Axis, Cost
from sidecar.core.line import Lines, Place
from sidecar.core.quota import LimitSpec

NOW = 1_764_000_000 * SECOND
ONE = Cost(1, 0)


class Limits:
    """What a snapshot would say."""

    def __init__(self, rpm: int = 60, pools: dict[str, str] | None = None, known: tuple[str, ...] = ()) -> None:
        self.rpm = rpm
        self.pools = pools or {}
        self.known = known
        self.accounts = {"groq/a", "groq/b"}

    def __call__(self, account: str, model: str) -> QuotaSpec | None:
        if account not in self.accounts:
            return None
        pool = self.pools.get(model)
        specs = (LimitSpec(Axis.REQUESTS, MINUTE, self.rpm, algorithm="token_bucket"),)
        return QuotaSpec(f"pool:{pool}" if pool else model, specs, is_known=model in self.known)


def test_A7_A13_a_quota_belongs_to_account_and_model():
    ledger = Ledger(Limits(known=("m", "n")))
    at_m = ledger.quota("groq/a", "m", NOW)
    assert ledger.quota("groq/a", "m", NOW) is at_m  # also for another key of the account
    at_m.cool(NOW + MINUTE)
    assert at_m.try_admit(ONE, NOW) is None
    assert ledger.quota("groq/b", "m", NOW).try_admit(ONE, NOW)
    assert ledger.quota("groq/a", "n", NOW).try_admit(ONE, NOW)
    assert len(ledger) == len(list(ledger)) == 3


def test_models_of_a_pool_share_one():
    ledger = Ledger(Limits(pools={"m": "big", "n": "big"}, known=("m",)))
    assert ledger.quota("groq/a", "m", NOW) is ledger.quota("groq/a", "n", NOW)
    assert ledger.quota("groq/a", "m", NOW) is not ledger.quota("groq/b", "m", NOW)
    assert ledger.quota("groq/a", "m", NOW).model == "pool:big"


def test_unconfigured_account_is_an_error():
    with pytest.raises(KeyError, match="groq/c"):
        Ledger(Limits()).quota("groq/c", "m", NOW)


def test_E1_unknown_models_are_bounded_and_only_idle_ones_leave():
    ledger = Ledger(Limits(known=("known",)), unknown_cap=4)
    ledger.quota("groq/a", "known", NOW)
    busy = ledger.quota("groq/a", "busy", NOW)
    charge = busy.try_admit(ONE, NOW)
    assert charge is not None
    for i in range(100):
        ledger.quota("groq/a", f"model-{i}", NOW)
    assert len(ledger) == 5
    assert ledger.quota("groq/a", "busy", NOW) is busy
    busy.settle(charge, None, NOW)
    for i in range(10):
        ledger.quota("groq/a", f"model-{i}", NOW)
    assert ledger.quota("groq/a", "busy", NOW) is busy  # its window is not whole yet
    for i in range(10):
        ledger.quota("groq/a", f"model-{i}", NOW + SECOND)
    assert ledger.quota("groq/a", "busy", NOW + SECOND) is not busy


def test_E1_when_all_are_busy_further_models_share_the_account_s_overflow():
    ledger = Ledger(Limits(), unknown_cap=3)
    busy = [ledger.quota("groq/a", f"model-{i}", NOW) for i in range(3)]
    charges = [quota.try_admit(ONE, NOW) for quota in busy]
    overflow = ledger.quota("groq/a", "one-more", NOW)
    assert ledger.quota("groq/a", "another", NOW) is overflow
    assert ledger.quota("groq/b", "another", NOW) is not overflow
    assert (overflow.model, len(ledger)) == ("*", 5)
    for quota, charge in zip(busy, charges, strict=True):
        assert charge is not None
        quota.settle(charge, None, NOW)
    assert ledger.quota("groq/a", "another", NOW + MINUTE).model == "another"


def test_E1_cooling_quotas_and_quotas_with_waiters_stay():
    ledger, lines = Ledger(Limits(), unknown_cap=2), Lines()
    cooling, waited_for = ledger.quota("groq/a", "cooling", NOW), ledger.quota("groq/a", "waited-for", NOW)
    cooling.cool(NOW + 10 * MINUTE)
    waited_for.cool(NOW + SECOND)
    lines.enlist([Place(waited_for, ONE)], 1, NOW)
    later = NOW + 5 * MINUTE
    assert ledger.quota("groq/a", "new", later).model == "*"
    assert ledger.quota("groq/a", "cooling", later) is cooling
    assert ledger.quota("groq/a", "waited-for", later) is waited_for


def test_a_pool_outlives_the_unknown_names_that_led_to_it():
    ledger = Ledger(Limits(pools={"m": "big", "n": "big"}), unknown_cap=1)
    pool = ledger.quota("groq/a", "m", NOW)
    assert pool.try_admit(ONE, NOW)
    assert ledger.quota("groq/a", "n", NOW) is pool
    assert ledger.quota("groq/a", "x", NOW).model == "x"
    assert ledger.quota("groq/a", "m", NOW) is pool


def test_A23_a_reload_keeps_what_was_used_and_raises_at_once():
    ledger = Ledger(Limits(rpm=1, known=("m",)))
    quota, unknown = ledger.quota("groq/a", "m", NOW), ledger.quota("groq/a", "u", NOW)
    assert quota.try_admit(ONE, NOW)
    assert quota.try_admit(ONE, NOW) is None
    ledger.reconfigure(Limits(rpm=2, known=("m",)), NOW)
    assert ledger.quota("groq/a", "m", NOW) is quota
    assert ledger.quota("groq/a", "u", NOW) is unknown
    assert quota.try_admit(ONE, NOW)
    assert quota.try_admit(ONE, NOW) is None


def test_a_reload_lets_go_of_what_nothing_maps_to():
    ledger = Ledger(Limits(known=("m", "n")))
    old = {name: ledger.quota("groq/a", name, NOW) for name in ("m", "n")}
    ledger.quota("groq/b", "m", NOW)
    after = Limits(known=("m", "n"), pools={"m": "big"})
    after.accounts.remove("groq/b")
    ledger.reconfigure(after, NOW)
    assert list(ledger) == [old["n"]]
    assert ledger.quota("groq/a", "m", NOW).model == "pool:big"


def test_a_pool_survives_a_reload_as_one():
    limits = Limits(known=("m", "n"), pools={"m": "big", "n": "big"})
    ledger = Ledger(limits)
    pool = ledger.quota("groq/a", "m", NOW)
    ledger.quota("groq/a", "n", NOW)
    ledger.reconfigure(limits, NOW)
    assert ledger.quota("groq/a", "m", NOW) is ledger.quota("groq/a", "n", NOW) is pool
    assert repr(ledger) == "<Ledger 1 quotas, 2 known models, 0 unknown>"
