"""The real clock: never backwards, true again after every step of the wall clock, and timers on the loop."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.clock import LoopClock
from sidecar.core.limits import HOUR, SECOND

WALL = 1_700_000_000 * SECOND


class Times:
    """A wall clock and a monotonic one that a test moves."""

    def __init__(self):
        self.wall_ns = WALL
        self.monotonic_ns = 5 * SECOND
        no_loop = cast(asyncio.AbstractEventLoop, None)
        self.clock = LoopClock(no_loop, lambda: self.wall_ns, lambda: self.monotonic_ns)

    def pass_by(self, duration_ns):
        """Both go on."""
        self.wall_ns += duration_ns
        self.monotonic_ns += duration_ns
        return self.clock.now_ns()

    @property
    def ahead_ns(self):
        """How far the clock is ahead of the wall."""
        return self.clock.now_ns() - self.wall_ns


def test_it_starts_at_the_walls_time_and_goes_with_monotonic_progress():
    times = Times()
    assert times.clock.now_ns() == WALL
    assert times.pass_by(1) == WALL + 1
    assert times.pass_by(3 * HOUR) == WALL + 1 + 3 * HOUR


@pytest.mark.parametrize("step_ns", [-SECOND, -1, 1, SECOND])
def test_small_steps_of_the_wall_clock_are_ignored(step_ns):
    times = Times()
    times.wall_ns += step_ns
    assert times.pass_by(10 * SECOND) == WALL + 10 * SECOND


@pytest.mark.parametrize("step_ns", [SECOND + 1, HOUR, 24 * 365 * HOUR])
def test_forwards_it_leaps_and_looks_once_a_second(step_ns):
    times = Times()  # such as a laptop that was asleep: monotonic time stood still
    times.wall_ns += step_ns
    assert times.pass_by(SECOND - 1) == WALL + SECOND - 1
    assert times.pass_by(1) == WALL + SECOND + step_ns
    assert times.ahead_ns == 0


@pytest.mark.parametrize("look_ns", [SECOND, SECOND * 3 // 2, 7 * SECOND])
def test_backwards_it_goes_at_half_speed_until_the_two_agree(look_ns):
    times = Times()
    times.clock.now_ns()
    times.wall_ns -= 60 * SECOND
    passed_ns, last_ns = 0, WALL
    while times.ahead_ns > SECOND:
        now_ns = times.pass_by(look_ns)
        passed_ns += look_ns
        assert now_ns > last_ns, "time never stands still from one look to the next"
        last_ns = now_ns
        assert passed_ns < 200 * SECOND
    assert passed_ns >= 2 * 59 * SECOND - look_ns
    assert -SECOND <= times.ahead_ns <= SECOND


def test_a_step_back_and_a_long_sleep_are_no_jump_back():
    times = Times()
    times.wall_ns -= HOUR
    assert times.pass_by(10 * SECOND) == WALL + 5 * SECOND
    assert times.pass_by(HOUR) > WALL + 5 * SECOND


moves = st.lists(st.tuples(st.integers(-2 * HOUR, 2 * HOUR), st.integers(0, 100 * SECOND)), max_size=30)


@settings(deadline=None, max_examples=150)
@given(moves)
def test_whatever_the_wall_does_it_never_goes_backwards(steps):
    times = Times()
    last_ns = times.clock.now_ns()
    for step_ns, passed_ns in steps:
        times.wall_ns += step_ns
        now_ns = times.pass_by(passed_ns)
        assert now_ns >= last_ns
        last_ns = now_ns
    for _ in range(40_000):  # left alone, it becomes true
        times.pass_by(3 * SECOND)
        if abs(times.ahead_ns) <= SECOND:
            break
    assert abs(times.ahead_ns) <= SECOND


async def test_timers_run_on_the_loop_in_the_order_of_their_times():
    clock = LoopClock(asyncio.get_running_loop())
    assert abs(clock.now_ns() - time.time_ns()) < 60 * SECOND
    now_ns, done = clock.now_ns(), asyncio.Event()
    order: list[str] = []
    clock.call_at(now_ns + SECOND // 50, done.set)
    clock.call_at(now_ns - HOUR, order.append, "past")
    clock.call_at(now_ns + SECOND // 100, order.append, "later")
    clock.call_at(now_ns + SECOND // 200, order.append, "never").cancel()
    async with asyncio.timeout(5):
        await done.wait()
    assert order == ["past", "later"]
    assert clock.now_ns() >= now_ns + SECOND // 100, "not before its time"
