"""The context of a trace on the wire."""

import pytest

from sidecar.core.trace import carrier, carrying, context_lines

LINES = b"traceparent: 00-1-2-01\r\n"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], {}),
        ([(b"tracestate", b"a=b")], {}),
        ([(b"traceparent", b"x"), (b"accept", b"y")], {"traceparent": "x"}),
        (
            [(b"tracestate", b"a=b"), (b"traceparent", b"x"), (b"tracestate", b"c=d")],
            {"traceparent": "x", "tracestate": "a=b,c=d"},
        ),
        ([(b"traceparent", b"x"), (b"traceparent", b"y")], {}),
        ([(b"traceparent", b"\xff")], {"traceparent": "\xff"}),
    ],
    ids=["none", "a state alone", "a parent", "both", "two parents", "no text"],
)
def test_what_a_caller_sent(headers, found):
    assert carrier(headers) == found


def test_a_context_as_lines():
    assert context_lines(1, 2, 1, "") == b"traceparent: 00-%032x-%016x-01\r\n" % (1, 2)
    assert context_lines(1, 2, 0, "a=b").endswith(b"-00\r\ntracestate: a=b\r\n")


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"traceparent: theirs\r\n",
        b"tracestate: a=b\r\naccept: x\r\ntraceparent: theirs\r\ntracestate: c=d\r\n",
        b"trace-id: kept\r\n",
        b"x-y: traceparent: kept\r\n",
    ],
)
def test_ours_takes_the_place_of_theirs_and_nothing_else_changes(before):
    start, after = b"POST /trace HTTP/1.1\r\nhost: h\r\n", b"authorization: Bearer k\r\n"
    kept = b"".join(line for line in before.splitlines(keepends=True) if not line.startswith((b"tracep", b"traces")))
    assert carrying(start + before + after + b"\r\n", LINES) == start + kept + after + LINES + b"\r\n"
