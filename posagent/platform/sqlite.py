"""SQLite databases of the merchant's data: copied, compared and asked as they are, changed only where it is said.

Rules: reading leaves nothing behind and writes nothing; but where the payment application was interrupted in a
transaction, it is rolled back first, as the application itself would do. What SQLite has opened is the very file that
stands inside `root`: the owner of the data could exchange it for a link to something that only root may read.
Everything here raises OSError.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from posagent.platform.storage import open_inside

MAGIC = b"SQLite format 3\0"
BUSY_S = 10.0
"""As long as another transaction is waited for."""
ROWS_MAX = 100_000
"""Of what a query may answer."""
CELL_BYTES_MAX = 16 << 20
_MODE_AT = 18
_WAL_MODE = 2
_SUM = 1 << 256
_ERRNO = {sqlite3.SQLITE_BUSY: errno.EBUSY, sqlite3.SQLITE_FULL: errno.ENOSPC}
_NEEDS_RECOVERY = frozenset({sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY})


class SqliteDatabases:
    """core.ports.Databases for the files inside `root`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def is_database(self, path: str) -> bool:
        return self._head(path)[0].startswith(MAGIC)

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
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise OSError(errno.EIO, f"the database is damaged: {found}", path)
            digest, rows = hashlib.sha256(), 0
            for number in ("user_version", "application_id"):
                digest.update(ascii(database.execute(f"PRAGMA {number}").fetchone()).encode())
            digest.update(ascii(database.execute(_SCHEMA).fetchall()).encode())
            for table in _tables(database):
                total, count = 0, 0
                for row in database.execute(f"SELECT * FROM {_quoted(table)}"):  # noqa: S608 - a name out of the schema
                    total = (total + int.from_bytes(hashlib.sha256(ascii(row).encode()).digest(), "big")) % _SUM
                    count += 1
                digest.update(ascii((table, count, total)).encode())
                rows += count
            return rows, digest.hexdigest()

    def contents(self, path: str) -> Iterator[tuple[str, tuple[str, ...], tuple[Any, ...]]]:
        """Every row with its table and the names of its columns."""
        with self._reading(path) as database:
            for table in _tables(database):
                found = database.execute(f"SELECT * FROM {_quoted(table)}")  # noqa: S608 - a name out of the schema
                columns = tuple(one[0] for one in found.description)
                for row in found:
                    yield table, columns, row

    def rows(self, path: str, query: str) -> list[tuple[Any, ...]]:
        with self._reading(path) as database:
            found = database.execute(query).fetchmany(ROWS_MAX + 1)
        if len(found) > ROWS_MAX:
            raise OSError(errno.E2BIG, f"more than {ROWS_MAX} rows", path)
        return found

    def execute(self, path: str, sql: str, value: int) -> None:
        """In one transaction, which is durable: EXTRA syncs the directory after the journal is gone."""
        with self._opened(path, "rw") as database:
            database.execute("PRAGMA synchronous = EXTRA")
            with database:
                database.execute(sql, {"value": value})

    def _head(self, path: str) -> tuple[bytes, tuple[int, int]]:
        """How the file begins, and which one it is."""
        source = open_inside(self._root, path)
        try:
            return source.pread(0, 100), source.identity
        finally:
            source.close()

    @contextmanager
    def _reading(self, path: str) -> Iterator[sqlite3.Connection]:
        """SQLite leaves two files beside a database in WAL mode that it only reads; where nobody has it open there is
        no log, and it is read without them."""
        head, _ = self._head(path)
        wal = head[_MODE_AT : _MODE_AT + 1] == bytes([_WAL_MODE])
        alone = wal and not os.path.lexists(f"{path}-wal")
        with self._opened(path, "ro&immutable=1" if alone else "ro") as database:
            yield database

    @contextmanager
    def _opened(self, path: str, mode: str) -> Iterator[sqlite3.Connection]:
        _, identity = self._head(path)
        try:
            with closing(_connected(path, mode)) as database:
                if identity not in _open_files():
                    raise OSError(errno.EPERM, "the file was exchanged while it was opened", path)
                yield database
        except sqlite3.Error as error:
            code = _ERRNO.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, errno.EIO)
            raise OSError(code, str(error), path) from None


def _connected(path: str, mode: str) -> sqlite3.Connection:
    plain = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    database = sqlite3.connect(f"file:{plain}?mode={mode}", uri=True, timeout=BUSY_S)
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CELL_BYTES_MAX)
        database.text_factory = _text
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.Error as error:
        database.close()
        if mode == "ro" and getattr(error, "sqlite_errorcode", 0) in _NEEDS_RECOVERY:
            return _connected(path, "rw")
        raise
    return database


def _text(data: bytes) -> str:
    """Applications put into texts what is none."""
    return data.decode("utf-8", "surrogateescape")


_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY 1, 2"


def _tables(database: sqlite3.Connection) -> list[str]:
    """Statistics are the planner's; virtual tables keep what they have in others."""
    query = (
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 "
        "AND name NOT LIKE 'sqlite~_stat%' ESCAPE '~' ORDER BY name"
    )
    return [name for (name,) in database.execute(query).fetchall()]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _open_files() -> set[tuple[int, int]]:
    """What this process has open, by device and inode."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(int(name))
        except OSError:
            continue  # the one that listed
        found.add((status.st_dev, status.st_ino))
    return found
