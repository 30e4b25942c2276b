"""What the cache did, by the model that callers named: plain counts that only grow, for whoever shows them.

A caller can name any model, so names beyond a thousand share one count. `bytes` and `entries` are what is kept now.
"""

from __future__ import annotations

import msgspec

_MOST_MODELS = 1000
OTHERS = "(others)"


class ModelCounts(msgspec.Struct, gc=False):
    """Of one model. `hits`: answered by what was kept; `coalesced`: by an answer that another request was getting;
    `bypasses`: not looked up; `saved_...`: what hits and coalesced requests would have cost of the quota, as the
    provider reported it for the answer they got."""

    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    coalesced: int = 0
    stored: int = 0
    evictions: int = 0
    expired: int = 0
    saved_requests: int = 0
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    entries: int = 0
    bytes: int = 0

    def save(self, input_tokens: int, output_tokens: int) -> None:
        """One request less of the quota."""
        self.saved_requests += 1
        self.saved_input_tokens += input_tokens
        self.saved_output_tokens += output_tokens


class CacheCounts(msgspec.Struct):
    """Of all models, by name ('' for requests without one)."""

    models: dict[str, ModelCounts] = {}

    def of(self, model: str | None) -> ModelCounts:
        """The counts of a model."""
        name = model or ""
        counts = self.models.get(name)
        if counts is None:
            if len(self.models) >= _MOST_MODELS:
                name = OTHERS
            counts = self.models.setdefault(name, ModelCounts())
        return counts


class CacheStatus(msgspec.Struct, omit_defaults=True):
    """As `/status.json` tells it. `bytes`: of what is kept, `in_flight_bytes`: of answers under way, both within
    `max_bytes`; `path`: the file in which it outlives a restart, `problem`: why the file lacks something."""

    enabled: bool
    entries: int = 0
    bytes: int = 0
    in_flight_bytes: int = 0
    max_bytes: int = 0
    models: dict[str, ModelCounts] = {}
    path: str | None = None
    problem: str | None = None
