"""What is wrong with `traces`, told with a remedy and without the URL."""

import pytest

from sidecar.core.config import Config, Known, Traces
from sidecar.core.config_traces import collector, trace_problems


def told(can_trace=True, **fields):
    known = Known({}, frozenset(), can_trace)
    return [(problem.path, problem.message) for problem in trace_problems(Config(traces=Traces(**fields)), known)]


@pytest.mark.parametrize(
    "fields",
    [{}, {"endpoint": "http://h:4318"}, {"endpoint": "https://h/x/v1/traces", "sample": 0.1}, {"can_trace": False}],
)
def test_what_is_right(fields):
    assert told(**fields) == []


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"endpoint": "h:4318"}, "traces.endpoint", "is not an http or https URL"),
        ({"endpoint": "grpc://h:4317"}, "traces.endpoint", "is not an http or https URL"),
        ({"endpoint": "http://h:4318 hunter2"}, "traces.endpoint", "is not an http or https URL"),
        ({"endpoint": "http://h:x"}, "traces.endpoint", "is not an http or https URL"),
        ({"endpoint": "http://me:hunter2@h"}, "traces.endpoint", "holds credentials"),
        ({"endpoint": "http://h/?key=hunter2"}, "traces.endpoint", "holds a query or a fragment"),
        ({"sample": 0.5}, "traces.sample", "is of no use without traces.endpoint"),
        (
            {"endpoint": "http://h", "can_trace": False},
            "traces.endpoint",
            "needs OpenTelemetry, which is not installed",
        ),
    ],
)
def test_what_is_wrong(fields, path, message):
    assert told(**fields) == [(path, message)]
    assert "hunter2" not in repr(told(**fields))


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
    ],
)
def test_where_spans_are_posted_to(endpoint, url):
    assert collector(endpoint) == url
