"""What the process did lately, as it is told (activity.py): shapes that go out as JSON, and so are never compiled."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sidecar.core.errors import Step


class Finished(msgspec.Struct, omit_defaults=True):
    """One request that ended. `number`: its place among all; `at`: when it came. Durations in milliseconds. `trail`:
    the attempts that failed; who served it stands in `provider`, `target` and `key`."""

    number: int
    id: str
    at: str
    method: str
    path: str
    status: int
    outcome: str
    took_ms: float
    wait_ms: float = 0
    model: str | None = None
    stream: bool = False
    provider: str | None = None
    target: str | None = None
    key: str | None = None
    attempts: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    trail: tuple[Step, ...] = ()


class Curves(msgspec.Struct):
    """Second by second, the oldest first, without the one that still runs: requests that ended, how many of them in
    an error, and their mean wait for quota in milliseconds."""

    requests: list[int]
    errors: list[int]
    wait_ms: list[int]


class LastError(NamedTuple):
    """The last failure of a key at a target, and when that was (Unix ns)."""

    reason: str
    status: int | None
    at_ns: int
