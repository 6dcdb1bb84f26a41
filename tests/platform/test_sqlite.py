"""Databases of the merchant's data: what is copied is all of it, what is compared is what is in it, reading leaves
nothing behind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from posagent.platform.sqlite import MAGIC, SqliteDatabases


@pytest.fixture
def databases(tmp_path: Path) -> SqliteDatabases:
    return SqliteDatabases(str(tmp_path))


def made(path: Path, *statements: str) -> str:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)
    return str(path)


LEDGER = ("CREATE TABLE payments (stan INT, amount INT)", "INSERT INTO payments VALUES (1, 100), (2, 200), (3, 300)")


def test_a_database_is_known_by_how_it_begins(tmp_path: Path, databases: SqliteDatabases) -> None:
    assert databases.is_database(made(tmp_path / "a.db", *LEDGER))
    (tmp_path / "b.db").write_bytes(b"")
    (tmp_path / "c.db").write_bytes(MAGIC[:-1])
    assert not databases.is_database(str(tmp_path / "b.db")) and not databases.is_database(str(tmp_path / "c.db"))


def test_canonical_is_of_the_rows_and_not_of_their_places(tmp_path: Path, databases: SqliteDatabases) -> None:
    one = made(tmp_path / "a.db", *LEDGER)
    other = made(
        tmp_path / "b.db",
        "PRAGMA page_size = 512",
        "CREATE TABLE payments (stan INT, amount INT)",
        "INSERT INTO payments VALUES (3, 300), (9, 9), (1, 100)",
        "DELETE FROM payments WHERE stan = 9",
        "INSERT INTO payments VALUES (2, 200)",
    )
    assert databases.canonical(one) == databases.canonical(other)
    assert databases.canonical(one)[0] == 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE payments SET amount = 301 WHERE stan = 3",
        "UPDATE payments SET amount = '300' || '' WHERE stan = 3; ",
        "UPDATE payments SET amount = 300.5 WHERE stan = 3",
        "UPDATE payments SET amount = NULL WHERE stan = 3",
        "UPDATE payments SET amount = x'00' WHERE stan = 3",
        "DELETE FROM payments WHERE stan = 3",
        "INSERT INTO payments VALUES (3, 300)",
        "INSERT INTO payments SELECT * FROM payments",
        "CREATE TABLE batches (number INT)",
        "CREATE INDEX by_stan ON payments (stan)",
        "ALTER TABLE payments RENAME COLUMN amount TO total",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 7",
    ],
)
def test_every_difference_is_one(tmp_path: Path, databases: SqliteDatabases, change: str) -> None:
    path = made(tmp_path / "a.db", "CREATE TABLE payments (stan INT, amount)", *LEDGER[1:])
    before = databases.canonical(path)
    made(tmp_path / "a.db", change)
    assert databases.canonical(path) != before


def test_the_next_number_of_a_table_counts_too(tmp_path: Path, databases: SqliteDatabases) -> None:
    path = made(tmp_path / "a.db", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO t VALUES (5)")
    before = databases.canonical(path)
    made(tmp_path / "a.db", "INSERT INTO t VALUES (6)", "DELETE FROM t WHERE id = 6")
    assert databases.canonical(path) != before, "the number 6 would be given twice"


def test_texts_that_are_none_are_read_all_the_same(tmp_path: Path, databases: SqliteDatabases) -> None:
    path = made(tmp_path / "a.db", "CREATE TABLE t (a)", "INSERT INTO t VALUES (CAST(x'ff41' AS TEXT)), (x'ff41')")
    assert [row for _, _, row in databases.contents(path)] == [("\udcffA",), (b"\xffA",)]
    databases.canonical(path)


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[Path]:
    """A database whose last payment is in its log, while the application has it open."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data/a.db"
    made(path, "PRAGMA journal_mode = WAL", *LEDGER)
    with closing(sqlite3.connect(path)) as application:
        application.execute("PRAGMA wal_autocheckpoint = 0")
        with application:
            application.execute("INSERT INTO payments VALUES (4, 400)")
        yield path


def test_the_log_is_part_of_the_database(tmp_path: Path, databases: SqliteDatabases, wal: Path) -> None:
    assert list(databases.rows(str(wal), "SELECT count(*), sum(amount) FROM payments")) == [(4, 1000)]
    databases.copy(str(wal), str(tmp_path / "copy"))
    assert databases.canonical(str(tmp_path / "copy")) == databases.canonical(str(wal))
    assert {path.name for path in tmp_path.iterdir()} == {"data", "copy"}


