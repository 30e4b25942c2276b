"""Conversations stay with the key that has their prompt cached, as far as balance and limits allow (J4)."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from sidecar.core.candidate import Candidate
from sidecar.core.conversation import Pins, turn_of
from sidecar.core.limits import HOUR, MINUTE, SECOND, Cost
from sidecar.core.outcomes import Feedback, Outcome, Scope
from tests.core.house import NOW, roster_of, target_of

SYSTEM = {"role": "system", "content": "You are terse. " * 40}


def said(text, role="user"):
    return {"role": role, "content": text}


def body(*messages, compact=False, **fields):
    separators = (",", ":") if compact else None
    return json.dumps({"model": "m", "messages": list(messages), **fields}, separators=separators).encode()


def parts(text):
    return {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": "x"}]}


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("first", [said("hello"), said('say "hi"'), said("x" * 5000), said("你好" * 400), parts("see")])
@pytest.mark.parametrize("system", [(), (SYSTEM,)])
def test_J4_the_turns_of_a_conversation_share_a_number(compact, first, system):
    opening = turn_of(body(*system, first, compact=compact, stream=True))
    later = turn_of(body(*system, first, said("yes", "assistant"), said("and now?"), compact=compact, stream=True))
    last = turn_of(body(*system, first, said("yes", "assistant"), *[said(str(n)) for n in range(9)], compact=compact))
    assert opening is not None
    assert later is not None
    assert last is not None
    assert opening[0] == later[0] == last[0]
    assert (opening[1], later[1], last[1]) == (False, True, True)


def test_J4_other_conversations_have_other_numbers():
    bodies = [body(SYSTEM, said(text)) for text in ("a", "b", "hello there", "hello there!")]
    bodies += [body(said("a")), body(said("a", "system"), said("a"))]
    turns = [turn_of(each) for each in bodies]
    assert len({turn[0] for turn in turns if turn is not None}) == len(bodies)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"input":"x"}', b'{"messages":[]}', b'"user"', b"\xff"])
def test_what_is_no_conversation_has_no_turn(content):
    assert turn_of(content) is None


def test_pins_are_bounded_and_forget_after_five_minutes():
    pins = Pins(3)
    for number in range(4):
        pins.note(number, f"k{number}", NOW)
    pins.note(1, "k9", NOW + MINUTE)
    pins.note(5, "k5", NOW + MINUTE)
    assert len(pins) == 3
    assert [pins.key_of(n, NOW + MINUTE) for n in (0, 1, 2, 3, 5)] == [None, "k9", None, "k3", "k5"]
    assert pins.key_of(3, NOW + 5 * MINUTE) is None
    assert pins.key_of(1, NOW + 6 * MINUTE - 1) == "k9"
    assert repr(pins) == "<Pins 3 of 3>"


def keys_of(count, limits="rpm: 60"):
    keys = "\n".join(f"      - {{name: k{n}, env: K{n}}}" for n in range(count))
    roster = roster_of(f"providers:\n  - name: groq\n    keys:\n{keys}\n    limits: [{{{limits}}}]\n")
    return roster.keys(target_of(roster, "groq/m"), NOW)


def play(keys, conversations, turns, gap_ns):
    """Conversations take their turns in random order; the share of turns on the key of the turn before, refusals."""
    draw, now = random.Random(7), NOW
    agenda = [number for number in range(conversations) for _ in range(turns)]
    draw.shuffle(agenda)
    last: dict[int, Candidate] = {}
    served: Counter[str] = Counter()
    stayed = refused = 0
    for number in agenda:
        now += gap_ns
        admitted = keys.admit(Cost(100, 0), now, (), (number, number in last))
        if admitted is None:
            refused += 1
            continue
        candidate, charge = admitted
        candidate.quota.settle(charge, None, now)
        stayed += last.get(number) is candidate
        served[candidate.key.name] += 1
        last[number] = candidate
    return stayed / (len(agenda) - conversations), refused, served


@pytest.mark.parametrize("count", [5, 40])
def test_J4_turns_stay_on_one_key_while_it_has_headroom(count):
    # sixty percent of what the keys allow, in conversations whose turns are less than five minutes apart
    share, refused, served = play(keys_of(count), 10 * count, 20, MINUTE // (36 * count))
    assert share >= 0.95
    assert refused == 0
    assert len(served) == count
    assert max(served.values()) <= 2 * min(served.values())


def test_J4_affinity_never_costs_a_refusal():
    # one conversation alone asks for nine tenths of all five keys: no single key could serve it
    _, refused, served = play(keys_of(5), 1, 1350, MINUTE * 10 // 1350 // 5 * 5)
    assert refused == 0
    assert len(served) == 5


def test_J4_a_cooldown_pins_it_anew():
    keys, turn = keys_of(3), (77, True)
    first = keys.admit(Cost(1, 0), NOW, (), turn)
    assert first is not None
    assert keys.admit(Cost(1, 0), NOW, (), turn)[0] is first[0]
    first[0].apply(Feedback(Outcome.RATE_LIMITED, Scope.QUOTA, NOW + HOUR), NOW)
    second = keys.admit(Cost(1, 0), NOW + SECOND, (), turn)
    assert second is not None
    assert second[0] is not first[0]
    assert keys.admit(Cost(1, 0), NOW + 2 * SECOND, (), turn)[0] is second[0]


def test_J4_who_waited_stays_where_it_was_served():
    keys, turn = keys_of(3), (77, True)
    keys.pin(turn, keys.candidates[1], NOW)
    assert keys.admit(Cost(1, 0), NOW, (), turn)[0] is keys.candidates[1]
    assert keys.admit(Cost(1, 0), NOW, [keys.candidates[1]], turn)[0] is not keys.candidates[1]


def test_one_key_needs_no_memory():
    keys = keys_of(1)
    assert keys.admit(Cost(1, 0), NOW, (), (77, True)) is not None
    assert len(keys.shared.pins) == 0
