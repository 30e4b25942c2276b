"""What is wrong with `share`, told with a remedy and without the URL."""

import pytest

from sidecar.core.config import Config, Limit, ProviderConfig, Share, TokenRef
from sidecar.core.config_share import share_problems


def told(**fields):
    limits = (Limit(rpm=30, tpm=6000, concurrency=8),)
    config = Config(providers=(ProviderConfig("groq", limits=limits),), share=Share(**fields))
    return [(problem.path, problem.message) for problem in share_problems(config)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"replicas": 8},
        {"url": "redis://h", "replicas": 200},
        {"url": "redis://h", "password": TokenRef(env="P")},
    ],
)
def test_what_is_right(fields):
    assert told(**fields) == []


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"url": "mysql://h"}, "share.url", "is not the address of a Redis or Valkey"),
        ({"url": "redis://me:hunter2@h"}, "share.url", "holds a password"),
        ({"password": TokenRef(env="P")}, "share.password", "is of no use without share.url"),
        ({"url": "redis://h", "password": TokenRef()}, "share.password", "needs exactly one of env and file"),
        (
            {"replicas": 9},
            "providers[0].limits[0].concurrency",
            "8 cannot be divided among 9 sidecars (share.replicas)",
        ),
    ],
)
def test_F1_what_is_wrong(fields, path, message):
    assert told(**fields) == [(path, message)]
    assert "hunter2" not in repr(told(**fields))
