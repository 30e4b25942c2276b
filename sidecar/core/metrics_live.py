"""Families that show the present: quotas, keys, breakers, the waiting room, connections, the process.

Models that only callers name have no label (acceptance I1): what stands against them is told as `other`, their quotas
are only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sidecar.core.breaker import Breaker, State
from sidecar.core.exposition import Page, braced, counter, gauge, number
from sidecar.core.health import FOREVER_NS, Standing
from sidecar.core.limits import DAY, HOUR, MINUTE, SECOND, Axis
from sidecar.core.metrics import Live, Part
from sidecar.core.quota import Quota
from sidecar.core.snapshot import Snapshot
from sidecar.core.tally import OTHER

_SLICE = 32  # quotas or keys between two steps: well below a millisecond

_QUOTA = ("provider", "account", "model")
_WINDOW = (*_QUOTA, "counts", "window")
LIMIT = gauge("sidecar_quota_limit", (*_WINDOW, "source"), "The limit in force, and where it comes from")
REMAINING = gauge("sidecar_quota_remaining", _WINDOW, "What is left in the window now")
RESET = gauge("sidecar_quota_reset_seconds", _WINDOW, "How long until the window is whole again")
DRIFT = gauge(
    "sidecar_quota_drift_ratio",
    _WINDOW,
    "How far our count was from the provider's when it last told its own, as a part of the limit",
)
INFLIGHT = gauge("sidecar_quota_in_flight", _QUOTA, "Requests in flight there")
QUEUED = gauge("sidecar_quota_waiting", _QUOTA, "Requests that stand in its line; one may stand in several")
CAP = gauge("sidecar_quota_concurrency_limit", _QUOTA, "How many may be in flight, where that is known")
COOLDOWN = gauge(
    "sidecar_quota_cooldown_seconds", _QUOTA, "How long it is still not called, where the provider said so"
)
UNLISTED = gauge(
    "sidecar_quotas_unlisted", (), "Quotas of models that neither configuration nor catalog name; they have no series"
)

_COUNTS = tuple(axis.name.lower() for axis in Axis)  # by a member's number: to hash an enum's member is slow
_SPANS = {MINUTE: "1m", HOUR: "1h", DAY: "1d"}


def _quotas(live: Live, page: Page) -> Iterator[None]:
    unlisted = 0
    always = [page.lines(family).append for family in (LIMIT, REMAINING, RESET, INFLIGHT, QUEUED)]
    for at, quota in enumerate(list(live.roster.ledger)):
        if at % _SLICE == _SLICE - 1:
            yield
        if quota.spec.is_known:
            _quota(live, page, quota, always)
        else:
            unlisted += 1
    page.add(UNLISTED, (), unlisted)


def _quota(live: Live, page: Page, quota: Quota, always: list[Callable[[str], None]]) -> None:
    """Written out, without the care that `Page.add` takes: with a thousand keys this is nearly all there is."""
    now_ns = live.now_ns
    own = _own(quota.account, quota.model)
    limits, remaining, resets, in_flight, queued = always
    for axis, window_ns, limit, left, whole_ns, source, drift in quota.views(now_ns):
        of = f'{own},counts="{_COUNTS[axis]}",window="{_SPANS.get(window_ns) or _span(window_ns)}"'
        limits(f'sidecar_quota_limit{of},source="{source._value_}"}} {limit}')
        remaining(f"sidecar_quota_remaining{of}}} {left}")
        reset_ns = whole_ns - now_ns
        resets(f"sidecar_quota_reset_seconds{of}}} {reset_ns / 1e9 if reset_ns > 0 else 0:.3f}")
        if drift is not None:
            page.lines(DRIFT).append(f"sidecar_quota_drift_ratio{of}}} {drift / 1000}")
    in_flight(f"sidecar_quota_in_flight{own}}} {quota.inflight}")
    queued(f"sidecar_quota_waiting{own}}} {quota.line.waiting}")
    if quota.concurrency is not None:
        page.lines(CAP).append(f"sidecar_quota_concurrency_limit{own}}} {quota.concurrency}")
    if quota.cooldown_until > now_ns:
        left_s = number(_left(quota.cooldown_until, now_ns))
        page.lines(COOLDOWN).append(f"sidecar_quota_cooldown_seconds{own}}} {left_s}")


def _own(account: str, model: str) -> str:
    """The labels of a quota, with the bracket that opens them and without the one that closes."""
    provider, _, name = account.partition("/")
    return braced(_QUOTA, (provider, name, model))[:-1]


def _span(window_ns: int) -> str:
    return f"{window_ns // SECOND}s"


KEYS = gauge("sidecar_keys", ("provider",), "Keys that are configured")
USABLE = gauge("sidecar_keys_usable", ("provider",), "Keys that are there and that nothing is known against")
_KEY = ("provider", "key")
KEY_USABLE = gauge("sidecar_key_usable", _KEY, "1: the key is there and nothing is known against it; else 0")
KEY_BENCHED = gauge(
    "sidecar_key_benched_seconds",
    ("provider", "key", "reason"),
    "How long the key is not used; +Inf: until it changes. Absent while it is used",
)
KEY_MODEL_BENCHED = gauge(
    "sidecar_key_model_benched_seconds",
    ("provider", "key", "model", "reason"),
    "How long the key is not used for the model. Absent while it is used",
)
TARGET_BENCHED = gauge(
    "sidecar_target_benched_seconds",
    ("provider", "model", "reason"),
    "How long the model at the provider is not called. Absent while it is called",
)
BREAKER = gauge(
    "sidecar_breaker_state",
    ("provider", "model", "state"),
    "1 for the state that the breaker of the model at the provider is in: closed, open or half_open; else 0",
)
TRIPS = gauge(
    "sidecar_breaker_trips", ("provider", "model"), "How often the breaker has opened since it was last closed"
)
MERGED = gauge("sidecar_accounts_merged", (), "Accounts that turned out to be another one, since the start")


def _keys(live: Live, page: Page) -> Iterator[None]:
    roster, now_ns = live.roster, live.now_ns
    usable = page.lines(KEY_USABLE)
    for provider in list(roster.snapshot.providers.values()):
        count = 0
        for at, key in enumerate(provider.keys):
            if at % _SLICE == _SLICE - 1:
                yield
            standing = roster.health.keys.of(key.ident, now_ns)
            is_usable = key.is_present and standing.until_ns <= now_ns
            count += is_usable
            usable.append(f"sidecar_key_usable{braced(_KEY, (provider.name, key.name))} {int(is_usable)}")
            if standing.until_ns > now_ns:
                page.add(KEY_BENCHED, (provider.name, key.name, _cause(standing)), _left(standing.until_ns, now_ns))
        page.add(KEYS, (provider.name,), len(provider.keys))
        page.add(USABLE, (provider.name,), count)


def _benches(live: Live, page: Page) -> Iterator[None]:
    roster, now_ns = live.roster, live.now_ns
    longest: dict[tuple[str, ...], int] = {}
    for at, (name, standing) in enumerate(list(roster.health.targets.items())):
        if at % _SLICE == _SLICE - 1:
            yield
        provider, model = _target(roster.snapshot, name)
        if standing.until_ns > now_ns and provider:
            labels: tuple[str, ...] = (provider, model, _cause(standing))
            longest[labels] = max(longest.get(labels, 0), standing.until_ns)
    for at, (name, standing) in enumerate(list(roster.health.key_models.items())):
        if at % _SLICE == _SLICE - 1:
            yield
        ident, _, asked = name.partition(" ")
        provider, model = _target(roster.snapshot, f"{ident.partition('/')[0]}/{asked}")
        if standing.until_ns > now_ns and provider:
            labels = (provider, ident.partition("/")[2], model, _cause(standing))
            longest[labels] = max(longest.get(labels, 0), standing.until_ns)
    for labels, until_ns in longest.items():
        page.add(TARGET_BENCHED if len(labels) == 3 else KEY_MODEL_BENCHED, labels, _left(until_ns, now_ns))
    page.add(MERGED, (), roster.accounts.merged)


_GRAVITY = (State.CLOSED, State.HALF_OPEN, State.OPEN)


def _breakers(live: Live, page: Page) -> Iterator[None]:
    gravest: dict[tuple[str, str], Breaker] = {}
    for at, (name, breaker) in enumerate(list(live.roster.health.breakers.items())):
        if at % _SLICE == _SLICE - 1:
            yield
        target = _target(live.roster.snapshot, name)
        before = gravest.get(target)
        if target[0] and (before is None or _GRAVITY.index(before.state) < _GRAVITY.index(breaker.state)):
            gravest[target] = breaker
    for target, breaker in gravest.items():
        for state in State:
            page.add(BREAKER, (*target, state.value), int(breaker.state is state))
        page.add(TRIPS, target, breaker.trips)


def _target(snapshot: Snapshot, name: str) -> tuple[str, str]:
    """A target's labels; empty ones where its provider is configured no more."""
    provider, _, model = name.partition("/")
    if provider not in snapshot.providers:
        return "", ""
    return provider, model if snapshot.is_known(model) else OTHER


