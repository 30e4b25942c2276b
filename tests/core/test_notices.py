"""What the log is told of keys, targets, breakers and limits: each change once, with its cause and its end."""

from __future__ import annotations

import pytest

from sidecar.core.breaker import IN_A_ROW
from sidecar.core.health import FOREVER_NS
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis, Cost, Reading, Source
from sidecar.core.notices import MOST, Notices
from sidecar.core.outcomes import Outcome
from tests.core.house import NOW, admitted, hops_of, roster_of

SECRET = "the provider's own words, which may quote a prompt"
TOLD_AT = "2023-11-14T22:13:20Z"  # NOW


@pytest.fixture
def roster():
    return roster_of()


@pytest.fixture
def notices(roster):
    made = Notices(roster)
    made.start(NOW)
    return made


def words(told):
    return [(each.event, each.subject, each.reason) for each in told]


def test_nothing_has_happened(notices):
    assert notices.look(NOW) == []


@pytest.mark.parametrize(
    ("standings", "name", "event"),
    [("keys", "groq/a", "key"), ("key_models", "groq/a openai/gpt-oss-120b", "key"), ("targets", "groq/m", "target")],
)
def test_a_bench_and_its_end_are_told_once(roster, notices, standings, name, event):
    standing = getattr(roster.health, standings).of(name, NOW)
    standing.bench(NOW + HOUR, Outcome.KEY_UNPAID, SECRET)
    (told,) = notices.look(NOW)
    assert words([told]) == [(f"{event}_benched", name, "key_unpaid")]
    assert told.message == "key_unpaid: not called before 2023-11-14T23:13:20Z"
    assert told.until_ns == NOW + HOUR
    assert notices.look(NOW + SECOND) == []
    assert words(notices.look(NOW + HOUR)) == [(f"{event}_back", name, None)]
    assert notices.look(NOW + HOUR) == []


def test_H2_a_key_that_is_off_says_until_what(roster, notices):
    roster.health.keys.of("groq/a", NOW).bench(FOREVER_NS, Outcome.KEY_INVALID, SECRET)
    (told,) = notices.look(NOW)
    assert (told.message, told.until_ns) == ("key_invalid: not used until it changes", None)
    roster.health.keys.of("groq/a", NOW).clear()
    assert words(notices.look(NOW)) == [("key_back", "groq/a", None)]


def test_a_bench_that_grows_a_little_is_no_news_and_one_that_changes_is(roster, notices):
    standing = roster.health.targets.of("groq/m", NOW)
    standing.bench(NOW + SECOND, Outcome.BUSY, "")
    assert len(notices.look(NOW)) == 1
    standing.bench(NOW + 30 * SECOND, Outcome.BUSY, "")
    assert notices.look(NOW) == []
    standing.bench(NOW + 2 * MINUTE, Outcome.BUSY, "")
    assert len(notices.look(NOW)) == 1
    standing.bench(NOW + 2 * MINUTE + 1, Outcome.MODEL_UNAVAILABLE, "")
    assert words(notices.look(NOW)) == [("target_benched", "groq/m", "model_unavailable")]


def test_a_breaker_that_opens_opens_again_and_closes(roster, notices):
    candidate = hops_of(roster)[0].candidates[0]
    breaker = candidate.breaker
    for _ in range(IN_A_ROW):
        breaker.ended(admitted(candidate.quota, Cost(1, 0)), Outcome.SERVER_ERROR, NOW, 0.0)
    (told,) = notices.look(NOW)
    assert words([told]) == [("breaker_opened", "groq/openai/gpt-oss-120b", "server_error")]
    assert told.message == "server_error: not called before 2023-11-14T22:13:21Z; opened 1 times in a row"
    probe = admitted(candidate.quota, Cost(1, 0))
    breaker.enter(probe, NOW + SECOND)
    assert notices.look(NOW + SECOND) == [], "half open is not closed, and no news"
    breaker.ended(probe, Outcome.CONNECT_FAILED, NOW + SECOND, 0.0)
    assert words(notices.look(NOW + SECOND))[0][::2] == ("breaker_opened", "connect_failed")
    breaker.clear()
    assert words(notices.look(NOW + SECOND)) == [("breaker_closed", "groq/openai/gpt-oss-120b", None)]


