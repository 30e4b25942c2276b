"""Which configured limit applies to which model of which account."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.core.config import Limit
from sidecar.core.effective import AXES, FIELDS, effective
from sidecar.core.limits import DAY, HOUR, MINUTE, Axis


@pytest.mark.parametrize(
    ("entries", "rpm", "index"),
    [
        ([Limit(rpm=1)], 1, 0),
        ([Limit(rpm=1), Limit(rpm=2)], 2, 1),  # the later of equals
        ([Limit(model="llama-8b", rpm=1), Limit(rpm=2)], 1, 0),  # exact before all
        ([Limit(model="llama-8b", rpm=1), Limit(model="llama-8*", rpm=2)], 1, 0),  # exact before glob
        ([Limit(model="llama-*", rpm=1), Limit(model="ll*", rpm=2)], 1, 0),  # longer glob
        ([Limit(model="ll*", rpm=1), Limit(rpm=2)], 1, 0),  # glob before all
        ([Limit(account="a", rpm=1), Limit(rpm=2)], 1, 0),  # named account before none
        ([Limit(account="a", rpm=1), Limit(model="ll*", rpm=2)], 2, 1),  # but model before account
        ([Limit(rpm=1), Limit(account="b", rpm=2)], 1, 0),  # another account's
        ([Limit(rpm=1), Limit(model="qwen*", rpm=2)], 1, 0),  # another model's
        ([Limit(rpm=1), Limit(model="LLAMA-8B", rpm=2)], 1, 0),  # ids are case-sensitive
        ([Limit(rpm=1), Limit(model="llama-8b", tpm=2)], 1, 0),  # says nothing of this field
    ],
)
def test_A24_the_most_specific_entry_wins(entries, rpm, index):
    assert effective(entries, "a", "llama-8b").values["rpm"] == (rpm, index)


def test_A24_each_field_by_itself():
    entries = [Limit(rpm=30, tpm=6000), Limit(model="llama*", tpm=9000), Limit(account="a", concurrency=4)]
    found = effective(entries, "a", "llama-8b")
    assert found.pool is None
    assert found.values == {"rpm": (30, 0), "tpm": (9000, 1), "concurrency": (4, 2)}
    assert effective([], "a", "llama-8b") == (None, {})


def test_a_model_called_like_a_pattern_is_itself():
    entries = [Limit(model="odd[1]", rpm=1)]
    assert effective(entries, "a", "odd[1]").values == {"rpm": (1, 0)}


def test_a_pool_says_the_same_to_each_of_its_models():
    entries = [
        Limit(rpm=30, rpd=100),
        Limit(model="gpt-4*", pool="four", tpm=1000, rpm=10),
        Limit(model="gpt-4-mini", pool="four", tpd=5000),
        Limit(account="a", pool="four", model="gpt-4*", rpm=20),
        Limit(model="gpt-4-mini", rpd=7),
    ]
    expected = {"rpm": (20, 3), "rpd": (100, 0), "tpm": (1000, 1), "tpd": (5000, 2)}
    for model in ("gpt-4", "gpt-4-mini", "gpt-4-turbo"):
        assert effective(entries, "a", model) == ("four", expected)
    assert effective(entries, "b", "gpt-4").values["rpm"] == (10, 1)
    named = [*entries, Limit(account="b", rpm=33)]  # for all its models: less specific than the pool
    assert effective(named, "b", "gpt-4").values["rpm"] == (10, 1)
    assert effective(entries, "b", "o3") == (None, {"rpm": (30, 0), "rpd": (100, 0)})


def test_every_field_of_an_entry_is_read():
    named = {field.name for field in msgspec.structs.fields(Limit)} - {"model", "account", "pool"}
    assert named == set(FIELDS)
    assert AXES["tpd"] == (Axis.TOKENS, DAY)
    assert AXES["ash"] == (Axis.AUDIO_SECONDS, HOUR)
    assert AXES["otpm"] == (Axis.OUTPUT_TOKENS, MINUTE)
    assert len(set(AXES.values())) == len(AXES)
