"""The table of provider errors: what a status with a body is, whom it reaches, how long (providers.md section 20).

The first row that matches decides; the order is part of the table. Where the fact sheet and the acceptance rows H2, H3,
H5 and B9 differ, those win. A text alone condemns a key only where it opens the message, because providers quote the
caller's words further on, and no caller shall switch a key off by what it writes. Refuses to know headers and time.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from sidecar.core.limits import DAY, HOUR, SECOND
from sidecar.core.outcomes import Outcome, Scope


class Until(enum.Enum):
    """How long a row benches its scope."""

    NEVER = "not at all"
    WINDOW = "as the provider says, else by the window it names"
    STATED = "as the provider says, else the row's own time, if it has one"
    AT_LEAST = "the row's own time, or longer if the provider says so"


class Trait(enum.Enum):
    """What only a comparison of an error's parts can show (feedback.py)."""

    NEVER_FITS = "the request alone exceeds the limit that refused it"
    NO_ALLOWANCE = "the limit is 0"
    RELAYED = "another provider behind this one refused"


class Case(NamedTuple):
    """What rows are matched against. `names` in lower case."""

    dialect: str
    status: int
    names: frozenset[str]
    text: str
    traits: frozenset[Trait]


class Row(NamedTuple):
    """Statuses, dialects and trait must all match where given, and of names and text one."""

    outcome: Outcome
    scope: Scope
    until: Until
    bench_ns: int | None = None
    statuses: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()
    text: re.Pattern[str] | None = None
    dialects: frozenset[str] = frozenset()
    trait: Trait | None = None

    def matches(self, case: Case) -> bool:
        """Whether this row is about that case."""
        if self.statuses and case.status not in self.statuses:
            return False
        if self.dialects and case.dialect not in self.dialects:
            return False
        if self.trait is not None and self.trait not in case.traits:
            return False
        return self._is_named(case)

    def _is_named(self, case: Case) -> bool:
        if not self.names and self.text is None:
            return True
        return not self.names.isdisjoint(case.names) or (
            self.text is not None and self.text.search(case.text) is not None
        )


def classify_case(case: Case) -> Row:
    """The first row about that case; there is always one."""
    return next((row for row in ROWS if row.matches(case)), _CALLERS_FAULT)


# Unpaid: money arrives when a person acts. At most 4 wasted calls a day (H2 allows one an hour).
_UNPAID_NS = 6 * HOUR
# Forbidden: rights are changed by a person as well, but at their desk, with this log before them.
_FORBIDDEN_NS = HOUR
_RETIRED_NS = DAY  # H5
# Concurrency: a slot frees whenever any request ends.
CROWDED_NS = SECOND


