"""SQLite databases of the merchant's data: copied, compared and asked as they are, changed only where it is said.

Rules: reading leaves nothing behind and writes nothing. Where the payment application was interrupted in a transaction,
or still has the database open, a copy is read (platform.aside): the transaction is rolled back there, and here only
where something is to be written. What SQLite has opened is the very file that stands inside `root`: the owner of the
data could exchange it for a link to something that only root may read. Whatever is in a database, an answer ends.
Everything here raises OSError, and PosagentError `data_unreadable` as platform.aside does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from posagent.platform import aside
from posagent.platform.host import LinuxClock

MAGIC = b"SQLite format 3\0"
WORK_S = 120.0
"""As long as SQLite may work on one question, what is done with the answer not counted."""
STEPS_A_LOOK = 10_000
ROWS_MAX = 100_000
"""Of what a query may answer."""
CELL_BYTES_MAX = 4 << 20
"""The scanner needs several times as much, and the worker has 96 MB (MemoryMax= of its unit)."""
_SUM = 1 << 256
_MODE_AT, _WAL_MODE = 18, b"\2"
_ERRNO = {sqlite3.SQLITE_BUSY: errno.EBUSY, sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_INTERRUPT: errno.ETIME}
_TROUBLE = (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError)
"""Names that are no UTF-8 and numbers that are too large among it."""


class SqliteDatabases:
    """core.ports.Databases for the files inside `root`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def is_database(self, path: str) -> bool:
        source = aside.source(self._root, path)
        try:
            return source.pread(0, len(MAGIC)) == MAGIC
        finally:
            source.close()

    def copy(self, source: str, target: str) -> None:
        """By SQLite's backup API: as one transaction sees it, with all that is still in its log. The new file, of mode
        0600, is not durable until it is synced."""
        with self._reading(source) as old:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            with closing(_connected(target, "rw")) as new:
                # cut short, it is no copy, and whoever syncs it does so once
                new.execute("PRAGMA journal_mode = OFF")
                new.execute("PRAGMA synchronous = OFF")
                old.backup(new)

    def canonical(self, path: str) -> tuple[int, str]:
        """Of all tables, the schema and the numbers that applications keep in the header. Rows have no order: of each
        table their digests are added up, which needs no memory and no sorting on a small terminal."""
        with self._reading(path) as database:
            asked = _Asked(database)
            found = next(asked.rows("PRAGMA quick_check(1)"))[0]
            if found != "ok":
                raise OSError(errno.EIO, f"the database is damaged: {found}", path)
            digest, rows = hashlib.sha256(), 0
            for number in ("user_version", "application_id"):
                digest.update(ascii(next(asked.rows(f"PRAGMA {number}"))).encode())
            for row in asked.rows(_SCHEMA):
                digest.update(ascii(row).encode())
            tables = _tables(asked)
            database.text_factory = _Text  # a large one is not converted
            for table in tables:
                total, count = 0, 0
                for row in asked.rows(_all_of(table)):
                    total = (total + int.from_bytes(_digest(row), "big")) % _SUM
                    count += 1
                digest.update(ascii((table, count, total)).encode())
                rows += count
            return rows, digest.hexdigest()

    def contents(self, path: str) -> Iterator[tuple[str, tuple[str, ...], tuple[Any, ...]]]:
        """Every row with its table and the names of its columns."""
        with self._reading(path) as database:
            asked = _Asked(database)
            for table in _tables(asked):
                for row in asked.rows(_all_of(table)):
                    yield table, asked.columns, row

    def rows(self, path: str, query: str) -> Iterator[tuple[Any, ...]]:
        with self._reading(path) as database:
            for number, row in enumerate(_Asked(database).rows(query), 1):
                if number > ROWS_MAX:
                    raise OSError(errno.E2BIG, f"more than {ROWS_MAX} rows", path)
                yield row

    def execute(self, path: str, sql: str, value: int) -> None:
        """In one transaction, which is durable: EXTRA syncs the directory after the journal is gone."""
        if not aside.is_alone(path):
            self._put_in_order(path)
        with aside.held(self._root, path) as source:
            identity, wal = source.identity, source.pread(_MODE_AT, 1) == _WAL_MODE
        with _opened(path, "rw", path, identity, exclusive=wal) as database:
            database.execute("PRAGMA synchronous = EXTRA")
            with database:
                next(_Asked(database).rows(sql, {"value": value}), None)

    def _put_in_order(self, path: str) -> None:
        """What was interrupted is rolled back, what is in the log goes into the file."""
        with aside.taken(self._root, path) as copy:
            with _opened(copy, "rw", path) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            aside.put_back(self._root, copy, path)

    @contextmanager
    def _reading(self, path: str) -> Iterator[sqlite3.Connection]:
        """`immutable`: SQLite looks for nothing beside the file, whoever puts something there meanwhile."""
        with aside.held(self._root, path) as source:
            if aside.is_alone(path):
                with _opened(path, "ro&immutable=1", path, source.identity) as database:
                    yield database
            else:
                with aside.copied(self._root, path) as copy, _opened(copy, "rw", path) as database:
                    database.execute("PRAGMA query_only = ON")
                    yield database


