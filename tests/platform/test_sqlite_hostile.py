"""Whoever owns a database may put anything into it and beside it: root's SQLite does not obey that, and ends."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.platform.sqlite import SqliteDatabases

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes what is another's")
PAGE = 4096
MARK = bytes.fromhex("d9d505f920a163d7")
READ = "SELECT value FROM counters WHERE name = 'stan'"
WRITE = "UPDATE counters SET value = :value WHERE name = 'stan'"
OWNER = 65534


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "g-1/data"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def databases(tmp_path: Path) -> SqliteDatabases:
    return SqliteDatabases(str(tmp_path))


def made(path: Path, *statements: str) -> str:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in (
            "CREATE TABLE counters (name, value INT)",
            "INSERT INTO counters VALUES ('stan', 41)",
            *statements,
        ):
            database.execute(statement)
    return str(path)


def interrupted(path: str, *statements: str) -> None:
    """By another process, which goes without closing the database."""
    child = os.fork()
    if child == 0:
        database = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            database.execute(statement)
        os._exit(0)
    os.waitpid(child, 0)


def left_in_a_transaction(path: str) -> None:
    """The journal of it is beside the file, and some of it is in the file."""
    interrupted(
        path,
        "PRAGMA cache_size = 1",
        "BEGIN",
        "UPDATE counters SET value = 99",
        "CREATE TABLE more (text)",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500) "
        "INSERT INTO more SELECT hex(randomblob(2500)) FROM n",
    )


def plant_journal(path: str, named: Path) -> None:
    """One that is to be rolled back, and names a file that SQLite removes then."""
    page = Path(path).read_bytes()[:PAGE]
    pages = Path(path).stat().st_size // PAGE
    check = sum(page[at] for at in range(PAGE - 200, 0, -200))
    name = str(named).encode()
    Path(f"{path}-journal").write_bytes(
        (MARK + struct.pack(">IIIII", 1, 0, pages, 512, PAGE)).ljust(512, b"\0")
        + (struct.pack(">I", 1) + page + struct.pack(">I", check))
        + (struct.pack(">I", 0x40000000 // PAGE + 1) + name + struct.pack(">II", len(name), sum(name)) + MARK)
    )


def test_a_journal_that_names_another_file_removes_nothing(
    tmp_path: Path, data: Path, databases: SqliteDatabases
) -> None:
    victim = tmp_path / "key"
    victim.write_text("of root's")
    path = made(data / "a.db")
    plant_journal(path, victim)
    for use in (
        lambda: databases.canonical(path),
        lambda: databases.copy(path, str(tmp_path / "copy")),
        lambda: list(databases.rows(path, READ)),
        lambda: list(databases.contents(path)),
        lambda: databases.execute(path, WRITE, 50),
    ):
        with pytest.raises(PosagentError, match="data_unreadable"):
            use()
    assert victim.exists() and {one.name for one in tmp_path.iterdir()} == {"g-1", "key"}


def test_an_interrupted_transaction_is_left_to_the_application_by_who_only_reads(
    data: Path, databases: SqliteDatabases
) -> None:
    path = made(data / "a.db")
    before = databases.canonical(path)
    left_in_a_transaction(path)
    found = {one.name: one.read_bytes() for one in data.iterdir()}
    assert databases.canonical(path) == before and list(databases.rows(path, READ)) == [(41,)]
    assert {one.name: one.read_bytes() for one in data.iterdir()} == found


def test_a_counter_is_raised_after_an_interrupted_transaction_was_rolled_back(
    data: Path, databases: SqliteDatabases
) -> None:
    path = made(data / "a.db")
    left_in_a_transaction(path)
    (data / "a.db").chmod(0o640)
    databases.execute(path, WRITE, 50)
    assert [one.name for one in data.iterdir()] == ["a.db"]
    assert [row for _, _, row in databases.contents(path)] == [("stan", 50)]
    assert (data / "a.db").stat().st_mode & 0o777 == 0o640


def test_what_is_only_in_the_log_is_not_lost_when_a_counter_is_raised(data: Path, databases: SqliteDatabases) -> None:
    path = made(data / "a.db")
    interrupted(path, "PRAGMA journal_mode = WAL", "UPDATE counters SET value = 45", "CREATE TABLE batches (number)")
    assert (data / "a.db-wal").stat().st_size
    databases.execute(path, "UPDATE counters SET value = value + :value", 5)
    assert list(databases.rows(path, READ)) == [(50,)]
    assert list(databases.rows(path, "SELECT count(*) FROM batches")) == [(0,)]
    assert [one.name for one in data.iterdir()] == ["a.db"]


def test_a_rollback_that_is_cut_short_may_be_done_again(data: Path, databases: SqliteDatabases) -> None:
    path = made(data / "a.db")
    left_in_a_transaction(path)
    journal = (data / "a.db-journal").read_bytes()
    databases.execute(path, "UPDATE counters SET value = value + 0 * :value", 0)
    (data / "a.db-journal").write_bytes(journal)
    with closing(sqlite3.connect(path)) as application:
        assert application.execute(READ).fetchall() == [(41,)]
        assert application.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_another_has_open_is_read_but_not_put_in_order(data: Path, databases: SqliteDatabases) -> None:
    path = made(data / "a.db", "PRAGMA user_version = 1")
    program = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('PRAGMA journal_mode = WAL'); db.execute('UPDATE counters SET value = 46');"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as application:
        assert application.stdout is not None and application.stdout.readline()
        assert list(databases.rows(path, READ)) == [(46,)]
        with pytest.raises(OSError, match="somebody has it open") as found:
            databases.execute(path, WRITE, 50)
        assert found.value.errno == errno.EBUSY
        application.kill()
    databases.execute(path, WRITE, 50)
    assert list(databases.rows(path, READ)) == [(50,)]


@pytest.mark.parametrize("end", ["", "-journal", "-wal"])
def test_a_second_name_of_a_file_is_not_read(tmp_path: Path, data: Path, databases: SqliteDatabases, end: str) -> None:
    path = made(data / "a.db")
    secret = tmp_path / "key"
    if end:
        secret.write_text("of root's")
        os.link(secret, path + end)
    else:
        os.link(path, secret)
    for use in (lambda: databases.canonical(path), lambda: databases.execute(path, WRITE, 50)):
        with pytest.raises(PosagentError, match="another name"):
            use()


@needs_root
def test_nothing_that_stands_beside_a_database_is_given_away(
    tmp_path: Path, data: Path, databases: SqliteDatabases
) -> None:
    path = made(data / "a.db")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    key = tmp_path / "key"
    key.write_text("of root's")
    os.link(key, f"{path}-shm")
    os.chown(path, OWNER, OWNER)
    databases.execute(path, WRITE, 50)
    assert list(databases.rows(path, READ)) == [(50,)]
    assert (key.stat().st_uid, key.read_text()) == (0, "of root's")


@needs_root
def test_what_is_put_in_order_stays_the_owners(data: Path, databases: SqliteDatabases) -> None:
    path = made(data / "a.db")
    left_in_a_transaction(path)
    os.chown(path, OWNER, OWNER)
    databases.execute(path, WRITE, 50)
    assert {one.stat().st_uid for one in data.iterdir()} == {OWNER}


ENDLESS = "CREATE VIEW v AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"


def test_a_question_without_end_is_given_up(
    data: Path, databases: SqliteDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(data / "a.db", ENDLESS)
    with pytest.raises(OSError, match="more than 100000 rows"):
        list(databases.rows(path, "SELECT x FROM v"))
    monkeypatch.setattr("posagent.platform.sqlite.WORK_S", 0.1)
    for ask in (
        lambda: list(databases.rows(path, "SELECT x FROM v WHERE x < 0")),
        lambda: databases.execute(path, "UPDATE counters SET value = (SELECT x FROM v WHERE x < 0) + :value", 1),
    ):
        with pytest.raises(OSError, match="interrupted") as found:
            ask()
        assert found.value.errno == errno.ETIME
    assert list(databases.rows(path, READ)) == [(41,)]


@pytest.mark.parametrize("statement", ["CREATE TABLE zz99 (a)", "CREATE TABLE t (zz99)"])
def test_names_that_are_no_text_are_trouble_like_any_other(
    data: Path, databases: SqliteDatabases, statement: str
) -> None:
    path = made(data / "a.db", statement)
    (data / "a.db").write_bytes((data / "a.db").read_bytes().replace(b"zz99", b"z\xff\xfe9"))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version = 1")
    for look in (lambda: databases.canonical(path), lambda: list(databases.contents(path))):
        with pytest.raises(OSError, match="utf-8"):
            look()


@pytest.mark.parametrize(
    "use",
    [
        lambda databases, path: list(databases.rows(path, "SELECT 1; SELECT 2")),
        lambda databases, path: list(databases.rows(path, "SELECT :x")),
        lambda databases, path: databases.execute(path, WRITE, 2**63),
    ],
)
def test_questions_and_numbers_that_cannot_be_are_trouble_like_any_other(
    data: Path, databases: SqliteDatabases, use: object
) -> None:
    path = made(data / "a.db")
    with pytest.raises(OSError):
        use(databases, path)  # type: ignore[operator]


def test_large_cells_are_compared_in_little_memory(data: Path, databases: SqliteDatabases) -> None:
    path = made(
        data / "a.db", "CREATE TABLE t (a)", "INSERT INTO t VALUES (zeroblob(4000000)), (hex(zeroblob(2000000)))"
    )
    child = os.fork()
    if child == 0:
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (24 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            databases.canonical(path)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
