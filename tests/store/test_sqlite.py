"""The SQLite store and everything that a disk, another process or another version can do to its file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.limits import SECOND
from sidecar.interfaces import CannotKeep, NotSaved
from sidecar.store.sqlite import VERSION, SqliteStore

NOW = 1_764_000_000 * SECOND
ROWS = {f"quota groq/org-{n} m": b'["m",0,null,null,[[0,60000000000,"sliding",[%d,1,1],60,[]]]]' % n for n in range(90)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


async def load(path):
    """What a process finds there; the store is closed again."""
    async with asyncio.timeout(5):
        store = SqliteStore(str(path), NOW)
        try:
            return await store.load()
        finally:
            await store.close()


async def write(path, rows, is_killed=False):
    """The file of a process that saved these rows one by one and then ended, or was killed."""
    async with asyncio.timeout(5):
        store = SqliteStore(str(path), NOW)
        await store.load()
        for name, value in rows.items():
            await store.save({name: value}, [])
        if is_killed:
            copies = path.parent / "killed"
            copies.mkdir()
            for each in path.parent.glob(f"{path.name}*"):
                shutil.copy(each, copies)
        await store.close()
    return copies / path.name if is_killed else path


def beside(path, suffix):
    """A file that belongs to it."""
    return path.with_name(path.name + suffix)


def aside(path):
    """Files set aside, by what their names end with."""
    return sorted(each.name.removeprefix(path.name) for each in path.parent.glob(f"{path.name}.broken-*"))


async def test_A21_what_was_saved_survives_a_kill(path):
    killed = await write(path, ROWS, is_killed=True)
    assert (killed.parent / "state.db-wal").stat().st_size > 0
    assert (await load(killed)).rows == ROWS


async def test_the_file_and_its_log_are_their_owner_s_alone(path):
    mask = os.umask(0)
    try:
        store = SqliteStore(str(path), NOW)
        await store.load()
        await store.save(ROWS, [])
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        await store.close()
    finally:
        os.umask(mask)
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600}


async def test_a_second_process_is_refused_and_harms_nothing(path):
    first = SqliteStore(str(path), NOW)
    await first.load()
    await first.save({"a": b"1"}, [])
    with pytest.raises(CannotKeep, match=r"state\.db: database is locked; another process has it open"):
        await load(path)
    await first.save({"b": b"2"}, [])
    await first.close()
    assert (await load(path)).rows == {"a": b"1", "b": b"2"}
    assert aside(path) == []


async def test_another_program_that_reads_it_waits_for_the_end(path):
    first = SqliteStore(str(path), NOW)
    await first.load()
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM kept")
    other.close()
    await first.save({"a": b"1"}, [])
    await first.close()


# what is set aside


def foreign(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.execute("INSERT INTO theirs VALUES ('precious')")
    connection.commit()
    connection.close()


def pragma(name, value):
    def change(path):
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA {name} = {value}")
        connection.close()

    return change


def sql(statement):
    def change(path):
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    return change


def replaced(old, new):
    def change(path):
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))

    return change


def renamed(place):
    """In the table or in its index alone."""

    def change(path):
        parts = path.read_bytes().split(b"quota groq/org-77 m")
        assert len(parts) == 3
        names = [b"quota groq/org-77 m", b"quota groq/org-77 m"]
        names[place] = b"quota groq/org-78 m"
        path.write_bytes(parts[0] + names[0] + parts[1] + names[1] + parts[2])

    return change


BROKEN = {
    "text": (lambda path: path.write_text("listen: 127.0.0.1:8787\n" * 300), "file is not a database"),
    "header": (replaced(b"SQLite format 3\0", b"\0" * 16), "file is not a database"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "malformed"),
    "older": (pragma("user_version", VERSION - 1), f"version {VERSION - 1}, and this sidecar reads {VERSION}"),
    "newer": (pragma("user_version", VERSION + 1), f"version {VERSION + 1}, and this sidecar reads {VERSION}"),
    "another program's": (pragma("application_id", 7), "another program's"),
    "another column": (sql("ALTER TABLE kept ADD COLUMN more"), "another table"),
    "a trigger": (sql("CREATE TRIGGER t AFTER INSERT ON kept BEGIN DELETE FROM kept; END"), "another table"),
    "a table that is no text": (replaced(b"CREATE TABLE", b"CREATE\xffTABLE"), "utf-8"),
    "another name": (renamed(0), "broken"),
    "another name in the index": (renamed(1), "broken"),
    "a changed value": (sql("UPDATE kept SET value = x'00' WHERE rowid = 7"), "not what was written"),
    "a swapped name": (sql("UPDATE kept SET name = 'key groq/a' WHERE rowid = 7"), "not what was written"),
    "a text for a blob": (sql("UPDATE kept SET value = CAST(value AS TEXT) WHERE rowid = 7"), "not what was written"),
    "a number for a name": (sql("UPDATE kept SET name = CAST(x'ff' AS TEXT) WHERE rowid = 7"), "UTF-8"),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_file_that_is_not_ours_or_not_whole_is_set_aside(path, what):
    breaks, reason = BROKEN[what]
    await write(path, ROWS)
    breaks(path)
    before = path.read_bytes()
    loaded = await load(path)
    assert loaded.rows == {}
    assert loaded.warning is not None
    assert reason.lower() in loaded.warning.lower()
    kept = beside(path, ".broken-1764000000")
    assert str(kept) in loaded.warning
    assert kept.read_bytes() == before
    await write(path, {"a": b"1"})
    assert await load(path) == ({"a": b"1"}, None)


async def test_a_foreign_database_is_not_written_to(path):
    foreign(path)
    before = path.read_bytes()
    assert "another program's" in ((await load(path)).warning or "")
    assert (path.parent / "state.db.broken-1764000000").read_bytes() == before


async def test_a_log_from_before_is_set_aside_with_its_file(path):
    path.write_bytes(b"broken" * 100)
    beside(path, "-wal").write_bytes(b"left over" * 100)
    assert (await load(path)).rows == {}
    assert aside(path) == [".broken-1764000000", ".broken-1764000000-wal"]
    assert await load(path) == ({}, None)


async def test_a_file_whose_log_has_all_of_it_is_as_good_as_whole(path):
    killed = await write(path, ROWS, is_killed=True)
    replaced(b"SQLite format 3\0", b"\0" * 16)(killed)
    assert await load(killed) == (ROWS, None)


async def test_nothing_that_was_set_aside_is_overwritten(path):
    for n in range(3):
        path.write_bytes(b"broken %d" % n * 100)
        await load(path)
    assert aside(path) == [f".broken-176400000{n}" for n in range(3)]
    for n in range(3):
        assert beside(path, f".broken-176400000{n}").read_bytes().startswith(b"broken %d" % n)


async def test_a_link_stays_and_what_it_leads_to_is_set_aside(tmp_path, path):
    real = tmp_path / "volume.db"
    real.write_bytes(b"broken" * 100)
    path.symlink_to(real)
    loaded = await load(path)
    assert f"{real}.broken-" in (loaded.warning or "")
    assert path.is_symlink()
    await write(path, {"a": b"1"})
    assert (await load(real)).rows == {"a": b"1"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of a process that ended in order, and the one of a killed process, with a log."""
    paths = {ended: tmp_path_factory.mktemp(ended) / "state.db" for ended in ("closed", "killed")}
    return {ended: asyncio.run(write(path, ROWS, ended == "killed")) for ended, path in paths.items()}


