"""What a quota hears in recognised heads is what it learns from the same headers read one by one."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.core.budget import LimitSpec, QuotaSpec
from sidecar.core.hot_answer import Patterns
from sidecar.core.leased_window import LeasedWindow, Term
from sidecar.core.limits import DAY, MINUTE, SECOND, Axis, Cost, Source, Usage
from sidecar.core.quota import Quota
from sidecar.core.ratelimit_headers import read

NOW = 1_700_000_000 * SECOND
FAMILIES = {
    "groq": ("-requests", "-tokens"),
    "openai": ("-requests", "-tokens"),
    "cerebras": ("-requests-minute", "-tokens-day"),
    "sambanova": ("-requests", "-requests-day"),
}


def head(dialect, values):
    """An answer with that dialect's headers; `values`: limit, remaining, reset of each window."""
    lines = b"".join(
        b"x-ratelimit-%b%b: %b\r\n" % (part, suffix.encode(), str(value).encode())
        for suffix, triple in zip(FAMILIES[dialect], values, strict=True)
        for part, value in zip((b"limit", b"remaining", b"reset"), triple, strict=True)
    )
    return b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: 2\r\n\r\n"


def known(patterns, wire):
    found = patterns.match(wire)
    if found is None:
        patterns.learn(wire)
        patterns.learn(wire)
        found = patterns.match(wire)
    assert found is not None
    return found


def quota(algorithm, limit):
    axes = ((Axis.REQUESTS, DAY), (Axis.TOKENS, MINUTE))
    specs = [LimitSpec(axis, window_ns, limit, Source.CONFIG, algorithm) for axis, window_ns in axes]
    return Quota("p/a", QuotaSpec("m", specs))


def told(subject, now):
    return [tuple(view) for view in subject.views(now)]


def agree(one, other, now):
    """The same windows; and the same headroom, give or take the thousandth for which nobody looks anew."""
    return told(one, now) == told(other, now) and abs(one.headroom(now) - other.headroom(now)) <= 1


TRIPLES = st.tuples(
    st.sampled_from([100, 6000, 14400, 10**6]),
    st.one_of(st.integers(0, 10**6), st.sampled_from(["-1", "none", "9" * 20, ""])),
    st.sampled_from(["1ms", "59.5s", "2m59.56s", "17", "garbage"]),
)
# from nothing to a thousandth, all at once
RISES = [
    (0, 0, (100, 1, "1ms"), (100, 0, "1ms")),
    (0, 0, (6000, 7, "1ms"), (6000, 0, "1ms")),
    (0, 0, (6000, 6, "1ms"), (6000, 6, "1ms")),
]
MOVES = st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(0, 300), TRIPLES, TRIPLES), max_size=12)


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding", "fixed"])
@pytest.mark.parametrize("dialect", sorted(FAMILIES))
@settings(deadline=None, max_examples=40)
@given(limit=st.sampled_from([50, 6000, 10**7]), moves=MOVES)
@example(limit=6000, moves=RISES)
def test_hearing_is_learning(algorithm, dialect, limit, moves):
    one, other, patterns, now = quota(algorithm, limit), quota(algorithm, limit), Patterns(), NOW
    for passed_ns, tokens, *triples in moves:
        now += passed_ns
        charges = one.try_admit(Cost(tokens, 0), now), other.try_admit(Cost(tokens, 0), now)
        assert (charges[0] is None) == (charges[1] is None)
        if charges[0] is None or charges[1] is None:
            continue
        found = known(patterns, head(dialect, triples))
        one.learn(read(dialect, found.headers, now), now, charges[0])
        other.hearing.hear(dialect, found, now, charges[1])
        assert agree(one, other, now)
        for subject, charge in zip((one, other), charges, strict=True):
            subject.settle(charge, Usage(tokens, 1), now)
        assert agree(one, other, now)


def test_a_limit_that_is_heard_again_stays_for_another_day():
    subject, patterns = quota("token_bucket", 10**6), Patterns()
    found = known(patterns, head("groq", ((14400, 14000, "1s"), (6000, 5000, "1s"))))
    for hour in range(60):
        now = NOW + hour * 3600 * SECOND
        charge = subject.try_admit(Cost(1, 0), now)
        assert charge is not None
        subject.hearing.hear("groq", found, now, charge)
        subject.settle(charge, None, now)
        assert [view.limit for view in subject.views(now)] == [14400, 6000]
    assert subject.try_admit(Cost(1, 0), now + DAY + MINUTE) is not None
    assert [view.limit for view in subject.views(now + DAY + MINUTE)] == [10**6, 10**6], "and goes when it is not"


def test_who_is_not_to_learn_hears_nothing():
    spec = QuotaSpec("m", [LimitSpec(Axis.TOKENS, MINUTE, 10**6)], learn=False)
    subject = Quota("p/a", spec)
    charge = subject.try_admit(Cost(1, 0), NOW)
    assert charge is not None
    found = known(Patterns(), head("groq", ((14400, 0, "1s"), (6000, 0, "1s"))))
    subject.hearing.hear("groq", found, NOW, charge)
    assert [view.limit for view in subject.views(NOW)] == [10**6]


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding", "fixed"])
@settings(deadline=None, max_examples=60)
@given(
    limits=st.tuples(st.sampled_from([30, 2000, 10**6]), st.sampled_from([6000, 10**5, 10**9])),
    moves=st.lists(
        st.tuples(st.integers(0, SECOND), st.integers(0, 3000), st.booleans(), st.integers(-1, 10**6)), max_size=60
    ),
)
def test_A1_the_short_way_in_admits_whom_the_long_one_admits(algorithm, limits, moves):
    """One quota looks at its windows whenever it is asked, the other as seldom as it may."""
    specs = [
        LimitSpec(Axis.REQUESTS, MINUTE, limits[0], Source.CONFIG, algorithm),
        LimitSpec(Axis.TOKENS, MINUTE, limits[1], Source.CONFIG, algorithm),
    ]
    often, seldom, now = Quota("p/a", QuotaSpec("m", specs)), Quota("p/a", QuotaSpec("m", specs)), NOW
    for passed_ns, tokens, is_settled, used in moves:
        now += passed_ns
        often.look.fresh_ns = 0
        often_said = often.try_admit(Cost(tokens, 0), now)
        seldom.headroom(now)
        said = seldom.try_admit(Cost(tokens, 0), now)
        assert (often_said is None) == (said is None)
        if is_settled and said is not None and often_said is not None:
            usage = None if used < 0 else Usage(used, 0)
            often.settle(often_said, usage, now)
            seldom.settle(said, usage, now)
        assert [tuple(view) for view in often.views(now)] == [tuple(view) for view in seldom.views(now)]


def test_F3_a_lease_is_looked_at_each_time():
    """It may have been given back since, and it asks for more when it is looked at."""
    subject = Quota("p/a", QuotaSpec("m", [LimitSpec(Axis.TOKENS, MINUTE, 10**6, Source.CONFIG, "leased_sliding")]))
    asked: list[int] = []
    (budget,) = subject.budgets
    window = budget.window
    assert isinstance(window, LeasedWindow)
    window.bind(Term(lambda: asked.append(1)), NOW)
    window.left, window.held = 10**6, 10**6
    term = window._term
    assert term is not None
    term.expires_ns = NOW + MINUTE
    for _ in range(3):
        subject.headroom(NOW)
        assert subject.try_admit(Cost(1, 0), NOW) is not None
    window.left = window.held = 0
    subject.headroom(NOW)
    assert subject.try_admit(Cost(1, 0), NOW) is None
    assert asked
