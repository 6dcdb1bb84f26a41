"""Backups: everything comes back, of one moment, and nothing in clear stays anywhere."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.data.backup import ATTEMPTS, Backups
from posagent.platform.sqlite import SqliteDatabases
from posagent.platform.trees import LinuxTrees
from tests.data.shop import ABOUT, CARD, Shop, rows


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path).open()


def test_everything_in_the_sources_comes_back_and_nothing_else(shop: Shop) -> None:
    made = shop.make()
    found = shop.restored()
    assert {str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()} == {
        *("ledger.db", "params/terminal.json", "params/emv/caps.bin", "counters/stan")
    }
    for path in ("params/terminal.json", "params/emv/caps.bin", "counters/stan"):
        assert (found / path).read_bytes() == (shop.data / path).read_bytes()
    assert rows(found / "ledger.db") == rows(shop.data / "ledger.db")
    assert (made["name"], made["rows"], made["absent"]) == ("u-1", 500, [])
    assert made["bytes"] == shop.file().stat().st_size
    assert made["cards"] == 500, "they may be inside, and are counted"
    assert shop.backups.names() == ["u-1"]
    assert result_header(shop.backups) == ("till-7", "a", "1.0", "u-1")


def result_header(backups: Backups) -> tuple[str, str, str, str]:
    header = backups.opened("u-1")
    return header.terminal, header.slot, header.version, header.update_id


def test_nothing_in_clear_is_left_and_nothing_is_readable_in_the_file(shop: Shop) -> None:
    shop.make()
    assert shop.left() == {"g-1", "backups", "key"}
    sealed = shop.file().read_bytes()
    assert CARD.encode() not in sealed and "Bäckerei".encode() not in sealed and b"ledger.db" not in sealed
    assert shop.file().parent.stat().st_mode & 0o777 == 0o700


def test_it_is_said_how_far_it_is(shop: Shop) -> None:
    messages = list(shop.backups.make(str(shop.data), name="u-1", **ABOUT))
    progress = [message["progress"] for message in messages[:-1]]
    assert [one["phase"] for one in progress] == sorted(one["phase"] for one in progress), "first seal, then test"
    assert {one["phase"] for one in progress} == {"seal", "test"}
    assert all(0 <= one["done"] <= one["total"] for one in progress)


def test_whoever_gives_up_in_between_leaves_nothing(shop: Shop) -> None:
    many = len(list(shop.backups.make(str(shop.data), name="u-1", **ABOUT)))
    shop.backups.remove("u-1")
    for steps in range(1, many - 1):
        work = shop.backups.make(str(shop.data), name="u-1", **ABOUT)
        for _ in range(steps):
            next(work)
        work.close()  # type: ignore[attr-defined]
        assert shop.left() == {"g-1", "backups", "key"}
        assert shop.backups.names() == [] and list(shop.file().parent.iterdir()) == []


def test_what_a_killed_worker_left_in_clear_goes_with_the_next_backup(shop: Shop) -> None:
    (shop.root / "scratch/data").mkdir(parents=True)
    (shop.root / "scratch/data/ledger.db").write_text(CARD)
    shop.make()
    assert "scratch" not in shop.left()


def test_payments_in_the_write_ahead_log_are_in_the_backup_and_the_application_goes_on(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.data / "ledger.db")) as application:
        application.execute("PRAGMA journal_mode = WAL")
        application.execute("PRAGMA wal_autocheckpoint = 0")
        with application:
            application.execute("INSERT INTO payments (stan, amount) VALUES (900, 4200)")
        assert (shop.data / "ledger.db-wal").stat().st_size > 0
        assert shop.make()["rows"] == 501
        with application:
            application.execute("INSERT INTO payments (stan, amount) VALUES (901, 1)")
    found = rows(shop.restored() / "ledger.db")
    assert (found[-1][1], found[-1][3]) == (900, 4200)


class Busy(LinuxTrees):
    """Somebody writes to a file `times` times, right after it was read."""

    def __init__(self, root: str, path: Path, times: int) -> None:
        super().__init__(root)
        self._path, self._left = path, times

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        data = super().read(path, offset, length)
        if path == str(self._path) and not data and self._left:
            self._left -= 1
            self._path.write_text(f"{self._left}\n")
        return data


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path).open()
    shop.trees = Busy(str(shop.root), shop.data / "counters/stan", ATTEMPTS - 1)
    shop.make()
    assert (shop.restored() / "counters/stan").read_text() == "0\n"


def test_a_file_that_never_rests_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path).open()
    shop.trees = Busy(str(shop.root), shop.data / "counters/stan", 2 * ATTEMPTS)
    assert "counters/stan" in shop.refused("data_unreadable").detail


class PayingMeanwhile(SqliteDatabases):
    """The application takes a payment after the database was copied, `times` times."""

    def __init__(self, shop: Shop, times: int) -> None:
        super().__init__(str(shop.root))
        self._shop, self._left = shop, times

    def copy(self, source: str, target: str) -> None:
        super().copy(source, target)
        if self._left:
            self._left -= 1
            self._shop.take(1)


def test_a_payment_that_comes_in_between_is_in_the_backup(shop: Shop) -> None:
    shop.databases = PayingMeanwhile(shop, 1)
    assert shop.make()["rows"] == 501


def test_new_files_while_it_is_read_are_noticed(shop: Shop) -> None:
    work = shop.backups.make(str(shop.data), name="u-1", **ABOUT)
    next(work)
    (shop.data / "params/late.json").write_text("{}")
    list(work)
    assert (shop.restored() / "params/late.json").exists()


def test_a_source_that_is_not_there_yet_is_told(shop: Shop) -> None:
    shutil.rmtree(shop.data / "counters")
    assert shop.make()["absent"] == ["counters"]


def test_empty_directories_and_files_come_back(shop: Shop) -> None:
    (shop.data / "params/empty").mkdir()
    (shop.data / "params/nothing").touch()
    shop.make()
    assert (shop.restored() / "params/empty").is_dir()
    assert (shop.restored() / "params/nothing").stat().st_size == 0


def test_restored_files_are_the_owners_alone(shop: Shop) -> None:
    shop.make()
    found = shop.restored()
    modes = {path.stat().st_mode & 0o777 for path in found.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert (found / "params").stat().st_mode & 0o777 == 0o700


def test_a_damaged_database_is_not_taken_for_a_backup(shop: Shop) -> None:
    data = bytearray((shop.data / "ledger.db").read_bytes())
    data[4096:8192] = bytes(4096)
    (shop.data / "ledger.db").write_bytes(data)
    shop.refused("data_unreadable")


def test_links_are_not_followed(shop: Shop) -> None:
    os.symlink("/etc/passwd", shop.data / "params/link")
    assert "params/link" in shop.refused("data_unreadable").detail


class Faulty(LinuxTrees):
    """Writing to files whose path has `word` in it fails, or loses a bit."""

    def __init__(self, root: str, word: str, code: int) -> None:
        super().__init__(root)
        self._word, self._code = word, code

    def write(self, path: str, offset: int, data: bytes) -> None:
        if self._word in path and offset:
            if self._code:
                raise OSError(self._code, os.strerror(self._code), path)
            data = bytes([data[0] ^ 1]) + data[1:]
        super().write(path, offset, data)


@pytest.mark.parametrize("word", ["backups/", "scratch/data"])
def test_a_bit_that_the_medium_loses_is_found_before_it_counts(tmp_path: Path, word: str) -> None:
    shop = Shop(tmp_path).open()
    shop.trees = Faulty(str(shop.root), word, 0)
    shop.refused("data_backup_corrupt")


@pytest.mark.parametrize("word", ["backups/", "scratch/data"])
def test_a_full_medium_leaves_nothing_behind(tmp_path: Path, word: str) -> None:
    shop = Shop(tmp_path).open()
    shop.trees = Faulty(str(shop.root), word, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        shop.make()
    assert shop.left() == {"g-1", "backups", "key"}
    assert list(shop.file().parent.iterdir()) == []


class Full(LinuxTrees):
    def free_bytes(self, path: str) -> int:
        return 100_000


def test_where_there_is_no_room_nothing_is_begun(tmp_path: Path) -> None:
    shop = Shop(tmp_path).open()
    shop.trees = Full(str(shop.root))
    assert shop.refused("data_no_space").facts["measured"] == 100_000


@pytest.mark.parametrize("looks", [1, 2])
def test_while_the_shop_pays_a_backup_is_opened_only_as_far_as_there_is_room(tmp_path: Path, looks: int) -> None:
    class Filling(LinuxTrees):
        """Others write meanwhile."""

        looked = 0

        def free_bytes(self, path: str) -> int:
            self.looked += 1
            return 100_000 if self.looked >= looks else 100_000_000

    shop = Shop(tmp_path).open()
    shop.make()
    shop.trees = Filling(str(shop.root))
    with pytest.raises(PosagentError, match="data_no_space"):
        list(shop.backups.verify("u-1"))
    shop.trees = Filling(str(shop.root))
    with pytest.raises(PosagentError, match="data_no_space"):
        list(shop.backups.restore("u-1", str(shop.root / "g-2/data")))
    assert "scratch" not in shop.left()


def test_the_same_updates_second_backup_takes_the_place_of_the_first(shop: Shop) -> None:
    first = shop.make()
    shop.take(5)
    second = shop.make()
    assert shop.backups.names() == ["u-1"]
    assert (first["rows"], second["rows"]) == (500, 505)
    assert len(rows(shop.restored() / "ledger.db")) == 505


def test_one_that_fails_leaves_the_earlier_ones(shop: Shop) -> None:
    shop.make("u-0")
    (shop.data / "params/key.pem").write_text("-----BEGIN PRIVATE KEY-----\nMIIE\n")
    with pytest.raises(PosagentError, match="data_secret_found"):
        shop.make("u-1")
    assert shop.backups.names() == ["u-0"]
    list(shop.backups.verify("u-0"))
    shop.backups.remove("u-0")
    shop.backups.remove("u-0")
    assert shop.backups.names() == []


@pytest.mark.parametrize("name", ["", "../key", "a/b", ".hidden", "x" * 65])
def test_a_name_leads_nowhere_else(shop: Shop, name: str) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        shop.backups.remove(name)
