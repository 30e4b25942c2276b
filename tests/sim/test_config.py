"""Command-line words into configurations."""

from __future__ import annotations

import pytest

from sidecar.core.limits import SECOND
from sidecar.sim.config import LimitRule, Pace, parse_rule, parse_spec


def test_a_spec_of_words():
    config = parse_spec(
        "groq",
        ["gsk_sim_1=org-a", "gsk_sim_2"],
        [{"rpm": 30, "tpm": None}, "account=org-a,model=llama*,per=key,tpd=5"],
        ["m"],
        Pace(tokens_per_reply=5, latency_s=0.25),
    )
    assert config.keys == {"gsk_sim_1": "org-a", "gsk_sim_2": "gsk_sim_2"}
    assert config.limits == (LimitRule(rpm=30), LimitRule(account="org-a", model="llama*", per="key", tpd=5))
    assert (config.models, config.tokens_per_reply, config.latency_ns) == (("m",), 5, SECOND // 4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("azure",), "azure"),
        (("groq", ["=org"]), "SECRET=ACCOUNT"),
        (("groq", [], ["rpm"]), "'rpm' in a limit: expected name=value"),
        (("groq", [], ["rpm=x"]), "rpm"),
        (("groq", [], ["rpm=0"]), "rpm"),
        (("groq", [], ["rps=3"]), "rps"),
        (("groq", [], [{"per": "model"}]), "per"),
        (("groq", [], [], [], Pace(chunk_count=0)), "chunk_count"),
    ],
)
def test_words_that_mean_nothing(arguments, text):
    with pytest.raises(ValueError, match=text):
        parse_spec(*arguments)


def test_a_rule():
    assert parse_rule(" rpm=30 , tpm=6000 ") == LimitRule(rpm=30, tpm=6000)
