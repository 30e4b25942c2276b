"""What the status page draws: how each account, chain and key stands, in words; bounded, and without a secret."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.core.activity import Activity
from sidecar.core.board import MOST_ROWS, Counts, House, chains_of, draw, order, select
from sidecar.core.breaker import IN_A_ROW
from sidecar.core.errors import Step
from sidecar.core.health import FOREVER_NS
from sidecar.core.limits import HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.line import Lines, Place
from sidecar.core.outcomes import Feedback, Outcome, Scope
from sidecar.core.rows import HELD, LOW, READY, STOPPED, Stops, rows
from sidecar.core.waits import wants
from tests.core.house import NOW, hops_of, roster_of, target_of
from tests.values import record as record_of

TEXT = """
providers:
  - name: groq
    keys: [{name: a, env: A, account: org}, {name: b, env: B, account: org}]
    limits: [{model: "*", rpm: 20, concurrency: 15}, {model: "p*", pool: shared}]
  - name: cerebras
    keys: [{name: c, env: C}]
models:
  - {name: fast, chain: [groq/m, cerebras/m]}
  - {name: pooled, chain: [groq/p1]}
"""


def house_of(roster, activity=None, tickets=()):
    return House(roster, activity or Activity(), lambda: tickets, lambda: Counts("serving", "1", "abc", 1, 2, 3))


def board_of(roster, now=NOW, **more):
    house = house_of(roster, **more)
    stops = Stops(roster, now)
    made = order(rows(roster, house.activity, stops, now))
    return draw(house, made, stops, now)


def row_of(roster, model="m", now=NOW, **more):
    return next(row for row in board_of(roster, now, **more).rows if row.model == model and row.provider == "groq")


@pytest.fixture
def roster():
    return roster_of(TEXT)


@pytest.fixture
def candidate(roster):
    return roster.keys(target_of(roster, "groq/m"), NOW).candidates[0]


def test_I3_accounts_nobody_has_used_are_there_too(roster):
    board = board_of(roster)
    assert [(row.provider, row.account, row.model, row.state) for row in board.rows] == [
        ("groq", "org", "", "not used yet"),
        ("cerebras", "c", "", "not used yet"),
    ]
    assert [key.name for key in board.rows[0].keys] == ["a", "b"]
    assert [(each.name, each.keys, each.usable, each.levels) for each in board.providers] == [
        ("groq", 2, 2, [1, 0, 0, 0]),
        ("cerebras", 1, 1, [1, 0, 0, 0]),
    ]
    assert (board.troubles, board.waits, board.more_rows) == ([], [], 0)


def test_I3_a_row_tells_limit_remaining_reset_source_state_and_last_error(roster, candidate):
    for _ in range(3):
        assert candidate.quota.try_admit(Cost(100, 0), NOW) is not None
    candidate.quota.learn([Reading(Axis.TOKENS, MINUTE, 6000, 5000, None, Source.HEADER)], NOW)
    activity = Activity()
    activity.note(record_of("r", NOW, b"POST", b"/", trail=(Step("groq/m", "b", "busy", 503),)), NOW - 2 * SECOND)
    row = row_of(roster, activity=activity)
    windows = {each.counts: each for each in row.windows}
    assert (windows["requests"].limit, windows["requests"].remaining, windows["requests"].source) == (20, 17, "config")
    assert windows["requests"].resets_in_s > 0
    assert (windows["tokens"].limit, windows["tokens"].source) == (6000, "header")
    assert (row.state, row.level, row.in_flight, row.concurrency) == ("ready", READY, 3, 15)
    assert (row.last_error, row.last_error_s) == ("busy 503", 2.0)


def test_how_a_row_stands_in_one_word(roster, candidate):
    quota = candidate.quota
    charges = [quota.try_admit(Cost(1, 0), NOW) for _ in range(15)]
    assert (row_of(roster).state, row_of(roster).level) == ("full", HELD)
    for charge in charges:
        quota.settle(charge, None, NOW)
    for _ in range(4):
        quota.settle(quota.try_admit(Cost(1, 0), NOW), None, NOW)
    assert (row_of(roster).state, row_of(roster).level) == ("low", LOW)
    quota.settle(quota.try_admit(Cost(1, 0), NOW), None, NOW)
    spent = row_of(roster)
    assert (spent.state, spent.level) == ("spent", HELD)
    assert spent.for_s == spent.windows[0].resets_in_s > 0
    quota.cool(NOW + 90 * SECOND)
    assert (row_of(roster).state, row_of(roster).for_s) == ("cooling down", 90.0)
    later = NOW + 100 * SECOND
    assert quota.try_admit(Cost(1, 0), later) is not None
    assert row_of(roster, now=later).state == "probing"


@pytest.mark.parametrize(
    ("scope", "outcome", "until_ns", "state", "for_s"),
    [
        (Scope.TARGET, Outcome.MODEL_UNAVAILABLE, NOW + HOUR, "model unavailable", 3600.0),
        (Scope.TARGET, Outcome.BUSY, NOW + SECOND, "busy", 1.0),
    ],
)
def test_H2_a_benched_target_stops_the_row_and_the_hop(roster, candidate, scope, outcome, until_ns, state, for_s):
    candidate.apply(Feedback(outcome, scope, until_ns, message="words"), NOW)
    row = row_of(roster)
    assert (row.level, row.state, row.for_s, row.message) == (STOPPED, state, for_s, "words")
    board = board_of(roster)
    first, second = board.chains[0].hops
    assert (first.level, first.state, first.for_s, first.takes) == (STOPPED, state, for_s, False)
    assert (second.state, second.takes) == ("ready", True)
    assert [(each.what, each.reason, each.for_s) for each in board.troubles] == [("groq/m", state, for_s)]
    assert board_of(roster, until_ns).troubles == []


def test_H6_a_key_that_is_off_is_told_and_all_of_them_stop_the_row(roster):
    first, second = roster.keys(target_of(roster, "groq/m"), NOW).candidates
    first.apply(Feedback(Outcome.KEY_INVALID, Scope.KEY, None, message="no such key"), NOW)
    row = row_of(roster)
    assert (row.level, [(key.name, key.reason) for key in row.keys]) == (READY, [("a", "key invalid"), ("b", "")])
    second.apply(Feedback(Outcome.KEY_FORBIDDEN, Scope.KEY_MODEL, NOW + HOUR), NOW)
    trouble = {each.what: (each.reason, each.for_s) for each in board_of(roster).troubles}
    assert trouble == {"key groq/a": ("key invalid", None), "key groq/b at m": ("key forbidden", 3600.0)}
    second.apply(Feedback(Outcome.KEY_UNPAID, Scope.KEY, NOW + MINUTE), NOW)
    row = row_of(roster)
    assert (row.level, row.state) == (STOPPED, "no key: key invalid")
    hop = board_of(roster).chains[0].hops[0]
    assert (hop.level, hop.state) == (STOPPED, "no usable key")


def test_each_key_barred_at_a_model_stops_it_there(roster):
    for each in roster.keys(target_of(roster, "groq/m"), NOW).candidates:
        each.apply(Feedback(Outcome.KEY_FORBIDDEN, Scope.KEY_MODEL, NOW + HOUR), NOW)
    assert (row_of(roster).level, row_of(roster).state) == (STOPPED, "key forbidden")


def test_missing_keys_are_troubles_without_an_end():
    board = board_of(roster_of(TEXT, missing=("c",)))
    assert [(each.what, each.reason, each.for_s) for each in board.troubles] == [("key cerebras/c", "missing", None)]
    assert [row.state for row in board.rows] == ["no key: missing", "not used yet"], "who is in trouble comes first"


def test_B12_an_open_breaker_with_its_reason_and_end(roster, candidate):
    charge = candidate.quota.try_admit(Cost(1, 0), NOW)
    for _ in range(IN_A_ROW):
        candidate.breaker.ended(charge, Outcome.CONNECT_FAILED, NOW, 0.0)
    (trouble,) = board_of(roster).troubles
    assert (trouble.what, trouble.reason, trouble.for_s) == ("groq/m", "breaker open: connect failed", 1.0)
    assert "5 failures in a row" in trouble.message


def test_models_of_a_pool_stand_as_their_pool_does(roster):
    quota = roster.keys(target_of(roster, "groq/p1"), NOW).candidates[0].quota
    roster.keys(target_of(roster, "groq/p2"), NOW)
    quota.cool(NOW + MINUTE)
    row = row_of(roster, "pool:shared")
    assert (row.models, row.state) == (["p1", "p2"], "cooling down")
    chain = next(chain for chain in chains_of(house_of(roster), NOW) if chain.name == "pooled")
    assert [(hop.state, hop.for_s, hop.takes) for hop in chain.hops] == [("cooling down", 60.0, False)]


def test_an_account_that_turned_out_to_be_another_is_not_taken_for_a_free_one():
    text = TEXT.replace("name: b, env: B, account: org", "name: b, env: B, account: org-2")
    roster = roster_of(text)
    first, second = roster.keys(target_of(roster, "groq/m"), NOW).candidates
    for each in (first, second):
        roster.note_organization(each, "org_same", NOW)
    first.quota.cool(NOW + MINUTE)
    for chains in (board_of(roster).chains, chains_of(house_of(roster), NOW)):
        assert [(hop.state, hop.takes) for hop in chains[0].hops] == [("cooling down", False), ("ready", True)]


def test_the_chain_told_once_is_the_one_on_the_board(roster):
    candidates = roster.keys(target_of(roster, "groq/m"), NOW).candidates
    for until_ns in (NOW + MINUTE, NOW + HOUR):
        candidates[0].quota.cool(until_ns)
        assert chains_of(house_of(roster), NOW) == board_of(roster).chains


def test_A15_who_waits_and_for_what(roster, candidate):
    keys = hops_of(roster)[0]
    quota = candidate.quota
    for _ in range(5):
        quota.settle(quota.try_admit(Cost(1, 0), NOW), None, NOW)
    lines = Lines()
    places = [Place(quota, Cost(100, 20), keys.candidates[0])]
    quota.cool(NOW + 10 * SECOND)
    tickets = [lines.enlist(places, number, NOW)[0] for number in (9, 4)]
    board = board_of(roster, NOW + 2 * SECOND, tickets=tickets)
    assert [(each.number, each.for_s, each.tokens) for each in board.waits] == [(4, 2.0, 120), (9, 2.0, 120)]
    (first,), (second,) = (each.places for each in board.waits)
    assert (first.target, first.account, first.wants, first.ahead) == ("groq/m", "org", "the end of a cooldown", 0)
    assert (first.opens_in_s, second.ahead) == (8.0, 1)
    assert row_of(roster, tickets=tickets).waiting == 2


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([Reading(Axis.TOKENS, MINUTE, 1000, 50, None, Source.HEADER)], "tokens per minute"),
        ([Reading(Axis.REQUESTS, 24 * HOUR, 10, 0, None, Source.HEADER)], "requests per day"),
        ([Reading(Axis.INPUT_TOKENS, 90 * SECOND, 1000, 50, None, Source.BODY)], "input tokens per 90 s"),
        ([], "its turn"),
    ],
)
def test_what_is_waited_for_in_words(roster, candidate, readings, expected):
    candidate.quota.learn(readings, NOW)
    assert wants(candidate.quota, Cost(100, 0), NOW) == expected


def test_I3_a_thousand_keys_make_a_bounded_board():
    keys = ", ".join(f"{{name: k{n}, env: K{n}}}" for n in range(1000))
    chain = "models: [" + ", ".join(f"{{name: m{n}, chain: [groq/m]}}" for n in range(90)) + "]"
    roster = roster_of(f"providers: [{{name: groq, keys: [{keys}], limits: [{{rpm: 30, tpm: 60000}}]}}]\n{chain}\n")
    candidates = roster.keys(target_of(roster, "groq/m"), NOW).candidates
    for candidate in candidates[300:400]:
        candidate.apply(Feedback(Outcome.KEY_UNPAID, Scope.KEY, NOW + HOUR, message="pay" * 20), NOW)
    candidates[999].quota.cool(NOW + MINUTE)
    board = board_of(roster)
    assert (len(board.rows), board.more_rows, board.more_troubles, board.more_chains) == (MOST_ROWS, 940, 61, 30)
    assert {row.level for row in board.rows} == {STOPPED}, "the worst come first"
    assert board.providers[0].levels == [899, 0, 1, 100]
    assert len(msgspec.json.encode(board)) < 64_000
    everything = order(rows(roster, Activity(), Stops(roster, NOW), NOW))
    assert [row.level for row in everything][99:102] == [STOPPED, HELD, READY]
    found = select(everything, " K99 ", 0, 0)
    assert [row.account for row in found.rows] == ["k999", "k99", *(f"k99{n}" for n in range(9))], "the worst first"
    assert select(everything, "", HELD, 0).total == 101
    last = select(everything, "", 0, 10**8)
    assert (last.offset, len(last.rows), last.total) == (960, 40, 1000)
    assert select(everything, "nobody", 0, 60) == (msgspec.structs.replace(last, rows=[], offset=0, total=0))


def test_G3_no_secret_is_on_a_board(roster, candidate):
    for scope in Scope:
        candidate.apply(Feedback(Outcome.BUSY, scope, FOREVER_NS, message="no"), NOW)
    assert "secret-of" not in msgspec.json.encode(board_of(roster)).decode()
