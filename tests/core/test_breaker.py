"""The breaker: its table, what trips it, how long it is open, and who may probe."""

from __future__ import annotations

import itertools

import pytest

from sidecar.core.breaker import (
    FAULTS,
    IN_A_ROW,
    OPEN_MOST_NS,
    OPEN_NS,
    OVERTAKEN_IN_A_ROW,
    PROBE_NS,
    TRANSITIONS,
    WINDOW_LEAST,
    WINDOW_NS,
    Breaker,
    Event,
    State,
)
from sidecar.core.budget import Charge
from sidecar.core.fallback import RULES, Blame
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome

NOW = 1_700_000_000 * SECOND
KEEPS = {
    State.CLOSED: set(Event) - {Event.TRIPPED},
    State.OPEN: set(Event) - {Event.CALLED},
    State.HALF_OPEN: {Event.FAILED, Event.TRIPPED, Event.CALLED},
}
MOVES = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.CALLED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.PROBE_PASSED): State.CLOSED,
    (State.HALF_OPEN, Event.PROBE_FAILED): State.OPEN,
    (State.HALF_OPEN, Event.PROBE_LEFT): State.OPEN,
}


def charge():
    return Charge([], NOW)


def call(breaker, outcome, now=NOW, draw=0.0):
    """One call from its admission to its end."""
    one = charge()
    breaker.enter(one, now)
    if outcome is Outcome.OK:
        breaker.heard(one)
    breaker.ended(one, outcome, now, draw)


def tripped(draw=0.0):
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        call(breaker, Outcome.SERVER_ERROR, draw=draw)
    return breaker


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_style4_every_state_knows_every_event(state, event):
    assert TRANSITIONS[state, event] is (state if event in KEEPS[state] else MOVES[state, event])


def test_the_table_has_nothing_else():
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


@pytest.mark.parametrize("outcome", Outcome)
def test_I4_only_what_is_the_targets_own_fault_trips_it(outcome):
    breaker = Breaker()
    for _ in range(10 * WINDOW_LEAST):
        call(breaker, outcome)
    assert breaker.state is (State.OPEN if outcome in FAULTS else State.CLOSED)
    if outcome in FAULTS:
        assert RULES[outcome].blame is Blame.TARGET
        assert breaker.cause is outcome


def test_it_trips_on_failures_in_a_row():
    breaker = Breaker()
    for _ in range(IN_A_ROW - 1):
        call(breaker, Outcome.CONNECT_FAILED)
    assert (breaker.state, breaker.until_ns) == (State.CLOSED, 0)
    call(breaker, Outcome.OK)
    for _ in range(IN_A_ROW - 1):
        call(breaker, Outcome.CONNECT_FAILED)
    assert breaker.state is State.CLOSED, "a success in between begins the row anew"
    call(breaker, Outcome.CONNECT_FAILED)
    assert (breaker.state, breaker.until_ns) == (State.OPEN, NOW + OPEN_NS)
    assert "5 failures in a row" in breaker.message


@pytest.mark.parametrize(("successes", "opens"), [(1, True), (2, False)])
def test_it_trips_on_a_share_of_failures(successes, opens):
    breaker = Breaker()
    for _ in range(WINDOW_LEAST):
        call(breaker, Outcome.SERVER_ERROR)
        if breaker.state is State.OPEN:
            break
        for _ in range(successes):
            call(breaker, Outcome.OK)
    assert (breaker.state is State.OPEN) is opens


