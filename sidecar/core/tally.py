"""What has been served, in plain integers: requests and attempts by outcome, and how long they took.

One `note` for each request, at its end: a look-up of the series it belongs to and a handful of additions; nothing is
formatted, and no label is built, before somebody scrapes (metrics_traffic.py). Labels are names of the configuration
and of the catalog, and closed sets of our own: what a caller may choose freely counts as `other` (acceptance I1).
`note` is the only place outside access.py that reads a Record.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Generic, NamedTuple, TypeVar

from sidecar.core.errors import Refusal
from sidecar.core.limits import SECOND
from sidecar.core.outcomes import Outcome
from sidecar.core.paths import Endpoint, Kind, resolve
from sidecar.core.record import Record
from sidecar.core.snapshot import Snapshot

OTHER: Final = "other"  # what is no name of ours
NAMELESS: Final = "none"  # a request that names no model
_MOST_FOUND: Final = 4096  # combinations that are known by heart; of what callers choose freely there is no end


def _seconds(*bounds: float) -> tuple[int, ...]:
    return tuple(round(bound * SECOND) for bound in bounds)


# OpenTelemetry, semantic conventions for generative AI metrics: the buckets each of these three should have
DURATION: Final = _seconds(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_CHUNK: Final = _seconds(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
TOKENS: Final = tuple(4**power for power in range(14))
# most requests do not wait at all; `wait.max` is 20 s by default, and callers give up at a minute
WAIT: Final = _seconds(0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)
# ours is a tenth of a millisecond on an idle machine; beyond 50 ms something is wrong
OVERHEAD: Final = _seconds(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Counter:
    """How often."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __repr__(self) -> str:
        return f"<Counter {self.count}>"


@functools.cache
def _first_buckets(bounds: tuple[int, ...]) -> list[int]:
    """Where to look for a value of so many bits: the bucket of the least of them."""
    return [0, *(bisect_left(bounds, 1 << bits) for bits in range(bounds[-1].bit_length()))]


class Histogram:
    """How much, in buckets of fixed upper bounds; the last bucket has none. Values and bounds in the same unit."""

    __slots__ = ("_first", "bounds", "counts", "total")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self._first = _first_buckets(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def note(self, value: int) -> None:
        """One more value. A bound belongs to the bucket below it."""
        bounds, bits = self.bounds, value.bit_length()
        bucket, last = 0, len(bounds)
        if value > 0:
            bucket = self._first[bits] if bits < len(self._first) else last
        while bucket < last and bounds[bucket] < value:
            bucket += 1
        self.counts[bucket] += 1
        self.total += value

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} values, {self.total} in all>"


class RequestLabels(NamedTuple):
    """`provider` and `key`: who was asked last; empty where nobody was."""

    route: str
    provider: str
    key: str
    outcome: str


class AttemptLabels(NamedTuple):
    """`reason`: the outcome of the attempt."""

    provider: str
    key: str
    reason: str


class Operation(NamedTuple):
    """What was asked of whom, in the words of OpenTelemetry. `model` is a route."""

    name: str
    provider: str
    model: str


class Ended(NamedTuple):
    """An operation and how it ended. `error` is empty when it went well."""

    operation: Operation
    error: str


L = TypeVar("L", bound=tuple[object, ...])


class Counters(Generic[L]):
    """Counters by their labels."""

    __slots__ = ("by_labels",)

    def __init__(self) -> None:
        self.by_labels: dict[L, Counter] = {}

    def of(self, labels: L) -> Counter:
        """The one with those labels, made on first use."""
        return self.by_labels.get(labels) or self.by_labels.setdefault(labels, Counter())


class Histograms(Generic[L]):
    """Histograms of the same bounds by their labels."""

    __slots__ = ("bounds", "by_labels")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.by_labels: dict[L, Histogram] = {}

    def of(self, labels: L) -> Histogram:
        """The one with those labels, made on first use."""
        return self.by_labels.get(labels) or self.by_labels.setdefault(labels, Histogram(self.bounds))


class _Series:
    """All that one kind of request adds to."""

    __slots__ = ("attempts", "duration", "first_chunk", "input", "output", "overhead", "requests", "wait")

    def __init__(self, tally: Tally, labels: RequestLabels, operation: str) -> None:
        route, provider, key, outcome = labels
        asked = Operation(operation, provider, route)
        self.requests = tally.requests.of(labels)
        self.wait = tally.wait.of((route,))
        # what nobody was asked for has no attempts, and is no operation of a provider
        self.attempts = tally.attempts.of(AttemptLabels(provider, key, outcome)) if provider else Counter()
        error = "" if outcome == Outcome.OK.value else outcome
        self.duration = tally.duration.of(Ended(asked, error)) if provider else Histogram(DURATION)
        self.first_chunk = tally.first_chunk.of(asked) if provider else Histogram(FIRST_CHUNK)
        self.overhead = tally.overhead.of((route,)) if provider else Histogram(OVERHEAD)
        self.input = tally.tokens.of((asked, "input")) if provider else Histogram(TOKENS)
        self.output = tally.tokens.of((asked, "output")) if provider else Histogram(TOKENS)


