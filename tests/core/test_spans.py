"""Spans of members: each value's text is found exactly, wherever it ends."""

from __future__ import annotations

import pytest

from sidecar.core.spans import begins_with, elements, ends_at, ends_flat, inside, members, quoted, spliced


@pytest.mark.parametrize(
    "value",
    [
        b"1",
        b"-1.5e3",
        b"null",
        b'""',
        b'"a\\"b"',
        b'"\\\\"',
        b'"\\\\\\""',
        b'"}]"',
        b"{}",
        b"[]",
        b"[[],{}]",
        b'{"a":"}","b":[{"c":"]"}]}',
        b'["\\"]",1]',
        b'"' + b"x" * 1000 + b'\\"' + b"y" * 1000 + b'"',
    ],
)
@pytest.mark.parametrize("space", [b"", b" ", b"\r\n\t"])
def test_the_value_of_a_member_ends_where_it_ends(value, space):
    text = space.join([b"", b"{", b'"k"', b":", value, b",", b'"l\\n"', b":", value, b"}", b""])
    assert [(each.name, text[each.value : each.end]) for each in members(text)] == [("k", value), ("l\n", value)]
    assert all(text[each.start : each.start + 1] == b'"' for each in members(text))


def test_elements():
    text = b' [ {"a":1} , {},{"b":[{}]} , 5, {"c":1}]'
    assert [[each.name for each in found] for found in elements(text, 1)] == [["a"], [], ["b"]]


def test_small_questions():
    assert (inside(b' {"a":1}'), inside(b"[]")) == (2, None)
    assert begins_with(b'{ "a":1}', 1, b'"a"')
    assert not begins_with(b'{ "a":1}', 1, b'"b"')
    assert ends_at(b'{"a":1 } \n', 6)
    assert not ends_at(b'{"a":1}}', 6)
    assert ends_flat(b'{"a":"}","b":1} ', 1)
    assert not ends_flat(b'{"a":{}}', 1)
    assert spliced(b"abc", 1, 2, b"--") == b"a--c"
    assert quoted('a"é') == '"a\\"é"'.encode()
