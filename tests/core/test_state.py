"""Rows of a whole process: what is worth one, which have changed, and how they are taken up by another process."""

from __future__ import annotations

import functools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.affinity import Ownership
from sidecar.core.health import FOREVER_NS
from sidecar.core.keys import Size
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.roster import Roster
from sidecar.core.state import SAVED_AT, SLICE, Batch, State
from sidecar.core.tokens import Kind
from tests.core.house import NOW, TWO_PROVIDERS, snapshot_of, target_of
from tests.values import replaced

LIMITED = TWO_PROVIDERS.replace("  - name: groq\n", "  - name: groq\n    limits: [{rpd: 100, rpm: 50}]\n")
POOLED = LIMITED.replace("[{rpd: 100, rpm: 50}]", "[{model: 'guard-*', pool: guards, rpd: 100}]")
ONE = Cost(1, 0)


_snapshot = functools.cache(lambda text, secrets: snapshot_of(text, secrets=dict(secrets)))


class House:
    """What is kept of: a roster and an ownership."""

    def __init__(self, text: str = LIMITED, secrets: dict[str, str] | None = None) -> None:
        self.roster = Roster(_snapshot(text, tuple((secrets or {}).items())), NOW)
        self.ownership = Ownership()
        self.state = State(self.roster, self.ownership)

    def candidate(self, target: str = "groq/m", at: int = 0):
        return self.roster.keys(target_of(self.roster, target), NOW).candidates[at]

    def bench(self, scope: Scope, outcome: Outcome, until_ns: int | None = NOW + HOUR, target: str = "groq/m") -> None:
        self.candidate(target).apply(Feedback(outcome, scope, until_ns, message="words"), NOW)

    def standing(self, target: str = "groq/m"):
        standing = self.candidate(target).standing()
        return standing.until_ns, standing.cause, standing.message

    def look(self, now: int = NOW) -> Batch:
        batch = Batch()
        for _ in self.state.look(batch, now):
            pass
        return batch


def rows_of(house: House, now: int = NOW) -> dict[str, bytes]:
    """Everything worth keeping, as a store that was empty gets it."""
    batch = Batch()
    for _ in State(house.roster, house.ownership).look(batch, now):
        pass
    return batch.changed


def after(rows, text=LIMITED, now=NOW, secrets=None):
    """The next process."""
    house = House(text, secrets)
    house.state.restore(rows, now)
    return house


def busy_house():
    """Something of every kind."""
    house = House()
    for at in range(2):
        house.candidate(at=at).quota.try_admit(ONE, NOW)
    house.candidate().quota.learn([Reading(Axis.TOKENS, MINUTE, 600, None, None, Source.HEADER)], NOW)
    house.candidate("groq/cooling").quota.cool(NOW + MINUTE)
    house.bench(Scope.KEY, Outcome.KEY_INVALID, None)
    house.bench(Scope.KEY_MODEL, Outcome.KEY_FORBIDDEN)
    house.bench(Scope.TARGET, Outcome.MODEL_UNAVAILABLE, target="cerebras/gone")
    house.roster.calibration("groq/m").report(4000, 1500)
    house.ownership.note(("file-1", "batch-2"), "groq/b")
    return house


def test_A21_everything_is_taken_up_by_the_next_process():
    rows = rows_of(busy_house())
    assert {name.partition(" ")[0] for name in rows} == {
        *("quota", "key", "key_model", "target", "calibration", "object", SAVED_AT)
    }
    house = after(rows)
    assert house.standing() == (FOREVER_NS, Outcome.KEY_INVALID, "words")
    assert house.standing("cerebras/gone") == (NOW + HOUR, Outcome.MODEL_UNAVAILABLE, "words")
    assert house.candidate().at_model.cause is Outcome.KEY_FORBIDDEN
    assert [view.remaining for view in house.candidate().quota.views(NOW)] == [49, 99, 600]
    assert house.candidate("groq/cooling").quota.free_at(ONE, NOW) == NOW + MINUTE
    assert house.roster.calibration("groq/m").milli_bytes < 4000
    assert house.ownership.owner_of(["batch-2"]) == "groq/b"


def test_A21_each_kind_of_text_keeps_its_calibration():
    house = House()
    dense = Size(4000, None, 1, 0, Kind.SYMBOLS)
    house.roster.keys(target_of(house.roster, "groq/m"), NOW).report(dense, 2000)
    again = after(rows_of(house)).roster
    keys = again.keys(target_of(again, "groq/m"), NOW)
    assert keys.cost(dense).input_tokens > 1000
    assert keys.cost(replaced(dense, kind=Kind.PROSE)).input_tokens == 1000


