"""The last word: how a request that nobody serves is refused, and when it may come again."""

from __future__ import annotations

import pytest

from sidecar.core.errors import Reason, Step
from sidecar.core.keys import Outlook, Size
from sidecar.core.last_word import Exhausted, Failure, last_word, soonest_of
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome
from sidecar.core.quota import BLOCKED_NS
from tests.core.house import NOW, hops_of, roster_of

SMALL = Size(400, None, 1, 0)
LIMITED = """
providers:
  - name: groq
    keys: [{name: a, env: A}]
    limits: [{tpm: 1000}]
  - name: cerebras
    keys: [{name: c, env: C}]
    limits: [{tpm: 5000}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
"""


def spent(seconds):
    """Out of quota for so long."""
    return Outlook(NOW + seconds * SECOND, False, None)


def benched(seconds, cause):
    """Not to be called for so long."""
    return Outlook(NOW + seconds * SECOND, False, cause, NOW + seconds * SECOND)


TOO_SMALL = Outlook(None, True, None)
NOBODY = Outlook(None, False, Outcome.KEY_INVALID)
FULL = Outlook(BLOCKED_NS, False, None)


def word(outlooks, failed=(), text=LIMITED, size=SMALL):
    """The refusal after `failed`: (outcome, message, seconds of bench) at the first hop, the second, ..."""
    hops = hops_of(roster_of(text))
    failures, trail = [], []
    for number, (outcome, message, seconds) in enumerate(failed):
        hop = hops[number % len(hops)]
        candidate = hop.candidates[0]
        candidate.at_provider.bench(NOW + seconds * SECOND, outcome, message)
        failures.append(Failure(hop, candidate, outcome, message))
        trail.append(Step(str(hop.target), candidate.key.name, outcome.value, 500))
    return last_word(Exhausted(hops, size, failures, outlooks, tuple(trail)), NOW)


@pytest.mark.parametrize(
    ("outlooks", "reason", "seconds"),
    [
        ([spent(30), spent(20)], Reason.RATE_LIMITED, 20),
        ([spent(-1)], Reason.RATE_LIMITED, 0),
        ([spent(30), NOBODY], Reason.RATE_LIMITED, 30),
        ([spent(30), TOO_SMALL], Reason.RATE_LIMITED, 30),
        ([spent(30), FULL], Reason.RATE_LIMITED, 30),
        ([benched(5, Outcome.BUSY)], Reason.UNAVAILABLE, 5),
        ([benched(5, Outcome.SERVER_ERROR)], Reason.UNAVAILABLE, 5),
        ([benched(5, Outcome.BUSY), spent(2)], Reason.RATE_LIMITED, 2),
        ([benched(5, Outcome.BUSY), spent(9)], Reason.UNAVAILABLE, 5),
        ([benched(3600, Outcome.KEY_UNPAID)], Reason.NO_USABLE_KEY, 3600),
        ([benched(3600, Outcome.KEY_UNPAID), spent(9)], Reason.RATE_LIMITED, 9),
        ([benched(86400, Outcome.MODEL_UNAVAILABLE)], Reason.MODEL_UNAVAILABLE, None),
        ([benched(86400, Outcome.MODEL_UNAVAILABLE), NOBODY], Reason.MODEL_UNAVAILABLE, None),
        # a target that will serve beats one that is not there, whichever is first
        ([benched(86400, Outcome.MODEL_UNAVAILABLE), spent(30)], Reason.RATE_LIMITED, 30),
        ([benched(10, Outcome.MODEL_UNAVAILABLE), spent(30)], Reason.RATE_LIMITED, 30),
        ([benched(10, Outcome.MODEL_UNAVAILABLE), benched(30, Outcome.BUSY)], Reason.UNAVAILABLE, 30),
        ([FULL, NOBODY], Reason.RATE_LIMITED, 2),
        ([NOBODY, TOO_SMALL], Reason.NO_USABLE_KEY, None),
        ([NOBODY], Reason.NO_USABLE_KEY, None),
        ([], Reason.NO_USABLE_KEY, None),
        ([TOO_SMALL, TOO_SMALL], Reason.NEVER_FITS, None),
    ],
)
def test_A16_who_was_never_asked_is_told_why_and_when(outlooks, reason, seconds):
    refusal = word(outlooks)
    assert refusal.reason is reason
    assert refusal.retry_after_ns == (None if seconds is None else seconds * SECOND)
    assert refusal.message.startswith("groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b: ")
    assert refusal.message.endswith(".")


BUSY = (Outcome.BUSY, "busy", 0)
UNPAID = (Outcome.KEY_UNPAID, "pay first", 0)
GONE = (Outcome.MODEL_UNAVAILABLE, "no such model", 0)
LARGE = (Outcome.TOO_LARGE, "too long", 0)
LIMIT = (Outcome.RATE_LIMITED, "slow down", 0)
BROKE = (Outcome.SERVER_ERROR, "boom", 0)
LATE = (Outcome.HEADERS_TIMEOUT, "", 0)