suffixes = st.sampled_from(["", "-wal"])
places = st.integers(0, 2**20)  # of a byte, counted round and round
overwrites = st.lists(st.tuples(suffixes, places, st.binary(min_size=1, max_size=16)), max_size=4)
cuts = st.lists(st.tuples(suffixes, places), max_size=2)


@pytest.mark.parametrize("ended", ["closed", "killed"])
@settings(max_examples=60, deadline=None)
@given(overwrites, cuts)
def test_A21_bytes_damaged_anywhere_are_never_a_crash_and_never_another_row(
    tmp_path_factory, written, ended, overwrites, cuts
):
    path = tmp_path_factory.mktemp("damaged") / "state.db"
    for suffix in ("", "-wal") if ended == "killed" else ("",):
        content = beside(written[ended], suffix).read_bytes()
        damaged = bytearray(content)
        for at, damage in [(place % len(content), damage) for which, place, damage in overwrites if which == suffix]:
            damaged[at : at + len(damage)] = damage
        for at in [place % len(content) for which, place in cuts if which == suffix]:
            del damaged[at:]
        beside(path, suffix).write_bytes(damaged)
    loaded = asyncio.run(load(path))
    assert loaded.rows.items() <= ROWS.items()
    assert asyncio.run(load(path)).warning is None
    asyncio.run(write(path, {"a": b"1"}))
    assert asyncio.run(load(path)).rows["a"] == b"1"