def _cause(standing: Standing) -> str:
    return "" if standing.cause is None else standing.cause.value


def _left(until_ns: int, now_ns: int) -> float:
    return float("inf") if until_ns >= FOREVER_NS else (until_ns - now_ns) // 1_000_000 / 1000


IN_FLIGHT = gauge("sidecar_requests_in_flight", (), "Requests inside, waiting ones included")
IN_FLIGHT_MOST = gauge("sidecar_requests_in_flight_limit", (), "`inflight.max`: beyond it callers are refused with 503")
BODY_BYTES = gauge("sidecar_body_bytes", (), "Bytes of the bodies of all requests in flight")
BODY_BYTES_MOST = gauge("sidecar_body_bytes_limit", (), "`inflight.bytes`: beyond it callers are refused with 503")
WAITING = gauge("sidecar_requests_waiting", (), "Requests that are held for quota")
WAITING_MOST = gauge("sidecar_requests_waiting_limit", (), "`wait.queue`: beyond it callers are refused with 429")
CONNECTIONS = gauge("sidecar_connections", ("state",), "Connections to providers: idle, leased or connecting")
RETRIES = gauge("sidecar_retries_last_minute", (), "Retries at the same target in the last minute")
RETRIES_MOST = gauge("sidecar_retries_allowed", (), "How many the retry budget allows in a minute at present traffic")

