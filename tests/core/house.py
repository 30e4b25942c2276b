"""A compiled configuration for tests of what is decided on top of it: providers, keys, quotas, without any socket."""

from __future__ import annotations

import yaml

from sidecar.catalog_file import read_catalog
from sidecar.core.config import Config
from sidecar.core.config_problems import build, problems
from sidecar.core.keys import Keys
from sidecar.core.limits import DAY, SECOND
from sidecar.core.roster import Roster
from sidecar.core.secret import Secret
from sidecar.core.snapshot import Snapshot, Target, compile_snapshot
from sidecar.core.windows import Calendar
from sidecar.loading import known_from

NOW = 1_700_000_000 * SECOND
CATALOG = read_catalog()
PACIFIC = {"America/Los_Angeles": Calendar(DAY, (NOW + 3600 * SECOND,))}

TWO_PROVIDERS = """
providers:
  - name: groq
    keys:
      - {name: a, env: A, account: org-a}
      - {name: b, env: B, account: org-b}
  - name: cerebras
    keys: [{name: c, env: C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b, cerebras/gpt-oss-120b]}
"""


def config_of(text: str) -> Config:
    """A configuration; the test fails with its problems if it has any."""
    tree = yaml.safe_load(text)
    known = known_from(CATALOG)
    assert problems(tree, known) == []
    return build(tree, known)


def snapshot_of(text: str = TWO_PROVIDERS, missing: tuple[str, ...] = ()) -> Snapshot:
    """The snapshot of a configuration, every key holding a secret but those `missing`."""
    config = config_of(text)
    secrets = {
        (provider.name, key.name): None if key.name in missing else Secret(f"secret-of-{provider.name}-{key.name}")
        for provider in config.providers
        for key in provider.keys
    }
    return compile_snapshot(config, CATALOG, secrets, PACIFIC)


def roster_of(text: str = TWO_PROVIDERS, missing: tuple[str, ...] = ()) -> Roster:
    """A roster under that configuration."""
    return Roster(snapshot_of(text, missing), NOW)


def hops_of(roster: Roster, model: str = "fast") -> list[Keys]:
    """The hops of a public name's chain."""
    return [roster.keys(target, NOW) for target in roster.snapshot.chains[model]]


def target_of(roster: Roster, name: str) -> Target:
    """`provider/model` as a target."""
    provider, _, model = name.partition("/")
    return Target(roster.snapshot.providers[provider], model)
