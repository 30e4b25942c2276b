"""One timer for many waits: rung at the end of the last wait, and made as rarely as can be."""

from __future__ import annotations

from sidecar.core.limits import SECOND
from sidecar.edge.alarm import Alarm
from tests.fakes import FakeClock


def made():
    clock, rung = FakeClock(), []
    return clock, rung, Alarm(clock, lambda: rung.append(clock.now_ns()))


def test_it_rings_once_at_the_end_of_the_last_wait():
    clock, rung, alarm = made()
    start = clock.now_ns()
    alarm.set(3 * SECOND)
    clock.advance(2 * SECOND)
    alarm.set(3 * SECOND)
    assert alarm.due_ns == start + 5 * SECOND
    clock.advance(3 * SECOND - 1)
    assert rung == []
    clock.advance(1)
    assert rung == [start + 5 * SECOND]
    clock.advance(100 * SECOND)
    assert len(rung) == 1


def test_waits_that_are_put_off_make_no_timers():
    clock, rung, alarm = made()
    for _ in range(1000):
        alarm.set(10 * SECOND)
        clock.advance(SECOND // 100)
    assert (clock.calls, clock.pending, rung) == (2, 1, []), "one for each 10 s"


def test_a_shorter_wait_is_kept_too():
    clock, rung, alarm = made()
    alarm.set(300 * SECOND)
    alarm.set(SECOND)
    assert clock.pending == 1
    clock.advance(SECOND)
    assert len(rung) == 1


def test_set_from_within_the_ring():
    clock, rung = FakeClock(), []

    def ring():
        rung.append(1)
        alarm.set(SECOND)

    alarm = Alarm(clock, ring)
    alarm.set(SECOND)
    clock.advance(3 * SECOND)
    assert len(rung) == 3


def test_closed_it_never_rings():
    clock, rung, alarm = made()
    alarm.close()
    alarm.set(SECOND)
    alarm.close()
    clock.advance(SECOND)
    assert (rung, clock.pending) == ([], 0)
