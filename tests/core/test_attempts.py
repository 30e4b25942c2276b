"""The machine of attempts: where a request goes after each outcome, what it waits for, and how it ends."""

from __future__ import annotations

import pytest

from sidecar.core.attempts import Attempts, Backoff, Policy, Send, Wait
from sidecar.core.breaker import IN_A_ROW, PROBE_NS, Breaker, State
from sidecar.core.errors import Reason, Refusal
from sidecar.core.fallback import RULES, Next
from sidecar.core.keys import Size
from sidecar.core.limits import MINUTE, SECOND
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.retry_budget import RetryBudget
from sidecar.core.settlement import settle
from tests.core.house import NOW, TWO_PROVIDERS, hops_of, roster_of
from tests.values import replaced

SMALL = Size(400, None, 1, 0)
POLICY = Policy(6, SECOND, 10 * SECOND, False, False, NOW + 20 * SECOND, NOW + 600 * SECOND)
LIMITED = """
providers:
  - name: groq
    keys:
      - {name: a, env: A, account: org-a}
      - {name: b, env: B, account: org-b}
    limits: [{model: "*", rpm: 1}]
  - name: cerebras
    keys: [{name: c, env: C}]
    limits: [{model: "*", rpm: 1}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
"""
ONE_KEY = """
providers:
  - name: groq
    keys: [{name: a, env: A}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b]}
"""


def attempts_of(text=None, policy=POLICY, size=SMALL, roster=None):
    roster = roster or (roster_of(text) if text else roster_of())
    return Attempts(hops_of(roster), size, policy, RetryBudget(0.1))


def said(outcome, until=None, scope=Scope.TARGET, message=""):
    return Feedback(outcome, scope, until, message=message)


def fail(attempts, step, feedback, now=NOW, status=500):
    """Report a failed attempt the way the shell does."""
    candidate = step.candidate
    candidate.apply(feedback, now)
    then = attempts.failed(candidate, feedback, status)
    settle(candidate, step.charge, feedback.outcome, None, now)
    return then


def walk(attempts, feedback, now=NOW):
    """Fail every attempt alike until no further one is made at once: who was asked, and the last step."""
    asked = []
    while isinstance(step := attempts.next(now, 0.5), Send):
        asked.append(f"{step.candidate.target.provider.name}/{step.candidate.key.name}")
        fail(attempts, step, feedback, now)
    return asked, step


@pytest.mark.parametrize(
    ("outcome", "scope", "providers"),
    [
        (Outcome.RATE_LIMITED, Scope.QUOTA, ["groq", "groq", "cerebras"]),
        (Outcome.CONCURRENCY, Scope.QUOTA, ["groq", "groq", "cerebras"]),
        (Outcome.KEY_INVALID, Scope.KEY, ["groq", "groq", "cerebras"]),
        (Outcome.KEY_UNPAID, Scope.KEY, ["groq", "groq", "cerebras"]),
        (Outcome.KEY_FORBIDDEN, Scope.KEY_MODEL, ["groq", "groq", "cerebras"]),
        (Outcome.SERVER_ERROR, Scope.TARGET, ["groq", "groq", "cerebras"]),
        (Outcome.TOO_LARGE, Scope.REQUEST, ["groq", "cerebras"]),
        (Outcome.BUSY, Scope.TARGET, ["groq", "cerebras"]),
        (Outcome.MODEL_UNAVAILABLE, Scope.TARGET, ["groq", "cerebras"]),
        (Outcome.FIELD_NEEDED, Scope.REQUEST, ["groq", "cerebras"]),
        (Outcome.CONNECT_FAILED, Scope.TARGET, ["groq", "cerebras"]),
        (Outcome.HEADERS_TIMEOUT, Scope.TARGET, ["groq", "cerebras"]),
        (Outcome.CONTENT_TIMEOUT, Scope.TARGET, ["groq", "cerebras"]),
        (Outcome.AMBIGUOUS, Scope.TARGET, ["groq", "cerebras"]),
        (Outcome.BROKEN, Scope.TARGET, ["groq", "cerebras"]),
    ],
)
def test_B9_where_a_request_goes_after_each_outcome(outcome, scope, providers):
    until = None if outcome is Outcome.SERVER_ERROR else NOW + MINUTE
    asked, _ = walk(attempts_of(), said(outcome, until, scope))
    assert [who.partition("/")[0] for who in asked] == providers
    assert len(set(asked)) == len(asked), "no key is asked twice"


