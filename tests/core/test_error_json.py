"""Words, names and prose out of JSON that keeps no promise about its types."""

import pytest

from sidecar.core.error_json import as_word, clean, document_of, layers_of, name_of, prose

WORDS = [
    ("429", "429"),
    (429, "429"),
    (0, "0"),
    (12.5, "12.5"),
    (True, ""),
    (-1, ""),
    (10**400, ""),
    (None, ""),
    ([], ""),
    ({}, ""),
]


@pytest.mark.parametrize(("value", "word"), WORDS)
def test_words(value, word):
    assert as_word(value) == word


def test_layers_are_innermost_first_and_bounded():
    nested: object = {"error": {"error": {"error": {"error": {"error": {}}}}}}
    assert len(list(layers_of(nested))) == 4
    assert list(layers_of({"error": {"a": 1}, "b": 2})) == [{"a": 1}, {"error": {"a": 1}, "b": 2}]
    assert list(layers_of({"error": {}})) == [{"error": {}}]
    assert list(layers_of("error")) == []
    assert list(layers_of([])) == []


def test_names_skip_what_is_none():
    assert name_of([{"type": None}, {"type": "error"}, {"type": "t"}], "type") == "t"
    assert name_of([{"code": {}}, {"code": 429}], "code") == "429"
    assert len(name_of([{"code": "x" * 9999}], "code")) == 256


def test_prose_ends_at_a_depth():
    value: object = "words"
    for _ in range(4):
        value = {"detail": value}
    assert prose(value) == "words"
    assert prose({"detail": value}) == ""
    assert prose(["a", 1, {"msg": "b"}, "c"]) == "a; b"


def test_documents():
    assert document_of(b' {"a": 1} ') == {"a": 1}
    assert document_of(b'{"a": NaN}') != {}  # the standard library lets it pass
    assert document_of(b"event: error\ndata: [1]\n\ndata: [2]\n\n") == [1]
    assert document_of(b"event: error\n\n") is None
    assert document_of(b"1") is None
    assert document_of(b"[" * 2_000_000) is None


def test_clean_text_is_one_short_line():
    assert clean(" a\n\tb \r\n c ") == "a b c"
    assert len(clean("a" * 10**6)) == 4096
    clean("\ud800").encode()
