"""What is wrong with a provider's `limits`: entries that say nothing, name nobody, or contradict each other.

How entries combine (per field the most specific wins) is decided where quotas are made, not here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sidecar.core.config import Limit, Problem, ProviderConfig
from sidecar.core.config_shape import item, nearest

_WHERE = frozenset({"model", "account", "pool"})
AXES = tuple(field.name for field in msgspec.structs.fields(Limit) if field.name not in _WHERE)


def limit_problems(provider: ProviderConfig, path: str) -> Iterator[Problem]:
    """Everything wrong with the limits of one provider, whose path in the configuration is `path`."""
    accounts = dict.fromkeys(key.account or key.name for key in provider.keys)  # in their order, each once
    first: dict[tuple[str, ...], tuple[str, int]] = {}
    for index, limit in enumerate(provider.limits):
        where = item(f"{path}.limits", index)
        given = {name: getattr(limit, name) for name in AXES if getattr(limit, name) is not None}
        if not given and limit.pool is None:
            yield Problem(where, "limits nothing", f"give one of {', '.join(AXES)}")
        if limit.account is not None and limit.account not in accounts and "" not in accounts:
            yield Problem(f"{where}.account", f"no key belongs to {limit.account}", nearest(limit.account, accounts))
        owner = _owner(limit)
        for name, value in given.items():
            other, earlier = first.setdefault((*owner, name), (where, value))
            if value != earlier:
                yield Problem(f"{where}.{name}", f"contradicts {other}, of the same {owner[0]}", "keep one of them")


def _owner(limit: Limit) -> tuple[str, str, str]:
    """Whom a limit belongs to: within one account, a model or a pool may have one of a kind."""
    of = ("model", limit.model) if limit.pool is None else ("pool", limit.pool)
    return (*of, limit.account or "")