class _Asked:
    """Questions to a database that together may take SQLite WORK_S."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database, self._now = database, LinuxClock().monotonic
        self._left, self._until = WORK_S, 0.0
        self.columns: tuple[str, ...] = ()
        """Of the last question."""
        database.set_progress_handler(lambda: self._now() > self._until, STEPS_A_LOOK)

    def rows(self, query: str, values: dict[str, int] | None = None) -> Iterator[tuple[Any, ...]]:
        began = self._begin()
        found = self._database.execute(query, values or {})
        self.columns = tuple(one[0] for one in found.description or ())
        row = next(found, None)
        while row is not None:
            self._left -= self._now() - began
            yield row
            began = self._begin()
            row = next(found, None)
        self._left -= self._now() - began

    def _begin(self) -> float:
        now = self._now()
        self._until = now + self._left
        return now


class _Text(bytes):
    """A text of a database, as it is stored."""


@contextmanager
def _opened(
    path: str, mode: str, told: str, identity: tuple[int, int] | None = None, *, exclusive: bool = False
) -> Iterator[sqlite3.Connection]:
    """`told`: of which path trouble is; `identity`: of the file that it has to be."""
    before = _times_open(identity)
    try:
        with closing(_connected(path, mode, exclusive=exclusive)) as database:
            if identity is not None and _times_open(identity) <= before:
                raise OSError(errno.EPERM, "the file was exchanged while it was opened", told)
            yield database
    except _TROUBLE as error:
        code = _ERRNO.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, errno.EIO)
        raise OSError(code, str(error), told) from None


def _connected(path: str, mode: str, *, exclusive: bool = False) -> sqlite3.Connection:
    plain = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    database = sqlite3.connect(f"file:{plain}?mode={mode}", uri=True, timeout=aside.BUSY_S)
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CELL_BYTES_MAX)
        database.text_factory = _text
        database.execute("PRAGMA trusted_schema = OFF")
        if exclusive:  # the index of a log is kept in memory then, and no file is made that root would give away
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _digest(row: tuple[Any, ...]) -> bytes:
    """Cell by cell, each by its kind: what was stored as a number is no text."""
    digest = hashlib.sha256()
    for cell in row:
        data = cell if isinstance(cell, bytes) else repr(cell).encode()
        digest.update(f"{type(cell).__name__} {len(data)} ".encode())
        digest.update(data)
    return digest.digest()


def _text(data: bytes) -> str:
    """Applications put into texts what is none."""
    return data.decode("utf-8", "surrogateescape")


_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY 1, 2"


def _tables(asked: _Asked) -> list[str]:
    """Statistics are the planner's; virtual tables keep what they have in others."""
    query = (
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 "
        "AND name NOT LIKE 'sqlite~_stat%' ESCAPE '~' ORDER BY name"
    )
    return [name for (name,) in asked.rows(query)]


def _all_of(table: str) -> str:
    name = table.replace('"', '""')
    return f'SELECT * FROM "{name}"'  # noqa: S608 - a name out of the schema


def _times_open(identity: tuple[int, int] | None) -> int:
    """How often this process has the file of that device and inode open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(int(name))
        except OSError:
            continue  # the one that listed
        count += (status.st_dev, status.st_ino) == identity
    return count
