"""Which limit is in force, and how far a provider's own count is believed."""

from __future__ import annotations

import heapq

import pytest

from sidecar.core.budget import Budget, Charge, LimitSpec
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source, Usage
from sidecar.core.quota import Quota, QuotaSpec
from sidecar.core.windows import Calendar
from tests.core.house import admitted

NOW = 1_764_000_000 * SECOND


def budget(limit: int = 100, replicas: int = 1, algorithm: str = "token_bucket") -> Budget:
    return Budget(LimitSpec(Axis.TOKENS, MINUTE, limit, Source.CONFIG, algorithm), replicas)


def reading(
    limit: int | None = None,
    remaining: int | None = None,
    source: Source = Source.HEADER,
    reset_ns: int | None = None,
) -> Reading:
    return Reading(Axis.TOKENS, MINUTE, limit, remaining, reset_ns, source)


@pytest.mark.parametrize(
    ("heard", "limit", "source"),
    [
        ([], 100, Source.CONFIG),
        ([reading(80)], 80, Source.HEADER),
        ([reading(120)], 100, Source.CONFIG),
        ([reading(100)], 100, Source.HEADER),
        ([reading(80), reading(90)], 90, Source.HEADER),
        ([reading(80), reading(60, source=Source.BODY)], 60, Source.BODY),
        ([reading(60, source=Source.BODY), reading(80)], 60, Source.BODY),
    ],
)
def test_the_smallest_limit_is_in_force(heard, limit, source):
    subject = budget()
    for each in heard:
        subject.hear(each, NOW)
    assert (subject.window.limit, subject.source) == (limit, source)


def test_what_was_heard_ends_after_a_day():
    subject = budget()
    subject.hear(reading(60, source=Source.BODY), NOW)
    assert subject.expires_ns == NOW + DAY
    assert subject.expire(NOW + DAY - 1)
    assert subject.window.limit == 60
    assert subject.expire(NOW + DAY)
    assert subject.window.limit == 100


def test_a_limit_nobody_configured_ends_with_what_was_heard():
    subject = Budget(LimitSpec(Axis.TOKENS, MINUTE, 60, Source.BODY), is_heard=True)
    subject.hear(reading(60, source=Source.BODY), NOW)
    assert subject.expire(NOW + DAY - 1)
    assert not subject.expire(NOW + DAY)


@pytest.mark.parametrize(
    ("used", "reserved", "said", "left"),
    [
        (30, 0, reading(100, 20), 20),  # lower: at once
        (30, 30, reading(100, 20), 20),
        (30, 0, reading(100, 90), 90),  # higher: nothing in flight
        (30, 15, reading(100, 90), 75),  # higher, less what is in flight
        (30, 60, reading(100, 90), 70),  # ours stays when that would be lower
        (30, 0, reading(None, 90), 70),  # of what limit? not said
        (30, 0, reading(None, 20), 20),
        (30, 0, reading(200, 190), 70),  # our own limit is below the provider's: ours to count
        (30, 0, reading(200, 50), 50),
        (30, 0, reading(100, 500), 100),
        (150, 0, reading(100, 10), 10),
    ],
)
def test_a_provider_s_count_lowers_at_once_and_raises_within_bounds(used, reserved, said, left):
    subject = budget()
    subject.window.spend(used, NOW)
    subject.reserved = reserved
    subject.hear(said, NOW)
    assert subject.window.remaining(NOW) == left


def test_a_provider_s_count_comes_back_when_it_says():
    subject = budget(algorithm="sliding")
    subject.hear(reading(100, 0, reset_ns=10 * SECOND), NOW)
    assert subject.window.free_at(100, NOW) == NOW + 10 * SECOND