READY = gauge("sidecar_ready", (), "1: serving; 0: draining")
BUILD = gauge("sidecar_build_info", ("version",), "The version that runs; always 1")
CONFIG = gauge("sidecar_config_info", ("hash",), "The configuration in force; always 1")
CONFIG_ABSENT = gauge(
    "sidecar_config_absent",
    (),
    "1: the configuration file is not there yet, and requests get 503 (`serve --wait-for-config`); else 0",
)
EVENTS = counter("sidecar_events_total", ("event",), "Events in the log, by name")
STATE_SAVED = gauge(
    "sidecar_state_saved_timestamp_seconds", (), "When the state file last held the present; with `state.path`"
)
STATE_PROBLEM = gauge("sidecar_state_unsaved", (), "1: the state file cannot be written; with `state.path`")


def _room(live: Live, page: Page) -> Iterable[None]:
    for family, value in (
        (IN_FLIGHT, live.inside.requests),
        (IN_FLIGHT_MOST, live.inside.most_requests),
        (BODY_BYTES, live.inside.bytes),
        (BODY_BYTES_MOST, live.inside.most_bytes),
        (WAITING, live.waiting),
        (WAITING_MOST, live.most_waiting),
        (RETRIES, live.retries.made),
        (RETRIES_MOST, live.retries.allowed),
    ):
        page.add(family, (), value)
    for state, count in live.connections._asdict().items():
        page.add(CONNECTIONS, (state,), count)
    return ()


def _process(live: Live, page: Page) -> Iterable[None]:
    page.add(READY, (), int(live.is_ready))
    page.add(BUILD, (live.version,), 1)
    page.add(CONFIG, (live.config,), 1)
    page.add(CONFIG_ABSENT, (), int(live.is_config_absent))
    for event, count in live.events.items():
        page.add(EVENTS, (event,), count)
    if live.kept.is_configured:
        page.add(STATE_PROBLEM, (), int(live.kept.has_problem))
        if live.kept.saved_ns is not None:
            page.add(STATE_SAVED, (), live.kept.saved_ns // 1_000_000 / 1000)
    return ()


PARTS = (
    Part("Quotas", (LIMIT, REMAINING, RESET, DRIFT, INFLIGHT, QUEUED, CAP, COOLDOWN, UNLISTED), _quotas),
    Part("Keys", (KEYS, USABLE, KEY_USABLE, KEY_BENCHED), _keys),
    Part("What is not called", (TARGET_BENCHED, KEY_MODEL_BENCHED, MERGED), _benches),
    Part("Breakers", (BREAKER, TRIPS), _breakers),
    Part(
        "The room",
        (
            *(IN_FLIGHT, IN_FLIGHT_MOST, BODY_BYTES, BODY_BYTES_MOST, WAITING, WAITING_MOST),
            *(RETRIES, RETRIES_MOST, CONNECTIONS),
        ),
        _room,
    ),
    Part("The process", (READY, BUILD, CONFIG, CONFIG_ABSENT, EVENTS, STATE_SAVED, STATE_PROBLEM), _process),
)