def test_B9_the_callers_own_fault_is_relayed_at_once():
    attempts = attempts_of()
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    assert fail(attempts, step, said(Outcome.BAD_REQUEST, scope=Scope.REQUEST), status=400) is Next.RELAY


@pytest.mark.parametrize(
    ("outcome", "status", "alone"),
    [
        (Outcome.NOT_FOUND, 404, True),
        (Outcome.FIELD_NEEDED, 400, True),
        (Outcome.MODEL_UNAVAILABLE, 404, True),
        (Outcome.TOO_LARGE, 400, True),
        (Outcome.TOO_LARGE, 413, False),
        (Outcome.SERVER_ERROR, 500, False),
        (Outcome.KEY_INVALID, 401, False),
    ],
)
def test_where_nobody_else_could_be_asked_the_provider_says_best_what_is_missing(outcome, status, alone):
    for text, relays in [(ONE_KEY, alone), (None, False)]:
        attempts = attempts_of(text)
        step = attempts.next(NOW, 0.5)
        assert isinstance(step, Send)
        then = fail(attempts, step, said(outcome, NOW + MINUTE, Scope.REQUEST), status=status)
        assert (then is Next.RELAY) is relays


def test_B10_a_field_less_is_a_call_more_at_the_same_target_and_no_retry():
    attempts = attempts_of(ONE_KEY)
    for _ in range(5):
        step = attempts.next(NOW, 0.5)
        assert isinstance(step, Send), "at once, however often, and whatever the budget of retries"
        assert fail(attempts, step, said(Outcome.FIELD_REJECTED, scope=Scope.REQUEST), status=400) is Next.AGAIN
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    assert fail(attempts, step, said(Outcome.FIELD_REJECTED, scope=Scope.REQUEST), status=400) is Next.RELAY
    assert attempts.sent == len(attempts.trail) == POLICY.attempts
    assert {each.reason for each in attempts.trail} == {"field_rejected"}


def test_B10_B15_a_single_call_is_not_repeated_without_the_field():
    attempts = attempts_of(policy=replaced(POLICY, is_single=True))
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    assert fail(attempts, step, said(Outcome.FIELD_REJECTED, scope=Scope.REQUEST), status=400) is Next.RELAY


def test_B10_where_every_target_lacks_a_needed_field_the_request_is_what_is_wrong():
    _, last = walk(attempts_of(), said(Outcome.FIELD_NEEDED, scope=Scope.REQUEST, message="no tools"))
    assert isinstance(last, Refusal)
    assert (last.reason, last.status, last.may_mend) == (Reason.FIELD_UNSUPPORTED, 400, False)
    assert "no tools" in last.message


def test_B9_every_outcome_has_a_rule():
    assert set(RULES) == set(Outcome)


def test_B15_a_single_call_is_relayed_whatever_it_came_to():
    attempts = attempts_of(policy=replaced(POLICY, attempts=1, is_single=True))
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    assert fail(attempts, step, said(Outcome.SERVER_ERROR)) is Next.RELAY


def test_B15_a_single_call_that_got_no_answer_is_refused_and_not_repeated():
    attempts = attempts_of(policy=replaced(POLICY, attempts=1, is_single=True))
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    fail(attempts, step, said(Outcome.CONNECT_FAILED, message="refused"), status=None)
    last = attempts.next(NOW, 0.5)
    assert isinstance(last, Refusal)
    assert last.reason is Reason.UPSTREAM_FAILED


