"""Every test of the edge runs on both event loops: they differ in what a transport does when it closes.

And every test of behaviour on both lanes, which are to be the same to a caller.
"""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
import uvloop

from tests.edge import stage


def pytest_asyncio_loop_factories(config, item):
    factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if "test_differential" in item.nodeid:
        del factories["uvloop"]  # its transport is in memory
    return factories


@pytest.fixture(params=["general", "fast"])
def lane(request):
    return request.param


@pytest.fixture
def serving(lane):
    return partial(stage.serving, lane=lane)


@pytest.fixture
def conversing(lane):
    return partial(stage.conversing, lane=lane)
