"""What a request to a simulated provider asks for: which endpoint, how many tokens, what of the body matters.

Pure. The path decides the endpoint, the body the rest; a body that cannot be read is a ValueError whose text goes to
the caller. Prompt tokens are the characters of all text content, divided by four and rounded up.
"""

from __future__ import annotations

import zlib
from email.message import Message
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from sidecar.core.body import without
from sidecar.core.http import Header, find

CHARS_PER_TOKEN = 4
_AUDIO_BYTES_PER_SECOND = 16_000  # about what 128 kbit/s MP3 takes


class Operation(NamedTuple):
    """One endpoint: the surface it belongs to, what is done there, and the object it names (decoded)."""

    surface: str
    verb: str
    object: str = ""


_POSTS = {
    "chat/completions": "chat",
    "completions": "completions",
    "embeddings": "embeddings",
    "responses": "responses",
    "moderations": "moderations",
    "audio/transcriptions": "transcriptions",
    "audio/translations": "translations",
    "audio/speech": "speech",
    "files": "files",
    "batches": "batches",
}


def operation(base: str, method: str, path: str) -> Operation | None:
    """The endpoint at a path (percent-encoding kept, query removed); None where there is none."""
    if not path.startswith(base + "/"):
        return None
    rest = path[len(base) + 1 :]
    if method == "POST" and rest in _POSTS:
        return Operation(_POSTS[rest], "create")
    surface, _, name = rest.partition("/")
    name = unquote(name)
    if surface == "models":
        return _object(method, "models", name)
    if surface in ("files", "batches", "responses"):
        name, _, verb = name.partition("/")
        if (method, surface, verb) in (("GET", "files", "content"), ("POST", "batches", "cancel")):
            return Operation(surface, verb, name)
        return None if verb else _object(method, surface, name)
    return None


def _object(method: str, surface: str, name: str) -> Operation | None:
    if method == "GET":
        listed = None if surface == "responses" else Operation(surface, "list")
        return Operation(surface, "get", name) if name else listed
    if method == "DELETE" and name and surface in ("files", "responses"):
        return Operation(surface, "delete", name)
    return None


class StreamOptions(msgspec.Struct):
    """`stream_options` of a chat body."""

    include_usage: bool | None = None


class Body(msgspec.Struct):
    """The members of a JSON body that matter here; all optional, all others ignored."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    messages: list[dict[str, object]] | None = None
    prompt: object = None
    input: object = None
    instructions: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    tools: list[dict[str, object]] | None = None
    tool_choice: object = None
    encoding_format: str | None = None
    dimensions: int | None = None
    response_format: object = None
    input_file_id: str | None = None
    endpoint: str | None = None
    completion_window: str | None = None
    store: object = None
    metadata: object = None
    logprobs: object = None
    top_logprobs: object = None
    logit_bias: object = None

    @property
    def declared_output(self) -> int | None:
        """The most output tokens the caller wants; None when it named no number."""
        for value in (self.max_completion_tokens, self.max_output_tokens, self.max_tokens):
            if value is not None:
                return value
        return None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all text that goes in."""
        texts = (self.messages, self.prompt, self.input, self.instructions)
        return -(-sum(_chars(text) for text in texts) // CHARS_PER_TOKEN)

    @property
    def tool(self) -> str | None:
        """The name of the first tool offered, unless none may be called."""
        if not self.tools or self.tool_choice == "none":
            return None
        function = self.tools[0].get("function", self.tools[0])
        name = function.get("name") if isinstance(function, dict) else None
        return name if isinstance(name, str) else "tool"


_decoder = msgspec.json.Decoder(Body)


def read_json(body: bytes) -> Body:
    """A JSON body; ValueError when it is not one."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"We could not parse the JSON body of your request: {error}") from None


class Form(NamedTuple):
    """A multipart form: its text fields, and its file."""

    fields: dict[str, str]
    filename: str
    content: bytes

    @property
    def audio_seconds(self) -> int:
        """The length of the file as audio, at least a second."""
        return max(1, -(-len(self.content) // _AUDIO_BYTES_PER_SECOND))


def read_form(headers: list[Header], body: bytes) -> Form:
    """A multipart/form-data body (RFC 7578); ValueError when it is not one."""
    boundary = _parameter(find(headers, b"content-type") or b"", "boundary")
    if not boundary:
        raise ValueError("Expected a multipart/form-data body with a boundary")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise ValueError("The multipart body is not complete")
    fields: dict[str, str] = {}
    filename, content = "", b""
    for part in parts[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        disposition = _disposition(head)
        name = _parameter(disposition, "name")
        if _parameter(disposition, "filename"):
            filename, content = _parameter(disposition, "filename"), value
        else:
            fields[name] = value.decode("utf-8", "replace")
    return Form(fields, filename, content)


def fingerprint(body: bytes) -> int:
    """A number that differs between different bodies: what makes their answers differ.

    Whether usage is asked for changes no word of an answer.
    """
    return zlib.crc32(without(body, {"stream_options"}, {})[0] if b'"stream_options"' in body else body)


def _chars(value: object) -> int:
    """Characters of text in a message, a list of them, or a plain input; a token id counts as a token."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(_chars(item) for item in value)
    if isinstance(value, dict):
        return _chars(value.get("content")) + _chars(value.get("text"))
    return CHARS_PER_TOKEN if isinstance(value, int) else 0


def _disposition(head: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return value.strip()
    return b""


def _parameter(value: bytes, name: str) -> str:
    message = Message()
    message["content-disposition"] = value.decode("utf-8", "surrogateescape")
    found = message.get_param(name, header="content-disposition")
    return found if isinstance(found, str) else ""