def test_limits_that_were_learned_are_told_together(roster, notices):
    quota = hops_of(roster)[0].candidates[0].quota
    readings = [
        Reading(Axis.REQUESTS, MINUTE, 30, None, None, Source.HEADER),
        Reading(Axis.TOKENS, DAY, 500_000, None, None, Source.HEADER),
    ]
    quota.learn(readings, NOW)
    (told,) = notices.look(NOW)
    assert words([told]) == [("limit_learned", "groq/org-a openai/gpt-oss-120b", "header")]
    assert told.message == "30 requests in 1m, 500000 tokens in 24h"
    quota.learn(readings, NOW + 1)
    assert notices.look(NOW + 1) == []
    quota.learn([Reading(Axis.REQUESTS, MINUTE, 20, None, None, Source.BODY)], NOW + 2)
    (told,) = notices.look(NOW + 2)
    assert (told.message, told.reason) == ("20 requests in 1m", "body")


def test_what_was_taken_up_from_before_is_no_event(roster):
    roster.health.keys.of("groq/a", NOW).bench(NOW + HOUR, Outcome.KEY_UNPAID, "")
    hops_of(roster)[0].candidates[0].quota.learn([Reading(Axis.REQUESTS, MINUTE, 30, None, None, Source.HEADER)], NOW)
    notices = Notices(roster)
    notices.start(NOW)
    assert notices.look(NOW) == []
    assert words(notices.look(NOW + HOUR)) == [("key_back", "groq/a", None)]


def test_I5_the_log_is_not_flooded_by_names_and_tells_nobodys_words(roster, notices):
    for number in range(3 * MOST):
        roster.health.targets.of(f"groq/{'m' * 500}{number}", NOW, True).bench(
            NOW + HOUR, Outcome.MODEL_UNAVAILABLE, SECRET
        )
    told = notices.look(NOW)
    assert len(told) == MOST + 1
    assert told[-1].message == f"{2 * MOST} more events are not told one by one"
    assert all(len(each.subject) <= 128 and "words" not in each.message for each in told)
    assert notices.look(NOW) == []


def test_a_breaker_that_left_is_no_longer_noted(roster, notices):
    for number in range(4096):
        roster.health.breakers.of(f"groq/m{number}", NOW, True)
    breaker = roster.health.breakers.of("groq/m0", NOW, True)
    for _ in range(IN_A_ROW):
        breaker.ended(admitted(hops_of(roster)[0].candidates[0].quota, Cost(1, 0)), Outcome.SERVER_ERROR, NOW, 0.0)
    assert words(notices.look(NOW)) == [("breaker_opened", "groq/m0", "server_error")]
    assert " 1 open," in repr(notices)
    breaker.until_ns = 0  # so that it may leave
    roster.health.breakers.of("groq/one-more", NOW, True)
    assert notices.look(NOW) == []
    assert " 0 open," in repr(notices)


def test_what_is_forgotten_is_no_longer_noted(roster, notices):
    quotas = [roster.ledger.quota("groq/org-a", f"m{number}", NOW) for number in range(300)]
    for quota in quotas:
        quota.learn([Reading(Axis.REQUESTS, MINUTE, 30, None, None, Source.HEADER)], NOW)
    assert len(notices.look(NOW)) == MOST + 1
    assert len(notices.look(NOW)) == 300 - 256
    roster.reload(roster_of("providers:\n  - name: groq\n    keys: [{name: z, env: A}]\n").snapshot, NOW)
    assert notices.look(NOW) == notices.look(NOW) == []
    assert repr(notices) == "<Notices of 0 benched, 0 open, 0 quotas>"
