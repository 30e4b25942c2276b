"""A compiled configuration for tests of what is decided on top of it: providers, keys, quotas, without any socket."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from sidecar.catalog_file import read_catalog
from sidecar.core.affinity import Ownership
from sidecar.core.call import Call, understand
from sidecar.core.config import Config
from sidecar.core.config_problems import build, problems
from sidecar.core.errors import Refusal
from sidecar.core.http import Request
from sidecar.core.keys import Keys
from sidecar.core.limits import DAY, SECOND, Cost
from sidecar.core.metrics import Connections, Inside, Kept, Live, Retries
from sidecar.core.quota import Charge, Quota
from sidecar.core.roster import Roster
from sidecar.core.secret import Secret
from sidecar.core.snapshot import Snapshot, Target, compile_snapshot
from sidecar.core.tally import Tally
from sidecar.core.totals import Totals
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


def snapshot_of(
    text: str = TWO_PROVIDERS, missing: tuple[str, ...] = (), secrets: Mapping[str, str] | None = None
) -> Snapshot:
    """The snapshot of a configuration, every key holding a secret but those `missing`; `secrets` by a key's name."""
    config = config_of(text)
    found = {
        (provider.name, key.name): None
        if key.name in missing
        else Secret((secrets or {}).get(key.name, f"secret-of-{provider.name}-{key.name}"))
        for provider in config.providers
        for key in provider.keys
    }
    return compile_snapshot(config, CATALOG, found, PACIFIC)


def roster_of(text: str = TWO_PROVIDERS, missing: tuple[str, ...] = ()) -> Roster:
    """A roster under that configuration."""
    return Roster(snapshot_of(text, missing), NOW)


def hops_of(roster: Roster, model: str = "fast") -> list[Keys]:
    """The hops of a public name's chain."""
    return [roster.keys(target, NOW) for target in roster.snapshot.chains[model]]


def call_of(
    snapshot: Snapshot,
    target: str = "/v1/chat/completions",
    body: bytes = b"",
    method: str = "POST",
    ownership: Ownership | None = None,
    **headers: str,
) -> Call | Refusal:
    """What a request is understood as. `x_sidecar_key=...` sets a header."""
    return understand(snapshot, request_of(target, body, method, **headers), ownership or Ownership())


def request_of(target: str, body: bytes = b"", method: str = "POST", **headers: str) -> Request:
    """A request; its body is announced as JSON unless a header says otherwise."""
    named = {"content-type": "application/json"} if body else {}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    is_measured = named.pop("content-length", None) is not None
    listed = [(name.encode(), value.encode()) for name, value in named.items()]
    return Request(method.encode(), target.encode(), listed, body, is_measured=is_measured)


def target_of(roster: Roster, name: str) -> Target:
    """`provider/model` as a target."""
    provider, _, model = name.partition("/")
    return Target(roster.snapshot.providers[provider], model)


def live_of(roster: Roster, tally: Tally) -> Live:
    """The state of a quiet process with that roster, a second after NOW, as a scrape is made of it."""
    return Live(
        now_ns=NOW + SECOND,
        roster=roster,
        tally=tally,
        totals=Totals(),
        inside=Inside(1, 4000, 100, 1 << 28),
        waiting=0,
        most_waiting=1000,
        connections=Connections(1, 1, 0),
        kept=Kept(False, None, False),
        retries=Retries(0, 10),
        events={},
        ambiguous=0,
        config="0123456789ab",
        is_config_absent=False,
        version="0",
        is_ready=True,
    )


def admitted(quota: Quota, cost: Cost, now: int = NOW) -> Charge:
    """What a request is charged that must be admitted."""
    charge = quota.try_admit(cost, now)
    assert charge is not None
    return charge
