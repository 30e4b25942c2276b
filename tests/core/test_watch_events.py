"""Lines of a watch."""

import json

import pytest

from sidecar.core.watch_events import Lines, WatchEvent, read_event

TEXT = b'{"a":1}\n\n{"b":2}\r\n{"c":3}'


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_lines_however_the_bytes_come(size):
    lines = Lines()
    found = [line for at in range(0, len(TEXT), size) for line in lines.feed(TEXT[at : at + size])]
    assert [line.strip() for line in found] == [b'{"a":1}', b'{"b":2}']
    assert lines.feed(b"\n") == [b'{"c":3}']


def test_a_line_without_end_is_refused():
    with pytest.raises(ValueError, match="without end"):
        Lines().feed(b"x" * (8 * 1024 * 1024 + 1))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "ADDED", "object": {"metadata": {"resourceVersion": "7"}}}, WatchEvent(True, "7")),
        ({"type": "DELETED", "object": {"metadata": {"resourceVersion": "8"}}}, WatchEvent(True, "8")),
        ({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}, WatchEvent(False, "9")),
        ({"type": "ERROR", "object": {"code": 410, "message": "old"}}, WatchEvent(False, "", 410, "old")),
        ({"type": "ERROR", "object": {}}, WatchEvent(False, "", 500, "")),
    ],
)
def test_events(event, expected):
    assert read_event(json.dumps(event).encode()) == expected


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"\xff", b'{"type": "ADDED"}'])
def test_what_is_no_event_is_an_error(line):
    assert read_event(line).error == 500
