"""The IETF draft's two fields, as huggingface.co sends them and as the draft writes them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.ietf_ratelimit import read_fields
from sidecar.core.limits import DAY, MINUTE, SECOND, Axis, Reading, Source


def said(window_ns, limit, remaining, reset_ns):
    return Reading(Axis.REQUESTS, window_ns, limit, remaining, reset_ns, Source.HEADER)


CASES = [
    (b'"api";r=499;t=112', b'"fixed window";"api";q=500;w=300', [said(300 * SECOND, 500, 499, 112 * SECOND)]),
    (b'"default";r=50;t=30', b'"default";q=100;w=10', [said(10 * SECOND, 100, 50, 30 * SECOND)]),
    (
        b'"burst";r=50;t=30, "daily";r=7;t=90',
        b'"burst";q=100;w=60,"daily";q=1000;w=86400',
        [said(MINUTE, 100, 50, 30 * SECOND), said(DAY, 1000, 7, 90 * SECOND)],
    ),
    (b'"a";r=5', b'"b";q=9;w=60', [said(MINUTE, 9, None, None), said(None, None, 5, None)]),
    (b'"bytes";r=1;t=1', b'"bytes";q=9;qu="content-bytes";w=60', []),
    (b'"r";r=1', b'"r";q=9;qu="requests";w=60;pk=:abc=:', [said(MINUTE, 9, 1, None)]),
    (b'"x";r=1;t=99999999999', b"", [said(None, None, 1, None)]),
    (b'"x";r=-1;t=1', b"", []),
    (b'"x";w=60', b"", []),
    (b"r=1;t=2", b"q=9", []),
    (b'"', b'""', []),
    (b"", b"", []),
]


@pytest.mark.parametrize(("state", "policy", "expected"), CASES)
def test_fields(state, policy, expected):
    assert list(read_fields(state, policy)) == expected


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.from_regex(rb'("[a-z]*";?[qrtw]=[0-9]{0,20},? ?){0,20}'))
def test_no_bytes_raise(state, policy):
    list(read_fields(state, policy))
    list(read_fields(policy, state))
