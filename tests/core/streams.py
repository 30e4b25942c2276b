"""Streams as providers send them (providers.md sections 2.7, 3, 8, 9, 10, 11, 13, 15), put together by hand."""

from __future__ import annotations

import json

from sidecar.core.limits import Usage


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}
    return b"data: " + json.dumps(head | {"choices": [choice]} | more, separators=(",", ":")).encode() + b"\n\n"


def event(name, **data):
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
HELLO = chunk({"content": "Hello"})
CJK = (
    b"data: "
    + json.dumps(
        {"id": "c", "choices": [{"index": 0, "delta": {"content": '日本 🎈 "error" "usage":{ \n\n data: [DONE]'}}]},
        ensure_ascii=False,
    ).encode()
    + b"\n\n"
)
DONE = b"data: [DONE]\n\n"
USED = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
USAGE_CHUNK = b'data: {"id":"chatcmpl-1","choices":[],"usage":' + json.dumps(USED).encode() + b"}\n\n"
AZURE_FILTER = b'data: {"choices":[],"id":"","model":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'
GROQ_ERROR = (
    b'event: error\ndata: {"error":{"message":"Tool call validation failed","type":"invalid_request_error",'
    b'"code":"tool_use_failed","status_code":400}}\n\n'
)

OPENAI = ROLE + HELLO + CJK + chunk(None, "stop", usage=None) + USAGE_CHUNK + DONE
GROQ = (
    chunk({"role": "assistant", "content": None}, x_groq={"id": "req_1"})
    + HELLO
    + chunk(None, "stop", x_groq={"id": "req_1", "usage": USED})
    + DONE
)
CEREBRAS = ROLE + chunk({"reasoning": "hm"}) + HELLO + chunk(None, "length", usage=USED, time_info={"total_time": 0.1})
ANTHROPIC = (
    event("message_start", message={"id": "msg_1", "content": [], "usage": {"input_tokens": 25, "output_tokens": 1}})
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event("ping")
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
    + event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 15})
    + event("message_stop").replace(b"}\n", b"           }\n")
)
RESPONSES = (
    event("response.created", response={"id": "resp_1", "status": "in_progress", "error": None, "usage": None})
    + event("response.in_progress", response={"id": "resp_1", "error": None})
    + event("response.output_item.added", output_index=0, item={"id": "msg_1", "type": "message", "content": []})
    + event("response.content_part.added", part={"type": "output_text", "text": ""})
    + event("response.output_text.delta", delta="")
    + event("response.output_text.delta", delta="Hello", obfuscation="xyz")
    + event("response.output_text.done", text="Hello")
    + event("response.completed", response={"id": "resp_1", "usage": {"input_tokens": 9, "output_tokens": 2}})
)
GEMINI = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"Hello"}],"role":"model"}}],'
    b'"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9}}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[{"text":"!"}]},"finishReason":"STOP"}],'
    b'"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2,"totalTokenCount":11}}\r\n\r\n'
)
OPENROUTER = (
    b": OPENROUTER PROCESSING\n\n" * 3
    + ROLE
    + HELLO
    + chunk(None, "stop", native_finish_reason="stop")
    + chunk({"role": "assistant", "content": ""}, usage=USED)
    + DONE
)
DEEPSEEK = b": keep-alive\n\n" * 2 + ROLE + chunk({"content": None, "reasoning_content": "hm"}) + OPENAI

STREAMS = {
    "openai": (OPENAI, Usage(9, 2), "chatcmpl-1", True),
    "azure": (AZURE_FILTER + OPENAI, Usage(9, 2), "chatcmpl-1", True),
    "groq": (GROQ, Usage(9, 2), "chatcmpl-1", True),
    "cerebras without DONE": (CEREBRAS, Usage(9, 2), "chatcmpl-1", False),
    "anthropic": (ANTHROPIC, Usage(25, 15), "msg_1", True),
    "responses": (RESPONSES, Usage(9, 2), "resp_1", True),
    "gemini": (GEMINI, Usage(9, 2), None, False),
    "openrouter": (OPENROUTER, Usage(9, 2), "chatcmpl-1", True),
    "deepseek": (DEEPSEEK, Usage(9, 2), "chatcmpl-1", True),
    "byte order mark": (b"\xef\xbb\xbf" + OPENAI, Usage(9, 2), "chatcmpl-1", True),
}

ERRORS = [
    GROQ_ERROR,
    b"event: error\ndata: upstream is gone\n\n",
    b'data: {"error":{"message":"x","code":502}}\n\n',
    b'data: {"error":"x"}\n\n',
    b'data: [{"error":{"code":429}}]\n\n',
    b'data: {"object":"error","message":"x","code":404}\n\n',
    b'data: {"message":"x","type":"too_many_requests_error","code":"queue_exceeded"}\n\n',
    chunk({"content": ""}, "error"),
    chunk({"content": "partial"}, None, error={"code": 400, "message": "Token limit reached"}),
    b'data: {"choices":[{"index":0,"delta":{"content":"x"},"error":{"code":502}}]}\n\n',
    event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
    event("response.failed", response={"id": "r", "error": {"code": "rate_limit_exceeded"}}),
]
