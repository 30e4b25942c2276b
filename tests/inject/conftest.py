"""A cluster for each test that asks for one."""

import asyncio

import pytest

from tests.inject.rig import Cluster


@pytest.fixture
async def cluster(tmp_path):
    async with asyncio.timeout(90), Cluster(tmp_path) as cluster:
        yield cluster
