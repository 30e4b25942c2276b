"""One house for all end-to-end tests of a session; tests/spreading.py keeps them together, and the last look last."""

from __future__ import annotations

import pytest

from tests.e2e.house import House, groq_client, openai_client


@pytest.fixture(scope="session")
def standing_house(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("house"))
    yield house
    house.stop()


@pytest.fixture
def house(standing_house):
    """The house with providers that remember nothing of the test before."""
    standing_house.openai.steer("reset")
    standing_house.groq.steer("reset")
    return standing_house


@pytest.fixture
def client(house):
    with openai_client(house.url) as sdk:
        yield sdk


@pytest.fixture
def groq_sdk(house):
    with groq_client(house.url) as sdk:
        yield sdk