def test_B16_a_target_that_admits_now_beats_waiting():
    roster = roster_of(LIMITED)
    steps = [attempts_of(roster=roster).next(NOW, 0.5) for _ in range(3)]
    names = [step.candidate.target.provider.name for step in steps if isinstance(step, Send)]
    assert names == ["groq", "groq", "cerebras"]
    waiting = attempts_of(roster=roster, policy=replaced(POLICY, wait_until_ns=NOW + 2 * MINUTE)).next(NOW, 0.5)
    assert isinstance(waiting, Wait)
    assert [candidate.key.name for candidate, _ in waiting.places] == ["a", "b", "c"]


def test_A15_a_reset_beyond_the_patience_is_refused_at_once():
    roster = roster_of(LIMITED)
    for _ in range(3):
        attempts_of(roster=roster).next(NOW, 0.5)
    last = attempts_of(roster=roster, policy=replaced(POLICY, wait_until_ns=NOW + SECOND)).next(NOW, 0.5)
    assert isinstance(last, Refusal)
    assert last.reason is Reason.RATE_LIMITED
    assert last.retry_after_ns == MINUTE - NOW % MINUTE  # Cerebras's next UTC minute comes before Groq's 60 s


def test_A9_a_limited_quota_is_waited_for_and_not_called_before():
    attempts = attempts_of(ONE_KEY)
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    fail(attempts, step, said(Outcome.RATE_LIMITED, NOW + 5 * SECOND, Scope.QUOTA), status=429)
    assert isinstance(attempts.next(NOW + 5 * SECOND - 1, 0.5), Wait)
    assert isinstance(attempts.next(NOW + 5 * SECOND, 0.5), Send)


def test_A4_what_is_too_large_everywhere_names_the_largest_budget():
    text = LIMITED.replace("rpm: 1}", "tpm: 1000}")
    last = attempts_of(text, size=Size(400_000, None, 1, 0)).next(NOW, 0.5)
    assert isinstance(last, Refusal)
    assert last.reason is Reason.NEVER_FITS
    assert "1000 tokens" in last.message
    assert "100000 tokens" in last.message


