"""What is installed beside our own code: little, all of it pinned, each file by its hash (acceptance G1)."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
DEV = [Requirement(line) for line in PROJECT["dependency-groups"]["dev"]]
# of the supported ones the oldest Python needs the most: backports among them
OLDEST = {"python_version": "3.11", "python_full_version": "3.11.0"}
LOCKS = ("requirements.lock", "requirements-dev.lock")


def _pins(lock):
    """name -> (version, number of hashes)."""
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / lock).read_text())
    lines = [line.split() for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    pins = {}
    for pinned, *hashes in lines:
        name, version = pinned.split("==")
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), pinned
        pins[canonicalize_name(name)] = version, len(hashes)
    return pins


def required(requirements):
    """Those distributions and all that they need in turn, by the metadata of what is installed here."""
    seen: set[tuple[str, str]] = set()
    left = list(requirements)
    while left:
        asked = left.pop()
        name = canonicalize_name(asked.name)
        wanted = {(name, extra) for extra in ("", *asked.extras)} - seen
        seen |= wanted
        for needed in map(Requirement, importlib.metadata.requires(name) or [] if wanted else []):
            if needed.marker is None or any(needed.marker.evaluate(OLDEST | {"extra": extra}) for _, extra in wanted):
                left.append(needed)
    return {name for name, _ in seen}


def test_G1_at_most_ten_runtime_dependencies():
    assert len(RUNTIME) <= 10


@pytest.mark.parametrize("lock", LOCKS)
def test_G1_every_pin_has_hashes_and_no_registry(lock):
    pins = _pins(lock)
    assert pins
    assert all(hashes > 0 for _, hashes in pins.values())
    assert not re.search(r"://|^-|^ *--(?!hash)", (ROOT / lock).read_text(), re.MULTILINE)


@pytest.mark.parametrize(("lock", "direct"), [(LOCKS[0], RUNTIME), (LOCKS[1], DEV)])
def test_G1_the_lock_is_what_pyproject_asks_for(lock, direct):
    pins = _pins(lock)
    for requirement in direct:
        version, _ = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: locked at {version}; run make lock"


def test_G1_the_whole_tree_is_locked_and_nothing_else():
    runtime = required(RUNTIME)
    assert set(_pins("requirements.lock")) == runtime
    everything = required([*RUNTIME, *DEV])
    assert everything <= set(_pins("requirements.lock")) | set(_pins("requirements-dev.lock"))


def test_G1_what_is_in_both_locks_is_the_same_version():
    runtime, dev = map(_pins, LOCKS)
    assert {name: dev[name] for name in runtime if name in dev} == {n: p for n, p in runtime.items() if n in dev}


def test_G1_what_runs_here_is_what_is_locked():
    pins = {**_pins("requirements-dev.lock"), **_pins("requirements.lock")}
    for name in required(RUNTIME):
        assert importlib.metadata.version(name) == pins[name][0], f"{name}: run make venv"


def test_G1_no_dependency_brings_a_pth_file():
    for name in required(RUNTIME):
        files = importlib.metadata.files(name) or []
        assert not [str(file) for file in files if file.suffix == ".pth"], name