class Tally:
    """Everything served since the start, by labels of the configuration."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._found: dict[tuple[object, ...], _Series] = {}  # by what records hold; of that there is no end
        self._series: dict[tuple[RequestLabels, str], _Series] = {}  # by labels and operation
        self.requests: Counters[RequestLabels] = Counters()
        self.attempts: Counters[AttemptLabels] = Counters()
        self.wait: Histograms[tuple[str]] = Histograms(WAIT)
        self.overhead: Histograms[tuple[str]] = Histograms(OVERHEAD)
        self.duration: Histograms[Ended] = Histograms(DURATION)
        self.first_chunk: Histograms[Operation] = Histograms(FIRST_CHUNK)
        self.tokens: Histograms[tuple[Operation, str]] = Histograms(TOKENS)

    def note(self, record: Record, now_ns: int) -> None:
        """A request is over, however it went."""
        name = (record.path, record.model, record.provider, record.key, record.outcome, record.method)
        series = self._found.get(name) or self._find(name, record)
        series.requests.count += 1
        if record.wait_ns:
            series.wait.note(record.wait_ns)
        else:
            series.wait.counts[0] += 1  # as `note` would
        if record.trail:
            for step in record.trail:
                provider = step.target.partition("/")[0]
                self.attempts.of(AttemptLabels(provider, step.key, step.reason)).count += 1
        if record.provider is None:
            return
        # those that failed are in the trail, what became of the others is what became of the request
        made = record.attempts - len(record.trail) if record.trail else record.attempts
        if made > 0:
            series.attempts.count += made
        series.duration.note(now_ns - record.arrived_ns)
        overhead = record.overhead_ns(now_ns)
        if overhead is not None:
            series.overhead.note(overhead)
        if record.is_streamed and record.content_ns is not None:
            series.first_chunk.note(record.content_ns - record.arrived_ns)
        usage = record.usage
        if usage is not None:
            series.input.note(usage.input_tokens)
            series.output.note(usage.output_tokens)

    def reload(self, snapshot: Snapshot) -> None:
        """Another configuration: its names are labels from now on, and what is gone from it is told no more."""
        self._snapshot = snapshot
        self._found.clear()
        self._series.clear()
        keys = {(key.provider, key.name) for key in snapshot.each_key()}
        for labels in [each for each in self.requests.by_labels if each.provider and each[1:3] not in keys]:
            del self.requests.by_labels[labels]
        for gone in [each for each in self.attempts.by_labels if each[:2] not in keys]:
            del self.attempts.by_labels[gone]

    def route(self, model: str | None) -> str:
        """The name under which requests for that model count."""
        if not model:
            return NAMELESS
        snapshot = self._snapshot
        if model in snapshot.chains or snapshot.is_known(model):
            return model
        provider, _, own_id = model.partition("/")
        return model if own_id and provider in snapshot.providers and snapshot.is_known(own_id) else OTHER

    def __iter__(self) -> Iterator[tuple[RequestLabels, int]]:
        """Every count of requests."""
        return ((labels, counter.count) for labels, counter in self.requests.by_labels.items())

    def _find(self, name: tuple[object, ...], record: Record) -> _Series:
        labels = RequestLabels(self.route(record.model), record.provider or "", record.key or "", record.outcome)
        asked = operation(record.method, record.path)
        series = self._series.get((labels, asked))
        if series is None:
            series = self._series[labels, asked] = _Series(self, labels, asked)
        if len(self._found) >= _MOST_FOUND:
            self._found.clear()
        self._found[name] = series
        return series

    def __repr__(self) -> str:
        return f"<Tally of {sum(count for _, count in self)} requests in {len(self.requests.by_labels)} series>"


# OpenTelemetry's words where it has one (`gen_ai.operation.name`)
_OPERATIONS: Final = {
    Endpoint.CHAT: "chat",
    Endpoint.RESPONSES: "chat",
    Endpoint.COMPLETIONS: "text_completion",
    Endpoint.EMBEDDINGS: "embeddings",
    Endpoint.TRANSCRIPTIONS: "transcription",
    Endpoint.SPEECH: "speech",
    Endpoint.MODELS: "models",
    Endpoint.MODEL: "models",
    Endpoint.OTHER: OTHER,
}
_NATIVE: Final = {
    b"messages": "chat",  # Anthropic
    b"completions": "chat",
    b"chat": "chat",  # Cohere
    b"embeddings": "embeddings",
    b"generateContent": "generate_content",  # Gemini
    b"streamGenerateContent": "generate_content",
    b"embedContent": "embeddings",
}
OPERATIONS: Final = tuple(dict.fromkeys((*_OPERATIONS.values(), *_NATIVE.values())))


def operation(method: bytes, target: bytes) -> str:
    """What a request asks for."""
    surface = resolve(method, target)
    if isinstance(surface, Refusal):
        return OTHER
    if surface.kind is Kind.OPENAI:
        return _OPERATIONS[surface.endpoint]
    last = surface.path.rpartition(b"/")[2]
    return _NATIVE.get(last.rpartition(b":")[2], OTHER)
