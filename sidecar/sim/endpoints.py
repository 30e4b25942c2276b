"""What each endpoint of a simulated provider answers to a request that is let through. Pure but for its shelf."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sidecar.sim import replies, statuses
from sidecar.sim.calls import Body, Form, Operation
from sidecar.sim.config import SimConfig
from sidecar.sim.dialects import Dialect
from sidecar.sim.faults import Frame
from sidecar.sim.objects import Shelf, Stored, batch_object, file_object
from sidecar.sim.refusals import Answer, json_answer
from sidecar.sim.replies import Plan
from sidecar.sim.streams import DONE, chat_frames, completion_frames, response_frames

GENERATING = frozenset({"chat", "completions", "responses"})
METERED = GENERATING | {"embeddings", "transcriptions", "translations", "speech", "moderations"}
FORMS = frozenset({"transcriptions", "translations", "files"})


class Job(NamedTuple):
    """A request that was let through."""

    dialect: Dialect
    config: SimConfig
    operation: Operation
    body: Body
    form: Form
    plan: Plan
    account: str
    shelf: Shelf


def frames(job: Job) -> list[Frame] | None:
    """The events of the answer, where it is streamed."""
    if not job.body.stream or job.operation.verb != "create":
        return None
    count = job.config.chunk_count
    ending = [DONE] if job.config.done else []
    if job.operation.surface == "chat":
        return chat_frames(job.dialect, job.plan, count) + ending
    if job.operation.surface == "completions":
        return completion_frames(job.dialect, job.plan, count) + ending
    if job.operation.surface == "responses":
        _keep(job)
        return response_frames(job.plan, count)
    return None


def reply(job: Job) -> Answer:
    """The whole answer."""
    return _REPLIES[job.operation.surface, job.operation.verb](job)


def _chat(job: Job) -> Answer:
    return json_answer(200, replies.chat(job.dialect, job.plan))


def _completion(job: Job) -> Answer:
    return json_answer(200, replies.completion(job.dialect, job.plan))


def _embeddings(job: Job) -> Answer:
    return json_answer(200, replies.embeddings(job.plan, job.body))


def _response(job: Job) -> Answer:
    return json_answer(200, _keep(job))


def _keep(job: Job) -> replies.Json:
    value = replies.response(job.plan)
    return value if job.body.store is False else job.shelf.put("responses", job.account, Stored(value))


def _moderation(job: Job) -> Answer:
    return json_answer(200, replies.moderation(job.plan, job.body))


def _transcription(job: Job) -> Answer:
    kind, value = replies.transcription(job.dialect, job.plan, job.form)
    if isinstance(value, str):
        return Answer(200, [("content-type", kind)], value.encode())
    return json_answer(200, value)


def _speech(job: Job) -> Answer:
    return Answer(200, [("content-type", "audio/mpeg")], replies.speech(job.plan))


def _models(job: Job) -> Answer:
    return json_answer(200, replies.listing([replies.model(job.dialect, name) for name in job.config.models]))


def _model(job: Job) -> Answer:
    name = job.operation.object
    if name not in job.config.models:
        return statuses.unknown_model(job.dialect, name)
    return json_answer(200, replies.model(job.dialect, name))


def _upload(job: Job) -> Answer:
    form, plan = job.form, job.plan
    stored = file_object(plan.name("file-"), plan.created, form.filename, form.content, form.fields.get("purpose", ""))
    return json_answer(200, job.shelf.put("files", job.account, stored))


def _batch(job: Job) -> Answer:
    body, plan = job.body, job.plan
    if job.shelf.get("files", job.account, body.input_file_id or "") is None:
        return statuses.bad_request(job.dialect, f"Invalid input file: {body.input_file_id}")
    stored = batch_object(
        plan.name("batch_"), plan.created, body.endpoint or "", body.input_file_id or "", "validating"
    )
    return json_answer(200, job.shelf.put("batches", job.account, stored))


def _cancel(job: Job) -> Answer:
    found = job.shelf.get("batches", job.account, job.operation.object)
    if found is None:
        return _missing(job)
    return json_answer(200, job.shelf.put("batches", job.account, Stored({**found.value, "status": "cancelling"})))


def _listing(job: Job) -> Answer:
    return json_answer(200, replies.listing(job.shelf.all(job.operation.surface, job.account)))


def _get(job: Job) -> Answer:
    found = job.shelf.get(job.operation.surface, job.account, job.operation.object)
    return json_answer(200, found.value) if found else _missing(job)


def _content(job: Job) -> Answer:
    found = job.shelf.get("files", job.account, job.operation.object)
    return Answer(200, [("content-type", "application/octet-stream")], found.content) if found else _missing(job)


def _delete(job: Job) -> Answer:
    surface, name = job.operation.surface, job.operation.object
    if not job.shelf.drop(surface, job.account, name):
        return _missing(job)
    return json_answer(200, {"id": name, "object": surface.rstrip("s"), "deleted": True})


def _missing(job: Job) -> Answer:
    return statuses.unknown_object(job.dialect, job.operation.surface, job.operation.object)


_REPLIES: dict[tuple[str, str], Callable[[Job], Answer]] = {
    ("chat", "create"): _chat,
    ("completions", "create"): _completion,
    ("embeddings", "create"): _embeddings,
    ("responses", "create"): _response,
    ("responses", "get"): _get,
    ("responses", "delete"): _delete,
    ("moderations", "create"): _moderation,
    ("transcriptions", "create"): _transcription,
    ("translations", "create"): _transcription,
    ("speech", "create"): _speech,
    ("models", "list"): _models,
    ("models", "get"): _model,
    ("files", "create"): _upload,
    ("files", "list"): _listing,
    ("files", "get"): _get,
    ("files", "content"): _content,
    ("files", "delete"): _delete,
    ("batches", "create"): _batch,
    ("batches", "list"): _listing,
    ("batches", "get"): _get,
    ("batches", "cancel"): _cancel,
}