def _statuses(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _text(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.ASCII)


_REFUSED = _statuses(400, 401, 403, 412, 422, 429)
_NO_SUCH_MODEL = _statuses(400, 404, 410, 422)
_LIMITED = _statuses(413, 429)

_TOO_LARGE = Row(Outcome.TOO_LARGE, Scope.REQUEST, Until.NEVER)
_INVALID = Row(Outcome.KEY_INVALID, Scope.KEY, Until.NEVER)
_UNPAID = Row(Outcome.KEY_UNPAID, Scope.KEY, Until.AT_LEAST, _UNPAID_NS)
_FORBIDDEN = Row(Outcome.KEY_FORBIDDEN, Scope.KEY_MODEL, Until.AT_LEAST, _FORBIDDEN_NS)
_NO_MODEL = Row(Outcome.MODEL_UNAVAILABLE, Scope.TARGET, Until.AT_LEAST, _RETIRED_NS)
# Parks nothing: the model is there, but not for what this request asks of it (tools, another endpoint).
_NOT_FOR_THIS = Row(Outcome.MODEL_UNAVAILABLE, Scope.REQUEST, Until.NEVER)
# Without a time no bench: one busy answer among many is about one machine of theirs. Several are the breaker's.
_BUSY = Row(Outcome.BUSY, Scope.TARGET, Until.STATED)
_CROWDED = Row(Outcome.CONCURRENCY, Scope.QUOTA, Until.STATED, CROWDED_NS)
_SPENT = Row(Outcome.RATE_LIMITED, Scope.QUOTA, Until.WINDOW)
_FAILED = Row(Outcome.SERVER_ERROR, Scope.TARGET, Until.STATED)
_CALLERS_FAULT = Row(Outcome.BAD_REQUEST, Scope.REQUEST, Until.NEVER)

ROWS = (
    # the key or the account
    _INVALID._replace(statuses=_statuses(401)),
    _INVALID._replace(
        statuses=_REFUSED,
        names=_names("api_key_invalid invalid_api_key"),
        text=_text(
            r"^(?:incorrect api key provided|api key (?:not valid|expired)|invalid api key|your api key was reported)"
        ),
    ),
    _UNPAID._replace(statuses=_statuses(402)),
    _UNPAID._replace(statuses=_statuses(412), dialects=_names("fireworks")),  # account suspended
    _UNPAID._replace(
        statuses=_REFUSED,
        names=_names(
            "insufficient_quota payment_required payment_required_error payment_method_required billing_error"
            " billing_hard_limit_reached insufficient_balance enforced_spend_limit enforced_spend_limit_reached"
        ),
        text=_text(
            r"^your team .{0,80}?(?:used all available credits|reached its monthly spending limit"
            r"|doesn't have any credits)|^your credit balance is too low|^insufficient balance"
        ),
    ),
    _UNPAID._replace(statuses=_statuses(429), dialects=_names("mistral"), trait=Trait.NO_ALLOWANCE),
    # elsewhere a limit of 0 is the plan's for this model alone
    _UNPAID._replace(statuses=_statuses(429), scope=Scope.KEY_MODEL, trait=Trait.NO_ALLOWANCE),
    # this request
    _TOO_LARGE._replace(statuses=_statuses(413)),
    _TOO_LARGE._replace(statuses=_LIMITED, trait=Trait.NEVER_FITS),
    _TOO_LARGE._replace(
        statuses=_LIMITED, text=_text(r"^request too large\b|\bexpected output tokens exceed the enforced limit")
    ),
    _TOO_LARGE._replace(
        statuses=_statuses(400, 422, 500),
        names=_names("context_length_exceeded exceed_context_size_error request_too_large"),
        text=_text(
            r"\b(?:maximum|max|model's) context length\b|^prompt is too long\b|^prompt too long\b"
            r"|exceeds the available context size|exceeds the maximum number of tokens|^token limit reached"
            r"|reduce the length of the messages"
        ),
    ),
    _CALLERS_FAULT._replace(
        statuses=_statuses(403),
        names=_names("content_policy_violation content_filter moderation_error"),
        text=_text(r"\bmoderation\b|\bflagged\b|\bcontent (?:policy|management|filter)"),
    ),
    _FORBIDDEN._replace(
        statuses=_statuses(400, 403),
        scope=Scope.KEY,
        names=_names("unsupported_country_region_territory"),
        text=_text(r"^user location is not supported"),
    ),
    _FORBIDDEN._replace(statuses=_statuses(403)),
    # the model
    # the account's own settings bar the model
    _FORBIDDEN._replace(statuses=_statuses(404), text=_text(r"^no endpoints found matching your data policy\b")),
    _NOT_FOR_THIS._replace(
        statuses=_NO_SUCH_MODEL, text=_text(r"^no endpoints found that\b|^this is not a chat model\b")
    ),
    _NOT_FOR_THIS._replace(statuses=_statuses(501)),
    _NO_MODEL._replace(statuses=_statuses(410)),
    _NO_MODEL._replace(
        statuses=_NO_SUCH_MODEL,
        names=_names(
            "model_not_found model_archived model_archived_error model_decommissioned model_deprecated"
            " deploymentnotfound invalid_model unknown_model"
        ),
        text=_text(
            r"^(?:the (?:requested )?)?model[ :].{0,200}?(?:\bnot found\b|\bnot exist\b|\bwas deprecated\b"
            r"|\bhas been (?:decommissioned|deprecated|retired)\b|\bis archived\b)"
            r"|^models/\S{1,200} is not found\b|^model not (?:found|exist)|^\S{1,200} is not a valid model\b"
            r"|^no endpoints found for\b|^the supported api model names are\b|^(?:unknown|invalid) model\b"
        ),
    ),
    _NO_MODEL._replace(statuses=_statuses(404), dialects=_names("anthropic"), text=_text(r"^model: ")),
    Row(Outcome.NOT_FOUND, Scope.REQUEST, Until.NEVER, statuses=_statuses(404)),
    # capacity
    _BUSY._replace(statuses=_statuses(498, 503, 529)),
    _BUSY._replace(
        statuses=_statuses(429, 500, 502),
        names=_names(
            "queue_exceeded engine_overloaded overloaded overloaded_error capacity_exceeded"
            " service_tier_capacity_exceeded unavailable"
        ),
        text=_text(
            r"^overloaded\b|\bmodel is (?:currently )?overloaded\b|^model (?:is )?busy\b|\bexperiencing high traffic\b"
            r"|\bduring peak load\b|\bgenerate first token before the given deadline\b|^service overloaded\b"
        ),
    ),
    _BUSY._replace(statuses=_statuses(429), trait=Trait.RELAYED),
    # the quota
    _CROWDED._replace(statuses=_statuses(429), dialects=_names("deepinfra deepseek")),  # they have no other limit
    _CROWDED._replace(statuses=_statuses(429), text=_text(r"\bconcurren|\bsimultaneous|\bparallel requests\b")),
    _SPENT._replace(statuses=_statuses(429)),
    # the server. 408, 425, 499: it gave up before it answered; 421: the wrong connection. Another may do better.
    _FAILED._replace(statuses=_statuses(408, 421, 425, 499)),
    _FAILED._replace(statuses=frozenset(range(500, 1000))),
    # all other 4xx. 409 too: it is about the state of an object, and the caller's own SDK repeats it.
    _CALLERS_FAULT,
)

# The status that a bare type or code stands for, where an error comes inside a 200 and names none.
STATUS_OF_NAME = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "rate_limited": 429,
    "resource_exhausted": 429,
    "overloaded_error": 529,
    "engine_overloaded": 503,
    "timeout_error": 504,
    "api_error": 500,
    "server_error": 500,
    "invalid_request_error": 400,
}
