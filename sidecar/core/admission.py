"""AdmissionReview in, AdmissionReview out: what the API server asks about one pod, and the answer in its own terms.

What an answer means to the API server was seen on a real one and decides who is told (kubernetes conventions, B19):

- a user's error is `allowed: false` with a message: it fails the request whatever `failurePolicy` says;
- our own fault, and a review we cannot read, is an HTTP error, never `allowed`: then `failurePolicy` decides;
- no patch is sent where there is nothing to change, and a patch never without its `patchType`, which a server under
  `Ignore` would drop silently together with the patch.

The object stays the tree it came as: a field that we have never heard of is not lost. Knows no socket and no clock.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

import msgspec

from sidecar.core.injection import Verdict

API_VERSION = "admission.k8s.io/v1"
_KIND = "AdmissionReview"
_DONE = "already injected"  # core/injection.py's reason for a pod that has what it needs
_FORBIDDEN = 403  # as the API server's own admission plugins have it
_MOST_OF_A_WARNING = 240  # characters; servers may cut what is longer than 256
_MOST_WARNINGS = 10


class Result(Enum):
    """How an admission ended; the values are a metric's label."""

    INJECTED = "injected"
    UNCHANGED = "unchanged"  # asked again about a pod that has what it needs
    SKIPPED = "skipped"
    DENIED = "denied"
    MALFORMED = "malformed"  # HTTP 4xx: no AdmissionReview
    FAILED = "failed"  # HTTP 500: our fault


class Resource(msgspec.Struct, frozen=True):
    """What kind of thing a request is about."""

    resource: str
    group: str = ""
    version: str = ""


class Question(msgspec.Struct, frozen=True, rename="camel"):
    """The `request` of a review. `pod_tree` is its object, as it came."""

    uid: str
    resource: Resource
    operation: str
    pod_tree: dict[str, object] | None = msgspec.field(name="object", default=None)
    namespace: str = ""
    name: str = ""
    sub_resource: str = ""
    dry_run: bool | None = None

    @property
    def pod(self) -> str:
        """The pod as a log names it. A pod that a controller makes has no name yet, only the beginning of one."""
        metadata = (self.pod_tree or {}).get("metadata")
        fields = metadata if isinstance(metadata, dict) else {}
        name = self.name or fields.get("name") or f"{fields.get('generateName', '')}*"
        return f"{self.namespace}/{name}"[:512]


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: Question


class Answer(NamedTuple):
    """What goes back, and what is to be counted and logged. `body` is JSON where `status` is 200, else text."""

    status: int
    body: bytes
    result: Result
    pod: str = ""
    reason: str = ""  # why skipped (a small set), denied or malformed (free text)
    is_dry_run: bool = False


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """The log line of one admission."""

    time: str
    event: str
    result: str
    pod: str = ""
    reason: str = ""
    dry_run: bool = False
    duration_us: int = 0


_DECODER = msgspec.json.Decoder(_Review)


def read_review(body: bytes) -> Question | Answer:
    """The question in a body, or the HTTP error for a body that holds none."""
    try:
        review = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return malformed(400, f"not an AdmissionReview: {error}")
    except RecursionError:
        return malformed(400, "not an AdmissionReview: nested too deeply")
    if review.kind != _KIND or review.api_version != API_VERSION:
        return malformed(400, f"this webhook takes {_KIND} of {API_VERSION} only")
    return review.request


def malformed(status: int, message: str) -> Answer:
    """The HTTP error for what is no review."""
    return Answer(status, message.encode("utf-8", "replace") + b"\n", Result.MALFORMED, reason=message)


def failed(question: Question | None, error: Exception) -> Answer:
    """The answer to our own fault. What was wrong stays in our log: its text may hold parts of a pod."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
    reason = type(error).__name__ + where
    return Answer(500, b"the injector failed; see its log\n", Result.FAILED, question.pod if question else "", reason)


def answer_to(question: Question, inject: Callable[[Mapping[str, object], str], Verdict]) -> Answer:
    """The review that answers a question. `inject(pod, namespace)` decides; what it raises is raised on."""
    what = question.resource
    if (what.group, what.resource, question.sub_resource) != ("", "pods", "") or question.operation != "CREATE":
        return _allowed(question, Verdict(skip="not-a-pod-create"))
    if question.pod_tree is None:
        return malformed(400, "a CREATE without an object")
    verdict = inject(question.pod_tree, question.namespace)
    return _denied(question, verdict, verdict.denial) if verdict.denial is not None else _allowed(question, verdict)


def _allowed(question: Question, verdict: Verdict) -> Answer:
    response: dict[str, object] = {"uid": question.uid, "allowed": True}
    is_done = verdict.skip is None or verdict.skip == _DONE
    result = Result.UNCHANGED if is_done else Result.SKIPPED
    if verdict.patch:
        encoded = base64.b64encode(msgspec.json.encode(verdict.patch)).decode()
        response |= {"patchType": "JSONPatch", "patch": encoded}
        result = Result.INJECTED
    return _answer(question, response, verdict, result, verdict.skip or "")


def _denied(question: Question, verdict: Verdict, message: str) -> Answer:
    status = {"status": "Failure", "code": _FORBIDDEN, "reason": "Forbidden", "message": printable(message)}
    response: dict[str, object] = {"uid": question.uid, "allowed": False, "status": status}
    return _answer(question, response, verdict, Result.DENIED, printable(message))


def _answer(question: Question, response: dict[str, object], verdict: Verdict, result: Result, reason: str) -> Answer:
    if verdict.warnings:
        response["warnings"] = [printable(each)[:_MOST_OF_A_WARNING] for each in verdict.warnings[:_MOST_WARNINGS]]
    review = {"apiVersion": API_VERSION, "kind": _KIND, "response": response}
    return Answer(200, msgspec.json.encode(review), result, question.pod, reason, bool(question.dry_run))


def printable(text: str) -> str:
    """The same on one line: warnings travel in a header, and messages to terminals."""
    return "".join(each if each.isprintable() else " " for each in text)