@pytest.mark.parametrize(
    ("failed", "outlooks", "reason", "seconds"),
    [
        ([LIMIT], [spent(30)], Reason.RATE_LIMITED, 30),
        ([UNPAID, LIMIT], [NOBODY, spent(30)], Reason.RATE_LIMITED, 30),
        ([LIMIT, BROKE], [spent(30)], Reason.RATE_LIMITED, 30),
        ([BROKE, LIMIT], [spent(30)], Reason.RATE_LIMITED, 30),
        ([BROKE, LIMIT], [FULL], Reason.UPSTREAM_FAILED, None),
        ([LIMIT], [FULL], Reason.RATE_LIMITED, 2),
        ([LIMIT], [spent(0)], Reason.RATE_LIMITED, 2),
        ([BROKE], [], Reason.UPSTREAM_FAILED, None),
        ([LATE], [], Reason.UPSTREAM_TIMEOUT, None),
        ([BUSY], [], Reason.UNAVAILABLE, 2),
        ([(Outcome.BUSY, "busy", 30)], [], Reason.UNAVAILABLE, 30),
        ([(Outcome.BUSY, "busy", 30)], [spent(10)], Reason.UNAVAILABLE, 10),
        ([(Outcome.BUSY, "busy", 30)], [benched(86400, Outcome.MODEL_UNAVAILABLE)], Reason.UNAVAILABLE, 30),
        ([(Outcome.BUSY, "busy", 30)], [benched(10, Outcome.KEY_UNPAID)], Reason.UNAVAILABLE, 30),
        # what cannot be mended, when others are open but not at once: that is what waiting is for
        ([UNPAID], [spent(30)], Reason.RATE_LIMITED, 30),
        ([GONE], [spent(30)], Reason.RATE_LIMITED, 30),
        ([LARGE], [spent(30)], Reason.RATE_LIMITED, 30),
        ([GONE], [benched(30, Outcome.BUSY)], Reason.UNAVAILABLE, 30),
        ([GONE], [benched(86400, Outcome.MODEL_UNAVAILABLE)], Reason.MODEL_UNAVAILABLE, None),
        ([UNPAID], [benched(3600, Outcome.KEY_UNPAID)], Reason.NO_USABLE_KEY, None),
        ([UNPAID, GONE], [], Reason.NO_USABLE_KEY, None),
        ([GONE, UNPAID], [], Reason.MODEL_UNAVAILABLE, None),
        ([GONE, BROKE], [], Reason.UPSTREAM_FAILED, None),
        ([LARGE, UNPAID], [], Reason.NEVER_FITS, None),
    ],
)
def test_B11_after_failures_the_reason_is_what_can_be_done_about_it(failed, outlooks, reason, seconds):
    refusal = word(outlooks, failed)
    assert refusal.reason is reason
    assert refusal.retry_after_ns == (None if seconds is None else seconds * SECOND)
    assert len(refusal.trail) == len(failed)


@pytest.mark.parametrize(
    ("failed", "message"),
    [
        ([BROKE], "The only attempt failed, at groq/openai/gpt-oss-120b: boom"),
        ([LATE], "The only attempt failed, at groq/openai/gpt-oss-120b: headers timeout"),
        ([UNPAID, BROKE], "All 2 attempts failed; the first, at groq/openai/gpt-oss-120b: pay first"),
    ],
)
def test_B11_the_first_error_is_told_in_the_providers_words(failed, message):
    assert word([], failed).message == message


def test_A4_what_is_too_large_names_the_largest_budget():
    message = word([TOO_SMALL, TOO_SMALL], size=Size(40_000, 50, 1, 0)).message
    assert "it needs about 10050 tokens" in message
    assert "the largest budget is 5000 tokens" in message
    undeclared = word([TOO_SMALL, TOO_SMALL], size=Size(40_000, None, 1, 0)).message
    assert "it needs about 10000 tokens" in undeclared, "where it needs the least"


def test_A4_without_a_known_budget_none_is_named():
    unlimited = LIMITED.replace("    limits: [{tpm: 1000}]\n", "").replace("    limits: [{tpm: 5000}]\n", "")
    message = word([], [LARGE, LARGE], unlimited).message
    assert "that is more than any of them takes" in message
    assert "Shorten the prompt" in message


@pytest.mark.parametrize(
    ("outlooks", "soonest"),
    [([], None), ([NOBODY], None), ([NOBODY, spent(3), spent(2)], NOW + 2 * SECOND), ([FULL], BLOCKED_NS)],
)
def test_the_soonest_of_several(outlooks, soonest):
    assert soonest_of(outlooks) == soonest
