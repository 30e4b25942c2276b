"""The promises of fallback, streaming and HTTP are each proved by a test that names them, in the clear and behind TLS.

The table is checked against the tests themselves, so that it cannot rot: a test that is renamed, or that no longer runs
both ways, is missed here. What is decided in core alone has tests there as well, which know no transport.
"""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tests.both_ways import BOTH_WAYS
from tests.rig import chat
from tests.upstream.scripted import answering
from tests.wire import COMPLETION, before, says

# by module: what its tests prove both ways
PROVED = {
    "test_disconnects": "B1 B2",
    "test_cancellation": "B1 B2 C12",
    "upstream.test_pool": "B2 C4 C6 C9 C12 E4",
    "test_streams": "B3 B4 B5 B6 B7 I2",
    "test_chaos": "B3 B4 B6",
    "test_pings": "B8",
    "test_fallback": "B7 B9",
    "test_fields": "B10 B15",
    "test_fallback_bounds": "B11 B12 B13 B15 B16",
    "test_usage": "B14 I2",
    "test_http": "C4 C5 C6 C7 C8 C9 C10 C11 C13 E4 E5",
    "test_packed": "B10 C7 C9 E5",
    "test_reload": "H1 H2 H5",
    "test_breaker": "B12 H3 I4",
    "test_security": "H4",
    "test_hedge": "B1 B3",
}
PROMISED = [
    *(f"B{number}" for number in range(1, 17)),
    *(f"C{number}" for number in (4, 5, 6, 7, 8, 9, 10, 12, 13)),
    "E4", "E5", "H1", "H2", "H3", "H4", "H5", "I2", "I4",
]  # fmt: skip


def runs_both_ways(module, test):
    """Whether pytest runs that function in the clear and behind TLS."""
    marks = [*_marks(module), *_marks(test)]
    if any(mark.name == "usefixtures" and "way" in mark.args for mark in marks):
        return True
    return not {"way", "wire"}.isdisjoint(inspect.signature(test).parameters)


def _marks(marked):
    marks = getattr(marked, "pytestmark", [])
    return [getattr(mark, "mark", mark) for mark in (marks if isinstance(marks, list) else [marks])]


def proved_by(name):
    """The ids that tests of a module name, of those that run both ways."""
    module = importlib.import_module(f"tests.{name}")
    groups = [vars(module), *(vars(each) for key, each in vars(module).items() if key.startswith("Test"))]
    tests = [(each, test) for group in groups for each, test in group.items() if each.startswith("test_")]
    both = [each for each, test in tests if runs_both_ways(module, test)]
    return {found for each in both for found in re.findall(r"(?<=_)[A-I]\d+(?=_|$)", each)}


@pytest.mark.parametrize("name", PROVED)
def test_a_module_proves_both_ways_what_the_table_says(name):
    assert set(PROVED[name].split()) <= proved_by(name)


def test_every_promise_is_in_the_table():
    proved = {each for ids in PROVED.values() for each in ids.split()}
    assert [each for each in PROMISED if each not in proved] == []


@BOTH_WAYS
async def test_the_ways_are_two(tmp_path, way):
    """That a test which runs twice is not run twice in the clear."""
    async with before(tmp_path, answering(says(COMPLETION))) as (rig, server):
        assert (await rig.post(body=chat("m"))).status == 200
        assert server.origin.scheme == {"plain": "http", "tls": "https"}[way]
        assert bool(server.peers[0].transport.get_extra_info("ssl_object")) is (way == "tls")
        assert (way == "tls") is ("https://" in rig.path.read_text())
