"""Rows in an SQLite file that a kill at any moment leaves whole. The contract is `interfaces.Store`.

A write-ahead log with synchronous=NORMAL: what was saved survives the process at once, and a power failure but for the
last moments; the file itself is consistent after either (sqlite.org/wal.html). The file is locked for as long as it is
open, since two processes would count against each other. One that is broken, or that another version or another
program wrote, is renamed, not deleted, and a new one begun. All work is done in a thread of the store's own: a slow
disk delays nobody. Refuses to know what rows mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import zlib
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from sidecar.core.limits import SECOND
from sidecar.interfaces import CannotKeep, Loaded, NotSaved

_APPLICATION_ID = 0x73646372  # "sdcr", among the numbers that file(1) knows SQLite's users by
VERSION = 1  # of the table and of what core.state writes into it; another one's rows are not looked at
_TABLE = "CREATE TABLE kept (name TEXT PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL)"
_BESIDE = ("", "-wal", "-shm", "-journal")  # the file, and those that belong to it

# What says nothing of the file's contents: then it is left where it is (sqlite.org/rescode.html)
_IN_USE = "another process has it open: stop that one"
_NOT_WRITABLE = "make the file and its directory writable"
_OUTSIDE = {
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_LOCKED: _IN_USE,
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_FULL: "make room on that disk",
    sqlite3.SQLITE_IOERR: "see what is wrong with that disk",
    sqlite3.SQLITE_NOMEM: "give the process more memory",
}

T = TypeVar("T")


class _NotOurs(ValueError):
    """The file holds something else than it should; the text says what."""


class SqliteStore:
    """Implements `interfaces.Store`. `now_ns` goes into the name under which a broken file is set aside; `lost`: what
    that means, in words."""

    def __init__(self, path: str, now_ns: int, lost: str = "all quotas are taken to be whole") -> None:
        self._lost = lost
        self.place: str | None = path
        self._path = os.path.realpath(path)  # a link stays where it is, also when what it leads to is set aside
        self._now_ns = now_ns
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "state")

    async def load(self) -> Loaded:
        return await self._apart(self._load)

    async def save(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        await self._apart(partial(self._save, changed, removed))

    async def close(self) -> None:
        await self._apart(self._disconnect)
        self._thread.shutdown()

    async def _apart(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def __repr__(self) -> str:
        return f"<SqliteStore {self.place}{'' if self._connection else ' closed'}>"

    def _load(self) -> Loaded:
        self._create()
        try:
            return Loaded(self._open())
        except (sqlite3.Error, ValueError, OverflowError) as error:  # also of texts that are no UTF-8, and of lengths
            self._raise_if_outside(error)
            aside = self._set_aside()  # first: SQLite removes the log of a file that it closes
            self._disconnect()
            reason = str(error)
        self._create()
        try:
            rows = self._open()
        except sqlite3.Error as error:
            self._disconnect()
            raise CannotKeep(self._told(str(error), "remove the file")) from error
        return Loaded(rows, f"{self.place}: {reason}; it is now {aside}, and {self._lost}")

    def _create(self) -> None:
        """An empty file that nobody else may read, unless there is a file already."""
        if os.path.exists(self._path) and not os.path.isfile(self._path):
            raise CannotKeep(self._told("it is not a file", "name a file, which need not exist yet"))
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            is_nowhere = error.errno == errno.ENOENT
            remedy = "create its directory" if is_nowhere else _NOT_WRITABLE
            raise CannotKeep(self._told(error.strerror or str(error), remedy)) from error

    def _open(self) -> dict[str, bytes]:
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        self._connection = connection
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")  # before anything is looked at; nothing is written to a file not ours
        self._claim(connection)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")  # shows whether it can be written
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise _NotOurs(f"it is broken ({verdict})")
        rows = dict(map(_checked, connection.execute("SELECT name, value, sum FROM kept ORDER BY rowid")))
        connection.execute("COMMIT")
        return rows

    def _claim(self, connection: sqlite3.Connection) -> None:
        """See that the file is ours and of our version; make a new one so."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        if (application, version, tables) == (0, 0, []):
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif application != _APPLICATION_ID:
            raise _NotOurs("it is another program's")
        elif version != VERSION:
            raise _NotOurs(f"it is of version {version}, and this sidecar reads {VERSION}")
        elif tables != [_TABLE]:
            raise _NotOurs("it is broken (another table)")

    def _save(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        connection = self._connection
        if connection is None:
            raise NotSaved("it is not open")
        if not os.path.exists(self._path):
            raise NotSaved("the file is gone; a restart begins another")
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM kept WHERE name = ?", [(name,) for name in removed])
            # a row that is replaced goes to the end
            rows = [(name, value, _sum(name, value)) for name, value in changed.items()]
            connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        except (sqlite3.Error, ValueError) as error:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            raise NotSaved(str(error)) from error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # a last checkpoint that fails: the log stays, and is read again
                connection.close()

    def _raise_if_outside(self, error: Exception) -> None:
        remedy = _OUTSIDE.get(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF)
        if remedy is not None:
            self._disconnect()
            raise CannotKeep(self._told(str(error), remedy)) from error

    def _set_aside(self) -> str:
        seconds = self._now_ns // SECOND
        while os.path.exists(aside := f"{self._path}.broken-{seconds}"):
            seconds += 1
        try:
            for suffix in _BESIDE:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self._path + suffix, aside + suffix)
        except OSError as error:
            raise CannotKeep(self._told(error.strerror or str(error), "remove it by hand")) from error
        return aside

    def _told(self, reason: str, remedy: str) -> str:
        return f"cannot keep state in {self.place}: {reason}; {remedy}, or choose another state.path"


def _sum(name: str, value: bytes) -> int:
    """Of a row: SQLite notices damage to its own structure alone."""
    return zlib.crc32(value, zlib.crc32(name.encode()))


def _checked(row: tuple[object, object, object]) -> tuple[str, bytes]:
    name, value, told = row
    if not (isinstance(name, str) and isinstance(value, bytes) and _sum(name, value) == told):
        raise _NotOurs("it is broken (a row is not what was written)")
    return name, value