def test_A21_captured_restored_captured_is_the_same():
    rows = rows_of(busy_house())
    assert rows_of(after(rows)) == rows


def test_what_is_as_good_as_new_has_no_row():
    house = House()
    house.candidate()
    house.roster.calibration("groq/m")
    assert rows_of(house) == {}
    assert not house.look()


def test_only_what_has_changed_is_written():
    house = busy_house()
    first = house.look()
    assert house.look().changed == first.changed  # not confirmed: all of it again
    house.state.confirm(first)
    assert not house.look()
    house.candidate(at=1).quota.try_admit(ONE, NOW)
    house.ownership.note(("file-3",), "groq/b")
    second = house.look()
    assert second.changed.keys() == {"quota groq/org-b m", "object file-3", SAVED_AT}
    assert second.removed == []
    house.state.confirm(second)
    assert not house.look()


def test_what_is_over_is_removed():
    house = busy_house()
    house.state.confirm(house.look())
    gone = house.look(NOW + 2 * DAY)
    assert set(gone.removed) == {
        "quota groq/org-a m",
        "quota groq/org-b m",
        "key_model groq/a m",
        "target cerebras/gone",
    }
    assert gone.changed.keys() == {SAVED_AT}
    house.state.confirm(gone)
    assert not house.look(NOW + 2 * DAY)


def test_a_cooldown_stays_until_its_probe_has_passed():
    house = busy_house()
    quota = house.candidate("groq/cooling").quota
    later = NOW + 2 * DAY
    assert "quota groq/org-a cooling" in rows_of(house, later)
    charge = quota.try_admit(ONE, later)
    quota.passed(charge)
    quota.settle(charge, None, later)
    assert "quota groq/org-a cooling" not in rows_of(house, later + 2 * DAY)


def test_rows_that_nobody_took_up_are_removed():
    rows = {"quota groq/gone m": b"1", "new kind": b"{}", "saved_at": b"1"}
    house = after(rows)
    assert set(house.look().removed) == {"quota groq/gone m", "new kind"}


SECRET = "gsk_a-secret-of-the-operator"


@pytest.mark.parametrize(
    ("secrets", "text", "is_benched"),
    [
        ({"a": SECRET}, LIMITED, True),
        ({"a": SECRET + "2"}, LIMITED, False),
        ({"a": SECRET}, LIMITED.replace("- name: groq\n", "- name: groq\n    base_url: http://other/v1\n"), False),
    ],
)
def test_H6_a_bench_is_of_one_secret_at_one_place(secrets, text, is_benched):
    house = House(secrets={"a": SECRET})
    house.bench(Scope.KEY, Outcome.KEY_INVALID, None)
    house.bench(Scope.KEY_MODEL, Outcome.KEY_FORBIDDEN)
    house.bench(Scope.TARGET, Outcome.MODEL_UNAVAILABLE)
    house = after(rows_of(house), text, secrets=secrets)
    candidate = house.candidate()
    assert (candidate.of_key.until_ns == FOREVER_NS) is is_benched
    assert (candidate.at_model.until_ns > NOW) is is_benched
    assert (candidate.at_provider.until_ns > NOW) is ("http://other" not in text)


def test_no_row_holds_a_secret():
    house = House(secrets={"a": SECRET})
    house.bench(Scope.KEY, Outcome.KEY_INVALID, None)
    text = repr(rows_of(house))
    assert "groq/a" in text
    assert SECRET not in text
    assert SECRET.encode().hex() not in text


def test_a_bench_that_has_ended_is_not_taken_up():
    house = House()
    house.bench(Scope.KEY, Outcome.KEY_UNPAID)
    assert after(rows_of(house), now=NOW + HOUR).standing()[1] is None


def test_when_the_clock_has_gone_back_a_bench_is_no_longer_than_it_was():
    house = House()
    house.bench(Scope.KEY, Outcome.KEY_UNPAID)
    earlier = NOW - 100 * DAY
    assert after(rows_of(house), now=earlier).standing()[0] == earlier + HOUR


def test_models_of_a_pool_are_taken_up_together():
    house = House(POOLED)
    for model in ("guard-1", "guard-2"):
        house.candidate(f"groq/{model}").quota.try_admit(ONE, NOW)
    house = after(rows_of(house), POOLED)
    assert [view.remaining for view in house.candidate("groq/guard-1").quota.views(NOW)] == [98]
    assert house.candidate("groq/guard-2").quota is house.candidate("groq/guard-1").quota


