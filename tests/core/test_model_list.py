"""The merged list of models: each id once, as it was told."""

from __future__ import annotations

import json

import pytest

from sidecar.core.model_list import assumed, listed, merge

GROQ = b'{"object": "list", "data": [{"id": "a", "created": 1.50, "x": {}}, {"id": "b/c"}]}'


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (GROQ, ["a", "b/c"]),
        (b'[{"id": "a"}, {"id": "b", "object": "model"}]', ["a", "b"]),  # Together
        (b' \n[{"id": "a"}]', ["a"]),
        (b'{"data": []}', []),
        (b"[]", []),
        (b'{"data": [{"name": "no id"}]}', [""]),
    ],
)
def test_a_list_is_read_as_it_stands(body, ids):
    entries = listed(body)
    assert entries is not None
    assert [model_id for model_id, _ in entries] == ids


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"<html>",
        b"null",
        b"{}",
        b'{"error": {"message": "no"}}',
        b'{"data": null}',
        b'{"data": {"id": "a"}}',
        b'{"data": [5]}',
        b'{"data": [{"id": 5}]}',
        b'[{"id": "a"}',
        b'[{"id": "\xff"}]',
        GROQ[:-1],
    ],
)
def test_what_is_no_list_is_none(body):
    assert listed(body) is None


@pytest.mark.parametrize("cut", range(len(GROQ)))
def test_a_list_that_was_cut_off_is_none(cut):
    assert listed(GROQ[:cut]) is None


def test_assumed_entries_have_openais_shape():
    ((model_id, entry),) = assumed(["fast"], "sidecar")
    assert model_id == "fast"
    assert json.loads(bytes(entry)) == {"id": "fast", "object": "model", "created": 0, "owned_by": "sidecar"}


def entries(*ids, owner="x"):
    return assumed(ids, owner)


@pytest.mark.parametrize(
    ("lists", "parked", "ids"),
    [
        ([], (), []),
        ([("", entries("fast")), ("groq", entries("a", "b")), ("cerebras", entries("c"))], (), ["fast", "a", "b", "c"]),
        ([("groq", entries("a", "b")), ("cerebras", entries("b", "a", "c"))], (), ["a", "b", "c"]),
        ([("groq", entries("a", "b")), ("cerebras", entries("a"))], {"groq/a"}, ["b", "a"]),
        ([("groq", entries("a"))], {"groq/a"}, []),
        ([("groq", entries("", "a"))], (), ["a"]),
        ([("", entries("fast"))], {"/fast"}, []),
    ],
)
def test_H5_each_id_once_and_none_that_cannot_be_called(lists, parked, ids):
    body = json.loads(merge(lists, parked))
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ids


def test_the_first_entry_of_an_id_stands_byte_for_byte():
    groq = listed(GROQ)
    assert groq is not None
    body = merge([("groq", groq), ("cerebras", entries("a", owner="other"))], ())
    assert b'{"id": "a", "created": 1.50, "x": {}}' in body
    assert b"other" not in body