@pytest.mark.parametrize(("replicas", "share"), [(1, 100), (3, 33), (200, 1)])
def test_F1_a_share_divides_the_limit(replicas, share):
    subject = budget(replicas=replicas)
    assert (subject.full_limit, subject.window.limit) == (100, share)
    subject.hear(reading(90, 90), NOW)
    assert subject.window.limit == max(1, 90 // replicas)


def test_F1_a_share_is_never_raised_by_the_count_of_all():
    subject = budget(replicas=2)
    subject.window.spend(40, NOW)
    subject.hear(reading(100, 90), NOW)
    assert subject.window.remaining(NOW) == 10


@pytest.mark.parametrize(
    ("axis", "cost", "never"),
    [
        (Axis.REQUESTS, Cost(10**6, 10**6), False),
        (Axis.TOKENS, Cost(142, 0), False),
        (Axis.TOKENS, Cost(143, 0), True),
        (Axis.TOKENS, Cost(100, 30), False),
        (Axis.TOKENS, Cost(100, 31), True),
        (Axis.INPUT_TOKENS, Cost(142, 1000), False),
        (Axis.INPUT_TOKENS, Cost(143, 0), True),
        (Axis.OUTPUT_TOKENS, Cost(1000, 100), False),
        (Axis.OUTPUT_TOKENS, Cost(0, 101), True),
        (Axis.AUDIO_SECONDS, Cost(1000, 1000, 142), False),
        (Axis.AUDIO_SECONDS, Cost(0, 0, 143), True),
    ],
)
@pytest.mark.parametrize("replicas", [1, 7])
def test_A4_what_can_never_fit(axis, cost, never, replicas):
    subject = Budget(LimitSpec(axis, MINUTE, 100), replicas)
    assert subject.never_fits(cost) is never


def test_A4_a_limit_of_no_requests_admits_none():
    assert Budget(LimitSpec(Axis.REQUESTS, MINUTE, 0)).never_fits(Cost(1, 0))


def test_A23_editing_a_limit_forgets_what_an_error_text_said_of_it():
    subject = budget()
    subject.hear(reading(60, source=Source.BODY), NOW)
    same = LimitSpec(Axis.TOKENS, MINUTE, 100, Source.CONFIG, "token_bucket")
    assert subject.configure(same, 1, NOW)
    assert subject.window.limit == 60
    assert subject.configure(same._replace(limit=200), 1, NOW)
    assert subject.window.limit == 200


def test_a_reload_keeps_what_was_used_under_another_algorithm():
    subject = budget()
    subject.window.spend(30, NOW)
    zone = Calendar(MINUTE, (NOW + HOUR,))
    assert subject.configure(LimitSpec(Axis.TOKENS, MINUTE, 50, Source.CONFIG, "fixed", zone), 1, NOW)
    assert subject.window.remaining(NOW) == 20
    assert subject.window.free_at(21, NOW) == NOW + HOUR


def test_a_reload_that_drops_the_limit_leaves_what_was_heard():
    subject = budget()
    assert not subject.configure(None, 1, NOW)
    subject = budget()
    subject.hear(reading(120), NOW)
    assert subject.configure(None, 1, NOW)
    assert (subject.window.limit, subject.source) == (120, Source.HEADER)


def test_view_and_repr():
    subject = budget()
    subject.window.spend(25, NOW)
    assert subject.view(NOW) == (Axis.TOKENS, MINUTE, 100, 75, NOW + 15 * SECOND, Source.CONFIG, None)
    assert repr(subject) == f"<Budget tokens <TokenBucket 100/60s whole at {NOW + 15 * SECOND}> by config>"


LIMIT = 300
ANSWER_NS = SECOND


def told(remaining: int) -> Reading:
    return Reading(Axis.REQUESTS, MINUTE, LIMIT, remaining, None, Source.HEADER)


def quota(algorithm: str = "fixed", *specs: LimitSpec) -> Quota:
    return Quota("cerebras/a", QuotaSpec("m", specs, algorithms={(Axis.REQUESTS, MINUTE): algorithm}))


def refused_by_provider(callers: int, lateness: int) -> int:
    """Closed-loop callers of a provider whose limit only headers tell; every answer tells the count at its admission.
    How many calls of one window it had to refuse. `lateness`: in what disorder answers come."""
    subject, used, refused = quota(), 0, 0
    coming: list[tuple[int, int, Charge, int]] = []
    due = [(NOW + n, n) for n in range(callers)]
    while due or coming:
        if due:
            now, n = due.pop(0)
            charge = subject.try_admit(Cost(10, 0), now)
            if charge is None:
                continue
            used += 1
            refused += used > LIMIT
            heapq.heappush(coming, (now + ANSWER_NS + n * lateness % ANSWER_NS, n + callers, charge, LIMIT - used))
        else:
            now, n, charge, remaining = heapq.heappop(coming)
            subject.learn([told(max(0, remaining))], now, charge)
            subject.settle(charge, Usage(10, 0), now)
            if now < NOW + MINUTE - ANSWER_NS:
                due.append((now, n))
    assert used >= LIMIT
    return refused


@pytest.mark.parametrize("callers", [8, 40, 100])
@pytest.mark.parametrize("lateness", [0, 1, 377_000_000])
def test_A3_a_count_is_as_old_as_its_request(callers, lateness):
    assert refused_by_provider(callers, lateness) == 0


def test_A3_a_count_of_the_window_before_says_nothing_of_this_one():
    subject = quota("fixed", LimitSpec(Axis.REQUESTS, MINUTE, LIMIT, Source.CONFIG, "fixed"))
    charge = admitted(subject, Cost(10, 0), NOW + MINUTE - SECOND)
    subject.learn([told(0)], NOW + MINUTE + SECOND, charge)
    assert [view.remaining for view in subject.views(NOW + MINUTE + SECOND)] == [LIMIT]


def test_an_answer_that_overtakes_another_does_not_raise_above_what_both_took():
    subject = quota("fixed", LimitSpec(Axis.REQUESTS, MINUTE, LIMIT, Source.CONFIG, "fixed"))
    slow, fast = (admitted(subject, Cost(10, 0), NOW + n) for n in range(2))
    subject.settle(fast, Usage(10, 0), NOW + SECOND)
    subject.learn([told(LIMIT - 1)], NOW + 2 * SECOND, slow)
    assert [view.remaining for view in subject.views(NOW + 2 * SECOND)] == [LIMIT - 2]


def test_a_bucket_has_refilled_since_it_was_counted():
    subject = quota("token_bucket", LimitSpec(Axis.REQUESTS, MINUTE, LIMIT, Source.CONFIG, "token_bucket"))
    charges = [admitted(subject, Cost(10, 0), NOW) for _ in range(LIMIT)]
    subject.learn([told(0)], NOW + 10 * SECOND, charges[-1])
    assert [view.remaining for view in subject.views(NOW + 10 * SECOND)] == [50]


@pytest.mark.parametrize("end", ["cancel", "settle"])
def test_what_was_given_back_since_does_not_count(end):
    subject = quota("fixed", LimitSpec(Axis.TOKENS, MINUTE, 1000, Source.CONFIG, "fixed"))
    first, second = (admitted(subject, Cost(100, 0), NOW + n) for n in range(2))
    if end == "cancel":
        subject.cancel(second, NOW + SECOND)
    else:
        subject.settle(second, Usage(0, 0), NOW + SECOND)
    subject.learn([Reading(Axis.TOKENS, MINUTE, 1000, 700, None, Source.HEADER)], NOW + SECOND, first)
    assert [view.remaining for view in subject.views(NOW + SECOND)] == [700]


def test_requests_from_before_a_window_was_known_tell_nothing_of_those_after():
    subject = quota()
    first, second = (admitted(subject, Cost(10, 0), NOW + n) for n in range(2))
    subject.learn([told(LIMIT - 1)], NOW + SECOND, first)
    for n in range(5):
        admitted(subject, Cost(10, 0), NOW + SECOND + n)
    subject.learn([told(LIMIT - 10)], NOW + SECOND + 5, second)
    assert [view.remaining for view in subject.views(NOW + SECOND + 5)] == [LIMIT - 15]
