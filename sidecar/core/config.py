"""What an operator can say, as frozen values: every field once, with its default and the reason for it.

These structs are the only list of fields. The shape of a tree is checked against them (config_shape.py), what fields
mean together in config_problems.py; `conf/everything.yaml` and `docs/configuration.md` are held to them by tests.
Knows no file, no environment and no secret: a key is named here (`env`, `file`), its characters live in secret.py.
A field is added on the day it does something (design.md sections 3 and 6). Durations are int nanoseconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, field

from sidecar.core.limits import DAY, MINUTE, SECOND

_MILLISECOND = SECOND // 1000
_MIB = 1 << 20

# `kind` names the reader of a text in config_shape.py. A year and a tebibyte keep every sum within 64 bits.
Duration = Annotated[int, Meta(gt=0, le=366 * DAY, extra={"kind": "duration"})]
DurationOrZero = Annotated[int, Meta(ge=0, le=366 * DAY, extra={"kind": "duration"})]
Size = Annotated[int, Meta(gt=0, le=1 << 40, extra={"kind": "size"})]
Count = Annotated[int, Meta(gt=0, le=10**15)]
Name = Annotated[str, Meta(extra={"kind": "name"})]
ModelId = Annotated[str, Meta(extra={"kind": "model"})]


ANY = "*"  # every address of the machine, of IPv4 and, where it exists, of IPv6


class Address(msgspec.Struct, frozen=True):
    """Where to listen: an IP address without brackets, or `*`, and a port (0 = any free one).

    `is_optional`: added by us beside 127.0.0.1, so skipped without complaint where IPv6 does not exist.
    """

    host: str
    port: int
    is_optional: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# One text or a list of them; an address given alone brings its IPv6 twin.
Addresses = Annotated[
    tuple[Annotated[Address, Meta(extra={"kind": "address"})], ...], Meta(extra={"one_or_many": "address"})
]


class KeyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One credential of a provider: its label and where it is found. Exactly one of `env` and `file`."""

    name: Name
    env: str | None = None
    file: str | None = None
    account: Name | None = None  # its own name: keys are separate until told (or learned) otherwise


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one account may do with one model. A field that is absent is not limited here, and may be learned."""

    model: ModelId = "*"  # each model, with windows of its own: how most providers count
    account: Name | None = None  # every account of the provider
    pool: Name | None = None  # models do not share, unless the provider's page says so
    rpm: Count | None = None
    rph: Count | None = None
    rpd: Count | None = None
    tpm: Count | None = None
    tph: Count | None = None
    tpd: Count | None = None
    itpm: Count | None = None
    otpm: Count | None = None
    ash: Count | None = None  # seconds of audio per hour
    concurrency: Count | None = None


class ProviderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider: a name of the catalog, or any name with a `base_url`."""

    name: Name
    base_url: str | None = None  # the catalog's
    dialect: str | None = None  # the catalog's, else openai: what most compatible servers speak
    keys: tuple[KeyConfig, ...] = ()  # none is right for local servers alone
    limits: tuple[Limit, ...] = ()  # learned from headers and errors
    learn: bool = True  # a provider knows its own limits best, and changes them without telling


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public name, and the targets (`provider/model-id`) that serve it; the first is preferred."""

    name: ModelId
    chain: tuple[str, ...]


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a request may be held for quota (0 = not at all), and how many may be held at once."""

    max_ns: DurationOrZero = field(default=20 * SECOND, name="max")  # below the 60 s where many callers give up
    queue: Annotated[int, Meta(ge=0, le=10**6)] = 1000  # a minute's worth at 1000 requests/min; bounded, so bursts end


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens after a failure. Attempts count the first try, over all targets."""

    attempts: Annotated[int, Meta(ge=1, le=100)] = 6  # a chain of three targets, each tried twice
    base_ns: Duration = field(default=250 * _MILLISECOND, name="base")  # longer than a blip, shorter than patience
    cap_ns: Duration = field(default=10 * SECOND, name="cap")  # later than that, other targets are the better answer
    budget: Annotated[float, Meta(ge=0, le=1)] = 0.1  # a tenth more load cannot topple a struggling provider
    ambiguous: Literal["fallback", "fail"] = "fallback"  # paying twice now and then hurts less than failing
    strict: bool = False  # fields that a target does not take are dropped and named, not refused


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long each step may take. headers, first_content and idle bound streamed requests, answer plain ones."""

    connect: Duration = 2 * SECOND  # one lost SYN is sent again after 1 s
    headers: Duration = 30 * SECOND  # streams answer at once; queues of busy providers stay below this
    first_content: Duration = 60 * SECOND  # reasoning models think before they speak
    idle: Duration = 60 * SECOND  # providers send keep-alive comments far more often
    answer: Duration = 5 * MINUTE  # a long plain completion comes all at once
    total: Duration = 10 * MINUTE  # the official SDKs give up at ten minutes
    ping: Duration | None = None  # on loopback nobody cuts a silent connection, and a ping commits to a 200
    client_headers: Duration = 10 * SECOND  # a neighbour on loopback needs none; a slow loris is cut off
    client_body: Duration = 30 * SECOND  # 64 MiB at 17 Mbit/s
    client_idle: Duration = 5 * MINUTE  # SDK pools keep connections for minutes


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on one request's body."""

    max_bytes: Size = 64 * _MIB  # twice the largest request a provider takes (32 MB at Anthropic)


