"""Families that count: requests, attempts, waits, durations and tokens, as tally.py holds them."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.core.exposition import Family, Page, counter, timing
from sidecar.core.faults import fault_of
from sidecar.core.metrics import Live, Part
from sidecar.core.tally import DURATION, FIRST_CHUNK, OVERHEAD, TOKENS, WAIT, Histogram

_SLICE = 256  # samples between two steps

REQUESTS = counter(
    "sidecar_requests_total",
    ("route", "provider", "key", "outcome", "fault"),
    "Requests that ended, by the provider and the key that were asked last (empty: nobody was)",
)
ATTEMPTS = counter(
    "sidecar_attempts_total",
    ("provider", "key", "reason", "fault"),
    "Attempts at a provider, by what became of them (`ok`: an answer)",
)
WAITS = timing(
    "sidecar_wait_seconds", ("route",), WAIT, "How long requests were held for quota, most of them not at all"
)
OVERHEADS = timing(
    "sidecar_overhead_seconds",
    ("route",),
    OVERHEAD,
    "What the sidecar adds: from arrival to the first attempt less the wait, and from a whole answer to its delivery",
)
_OPERATION = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
DURATIONS = timing(
    "gen_ai_client_operation_duration_seconds",
    (*_OPERATION, "error_type"),
    DURATION,
    "How long requests took that went to a provider, waiting and all attempts included (OpenTelemetry)",
)
FIRST_CHUNKS = timing(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    _OPERATION,
    FIRST_CHUNK,
    "Time to first token of streamed requests, from their arrival here to the first content (OpenTelemetry)",
)
TOKEN_USAGE = Family(
    "gen_ai_client_token_usage",
    "histogram",
    (*_OPERATION, "gen_ai_token_type"),
    "Tokens of delivered answers as providers report them, `input` or `output` (OpenTelemetry)",
    TOKENS,
)
BILLED = counter(
    "sidecar_tokens_total",
    ("type",),
    "Tokens as providers report them, `input` or `output`, also of answers that were not delivered: what is billed",
)
UNREPORTED = counter(
    "sidecar_answers_without_usage_total",
    (),
    "Answers of a model that reported no usage; their tokens are unknown, and counted nowhere as 0",
)
AMBIGUOUS = counter(
    "sidecar_ambiguous_failures_total",
    (),
    "Connections lost when a request was sent and no status had come: it may have been served, and billed",
)


def _requests(live: Live, page: Page) -> Iterable[None]:
    for at, (labels, count) in enumerate(list(live.tally)):
        if at % _SLICE == _SLICE - 1:
            yield
        route, provider, key, outcome = labels
        page.add(REQUESTS, (route, provider, key, outcome, fault_of(outcome)), count)
    for at, (tried, made) in enumerate(list(live.tally.attempts.by_labels.items())):
        if at % _SLICE == _SLICE - 1:
            yield
        if made.count:
            page.add(ATTEMPTS, (*tried, fault_of(tried.reason)), made.count)
    page.add(AMBIGUOUS, (), live.ambiguous)


def _times(live: Live, page: Page) -> Iterable[None]:
    tally = live.tally
    _histograms(page, WAITS, tally.wait.by_labels.items())
    _histograms(page, OVERHEADS, tally.overhead.by_labels.items())
    yield
    _histograms(page, DURATIONS, [((*asked, error), each) for (asked, error), each in tally.duration.by_labels.items()])
    _histograms(page, FIRST_CHUNKS, tally.first_chunk.by_labels.items())


def _tokens(live: Live, page: Page) -> Iterable[None]:
    _histograms(
        page, TOKEN_USAGE, [((*asked, kind), each) for (asked, kind), each in live.tally.tokens.by_labels.items()]
    )
    page.add(BILLED, ("input",), live.totals.input_tokens)
    page.add(BILLED, ("output",), live.totals.output_tokens)
    page.add(UNREPORTED, (), live.totals.unknown_answers)
    return ()


def _histograms(page: Page, family: Family, told: Iterable[tuple[tuple[str, ...], Histogram]]) -> None:
    for labels, histogram in told:
        if any(histogram.counts):
            page.add_histogram(family, labels, histogram.counts, histogram.total)


PARTS = (
    Part("Requests and attempts", (REQUESTS, ATTEMPTS, AMBIGUOUS), _requests),
    Part("Times", (WAITS, OVERHEADS, DURATIONS, FIRST_CHUNKS), _times),
    Part("Tokens", (TOKEN_USAGE, BILLED, UNREPORTED), _tokens),
)