def test_retry_of_the_same_target_backs_off_with_full_jitter():
    for draw, wait_ns in [(0.0, 0), (0.5, SECOND // 2), (0.999, 999 * SECOND // 1000)]:
        attempts = attempts_of(ONE_KEY)
        step = attempts.next(NOW, draw)
        assert isinstance(step, Send)
        fail(attempts, step, said(Outcome.SERVER_ERROR))
        backoff = attempts.next(NOW, draw)
        assert backoff == Backoff(NOW + wait_ns)
        assert isinstance(attempts.next(NOW + wait_ns, draw), Send)


def test_backoff_doubles_up_to_its_cap_and_ends_with_the_attempts():
    attempts = attempts_of(ONE_KEY, replaced(POLICY, base_ns=4 * SECOND))
    now, waits = NOW, []
    while not isinstance(step := attempts.next(now, 0.5), Refusal):
        if isinstance(step, Backoff):
            waits.append((step.until_ns - now) / SECOND)
            now = step.until_ns
        elif isinstance(step, Send):
            fail(attempts, step, said(Outcome.SERVER_ERROR, message="boom"), now)
    assert waits == [2, 4, 5, 5, 5]
    assert len(attempts.trail) == 6
    assert "boom" in step.message


def test_H3_the_same_server_error_with_a_second_key_is_the_targets():
    three = ONE_KEY.replace("[{name: a, env: A}]", "[{name: a, env: A}, {name: b, env: B}, {name: c, env: C}]")
    asked, step = walk(attempts_of(three), said(Outcome.SERVER_ERROR))
    assert len(asked) == 2
    assert isinstance(step, Backoff)


@pytest.mark.parametrize("ends", [True, False])
def test_B13_what_may_have_been_done_already_is_repeated_only_when_told(ends):
    attempts = attempts_of(policy=replaced(POLICY, ambiguous_ends=ends))
    asked, _ = walk(attempts, said(Outcome.AMBIGUOUS, message="connection lost"))
    assert len(asked) == (1 if ends else 2)


def test_B11_the_last_word_holds_the_first_error_the_trail_and_the_soonest_time():
    attempts = attempts_of()
    first = attempts.next(NOW, 0.5)
    assert isinstance(first, Send)
    fail(attempts, first, said(Outcome.KEY_UNPAID, NOW + MINUTE * 600, Scope.KEY, "pay first"), status=402)
    while isinstance(step := attempts.next(NOW, 0.5), Send):
        fail(attempts, step, said(Outcome.RATE_LIMITED, NOW + 90 * SECOND, Scope.QUOTA), status=429)
    assert isinstance(step, Refusal)
    assert step.reason is Reason.RATE_LIMITED
    assert step.retry_after_ns == 90 * SECOND
    assert "pay first" in step.message
    assert [(line.reason, line.status) for line in step.trail] == [
        ("key_unpaid", 402),
        ("rate_limited", 429),
        ("rate_limited", 429),
    ]


def test_B12_the_deadline_ends_everything():
    attempts = attempts_of(policy=replaced(POLICY, deadline_ns=NOW + SECOND))
    assert isinstance(attempts.next(NOW + SECOND, 0.5), Refusal)


def test_A17_the_retry_budget_of_the_process_ends_retries():
    budget = RetryBudget(0.1)
    roster = roster_of(ONE_KEY)
    backoffs = 0
    for _ in range(15):
        attempts = Attempts(hops_of(roster), SMALL, POLICY, budget)
        step = attempts.next(NOW, 0.5)
        assert isinstance(step, Send)
        fail(attempts, step, said(Outcome.SERVER_ERROR))
        backoffs += isinstance(attempts.next(NOW, 0.5), Backoff)
    assert backoffs == 10


def spend_all(roster):
    """Use up what is left of everything."""
    while isinstance(attempts_of(roster=roster).next(NOW, 0.5), Send):
        pass


PATIENT = replaced(POLICY, wait_until_ns=NOW + 2 * MINUTE)


@pytest.mark.parametrize("may_retry", [True, False])
def test_A17_who_may_not_retry_still_waits_for_a_quota_that_frees_in_time(may_retry):
    roster, budget = roster_of(LIMITED), RetryBudget(0.1)
    for _ in range(2):  # both keys of groq are spent for a minute
        attempts_of(roster=roster).next(NOW, 0.5)
    attempts = Attempts(hops_of(roster), SMALL, PATIENT, budget)
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    fail(attempts, step, said(Outcome.CONNECT_FAILED), status=None)
    while not may_retry and budget.take(NOW):
        pass
    then = attempts.next(NOW, 0.5)
    if may_retry:
        assert then == Backoff(NOW + SECOND // 2), "the sooner of the two"
    else:
        assert isinstance(then, Wait)
        assert [candidate.key.name for candidate, _ in then.places] == ["a", "b"]


def test_who_waits_for_a_quota_asks_again_when_a_bench_ends():
    roster = roster_of(LIMITED)
    spend_all(roster)
    groq, _ = hops_of(roster)
    groq.candidates[0].apply(said(Outcome.BUSY, NOW + 3 * SECOND), NOW)
    step = attempts_of(roster=roster, policy=PATIENT).next(NOW, 0.5)
    assert isinstance(step, Wait)
    assert [candidate.key.name for candidate, _ in step.places] == ["c"]
    assert step.until_ns == NOW + 3 * SECOND + SECOND // 2, "spread over one backoff step"
    short = attempts_of(roster=roster, policy=replaced(PATIENT, wait_until_ns=NOW + 40 * SECOND)).next(NOW, 0.999)
    assert isinstance(short, Wait)
    assert short.until_ns == NOW + 3 * SECOND + 999 * SECOND // 1000


def test_a_bench_that_outlasts_patience_wakes_nobody():
    roster = roster_of(LIMITED)
    spend_all(roster)
    groq, _ = hops_of(roster)
    groq.candidates[0].apply(said(Outcome.BUSY, NOW + 10 * MINUTE), NOW)
    step = attempts_of(roster=roster, policy=PATIENT).next(NOW, 0.5)
    assert isinstance(step, Wait)
    assert step.until_ns == PATIENT.wait_until_ns


@pytest.mark.parametrize(("draw", "spread_ns"), [(0.0, 0), (0.5, SECOND // 2)])
def test_A18_a_bench_is_sat_out_and_its_end_spread(draw, spread_ns):
    roster = roster_of(ONE_KEY)
    (hop,) = hops_of(roster)
    hop.candidates[0].apply(said(Outcome.BUSY, NOW + 5 * SECOND), NOW)
    assert attempts_of(roster=roster).next(NOW, draw) == Backoff(NOW + 5 * SECOND + spread_ns)
    last = attempts_of(roster=roster, policy=replaced(POLICY, wait_until_ns=NOW + 4 * SECOND)).next(NOW, draw)
    assert isinstance(last, Refusal)
    assert (last.reason, last.retry_after_ns) == (Reason.UNAVAILABLE, 5 * SECOND)


CROWDED = ONE_KEY.replace("[{name: a, env: A}]", '[{name: a, env: A}]\n    limits: [{model: "*", concurrency: 1}]')


def test_what_an_event_frees_is_waited_for_without_a_time():
    roster = roster_of(CROWDED)
    assert isinstance(attempts_of(roster=roster).next(NOW, 0.5), Send)
    step = attempts_of(roster=roster).next(NOW, 0.5)
    assert isinstance(step, Wait)
    assert step.until_ns == POLICY.wait_until_ns


def test_a_full_key_that_is_benched_too_long_is_no_place_to_wait():
    roster = roster_of(CROWDED)
    assert isinstance(attempts_of(roster=roster).next(NOW, 0.5), Send)
    (hop,) = hops_of(roster)
    hop.candidates[0].apply(said(Outcome.BUSY, NOW + MINUTE), NOW)
    last = attempts_of(roster=roster).next(NOW, 0.5)
    assert isinstance(last, Refusal)
    assert last.reason is Reason.RATE_LIMITED
    sooner = attempts_of(roster=roster, policy=PATIENT).next(NOW, 0.0)
    assert sooner == Backoff(NOW + MINUTE)


@pytest.mark.parametrize(("ends", "again"), [(False, Backoff), (True, Refusal)])
def test_B13_the_end_of_an_ambiguous_attempt_is_final_even_where_an_earlier_one_could_be_repeated(ends, again):
    attempts = attempts_of(policy=replaced(POLICY, ambiguous_ends=ends))
    for outcome in (Outcome.CONNECT_FAILED, Outcome.AMBIGUOUS):
        step = attempts.next(NOW, 0.5)
        assert isinstance(step, Send)
        fail(attempts, step, said(outcome), status=None)
    assert isinstance(attempts.next(NOW, 0.5), again)


def test_B12_a_retry_beyond_the_deadline_is_not_waited_for():
    attempts = attempts_of(ONE_KEY, replaced(POLICY, deadline_ns=NOW + SECOND // 4))
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    fail(attempts, step, said(Outcome.SERVER_ERROR))
    assert isinstance(attempts.next(NOW, 0.5), Refusal)


def test_a_retry_opens_only_what_may_be_repeated():
    attempts = attempts_of()
    for outcome in (Outcome.KEY_UNPAID, Outcome.KEY_UNPAID, Outcome.BROKEN):
        step = attempts.next(NOW, 0.0)
        assert isinstance(step, Send)
        fail(attempts, step, said(outcome, NOW + 600 * MINUTE if outcome is Outcome.KEY_UNPAID else None, Scope.KEY))
    assert attempts.next(NOW, 0.0) == Backoff(NOW)
    again = attempts.next(NOW, 0.0)
    assert isinstance(again, Send)
    assert again.candidate.key.name == "c"
    assert attempts.sent == 4


def test_an_admission_while_waiting_is_an_attempt():
    attempts = attempts_of(policy=replaced(POLICY, attempts=2))
    attempts.granted(hops_of(roster_of())[0].candidates[0], NOW)
    attempts.granted(hops_of(roster_of())[0].candidates[0], NOW)
    assert attempts.sent == 2
    assert isinstance(attempts.next(NOW, 0.5), Refusal)


@pytest.mark.parametrize("chain", ["[groq/m]", "[groq/m, cerebras/m, groq/n]"])
def test_the_hop_of_a_candidate_is_its_targets(chain):
    roster = roster_of(TWO_PROVIDERS.replace("[groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]", chain))
    hops = hops_of(roster)
    attempts = Attempts(hops, SMALL, POLICY, RetryBudget(0.1))
    for hop in hops:
        for candidate in hop.candidates:
            assert attempts.hop_of(candidate) is hop
    # the same target named twice is one hop: closed once, closed in both places
    twice = Attempts([hops[0], hops[0]], SMALL, POLICY, RetryBudget(0.1))
    step = twice.next(NOW, 0.5)
    assert isinstance(step, Send)
    fail(twice, step, said(Outcome.HEADERS_TIMEOUT), status=None)
    assert isinstance(twice.next(NOW, 0.5), Refusal)


@pytest.mark.parametrize(("busy", "seconds"), [((5, 3), 3), ((3, 5), 3), ((0, 5), 0)])
def test_a_retry_waits_for_the_target_that_is_free_first(busy, seconds):
    attempts = attempts_of(TWO_PROVIDERS.replace("      - {name: b, env: B, account: org-b}\n", ""))
    for each in busy:
        step = attempts.next(NOW, 0.0)
        assert isinstance(step, Send)
        fail(attempts, step, said(Outcome.BUSY, NOW + each * SECOND), status=503)
    assert attempts.next(NOW, 0.0) == Backoff(NOW + seconds * SECOND)
    again = attempts.next(NOW + seconds * SECOND, 0.0)
    assert isinstance(again, Send)
    assert again.candidate.target.provider.name == ("groq" if busy[0] < busy[1] else "cerebras")


def test_B15_a_single_call_is_single_however_many_attempts_are_allowed():
    attempts = attempts_of(ONE_KEY, replaced(POLICY, is_single=True))
    step = attempts.next(NOW, 0.5)
    assert isinstance(step, Send)
    fail(attempts, step, said(Outcome.CONNECT_FAILED), status=None)
    assert isinstance(attempts.next(NOW, 0.5), Refusal)


def trip(hop, now=NOW):
    """Open the breaker of a hop: as many requests as it takes fail there."""
    candidate = hop.candidates[0]
    while candidate.breaker.state is State.CLOSED:
        charge = candidate.quota.try_admit(hop.cost(SMALL), now)
        assert charge is not None
        candidate.breaker.ended(charge, Outcome.CONNECT_FAILED, now, 0.0)
        candidate.quota.cancel(charge, now)
    return candidate.breaker


def test_B12_an_open_breaker_is_passed_over_at_once():
    roster = roster_of()
    groq, _ = hops_of(roster)
    trip(groq)
    step = attempts_of(roster=roster).next(NOW, 0.5)
    assert isinstance(step, Send)
    assert str(step.candidate.target) == "cerebras/gpt-oss-120b"


@pytest.mark.parametrize(("draw", "spread_ns"), [(0.0, 0), (0.5, SECOND // 2)])
def test_B12_the_only_target_is_waited_for_until_its_breaker_lets_one_try(draw, spread_ns):
    roster = roster_of(ONE_KEY)
    (hop,) = hops_of(roster)
    breaker = trip(hop)
    assert attempts_of(roster=roster).next(NOW, draw) == Backoff(breaker.until_ns + spread_ns, (breaker,))
    due = breaker.until_ns
    probe = attempts_of(roster=roster).next(due, draw)
    assert isinstance(probe, Send)
    assert breaker.is_probe(probe.charge)
    # while the probe is out the others hold on, and are let go one by one should it take long
    assert attempts_of(roster=roster).next(due, draw) == Backoff(due + PROBE_NS + spread_ns, (breaker,))
    assert isinstance(attempts_of(roster=roster).next(due + PROBE_NS, draw), Send)
    breaker.heard(probe.charge)
    assert isinstance(attempts_of(roster=roster).next(due, draw), Send)


def test_B12_who_may_not_wait_is_told_when_the_breaker_lets_one_try():
    roster = roster_of(ONE_KEY)
    (hop,) = hops_of(roster)
    breaker = trip(hop)
    last = attempts_of(roster=roster, policy=replaced(POLICY, wait_until_ns=NOW)).next(NOW, 0.5)
    assert isinstance(last, Refusal)
    assert (last.status, last.reason) == (503, Reason.UNAVAILABLE)
    assert last.retry_after_ns == breaker.until_ns - NOW


def test_H3_of_one_request_the_first_fault_alone_counts():
    three = TWO_PROVIDERS.replace("{name: c, env: C}", "{name: c, env: C}, {name: d, env: D}")
    roster = roster_of(three)
    groq, cerebras = (hop.candidates[0].breaker for hop in hops_of(roster))
    for number in range(IN_A_ROW):
        assert groq.state is State.CLOSED
        attempts = attempts_of(roster=roster)
        while isinstance(step := attempts.next(NOW + number, 0.5), Send):
            fail(attempts, step, said(Outcome.SERVER_ERROR), NOW + number)
            attempts.ended(step, Outcome.SERVER_ERROR, NOW + number, 0.0)
        assert attempts.sent == (4 if groq.state is State.CLOSED else 3), "the second key of groq is spared"
    assert groq.state is State.OPEN
    assert repr(cerebras) == repr(Breaker())


def test_H3_a_probe_answers_for_its_target_whatever_failed_before():
    roster = roster_of()
    _, cerebras = hops_of(roster)
    breaker = trip(cerebras)
    attempts, due = attempts_of(roster=roster), breaker.until_ns
    while isinstance(step := attempts.next(due, 0.5), Send):
        fail(attempts, step, said(Outcome.BROKEN), due)
        attempts.ended(step, Outcome.BROKEN, due, 0.0)
    assert (breaker.state, breaker.trips) == (State.OPEN, 2)


def test_H3_four_hundreds_and_key_faults_open_nothing():
    roster = roster_of()
    breaker = hops_of(roster)[0].candidates[0].breaker
    for outcome in (Outcome.BAD_REQUEST, Outcome.TOO_LARGE, Outcome.KEY_FORBIDDEN, Outcome.RATE_LIMITED) * 20:
        attempts = attempts_of(roster=roster)
        step = attempts.next(NOW, 0.5)
        assert isinstance(step, Send)
        attempts.ended(step, outcome, NOW, 0.0)
        settle(step.candidate, step.charge, Outcome.CONNECT_FAILED, None, NOW)
    assert breaker.state is State.CLOSED


def test_a_hedge_asks_another_target_that_admits_now():
    roster = roster_of()
    attempts = attempts_of(roster=roster)
    first = attempts.next(NOW, 0.5)
    assert isinstance(first, Send)
    beside = attempts.hedge(first.candidate, NOW)
    assert beside is not None
    assert beside.candidate.target.provider.name == "cerebras"
    assert (attempts.sent, beside.candidate.quota.inflight) == (2, 1)
    attempts.hedged(first.candidate)
    assert [(step.key, step.reason, step.status) for step in attempts.trail] == [
        (first.candidate.key.name, "hedged", None)
    ]


@pytest.mark.parametrize("why", ["no attempt left", "too late", "closed", "spent", "open"])
def test_a_hedge_never_waits_and_keeps_to_all_bounds(why):
    roster = roster_of(LIMITED)
    _, cerebras = hops_of(roster)
    policy = replaced(POLICY, attempts=1) if why == "no attempt left" else POLICY
    attempts = attempts_of(roster=roster, policy=policy)
    first = attempts.next(NOW, 0.5)
    assert isinstance(first, Send)
    now = POLICY.deadline_ns if why == "too late" else NOW
    if why == "closed":
        attempts.failed(cerebras.candidates[0], said(Outcome.BUSY), 503)
    elif why == "spent":
        cerebras.candidates[0].quota.try_admit(cerebras.cost(SMALL), NOW)
    elif why == "open":
        trip(cerebras)
    assert attempts.hedge(first.candidate, now) is None
    assert attempts.sent == 1
