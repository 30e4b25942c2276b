"""What answers say they used, in every provider's words."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from sidecar.core.limits import Usage
from sidecar.core.usage import decoded, from_body, from_event

CHAT = (
    b'{"id":"c","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,'
    b'"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0}}}'
)


def usage(**fields):
    return json.dumps({"id": "x", "message": "text", "usage": fields}).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (CHAT, Usage(19, 10, 8)),
        (b"\n\n\n" + CHAT, Usage(19, 10, 8)),  # DeepSeek's blank lines before an answer
        (usage(prompt_tokens=5, total_tokens=5), Usage(5, 0)),  # embeddings
        (usage(prompt_tokens=35, completion_tokens=12, total_tokens=109), Usage(35, 74)),  # hidden thinking
        (usage(prompt_tokens=0, completion_tokens=7, total_tokens=7), Usage(0, 7)),  # Ollama, cached prompt
        (usage(prompt_tokens=9, completion_tokens=1, cached_tokens=4), Usage(9, 1, 4)),  # Together
        (usage(prompt_tokens=9, completion_tokens=1, prompt_cache_hit_tokens=4), Usage(9, 1, 4)),  # DeepSeek
        (usage(prompt_tokens=9, completion_tokens=1, prompt_tokens_details=None), Usage(9, 1)),
        (
            usage(input_tokens=9, output_tokens=3, total_tokens=12, input_tokens_details={"cached_tokens": 2}),
            Usage(9, 3, 2),
        ),
        (usage(input_tokens=9, output_tokens=3), Usage(9, 3)),
        (
            usage(input_tokens=9, output_tokens=3, cache_read_input_tokens=100, cache_creation_input_tokens=20),
            Usage(129, 3, 100),
        ),
        (b'{"x_groq":{"id":"req","usage":{"prompt_tokens":4,"completion_tokens":2}}}', Usage(4, 2)),
        (
            b'{"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":5,"thoughtsTokenCount":30,'
            b'"totalTokenCount":43,"cachedContentTokenCount":2,"promptTokensDetails":[{}]}}',
            Usage(8, 35, 2),
        ),
        (
            b'[{"usageMetadata":{"promptTokenCount":8,"totalTokenCount":9}},'
            b'{"usageMetadata":{"promptTokenCount":8,"totalTokenCount":12}}]',
            Usage(8, 4),
        ),
        (b'{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}', Usage(3, 4)),
        (b'{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}', Usage(3, 1)),
        (usage(prompt_tokens=-5, completion_tokens=-1), Usage(0, 0)),
        (usage(prompt_tokens=5, completion_tokens=1, prompt_tokens_details={"cached_tokens": 50}), Usage(5, 1, 5)),
    ],
)
def test_I2_usage(body, expected):
    assert from_body(body) == expected
    assert from_event(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b"text",
        b"{}",
        b'{"usage":null}',
        b'{"usage":{}}',
        b'{"usage":"much"}',
        CHAT[:-1],
        b'{"usage":{"prompt_tokens":"5"}}',
        b'{"usage":{"type":"duration","seconds":3}}',
        b'{"usage":\xff}',
        b'{"usageMetadata":{}}',
        b'{"a":' * 100000,
        b'{"usage":{"x":"\xff"',
    ],
)
def test_I2_unknown_usage_is_none_and_never_zero(body):
    assert from_body(body) is None


def raw_deflate(body):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (CHAT, b"identity"),
        (CHAT, b""),
        (gzip.compress(CHAT), b"gzip"),
        (gzip.compress(CHAT), b" X-GZip "),
        (zlib.compress(CHAT), b"deflate"),
        (raw_deflate(CHAT), b"deflate"),
    ],
)
def test_C9_packed_answers_are_read(packed, encoding):
    assert decoded(packed, encoding) == CHAT
    assert from_body(packed, encoding) == Usage(19, 10, 8)


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (CHAT, b"br"),
        (CHAT, b"zstd"),
        (gzip.compress(gzip.compress(CHAT)), b"gzip, gzip"),
        (CHAT, b"gzip"),
        (gzip.compress(CHAT)[:-9], b"gzip"),
        (b"", b"gzip"),
        (b"", b"deflate"),
        (gzip.compress(b" " * (5 << 20)), b"gzip"),
        (zlib.compress(b" " * (5 << 20)), b"deflate"),
    ],
)
def test_C9_what_cannot_be_unpacked_within_bounds_is_left_alone(packed, encoding):
    assert decoded(packed, encoding) is None
    assert from_body(packed, encoding) is None
