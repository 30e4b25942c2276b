"""Every form of `share.url`, and what is none."""

import pytest

from sidecar.core.store_url import StoreUrl, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", StoreUrl("", False, None, (("h", 6379),), "", "", 0)),
        ("redis://me@h:7/3", StoreUrl("", False, "me", (("h", 7),), "", "", 3)),
        ("rediss://[::1]:7", StoreUrl("", True, None, (("::1", 7),), "", "", 0)),
        ("unix:///run/s?db=2", StoreUrl("", False, None, (), "/run/s", "", 2)),
        ("redis+sentinel://a,b:7/main/1", StoreUrl("+sentinel", False, None, (("a", 26379), ("b", 7)), "", "main", 1)),
        ("rediss+cluster://a,b", StoreUrl("+cluster", True, None, (("a", 6379), ("b", 6379)), "", "", 0)),
    ],
)
def test_forms(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "h:6379", "http://h", "redis://", "redis://a,b", "redis://h/x", "redis://h/1/2", "redis://h:99999",
     "redis://me:secret@h", "redis+sentinel://a", "redis+cluster://a/1", "unix://s", "redis://h name"],
)  # fmt: skip
def test_what_is_none(text):
    assert parse(text) is None