class Inflight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on all requests together; beyond them 503 at once."""

    max: Annotated[int, Meta(ge=1, le=10**6)] = 4000  # each holds two sockets, and many systems allow 10,000 open files
    bytes: Size = 256 * _MIB  # what a small container has to spare


class Hedge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a second target is asked when the first is slow."""

    after: Duration | None = None  # both are charged: who wants to pay for speed says so


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who resolves names: c-ares with the system's resolver behind it, or the system's alone."""

    resolver: Literal["auto", "system"] = "auto"  # c-ares needs no threads; the system knows mDNS, NIS and VPNs


class Cache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers kept for those who ask the same again."""

    enabled: bool = False  # an answer may depend on the day it is asked; only the operator knows
    ttl: Duration = 60 * MINUTE  # a run of tests or an agent's loop asks again within the hour
    max_bytes: Size = 64 * _MIB  # as much again as the process itself takes
    only_deterministic: bool = True  # who asks for variety wants another answer each time


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where quotas, benches and what was learned outlive the process: an SQLite file; None: nowhere."""

    path: str | None = None  # a container often has no disk to write to, and the first answers teach most of it again


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests leave a line in the log. What did not end well, or needed more than one attempt, always does."""

    sample: Annotated[float, Meta(ge=0, le=1)] = 1.0  # a line costs less than the request it is about
    slow: DurationOrZero = 30 * SECOND  # longer than nearly every answer: somebody will ask why


class Traces(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where spans of requests and attempts go, and of how many."""

    endpoint: str | None = None  # tracing needs a collector and an extra package, and takes time
    sample: Annotated[float, Meta(ge=0, le=1)] = 1.0  # of traces that begin here; a caller decides on its own


class TokenRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one token that callers must send is found. Exactly one of `env` and `file`."""

    env: str | None = None
    file: str | None = None


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many sidecars that use the same accounts share their limits: over a ledger, or each a fixed part."""

    url: str | None = None  # one sidecar beside one application shares with nobody
    # without `url` each takes limit / replicas; with it, what is assumed until the store has told how many there are
    replicas: Annotated[int, Meta(ge=1, le=10**5)] = 1
    password: TokenRef | None = None  # what is only reachable by friends often has none
    prefix: Name = "sidecar"  # of all keys: fleets of different accounts may use one store


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. Without tokens everyone who reaches the port, which is why that is allowed on loopback alone."""

    tokens: tuple[TokenRef, ...] = ()
    hosts: tuple[str, ...] = ()  # localhost and IP addresses are always right; another name may be a rebound one
    origins: tuple[str, ...] = ()  # no web page may spend the operator's quota


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything an operator said, complete with defaults."""

    # 127.0.0.1 and ::1, because `localhost` is either, depending on the caller's resolver (C15)
    listen: Addresses = (Address("127.0.0.1", 8787), Address("::1", 8787, is_optional=True))
    admin: Annotated[Address, Meta(extra={"kind": "address"})] = Address("127.0.0.1", 8788)  # beside the data port
    providers: tuple[ProviderConfig, ...] = ()
    models: tuple[ModelConfig, ...] = ()  # providers' own model ids work without
    wait: Wait = Wait()
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    body: Body = Body()
    inflight: Inflight = Inflight()
    hedge: Hedge = Hedge()
    dns: Dns = Dns()
    cache: Cache = Cache()
    state: State = State()
    log: Log = Log()
    traces: Traces = Traces()
    share: Share = Share()
    auth: Auth = Auth()


class KnownProvider(NamedTuple):
    """What a configuration may leave out for a provider of the catalog."""

    keyless: bool  # needs no credential: Ollama, vLLM
    has_base_url: bool


class Known(NamedTuple):
    """What a configuration is checked against."""

    providers: Mapping[str, KnownProvider]
    dialects: frozenset[str]
    can_trace: bool = True  # OpenTelemetry is installed


class Problem(NamedTuple):
    """One thing that is wrong. Never holds a value that may be a secret."""

    path: str  # as in `providers[0].keys[1].file`; empty for the whole
    message: str
    hint: str = ""  # the remedy, or the nearest known field


def is_loopback(address: Address) -> bool:
    """Whether only processes of this machine can reach the address."""
    return address.host == "::1" or address.host.startswith("127.")


__all__ = [
    "ANY",
    "Address",
    "Auth",
    "Body",
    "Cache",
    "Config",
    "Dns",
    "Hedge",
    "Inflight",
    "KeyConfig",
    "Known",
    "KnownProvider",
    "Limit",
    "Log",
    "ModelConfig",
    "Problem",
    "ProviderConfig",
    "Retry",
    "Share",
    "State",
    "Timeouts",
    "TokenRef",
    "Traces",
    "Wait",
    "is_loopback",
]
