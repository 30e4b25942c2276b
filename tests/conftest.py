"""What every test may ask for: the way to providers. One certificate serves a whole session.

What a test leaves behind unclosed is found where it was left, at the end of its file: the interpreter's own time to
look may never come, and what pytest finds after its last test is lost where a worker of xdist ran it.
"""

from __future__ import annotations

import gc

import pytest
import trustme

from tests.both_ways import WAYS, behind, certified
from tests.spreading import Spreading, rank


def pytest_collection_modifyitems(items):
    """The order of tests/spreading.py."""
    items.sort(key=lambda item: rank(item.nodeid))


def pytest_collection_finish():
    """What is there now stays: no collection looks at it again, which makes them cheap."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config, log):
    return Spreading(config, log)


@pytest.fixture(scope="session", autouse=True)
def _no_session_leaves_anything_open():
    yield
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _no_file_leaves_anything_open():
    yield
    gc.collect()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("authority") / "authority.pem"
    return certified(trustme.CA(), path), path


@pytest.fixture(params=WAYS)
def way(request):
    """In the clear, then behind TLS."""
    if request.param == "plain":
        yield request.param
    else:
        with behind(*request.getfixturevalue("certificate")):
            yield request.param