# what is no matter of the file's contents


async def refused(path):
    with pytest.raises(CannotKeep) as caught:
        await load(path)
    return str(caught.value)


async def test_a_directory_that_is_missing(tmp_path):
    path = tmp_path / "missing" / "state.db"
    told = await refused(path)
    assert told == (
        f"cannot keep state in {path}: No such file or directory; create its directory, or choose another state.path"
    )


async def test_a_directory_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory; make the file and its directory writable" in await refused(tmp_path / "file" / "state.db")


async def test_a_directory_that_takes_no_files():
    assert "cannot keep state in /proc/state.db" in await refused(Path("/proc/state.db"))


async def test_a_directory_in_the_place_of_the_file(path):
    path.mkdir()
    assert "it is not a file" in await refused(path)
    assert path.is_dir()


async def test_what_is_no_file_is_left_where_it_is(path):
    os.mkfifo(path)
    assert "it is not a file" in await refused(path)
    assert path.is_fifo()


async def test_a_log_that_cannot_be_written(path):
    await write(path, {"a": b"1"})
    log = beside(path, "-wal")
    log.mkdir()
    assert "make the file and its directory writable" in await refused(path)
    log.rmdir()
    assert (await load(path)).rows == {"a": b"1"}


@contextlib.contextmanager
def no_more_than(size):
    """Files of this process may have no more bytes: the write that would exceed them fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_takes_no_more_loses_nothing_that_was_saved(path):
    async with asyncio.timeout(5):
        store = SqliteStore(str(path), NOW)
        await store.load()
        await store.save({"a": b"1"}, [])
        with no_more_than(beside(path, "-wal").stat().st_size):
            for _ in range(2):
                with pytest.raises(NotSaved, match="disk"):
                    await store.save({"a": b"2", "large": b"l" * 100_000}, [])
        await store.save({"b": b"3"}, [])
        await store.close()
    assert (await load(path)).rows == {"a": b"1", "b": b"3"}


async def test_a_full_disk_at_the_start(path):
    with no_more_than(0):
        assert "see what is wrong with that disk" in await refused(path)
    assert await load(path) == ({}, None)


async def test_a_file_that_somebody_removed_is_told(path):
    async with asyncio.timeout(5):
        store = SqliteStore(str(path), NOW)
        await store.load()
        path.unlink()
        with pytest.raises(NotSaved, match="the file is gone; a restart begins another"):
            await store.save({"a": b"1"}, [])
        await store.close()


async def test_before_it_is_loaded_nothing_is_saved(path):
    store = SqliteStore(str(path), NOW)
    with pytest.raises(NotSaved, match="not open"):
        await store.save({"a": b"1"}, [])
    await store.close()
