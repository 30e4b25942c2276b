"""The plain error answers of the simulated providers: who may not, what is not there, what was asked wrongly.

providers.md sections 2.6, 2.8, 3, 4 and 8. No answer here carries a header about limits (2.6: none was recorded).
"""

from __future__ import annotations

from sidecar.sim.calls import Body
from sidecar.sim.dialects import Dialect
from sidecar.sim.refusals import Answer, Error, busy, failure, insufficient_quota, json_answer


def unauthorized(dialect: Dialect, secret: str) -> Answer:
    """401: the key is not known."""
    if dialect.name == "deepinfra":
        return json_answer(401, {"detail": "User is not authenticated"}, kind="invalid_api_key")
    if dialect.name == "cerebras":
        error = Error("Wrong API Key", "invalid_request_error", "wrong_api_key", "api_key")
    elif dialect.name == "groq":
        error = Error("Invalid API Key", code="invalid_api_key")
    else:
        shown = f"{secret[:3]}***{secret[-4:]}" if len(secret) > 8 else "***"
        text = f"Incorrect API key provided: {shown}. You can find your API key at https://platform.openai.com/account/api-keys."
        error = Error(text, code="invalid_api_key")
    return failure(dialect, 401, error, "invalid_api_key")


def forbidden(dialect: Dialect) -> Answer:
    """403: the key is known and may not use this model."""
    if dialect.name == "deepinfra":
        return json_answer(403, {"detail": "Not allowed"}, kind="forbidden")
    return failure(dialect, 403, Error("You are not allowed to sample from this model"), "forbidden")


def unknown_model(dialect: Dialect, model: str) -> Answer:
    """404: no such model."""
    if dialect.name == "deepinfra":
        text = f"The model `{model}` does not exist"
        return failure(dialect, 404, Error(text, code="model_not_found", param="model"))
    if dialect.name == "cerebras":
        text = f"Model {model} does not exist or you do not have access to it."
        return failure(dialect, 404, Error(text, "not_found_error", "model_not_found", "model"))
    text = f"The model `{model}` does not exist or you do not have access to it."
    return failure(dialect, 404, Error(text, code="model_not_found"))


def unknown_path(dialect: Dialect, method: str, path: str) -> Answer:
    """404: no such endpoint."""
    if dialect.name == "deepinfra":
        return json_answer(404, {"detail": "Not Found"}, kind="unknown_url")
    if dialect.name == "groq":
        text = f"Unknown request URL: {method} {path}. Please check the URL for typos, or see the docs at "
        return failure(dialect, 404, Error(text + "https://console.groq.com/docs/", code="unknown_url"), "unknown_url")
    if dialect.name == "cerebras":
        return failure(dialect, 404, Error("Not Found", "not_found_error", "not_found"), "unknown_url")
    return failure(dialect, 404, Error(f"Invalid URL ({method} {path})"), "unknown_url")


def unknown_object(dialect: Dialect, kind: str, name: str) -> Answer:
    """404: this account has no such file, batch or response."""
    return failure(dialect, 404, Error(f"No such {kind} object: {name}", param="id"), "not_found")


def bad_request(dialect: Dialect, message: str, code: str | None = None) -> Answer:
    """400, or 422 at DeepInfra, whose framework checks bodies before the model sees them."""
    if dialect.name == "deepinfra":
        return json_answer(
            422, {"detail": [{"loc": ["body"], "msg": message, "type": "value_error"}]}, kind="bad_request"
        )
    if dialect.name == "cerebras":
        return failure(
            dialect, 400, Error(message, param="validation_error", code=code or "wrong_api_format"), "bad_request"
        )
    return failure(dialect, 400, Error(message, code=code), "bad_request")


def unsupported(dialect: Dialect, name: str, message_index: int | None = None) -> Answer:
    """400: a member of the body, or of one of its messages, that this provider does not take."""
    if dialect.name == "cerebras":
        where = name if message_index is None else f"messages.{message_index}.{name}"
        return bad_request(dialect, f"{where}: property '{where}' is unsupported")
    if message_index is None:
        return bad_request(dialect, f"property '{name}' is unsupported")
    place = f"'messages.{message_index}'"
    return bad_request(
        dialect,
        f"{place} : for the message the following must be satisfied[({place} : property '{name}' is unsupported)]",
    )


def of_status(dialect: Dialect, status: int, model: str) -> Answer:
    """The body that provider sends with a status, for faults that name one."""
    known = {
        401: lambda: unauthorized(dialect, ""),
        402: lambda: insufficient_quota(dialect)._replace(status=402),
        403: lambda: forbidden(dialect),
        404: lambda: unknown_model(dialect, model),
        498: lambda: busy(dialect)._replace(status=498),
        503: lambda: busy(dialect)._replace(status=503),
    }
    if status in known:
        return known[status]()
    if status < 500:
        return failure(dialect, status, Error(f"The request failed with status {status}."), str(status))
    text = "The server had an error processing your request. Sorry about that!"
    kind = "server_error" if dialect.name == "openai" else "internal_server_error"
    return failure(dialect, status, Error(text, kind), str(status))


def unwanted(dialect: Dialect, body: Body) -> Answer | None:
    """400 for what a chat body holds that this provider does not take; None when it takes all."""
    for name in dialect.unsupported:
        if getattr(body, name) not in (None, False):
            return unsupported(dialect, name)
    for index, message in enumerate(body.messages or ()):
        for name in dialect.unsupported_in_messages:
            if name in message:
                return unsupported(dialect, name, index)
    if dialect.name == "groq" and (body.n or 1) > 1:
        return bad_request(dialect, "'n' : number must be at most 1")
    if not body.messages:
        return bad_request(dialect, "'messages' : minimum number of items is 1")
    return None
