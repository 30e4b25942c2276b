"""What is remembered of rejected fields: by target and endpoint, for a day, within bounds, without contradiction."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.body import without
from sidecar.core.limits import DAY
from sidecar.core.outcomes import Remedy
from sidecar.core.paths import Endpoint
from sidecar.core.rejections import AS_IT_IS, Fit, Rejections
from tests.core.house import NOW, roster_of, target_of

ROSTER = roster_of()
GROQ, CEREBRAS = target_of(ROSTER, "groq/m"), target_of(ROSTER, "cerebras/m")
CHAT = Endpoint.CHAT


def learned(*remedies):
    """What is known after each remedy was noted by itself, or None where one was refused."""
    rejections = Rejections()
    for remedy in remedies:
        if not rejections.note(GROQ, CHAT, (remedy,), NOW):
            return None
    return rejections.fit(GROQ, CHAT, NOW)


def drop(name):
    return Remedy(name)


def rename(name, instead):
    return Remedy(name, instead=instead)


def test_B10_it_is_remembered_for_that_target_and_that_endpoint():
    rejections = Rejections()
    assert rejections.fit(GROQ, CHAT, NOW) is AS_IT_IS
    assert rejections.note(GROQ, CHAT, (drop("a"), Remedy("b", is_in_messages=True), rename("c", "d")), NOW)
    assert rejections.fit(GROQ, CHAT, NOW) == Fit(frozenset("a"), frozenset("b"), {"c": "d"})
    for target, endpoint in [(CEREBRAS, CHAT), (GROQ, Endpoint.RESPONSES), (target_of(ROSTER, "groq/n"), CHAT)]:
        assert rejections.fit(target, endpoint, NOW) is AS_IT_IS
    assert repr(rejections) == "<Rejections [('groq/m', 'chat')]>"


def test_B10_for_a_day_after_the_last_word():
    rejections = Rejections()
    rejections.note(GROQ, CHAT, (drop("a"),), NOW)
    rejections.note(GROQ, CHAT, (drop("b"),), NOW + DAY - 1)
    assert rejections.fit(GROQ, CHAT, NOW + 2 * DAY - 2).drops == {"a", "b"}
    assert rejections.fit(GROQ, CHAT, NOW + 2 * DAY - 1) is AS_IT_IS
    rejections.note(GROQ, CHAT, (drop("c"),), NOW + 3 * DAY)
    assert rejections.fit(GROQ, CHAT, NOW + 3 * DAY).drops == {"c"}


def test_B10_a_reload_forgets():
    rejections = Rejections()
    rejections.note(GROQ, CHAT, (drop("a"),), NOW)
    rejections.forget()
    assert rejections.fit(GROQ, CHAT, NOW) is AS_IT_IS


def test_E1_models_and_fields_at_will_take_no_more_room():
    rejections = Rejections()
    for at in range(3000):
        rejections.note(target_of(ROSTER, f"groq/{at}"), CHAT, (drop("a"),), NOW)
        rejections.note(GROQ, CHAT, (drop(f"x{at}"),), NOW)
        assert rejections.fit(GROQ, CHAT, NOW).size <= 33
    assert rejections.fit(target_of(ROSTER, "groq/2999"), CHAT, NOW).drops == {"a"}
    assert rejections.fit(target_of(ROSTER, "groq/1"), CHAT, NOW) is AS_IT_IS
    assert repr(rejections).count("groq/") <= 1024


@pytest.mark.parametrize(
    ("remedies", "drops", "renames"),
    [
        ([rename("a", "b"), rename("b", "c")], "", {"a": "c", "b": "c"}),
        ([rename("a", "b"), drop("b")], "ab", {}),
        ([rename("a", "b"), drop("a")], "a", {}),
    ],
)
def test_B10_no_field_ends_in_a_name_that_is_refused(remedies, drops, renames):
    assert learned(*remedies) == Fit(frozenset(drops), renames=renames)


@pytest.mark.parametrize("remedies", [[rename("a", "b"), rename("b", "a")], [drop("b"), rename("a", "b")]])
def test_B10_what_could_please_no_body_is_refused(remedies):
    assert learned(*remedies) is None


NAMES = st.sampled_from("abcd")
REMEDIES = st.lists(st.builds(drop, NAMES) | st.builds(rename, NAMES, NAMES), max_size=8)


@settings(max_examples=300, deadline=None)
@given(REMEDIES, st.sets(NAMES, min_size=1))
def test_B10_a_field_once_refused_is_never_sent_again(remedies, sent):
    rejections = Rejections()
    refused: set[str] = set()
    for remedy in remedies:
        if remedy.name == remedy.instead:
            continue
        if rejections.note(GROQ, CHAT, (remedy,), NOW):
            refused.add(remedy.name)
    fit = rejections.fit(GROQ, CHAT, NOW)
    body = "{" + ",".join(f'"{name}":1' for name in sorted(sent)) + "}"
    fitted, _ = without(body.encode(), fit.drops, fit.renames)
    assert not any(f'"{name}"'.encode() in fitted for name in refused), (fit, fitted)
    assert all(new not in refused for new in fit.renames.values())
    assert not set(fit.drops) & set(itertools.chain(*fit.renames.items()))