def test_a_model_that_has_left_its_pool_begins_anew():
    house = House(POOLED)
    house.candidate("groq/guard-1").quota.try_admit(ONE, NOW)
    house = after(rows_of(house), LIMITED)
    assert [view.remaining for view in house.candidate("groq/guard-1").quota.views(NOW)] == [50, 100]


def test_accounts_and_providers_that_left_the_configuration_are_let_go():
    house = busy_house()
    house.roster.calibration("cerebras/m").report(4000, 1500)
    alone = "providers: [{name: groq, limits: [{rpd: 100}], keys: [{name: b, env: B, account: org-b}]}]"
    again = after(rows_of(house), alone)
    assert set(rows_of(again)) == {
        *("quota groq/org-b m", "calibration groq/m", "object file-1", "object batch-2", SAVED_AT)
    }


@pytest.mark.parametrize("name", ["\ud800", "m" * 2000])
def test_names_that_callers_make_up_keep_nothing_else_from_being_saved(name):
    house = House()
    house.candidate(f"groq/{name}").quota.try_admit(ONE, NOW)
    house.candidate().quota.try_admit(ONE, NOW)
    house.bench(Scope.TARGET, Outcome.MODEL_UNAVAILABLE, target=f"groq/{name}")
    batch = house.look()
    assert batch.changed.keys() == {"quota groq/org-a m", SAVED_AT}
    house.state.confirm(batch)
    assert not house.look()


def test_a_provider_s_words_may_be_no_unicode():
    house = House()
    house.candidate().apply(Feedback(Outcome.KEY_UNPAID, Scope.KEY, NOW + HOUR, message="pay \ud800"), NOW)
    assert after(rows_of(house)).standing() == (NOW + HOUR, Outcome.KEY_UNPAID, "pay ?")


def test_E1_a_look_is_cut_into_slices():
    house = House()
    for n in range(3 * SLICE):
        house.candidate(f"groq/model-{n}").quota.try_admit(ONE, NOW)
    batch, steps = Batch(), 0
    for _ in house.state.look(batch, NOW):
        steps += 1
        house.candidate(f"groq/more-{steps}").quota.try_admit(ONE, NOW)  # others go on meanwhile
        house.roster.calibration(f"groq/more-{steps}")
        house.bench(Scope.TARGET, Outcome.MODEL_UNAVAILABLE, target=f"groq/more-{steps}")
        house.ownership.note((f"file-{steps}",), "groq/a")
    assert steps > 6
    assert len(batch.changed) > 3 * SLICE
    house.state.confirm(batch)
    assert house.look()


GOOD = rows_of(busy_house())
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5))
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(GOOD)), trees.map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=60))
def test_a_row_that_makes_no_sense_is_ignored_alone(name, row):
    house = after(GOOD | {name: row})
    again = rows_of(house)
    untouched = GOOD.keys() - {name, SAVED_AT}
    if name != SAVED_AT:
        assert {each: again.get(each) for each in untouched} == {each: GOOD[each] for each in untouched}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_row_with_one_wrong_part_harms_nobody(name, data):
    tree = msgspec.json.decode(GOOD[name])
    wrong = data.draw(st.one_of(st.none(), st.integers(-3, 2**64 - 1), st.text(max_size=5), st.just([])))
    if isinstance(tree, list):
        tree[data.draw(st.integers(0, len(tree) - 1))] = wrong
    else:
        tree = wrong
    house = after(GOOD | {name: msgspec.json.encode(tree)})
    for target in ("groq/m", "groq/cooling", "cerebras/gone"):
        house.candidate(target).quota.free_at(Cost(1, 1), NOW)
        assert house.roster.keys(target_of(house.roster, target), NOW).cost(Size(100, None, 1, 0)).input_tokens > 0
    assert rows_of(house)


@pytest.mark.parametrize("row", [b"0", b"-1", b"999", b"16001", b"4000.5", b'"4000"'])
def test_a_token_of_impossible_size_is_ignored(row):
    house = after(GOOD | {"calibration groq/m": row})
    assert house.roster.calibration("groq/m").milli_bytes == 4000


def test_the_time_of_saving_may_be_missing():
    house = House()
    house.bench(Scope.KEY, Outcome.KEY_UNPAID)
    rows = rows_of(house)
    del rows[SAVED_AT]
    assert after(rows, now=NOW + SECOND).standing()[0] == NOW + HOUR


def test_it_says_what_it_is():
    house = busy_house()
    batch = house.look()
    assert repr(batch) == "<Batch 10 changed, 0 removed, of 9>"
    house.state.confirm(batch)
    assert repr(house.state) == "<State of 9 rows>"
