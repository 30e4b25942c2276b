"""One contract for all stores (interfaces.Store): another one is added to `each_store`."""

from __future__ import annotations

import asyncio
import atexit
import functools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import SECOND
from sidecar.core.store_url import parse
from sidecar.interfaces import Loaded, Store
from sidecar.store.memory import MemoryStore
from sidecar.store.redis import RedisStore
from sidecar.store.sqlite import SqliteStore
from tests.servers import RedisServer

NOW = 1_764_000_000 * SECOND


def memory(path: Path) -> Store:
    return MemoryStore()


def sqlite(path: Path) -> Store:
    return SqliteStore(str(path / "state.db"), NOW)


def redis(path: Path) -> Store:
    """Rows that all sidecars know, in a ledger: apart from those of other tests by their prefix."""
    url = parse(server().url)
    assert url is not None
    return RedisStore(url, "redis", str(path), "a")


@functools.cache
def server() -> RedisServer:
    """One for all tests here."""
    started = RedisServer()
    atexit.register(started.stop)
    return started


each_store = pytest.mark.parametrize("make", [memory, sqlite, redis])


async def kept(make, path, saves):
    """The rows after these saves, as the next process finds them, or the same where there is no next one."""
    async with asyncio.timeout(5):
        store = make(path)
        assert await store.load() == Loaded({}, None)
        for changed, removed in saves:
            await store.save(changed, removed)
        if store.place is not None:
            await store.close()
            store = make(path)
        loaded = await store.load()
        await store.close()
    assert loaded.warning is None
    return loaded.rows


@each_store
@pytest.mark.parametrize(
    ("saves", "rows"),
    [
        ([], {}),
        ([({}, [])], {}),
        ([({"a": b"1"}, []), ({}, [])], {"a": b"1"}),
        ([({"a": b"1", "b": b"2"}, []), ({"b": b"3", "c": b""}, ["a", "never there"])], {"b": b"3", "c": b""}),
        ([({"a": b"1"}, []), ({"a": b"2"}, ["a"])], {"a": b"2"}),
        ([({"": b"1", "a b/\0\n": bytes(range(256)), "é\U0001f980": b"2"}, [])], None),
        ([({"a": b"1" * 10**6}, [])], None),
        ([({f"row {n}": b"%d" % n for n in range(5000)}, [])], None),
    ],
    ids=["new", "nothing", "nothing more", "changes", "removed and back", "odd names", "large", "many"],
)
async def test_what_is_saved_is_there(make, tmp_path, saves, rows):
    assert await kept(make, tmp_path, saves) == (saves[0][0] if rows is None else rows)


@each_store
async def test_rows_come_in_the_order_in_which_they_were_last_saved(make, tmp_path):
    saves: list[tuple[dict[str, bytes], list[str]]] = [
        ({"a": b"1", "b": b"2", "c": b"3"}, []),
        ({"a": b"4"}, []),
        ({"d": b"5", "b": b"6"}, []),
    ]
    assert list(await kept(make, tmp_path, saves)) == ["c", "a", "d", "b"]


@each_store
async def test_what_is_given_and_told_is_not_held_on_to(make, tmp_path):
    async with asyncio.timeout(5):
        store = make(tmp_path)
        await store.load()
        rows = {"a": b"1"}
        await store.save(rows, [])
        rows["b"] = b"2"
        await store.save({}, [])
        if store.place is None:
            (await store.load()).rows["c"] = b"3"
            assert (await store.load()).rows == {"a": b"1"}
        await store.close()


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
save = st.tuples(st.dictionaries(names, st.binary(max_size=20)), st.lists(names, max_size=3))


@each_store
@settings(max_examples=15, deadline=None)
@given(played=st.lists(save, max_size=6))
def test_it_is_a_dict_that_stays(tmp_path_factory, make, played):
    model: dict[str, bytes] = {}
    for changed, removed in played:
        for name in (*removed, *changed):
            model.pop(name, None)
        model.update(changed)
    rows = asyncio.run(kept(make, tmp_path_factory.mktemp("store"), played))
    assert list(rows.items()) == list(model.items())


@each_store
def test_it_says_what_it_is(make, tmp_path):
    store = make(tmp_path)
    assert "Store" in repr(store)
    assert store.place in (None, "redis", str(tmp_path / "state.db"))