def test_reading_leaves_nothing_behind(tmp_path: Path, databases: SqliteDatabases) -> None:
    path = made(tmp_path / "a.db", "PRAGMA journal_mode = WAL", *LEDGER)
    before = (tmp_path / "a.db").read_bytes()
    databases.canonical(path)
    databases.copy(path, str(tmp_path / "b.db"))
    assert list(databases.rows(path, "SELECT 1")) == [(1,)] and len(list(databases.contents(path))) == 3
    assert {one.name for one in tmp_path.iterdir()} == {"a.db", "b.db"}
    assert (tmp_path / "a.db").read_bytes() == before
    assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root reads what is another's")
def test_what_root_reads_stays_the_owners(tmp_path: Path, databases: SqliteDatabases) -> None:
    path, owner = tmp_path / "a.db", 65534
    child = os.fork()
    if child == 0:
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (a)")
        os._exit(0)  # without closing it
    os.waitpid(child, 0)
    (tmp_path / "a.db-shm").unlink(missing_ok=True)
    for one in tmp_path.iterdir():
        os.chown(one, owner, owner)
    databases.canonical(str(path))
    assert {one.stat().st_uid for one in tmp_path.iterdir()} == {owner}, "the application opens it again"


def test_a_transaction_that_was_cut_short_is_rolled_back(tmp_path: Path, databases: SqliteDatabases) -> None:
    path = made(tmp_path / "a.db", *LEDGER)
    child = os.fork()
    if child == 0:
        database = sqlite3.connect(path)
        database.execute("PRAGMA cache_size = 1")
        database.execute("CREATE TABLE more (text)")
        database.execute("UPDATE payments SET amount = 0")
        database.executemany("INSERT INTO more VALUES (?)", [("x" * 5000,)] * 500)
        os._exit(0)  # the power goes: nobody rolls back
    os.waitpid(child, 0)
    assert (tmp_path / "a.db-journal").exists()
    assert list(databases.rows(path, "SELECT sum(amount) FROM payments")) == [(600,)]


def test_a_query_changes_nothing(tmp_path: Path, databases: SqliteDatabases) -> None:
    path = made(tmp_path / "a.db", *LEDGER)
    with pytest.raises(OSError, match="readonly"):
        list(databases.rows(path, "UPDATE payments SET amount = 0 RETURNING 1"))


def test_a_statement_is_done_with_its_value(tmp_path: Path, databases: SqliteDatabases) -> None:
    path = made(
        tmp_path / "a.db", "CREATE TABLE counters (name, value INT)", "INSERT INTO counters VALUES ('stan', 41)"
    )
    for value in (50, 45):
        databases.execute(path, "UPDATE counters SET value = :value WHERE name = 'stan' AND value < :value", value)
    assert list(databases.rows(path, "SELECT value FROM counters")) == [(50,)]


def test_what_another_holds_is_waited_for_and_then_told(
    tmp_path: Path, databases: SqliteDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posagent.platform.aside.BUSY_S", 0.05)
    path = made(tmp_path / "a.db", *LEDGER)
    with closing(sqlite3.connect(path, isolation_level=None)) as application:
        application.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match="locked"):
            list(databases.rows(path, "SELECT 1 FROM payments"))


def test_a_link_leads_to_nothing(tmp_path: Path, databases: SqliteDatabases) -> None:
    made(tmp_path / "a.db", *LEDGER)
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    inside = SqliteDatabases(str(tmp_path / "inside"))
    (tmp_path / "inside").mkdir()
    for one, path in ((databases, tmp_path / "link.db"), (inside, tmp_path / "a.db")):
        with pytest.raises(OSError):
            one.is_database(str(path))
        with pytest.raises(OSError):
            one.canonical(str(path))


def test_a_damaged_database_is_told(tmp_path: Path, databases: SqliteDatabases) -> None:
    path = tmp_path / "a.db"
    made(path, *LEDGER, "INSERT INTO payments SELECT stan, amount FROM payments, (SELECT 1 UNION SELECT 2)")
    data = bytearray(path.read_bytes())
    data[4096:4200] = bytes(104)
    path.write_bytes(data)
    with pytest.raises(OSError):
        databases.canonical(str(path))
    (tmp_path / "b.db").write_bytes(MAGIC + bytes(100))
    with pytest.raises(OSError):
        databases.canonical(str(tmp_path / "b.db"))
