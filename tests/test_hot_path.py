"""The guard of the hot path: it may not become a fifth dearer without anyone noticing (docs/performance.md).

What is compared is a multiple of a reference workload that runs beside it, with the figures of tests/hot_path.json. A
failure here means: make it cheaper again, or, where the cost buys something, `python -m tests.hot_path --renew` and say
in the commit what. Each runs in a process of its own, since coverage counts by the same means.
"""

import json
import subprocess
import sys

import pytest

from tests.hot_path import ROOT, STORED
from tests.processes import clean_environ

# Bytecodes are the same in every run; another interpreter compiles ours and the reference a little differently
_COUNTED = {"request": 1.12, "event": 1.12}
_TIMED = 1.6  # sees what C code costs; wide, for a busy machine costs every process more, and not all alike
_KEYS = 1.2


def _measured(*words):
    command = [sys.executable, "-m", "tests.hot_path", *words]
    run = subprocess.run(
        command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def measured():
    return _measured()


@pytest.mark.parametrize("name", _COUNTED)
def test_no_more_bytecodes_than_are_stored(measured, name):
    stored = json.loads(STORED.read_text())[name]
    assert measured[name] <= stored * _COUNTED[name], f"{name}: {measured[name] / stored - 1:+.0%}; see the docstring"


def test_no_more_processor_time_than_is_stored(measured):
    stored = json.loads(STORED.read_text())["cpu"]
    assert measured["cpu"] <= stored * _TIMED, f"{measured['cpu'] / stored - 1:+.0%}; see the docstring"


def test_figures_that_are_long_beaten_are_renewed(measured):
    # else a regression could hide in what was won
    stored = json.loads(STORED.read_text())
    for name, most in _COUNTED.items():
        assert measured[name] >= stored[name] / most, f"{name} is {measured[name] / stored[name] - 1:+.0%}: renew it"


def test_a_thousand_keys_cost_what_one_costs():
    assert _measured("--growth")["growth"] <= _KEYS
