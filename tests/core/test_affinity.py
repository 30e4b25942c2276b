"""What a key created is found again by its ids, as long as it is remembered."""

from __future__ import annotations

import pytest

from sidecar.core.affinity import Ownership, created_ids, may_create, path_ids
from sidecar.core.paths import Kind, Surface


def test_the_owner_of_the_first_known_id():
    ownership = Ownership()
    ownership.note(("file-1", "batch_1"), "groq/a")
    ownership.note(["file-2"], "groq/b")
    assert ownership.owner_of(("file-9", "file-2", "file-1")) == "groq/b"
    assert ownership.owner_of(("batch_1",)) == "groq/a"
    assert ownership.owner_of(("file-9",)) is None
    assert ownership.owner_of(()) is None
    ownership.note(("file-1",), "groq/b")
    assert ownership.owner_of(("file-1",)) == "groq/b"
    assert repr(ownership) == "<Ownership 3 of 10000>"


def test_the_one_used_longest_ago_is_forgotten():
    ownership = Ownership(capacity=3)
    ownership.note(("a", "b", "c"), "k")
    assert ownership.owner_of(("a",)) == "k"
    ownership.note(("b", "d"), "k")
    assert [each for each in "abcd" if ownership.owner_of((each,))] == ["a", "b", "d"]
    ownership.note(map(str, range(100)), "k")
    assert repr(ownership) == "<Ownership 3 of 3>"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/files", ()),
        (b"/files/file-1", ("file-1",)),
        (b"/files/file-1/content", ("file-1",)),
        (b"/batches/batch_1/cancel", ("batch_1",)),
        (b"/responses/resp_1/input_items", ("resp_1",)),
        (b"/vector_stores/vs_1/files/file-1", ("vs_1", "file-1")),
        (b"/fine_tuning/jobs/ft-1/events", ("ft-1",)),
        (b"/chat/completions", ()),
        (b"/chat/completions/chatcmpl-1/messages", ("chatcmpl-1",)),
        (b"/v1/messages/batches/msgbatch_1/results", ("msgbatch_1",)),
        (b"/v1beta/files/a%2Db", ("a-b",)),
        (b"/files/", ()),
        (b"/models/gpt", ()),
    ],
)
def test_path_ids(path, expected):
    assert path_ids(path) == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        (b"POST", b"/files", b'{"id":"file-1","object":"file"}', ("file-1",)),
        (b"POST", b"/batches", b'{"id":"batch_1","output_file_id":null}', ("batch_1",)),
        (
            b"GET",
            b"/batches/batch_1",
            b'{"id":"batch_1","error_file_id":"file-e","output_file_id":"file-o"}',
            ("batch_1", "file-o", "file-e"),
        ),
        (b"POST", b"/responses", b' {"id":"resp_1","output":[{"id":"msg_1"}]}', ("resp_1",)),
        (b"POST", b"/v1/messages/batches", b'{"id":"msgbatch_1"}', ("msgbatch_1",)),
        (b"POST", b"/chat/completions", b'{"id":"chatcmpl-1"}', ()),
        (b"POST", b"/embeddings", b'{"id":"e"}', ()),
        (b"POST", b"/v1/messages", b'{"id":"msg_1"}', ()),
        (b"GET", b"/models/m", b'{"id":"m"}', ()),
        (b"DELETE", b"/files/file-1", b'{"id":"file-1","deleted":true}', ()),
        (b"GET", b"/files", b'{"data":[{"id":"file-1"}]}', ()),
        (b"POST", b"/files", b'{"id":5}', ()),
        (b"POST", b"/files", b"[]", ()),
        (b"POST", b"/files", b"", ()),
        (b"GET", b"/files/file-1/content", b'{"id":"\xff"}', ()),
        (b"GET", b"/files/file-1/content", b"[" * 100_000, ()),
    ],
)
def test_created_ids(method, path, body, expected):
    made = created_ids(body) if may_create(Surface(Kind.OPENAI, path), method) else ()
    assert made == expected
