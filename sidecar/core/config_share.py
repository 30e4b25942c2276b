"""What is wrong with the section `share`: a URL that leads nowhere, a password in it, limits that cannot be divided.

No message repeats the URL: a password may have been pasted there.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.core.config import Config, Problem
from sidecar.core.effective import FIELDS
from sidecar.core.store_url import GRAMMAR, parse


def share_problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with `share`."""
    share = config.share
    if share.url is not None:
        if "@" in share.url and ":" in share.url.partition("://")[2].rpartition("@")[0]:
            hint = "put it into a variable or a file, and name that in share.password"
            yield Problem("share.url", "holds a password", hint)
        elif parse(share.url) is None:
            yield Problem("share.url", "is not the address of a Redis or Valkey", f"such as {GRAMMAR}")
    if share.password is not None:
        if (share.password.env is None) == (share.password.file is None):
            yield Problem("share.password", "needs exactly one of env and file")
        if share.url is None:
            yield Problem("share.password", "is of no use without share.url", "remove it, or give the store's address")
    if share.url is None and share.replicas > 1:
        yield from _indivisible(config)


def _indivisible(config: Config) -> Iterator[Problem]:
    """Limits of which no whole unit is left for each: one apiece would be more than the limit."""
    for place, provider in enumerate(config.providers):
        for index, limit in enumerate(provider.limits):
            for field in FIELDS:
                value: int | None = getattr(limit, field)
                if value is not None and value < config.share.replicas:
                    path = f"providers[{place}].limits[{index}].{field}"
                    message = f"{value} cannot be divided among {config.share.replicas} sidecars (share.replicas)"
                    yield Problem(path, message, "run fewer of them, or let them share one ledger (share.url)")
