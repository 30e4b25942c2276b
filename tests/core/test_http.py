"""HTTP as values: looking a header up."""

from __future__ import annotations

import pytest

from sidecar.core.http import Notes, Origin, Request, find

HEADERS = [(b"a", b"1"), (b"b", b""), (b"a", b"2")]


@pytest.mark.parametrize(("name", "value"), [(b"a", b"1"), (b"b", b""), (b"c", None), (b"A", None)])
def test_the_first_header_of_a_name_counts(name, value):
    assert find(HEADERS, name) == value


def test_a_request_is_a_value():
    notes = Notes()
    request = Request(b"POST", b"/v1/x?y", HEADERS, b"{}", notes=notes)
    assert request == Request(b"POST", b"/v1/x?y", list(HEADERS), b"{}", notes=notes)
    assert request.caller is None
    assert Origin("https", "::1", 443).host == "::1"