def test_a_share_is_of_one_window_alone():
    breaker = Breaker()
    for turn in range(WINDOW_LEAST):
        now = NOW + turn * (WINDOW_NS // 5)
        call(breaker, Outcome.SERVER_ERROR, now)
        call(breaker, Outcome.OK, now)
    assert breaker.state is State.CLOSED, "ten verdicts in a window say nothing"


def test_B3_streams_that_break_after_their_status_count_by_their_share():
    breaker = Breaker()
    for _ in range(WINDOW_LEAST):
        one = charge()
        breaker.heard(one)
        breaker.ended(one, Outcome.BROKEN, NOW, 0.0)
    assert breaker.state is State.OPEN


def test_the_open_time_grows_to_its_cap_and_is_forgotten_after_a_success():
    breaker, now, opens = tripped(), NOW, []
    for _ in range(7):
        opens.append((breaker.until_ns - now) // SECOND)
        now = breaker.until_ns
        call(breaker, Outcome.HEADERS_TIMEOUT, now)
    assert opens == [1, 2, 4, 8, 15, 15, 15]
    assert opens[-1] * SECOND == OPEN_MOST_NS
    call(breaker, Outcome.OK, breaker.until_ns)
    assert (breaker.state, breaker.until_ns, breaker.trips, breaker.cause) == (State.CLOSED, 0, 0, None)
    for _ in range(IN_A_ROW):
        call(breaker, Outcome.SERVER_ERROR, now)
    assert breaker.until_ns == now + OPEN_NS


@pytest.mark.parametrize(("draw", "until_ns"), [(0.0, OPEN_NS), (0.5, OPEN_NS * 7 // 8), (1.0, OPEN_NS * 3 // 4)])
def test_A18_jitter_is_an_argument(draw, until_ns):
    assert tripped(draw).until_ns == NOW + until_ns


def test_one_probe_is_let_out_and_passes_with_its_status_line():
    breaker = tripped()
    due = breaker.until_ns
    probe, late = charge(), charge()
    breaker.enter(probe, due)
    assert (breaker.state, breaker.is_probe(probe), breaker.is_probe(late)) == (State.HALF_OPEN, True, False)
    assert breaker.until_ns == due + PROBE_NS, "nobody else for now"
    breaker.heard(late)
    breaker.ended(late, Outcome.SERVER_ERROR, due, 0.0)
    assert (breaker.state, breaker.until_ns) == (State.HALF_OPEN, due + PROBE_NS), "what began before says nothing"
    breaker.heard(probe)
    assert (breaker.state, breaker.until_ns) == (State.CLOSED, 0)
    breaker.ended(probe, Outcome.BROKEN, due, 0.0)
    assert breaker.state is State.CLOSED, "one failure, like any other"


def test_a_probe_that_is_out_for_long_makes_room_for_another():
    breaker = tripped()
    probes = [charge() for _ in range(4)]
    waits = []
    now = breaker.until_ns
    for probe in probes:
        breaker.enter(probe, now)
        waits.append((breaker.until_ns - now) // PROBE_NS)
        now = breaker.until_ns
    assert waits == [1, 2, 4, 8]
    breaker.ended(probes[0], Outcome.HEADERS_TIMEOUT, now, 0.0)
    assert (breaker.state, breaker.until_ns) == (State.OPEN, now + 2 * OPEN_NS)
    for probe in probes[1:]:
        breaker.ended(probe, Outcome.HEADERS_TIMEOUT, now + SECOND, 0.0)
    assert breaker.until_ns == now + 2 * OPEN_NS, "probes of the same time are one finding"


@pytest.mark.parametrize("outcome", [Outcome.CLIENT_GONE, Outcome.HEDGED, Outcome.RATE_LIMITED, Outcome.BAD_REQUEST])
def test_I4_a_probe_without_a_verdict_frees_its_place(outcome):
    breaker = tripped()
    due = breaker.until_ns
    first, second = charge(), charge()
    breaker.enter(first, due)
    breaker.enter(second, due + PROBE_NS)
    breaker.ended(first, outcome, due + PROBE_NS + 1, 0.0)
    assert breaker.state is State.HALF_OPEN
    breaker.ended(second, outcome, due + PROBE_NS + 2, 0.0)
    assert (breaker.state, breaker.until_ns) == (State.OPEN, due + PROBE_NS + 2)
    breaker.ended(second, outcome, due + 9 * SECOND, 0.0)
    assert breaker.until_ns == due + PROBE_NS + 2, "over is over"


def test_a_repr_says_what_an_operator_asks():
    assert repr(tripped()) == f"<Breaker open server_error until {NOW + OPEN_NS}, 0 probes>"
    assert repr(Breaker()) == "<Breaker closed until 0, 0 probes>"


def hedged(breaker, now=NOW):
    charge = Charge([], now)
    breaker.enter(charge, now)
    breaker.overtaken(charge, now, 0.0)


def test_always_overtaken_opens_it_and_one_answer_in_time_begins_anew():
    breaker = Breaker()
    for _ in range(OVERTAKEN_IN_A_ROW - 1):
        hedged(breaker)
    call(breaker, Outcome.OK)
    for _ in range(OVERTAKEN_IN_A_ROW - 1):
        hedged(breaker)
    assert (breaker.state, breaker.until_ns) == (State.CLOSED, 0)
    hedged(breaker)
    assert (breaker.state, breaker.until_ns, breaker.cause) == (State.OPEN, NOW + OPEN_NS, Outcome.HEDGED)
    assert breaker.message == f"another target was faster {OVERTAKEN_IN_A_ROW} times in a row"


def test_a_probe_that_is_overtaken_has_failed():
    breaker = tripped()
    hedged(breaker, breaker.until_ns)
    assert (breaker.state, breaker.trips, breaker.until_ns) == (State.OPEN, 2, NOW + 3 * OPEN_NS)


def test_being_overtaken_is_no_failure_of_the_row():
    breaker = Breaker()
    for _ in range(IN_A_ROW - 1):
        call(breaker, Outcome.SERVER_ERROR)
        hedged(breaker)
    assert breaker.state is State.CLOSED
