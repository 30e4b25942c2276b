"""Reading requests: endpoints, tokens, forms."""

from __future__ import annotations

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.sim.calls import Operation, operation, read_form, read_json


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", Operation("chat", "create")),
        ("POST", "/v1/audio/transcriptions", Operation("transcriptions", "create")),
        ("GET", "/v1/models", Operation("models", "list")),
        ("GET", "/v1/models/openai/gpt-oss-20b", Operation("models", "get", "openai/gpt-oss-20b")),
        ("GET", "/v1/models/openai%2Fgpt-oss-20b", Operation("models", "get", "openai/gpt-oss-20b")),
        ("GET", "/v1/files/file-1/content", Operation("files", "content", "file-1")),
        ("DELETE", "/v1/files/file-1", Operation("files", "delete", "file-1")),
        ("POST", "/v1/batches/b/cancel", Operation("batches", "cancel", "b")),
        ("GET", "/v1/responses/r", Operation("responses", "get", "r")),
        ("GET", "/v1/responses", None),
        ("GET", "/v1/chat/completions", None),
        ("DELETE", "/v1/models/m", None),
        ("POST", "/v1/nothing", None),
        ("POST", "/v2/chat/completions", None),
        ("GET", "/v1", None),
        ("GET", "/v1/files/file-1/else", None),
    ],
)
def test_operation(method, path, expected):
    assert operation("/v1", method, path) == expected


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"messages":[{"role":"user","content":"12345"}]}', 2),
        (b'{"messages":[{"content":[{"type":"text","text":"1234"},{"type":"image_url"}]},{"content":null}]}', 1),
        ('{"messages":[{"content":"\u00e9\u00e9\u00e9\u00e9"}]}'.encode(), 1),
        (b'{"input":["1234","1234"]}', 2),
        (b'{"input":[1,2,3]}', 3),
        (b'{"input":[[1,2],[3]]}', 3),
        (b'{"prompt":"12345678"}', 2),
        (b'{"instructions":"1234","input":[{"role":"user","content":[{"type":"input_text","text":"1234"}]}]}', 2),
        (b"{}", 0),
    ],
)
def test_prompt_tokens(body, tokens):
    assert read_json(body).prompt_tokens == tokens


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":3}', b'{"messages":"x"}', b'{"model":"\xff"}', b"null"])
def test_a_body_that_cannot_be_read(body):
    with pytest.raises(ValueError, match="could not parse the JSON body"):
        read_json(body)


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (b"{}", None),
        (b'{"max_tokens":5}', 5),
        (b'{"max_tokens":5,"max_completion_tokens":7}', 7),
        (b'{"max_output_tokens":0}', 0),
    ],
)
def test_declared_output(body, declared):
    assert read_json(body).declared_output == declared


def multipart(**parts: bytes | str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    lines = []
    for name, value in parts.items():
        named = f'; filename="{name}.wav"' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else value.encode()
        lines.append(
            f'--sep\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return [(b"content-type", b"multipart/form-data; boundary=sep")], b"".join(lines) + b"--sep--\r\n"


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=20), st.binary(max_size=200).filter(lambda content: b"--sep" not in content))
def test_a_form_comes_back_as_it_was_written(text, content):
    form = read_form(*multipart(model=text, file=content))
    assert form.content == content
    assert form.filename == "file.wav"
    assert form.fields["model"].encode("utf-8", "replace") == text.encode("utf-8", "replace")


async def test_a_form_as_aiohttp_writes_it():
    data = aiohttp.FormData()
    data.add_field("model", "whisper")
    data.add_field("file", b"RIFF\r\n\r\n--", filename="a.wav", content_type="audio/wav")
    payload = data()
    headers = [(b"content-type", payload.headers["content-type"].encode())]
    form = read_form(headers, await payload.as_bytes())
    assert (form.fields, form.filename, form.content) == ({"model": "whisper"}, "a.wav", b"RIFF\r\n\r\n--")


@pytest.mark.parametrize("cut", range(3, 60, 7))
def test_a_form_that_is_not_complete(cut):
    headers, body = multipart(model="m", file=b"1234")
    with pytest.raises(ValueError, match="multipart"):
        read_form(headers, body[:-cut])


def test_a_form_without_a_boundary():
    with pytest.raises(ValueError, match="boundary"):
        read_form([(b"content-type", b"application/json")], b"{}")


def test_the_first_tool_is_called():
    body = b'{"tools":[{"type":"function","function":{"name":"look"}}]}'
    assert read_json(body).tool == "look"
    assert read_json(body[:-1] + b',"tool_choice":"none"}').tool is None
    assert read_json(b'{"tools":[{"type":"web_search"}]}').tool == "tool"
