"""One answer, many readers: everyone gets all of it, or is told that it is cut off; memory stays bounded (J3)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.shared_answer import LAG_BYTES, WINDOW_BYTES, SharedAnswer

steps = st.lists(
    st.one_of(
        st.integers(0, 9).map(lambda n: ("take", n)),
        st.sampled_from([("append", 1000), ("append", 200_000), ("append", 700_000), ("join", 0), ("keep_no_more", 0)]),
        st.integers(0, 9).map(lambda n: ("leave", n)),
    ),
    max_size=80,
)


def play(shared, readers, what, value):
    if what == "join" and shared.is_whole_so_far:
        readers.append((shared.join(), bytearray()))
    elif what == "keep_no_more":
        shared.keep_no_more()
    elif readers and what in ("take", "leave"):
        reader, got = readers[value % len(readers)]
        if what == "take":
            got += shared.take(reader)
        else:
            shared.leave(reader)
            readers.remove((reader, got))


@settings(max_examples=200, deadline=None)
@given(played=steps)
def test_J3_everyone_gets_all_of_it(played):
    shared = SharedAnswer()
    readers = [(shared.join(), bytearray())]
    source = bytearray()
    for what, value in played:
        if what == "append" and not shared.must_wait:
            piece = bytes([len(source) % 251]) * value
            source += piece
            shared.append(piece)
        else:
            play(shared, readers, what, value)
        for reader, got in readers:
            assert source.startswith(got)
            assert len(got) == reader.read_bytes
        if not shared.is_whole_so_far and readers:
            fastest = max(len(got) for _, got in readers)
            assert shared.held_bytes <= max(LAG_BYTES, len(source) - fastest) + 700_000
        assert shared.readers == len(readers)
    for reader, got in readers:
        while piece := shared.take(reader):
            got += piece
        assert reader.is_cut or got == source
    # the fastest is never cut off
    assert not readers or not all(reader.is_cut for reader, _ in readers) or len(readers) > 1


def test_the_source_waits_for_the_fastest_alone():
    shared = SharedAnswer()
    fast, slow = shared.join(), shared.join()
    shared.append(b"x" * (WINDOW_BYTES + 1))
    assert not shared.must_wait  # it is kept anyway
    shared.keep_no_more()
    assert shared.must_wait
    shared.take(fast)
    assert not shared.must_wait
    for _ in range(LAG_BYTES // WINDOW_BYTES):
        shared.append(b"x" * WINDOW_BYTES)
        shared.take(fast)
    assert (slow.is_cut, fast.is_cut) == (True, False)
    assert shared.take(slow) == b""
    assert shared.held_bytes == 0
    shared.leave(fast)
    shared.leave(slow)
    assert not shared.must_wait
    assert "0 readers" in repr(shared)
